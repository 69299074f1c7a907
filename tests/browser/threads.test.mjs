// The CPU build with threads: the demo's known answers on any number of them, what runs where there can be none, and what happens when
// a thread does not start, crashes, stalls or is ended: an answer, or an error with a code; never a wait without end.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { after, before, test } from "node:test";
import { launchChromium, launchFirefox, skipWithout, startServer } from "./harness.mjs";

const skip = skipWithout("chromium");
const at = (/** @type {string} */ path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const text = (/** @type {string} */ path) => readFileSync(at(path), "utf8");

const DEMO = "/models/demo/granite-demo-Q4_K_M.gguf";
/** A token whose lead is smaller than this may lose it when activations are rounded, as in engine.test.mjs. */
const CLOSE = 0.3;
/** Prompts without tools, and what the model is known to answer. */
const golden = JSON.parse(text("models/demo/golden.json"))
  .prompts.filter((/** @type {any} */ { tools, finished, margins }) => !tools && finished && Math.min(...margins) >= CLOSE)
  .map((/** @type {any} */ { messages, completion }) => ({ messages, completion: completion.replace("<|end_of_text|>", "") }));

const BLANK = { body: '<!doctype html><title>blank</title><link rel="icon" href="data:,">' };

/** @type {import("./server.mjs").Server} */
let server;
/** A host that sends no headers. @type {import("./server.mjs").Server} */
let bare;
/** @type {import("playwright-core").BrowserContext} */
let browser;
/** @type {import("playwright-core").Page} */
let page;

before(async () => {
  if (skip) return;
  server = await startServer();
  bare = await startServer({ isolation: false });
  for (const site of [server, bare]) site.fault("/blank.html", BLANK);
  bare.fault("/asks.html", { body: '<!doctype html><title>asks</title><link rel="icon" href="data:,"><script src="isolate.js"></script>' });
  browser = await launchChromium({ gpu: false });
  page = await browser.newPage();
});
after(async () => {
  await browser?.close();
  await server?.close();
  await bare?.close();
});

/** @typedef {{evaluate: (f: any, argument?: any) => Promise<any>}} AnyPage */

/** Loads the demo in a page, as `outcrop` there. @param {object} options @param {AnyPage} [where] @returns {Promise<any>} its stats */
const load = (options, where = page) =>
  where.evaluate(
    async (/** @type {[string, object]} */ [model, options]) => {
      const api = /** @type {any} */ (window);
      Object.assign(api, await import(/** @type {string} */ ("/outcrop.js")));
      api.outcrop?.free();
      api.outcrop = await api.Outcrop.load(model, options);
      return api.outcrop.stats();
    },
    [DEMO, options],
  );

/** The stats now. @returns {Promise<any>} */
const stats = () => page.evaluate(() => /** @type {any} */ (window).outcrop.stats());

/** Asks them one by one. @param {object[][]} conversations @param {AnyPage} [where] @returns {Promise<string[]>} */
const answers = (conversations, where = page) =>
  where.evaluate(async (/** @type {object[][]} */ conversations) => {
    const said = [];
    for (const messages of conversations) {
      const { choices } = await /** @type {any} */ (window).outcrop.chat.completions.create({ messages, temperature: 0, max_tokens: 160 });
      said.push(choices[0].message.content);
    }
    return said;
  }, conversations);

/** @param {string} content @param {AnyPage} [where] */
const ask = async (content, where = page) => (await answers([[{ role: "user", content }]], where))[0];

/** Opens a page, the real one's helpers or those of a test in it. @param {string} [helper] their script @param {string} [worker] the engine's */
async function open(helper, worker) {
  server.fault("/helper.js", helper === undefined ? null : { body: helper });
  server.fault("/worker.js", worker === undefined ? null : { body: worker });
  await page.goto(`${server.url}blank.html`);
}

for (const threads of [1, 2, 3]) {
  test(`${threads} thread${threads === 1 ? "" : "s"}: the demo's answers are exactly the known ones`, { skip }, async () => {
    await open();
    const { backend, build, ...rest } = await load({ backend: "cpu", threads });
    assert.deepEqual([backend, build, rest.threads, rest.threads_why], ["cpu", "relaxed-simd", threads, null]);
    const said = await answers(golden.map((/** @type {any} */ { messages }) => messages));
    assert.deepEqual(said, golden.map((/** @type {any} */ { completion }) => completion));
    console.log(`${threads} threads: ${(await stats()).last.decode_tokens_per_second.toFixed(0)} tokens/s`);
  });
}

test("without a GPU, auto takes as many threads as suit the machine, and fetches one build only", { skip }, async () => {
  await open();
  server.requests.length = 0;
  const { backend, threads, threads_why, fallback } = await load({});
  const cores = await page.evaluate(() => navigator.hardwareConcurrency);
  const usual = cores <= 4 ? cores : Math.min(8, Math.ceil(cores / 2));
  assert.deepEqual([backend, threads, threads_why], ["cpu", usual, usual === 1 ? "this machine runs one thread at a time" : null]);
  assert.match(fallback, /^WebGPU is not available: /);
  const wasm = server.requests.map(({ pathname }) => pathname).filter((pathname) => pathname.endsWith(".wasm"));
  assert.deepEqual(wasm, ["/pkg/outcrop-cpu_bg.wasm"]);
  const several = await page.evaluate(async () => {
    const { Outcrop } = /** @type {any} */ (window);
    return (await Outcrop.models()).length;
  });
  assert.equal(several, 1, "what is stored can be listed by this build too");
});

test("a page that is not isolated has one thread, and stats say why", { skip }, async () => {
  await page.goto(`${bare.url}blank.html`);
  const { build, threads, threads_why } = await load({ backend: "cpu", threads: 2 });
  assert.deepEqual([build, threads, threads_why], ["simd128", 1, "the page is not cross-origin isolated"]);
  assert.equal(await ask("What colour is grass?"), "Grass is green.");
});

test("isolate.js isolates a page whose host sends no headers", { skip }, async () => {
  await page.goto(`${bare.url}asks.html`);
  await page.waitForFunction(() => crossOriginIsolated, undefined, { timeout: 20_000 });
  const { build, threads, threads_why } = await load({ backend: "cpu", threads: 2 });
  assert.deepEqual([build, threads, threads_why], ["relaxed-simd", 2, null]);
  assert.equal(await ask("What colour is grass?"), "Grass is green.");
  await page.evaluate(async () => (await navigator.serviceWorker.getRegistrations()).forEach((one) => one.unregister()));
});

for (const { name, helper, why } of [
  { name: "cannot be loaded", helper: "import './nothing.js';", why: /^threads could not be started: / },
  { name: "fails as it starts", helper: text("www/helper.js").replace("await init(", "throw new Error('no luck'); await init("), why: /^threads could not be started: no luck$/ },
  { name: "does not answer", helper: "setInterval(() => {}, 1000);", why: /^threads could not be started: one did not answer within 10 s$/ },
]) {
  test(`a thread that ${name}: one thread answers`, { skip }, async () => {
    await open(helper);
    const { build, threads, threads_why } = await load({ backend: "cpu", threads: 3 });
    assert.deepEqual([build, threads], ["relaxed-simd", 1]);
    assert.match(threads_why, why);
    assert.equal(await ask("What colour is grass?"), "Grass is green.");
  });
}

/** A helper that leaves its shares to the caller until it is told to take one, and then does `what`. @param {string} what */
const once = (what) =>
  text("www/helper.js").replace(
    "help(data.i);",
    `await new Promise((go) => (new BroadcastChannel("go").onmessage = go));
      const word = new Int32Array(data.memory.buffer, data.word, 1);
      while (Atomics.compareExchange(word, 0, 2, 3) !== 2); // POSTED, TAKEN
      ${what}`,
  );

for (const { name, what, why } of [
  { name: "crashes", what: "throw new Error('it divided by zero');", why: "the engine's threads failed: one of them crashed: it divided by zero" },
  { name: "stalls", what: "for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);", why: "the engine's threads failed: one of them does not answer" },
]) {
  test(`a thread that ${name} within an answer: that one fails with a code, all others are answered`, { skip, timeout: 120_000 }, async () => {
    await open(once(what));
    assert.equal((await load({ backend: "cpu", threads: 2 })).threads, 2);
    const settled = await page.evaluate(async () => {
      const { outcrop } = /** @type {any} */ (window);
      const begun = (async () => {
        let told = false;
        const stream = await outcrop.chat.completions.create({ messages: [{ role: "user", content: "How do you spell glass?" }], temperature: 0, stream: true }); // it never ends
        for await (const { choices } of stream) {
          if (choices[0].delta.content && !told) {
            told = true;
            new BroadcastChannel("go").postMessage(null);
          }
        }
      })().then(() => "answered", (error) => error.code);
      const waiting = outcrop.chat.completions.create({ messages: [{ role: "user", content: "What colour is grass?" }], temperature: 0 });
      return [await begun, (await waiting).choices[0].message.content];
    });
    assert.deepEqual(settled, ["threads_failed", "Grass is green."]);
    const { threads, threads_why } = await stats();
    assert.deepEqual([threads, threads_why], [1, why]);
    assert.equal(await ask("Tell me the opposite of hot."), "The opposite of hot is cold.");
  });
}

test("threads that are ended while they sleep: the answer is right all the same", { skip }, async () => {
  const spy = `
    const Plain = Worker;
    const all = [];
    globalThis.Worker = class extends Plain { constructor(...a) { super(...a); all.push(this); } };
    new BroadcastChannel("end").onmessage = () => all.forEach((worker) => worker.terminate());
  `;
  await open(undefined, spy + text("www/worker.js"));
  assert.equal((await load({ backend: "cpu", threads: 3 })).threads, 3);
  const said = await page.evaluate(async () => {
    const { outcrop } = /** @type {any} */ (window);
    let said = "";
    const stream = await outcrop.chat.completions.create({ messages: [{ role: "user", content: "Count down from 30 to 21." }], temperature: 0, stream: true });
    for await (const { choices } of stream) {
      if (!said) new BroadcastChannel("end").postMessage(null);
      said += choices[0].delta.content ?? "";
    }
    return said;
  });
  assert.equal(said, "30, 29, 28, 27, 26, 25, 24, 23, 22, 21.");
  assert.equal(await ask("What colour is grass?"), "Grass is green.");
});

test("Firefox: two threads, the same answers", { skip: skip || skipWithout("firefox") }, async () => {
  await open();
  const firefox = await launchFirefox({ gpu: false });
  try {
    const page = await firefox.newPage();
    await page.goto(`${server.url}blank.html`);
    const { build, threads, threads_why } = await load({ backend: "cpu", threads: 2 }, page);
    assert.deepEqual([build, threads, threads_why], ["relaxed-simd", 2, null]);
    const some = golden.slice(0, 8);
    assert.deepEqual(await answers(some.map((/** @type {any} */ { messages }) => messages), page), some.map((/** @type {any} */ { completion }) => completion));
  } finally {
    await firefox.close();
  }
});
