// Pausing a load: the control itself, what the page's end of the protocol makes of it, and that the worker's end keeps it when a lost GPU
// makes it load again. Workers are played, the engine too; no browser is needed.
import assert from "node:assert/strict";
import { test } from "node:test";
import { DownloadControl } from "../../www/control.js";
import { EngineWorker } from "../../www/engine.js";
import { OutcropError } from "../../www/errors.js";
import { Lasting, failure } from "../../www/lasting.js";

const turn = () => new Promise((resolve) => setTimeout(resolve));

test("a control tells of every change, once, and is waited for", async () => {
  const control = new DownloadControl();
  /** @type {boolean[]} */
  const heard = [];
  control.changed.addEventListener("change", () => heard.push(control.paused));
  await control.wait();
  control.continue();
  control.pause();
  control.pause();
  assert.equal(control.paused, true);
  let passed = 0;
  const waiting = [control.wait(), control.wait()].map((wait) => wait.then(() => passed++));
  await turn();
  assert.equal(passed, 0);
  control.continue();
  control.pause(); // before anybody had a turn
  await turn();
  assert.equal(passed, 0, "whoever waits looks again");
  control.continue();
  await Promise.all(waiting);
  assert.equal(passed, 2);
  assert.deepEqual(heard, [true, false, true, false]);
});

/** A worker whose answers the test gives. */
class PlayedWorker extends EventTarget {
  /** @type {PlayedWorker[]} */
  static all = [];
  /** @type {any[]} */
  posted = [];
  ended = false;
  constructor() {
    super();
    PlayedWorker.all.push(this);
  }
  /** @param {any} message */
  postMessage(message) {
    this.posted.push(structuredClone(message));
  }
  terminate() {
    this.ended = true;
  }
  /** @param {object} data */
  answer(data) {
    this.dispatchEvent(Object.assign(new Event("message"), { data }));
  }
  get types() {
    return this.posted.map(({ type, id }) => `${type} ${id}`);
  }
}

/** An EngineWorker over played ones. */
function engine() {
  PlayedWorker.all = [];
  Object.assign(globalThis, { Worker: PlayedWorker });
  const worker = new EngineWorker();
  const { all } = PlayedWorker;
  return { worker, played: (/** @type {number} */ i) => /** @type {PlayedWorker} */ (all[i]) };
}

test("a load says whether it begins paused; each change follows it, with its id, until the model is freed", async () => {
  const { worker, played } = engine();
  const control = new DownloadControl();
  control.pause();
  await Promise.all([worker.request({ type: "models" }), turn().then(() => played(0).answer({ type: "result", id: 1, value: [] }))]);
  const loading = worker.request({ type: "load", options: { url: "x" } }, { control });
  assert.deepEqual(played(0).posted[1], { type: "load", id: 2, options: { url: "x", paused: true } });
  control.continue();
  control.pause();
  played(0).answer({ type: "result", id: 2, value: {} });
  await loading;
  control.continue(); // a model that is loaded again by itself heeds it as well
  assert.deepEqual(played(0).types.slice(2), ["continue 2", "pause 2", "continue 2"]);
  worker.close(new OutcropError("not_loaded", "freed"));
  control.pause();
  assert.equal(played(0).posted.length, 5, "nobody is left to hear it");
});

test("a load that failed hears nothing more, and others have no control", async () => {
  const { worker, played } = engine();
  const control = new DownloadControl();
  const failing = worker.request({ type: "load", options: {} }, { control });
  played(0).answer({ type: "error", id: 1, error: { code: "network", message: "gone" } });
  await assert.rejects(failing, { code: "network" });
  control.pause();
  const plain = worker.request({ type: "load", options: { url: "y" } });
  assert.deepEqual(played(0).posted.slice(1), [{ type: "load", id: 2, options: { url: "y" } }]);
  played(0).answer({ type: "result", id: 2, value: {} });
  await plain;
});

test("one control pauses several loads", async () => {
  const control = new DownloadControl();
  const loads = [engine(), engine()].map(({ worker, played }) => ({ worker, played: played(0), load: worker.request({ type: "load", options: {} }, { control }) }));
  control.pause();
  for (const { played } of loads) assert.deepEqual(played.types, ["load 1", "pause 1"]);
  for (const { worker, load } of loads) {
    worker.close(new OutcropError("not_loaded", "freed"));
    await assert.rejects(load, { code: "not_loaded" });
  }
});

test("a worker that takes over begins as paused as the control is, and hears of changes at once", async () => {
  const { worker, played } = engine();
  const control = new DownloadControl();
  const loading = worker.request({ type: "load", options: { url: "x" } }, { control });
  played(0).answer({ type: "result", id: 1, value: {} });
  await loading;
  control.pause();
  const chat = worker.request({ type: "chat", request: {} });
  played(0).answer({ type: "error", id: 2, error: { code: "threads_failed", message: "one crashed" } });
  assert.equal(played(0).ended, true);
  const again = played(1);
  assert.deepEqual(again.posted, [{ type: "load", id: 1, options: { url: "x", paused: true, threads: 1, threads_why: "one crashed" } }]);
  control.continue();
  assert.deepEqual(again.types, ["load 1", "continue 1"], "the chat waits for the load, the load must not wait for the control");
  again.answer({ type: "result", id: 1, value: {} });
  again.answer({ type: "result", id: 2, value: "an answer" });
  assert.equal(await chat, "an answer");
  assert.deepEqual(again.types, ["load 1", "continue 1", "chat 2"]);
});

test("a model that is loaded again after its GPU was lost waits at the same gate, with the same options", async () => {
  /** @type {any[][]} */
  const made = [];
  const options = { stored: "file:x.gguf", backend: /** @type {const} */ ("auto") };
  const gate = new DownloadControl();
  const onProgress = () => {};
  const lasting = new Lasting(async (...how) => {
    made.push(how);
    await how[3].wait();
    return /** @type {any} */ ({ free() {}, stats: () => ({ fallback: null }) });
  });
  const { signal } = new AbortController();
  await lasting.load({ options, onProgress, gate }, signal);
  gate.pause();
  let tries = 0;
  const answer = lasting.run(async () => {
    if (++tries === 1) throw failure("gpu_lost", "asleep");
    return "an answer";
  });
  await turn();
  assert.equal(made.length, 2);
  assert.equal(tries, 1, "it is not there before the download may go on");
  assert.deepEqual([made[1]?.[0], made[1]?.[1], made[1]?.[3]], [options, onProgress, gate]);
  assert.notEqual(made[1]?.[2], signal, "the load's own signal has nothing to end any more");
  gate.continue();
  assert.equal(await answer, "an answer");
  lasting.free();
});
