// The JavaScript API down to the calls that the worker makes of the WebAssembly module, in Chromium. The module is played, so that what it is
// given, and what becomes of what it answers, can be told exactly.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { launchChromium, skipWithout, startServer } from "./harness.mjs";

const skip = skipWithout("chromium");
const MODELS = JSON.parse(readFileSync(new URL("../../www/models.json", import.meta.url), "utf8")).models;
const A = "a".repeat(64);

/** Takes the place of pkg/outcrop.js: tells the page of every call on a channel, and does what an address or id says. */
const PLAYED = `
const channel = new BroadcastChannel("calls");
const text = (value) => value instanceof Blob ? \`\${value.constructor.name} of \${value.size}\` : value;
const plain = (value) => JSON.parse(JSON.stringify(value, (_, value) => text(value)));
const tell = (name, ...given) => channel.postMessage([name, ...given.map((value) =>
  value instanceof AbortSignal ? "signal" : typeof value === "function" ? "function" : text(value) === value ? plain(value) : text(value))]);
const fail = (code) => { throw Object.assign(new Error("it " + code), { code }); };
const aborted = (signal) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(Object.assign(new Error("aborted"), { code: "aborted" }))));
export default async function init() {}
export const missing_bytes = () => 0;
export class Engine {
  static async load(options, onProgress, signal, gate) {
    tell("load", options, onProgress, signal, { paused: gate.paused, wait: typeof gate.wait, changed: gate.changed instanceof EventTarget });
    gate.changed.addEventListener("change", () => { tell("gate", gate.paused); onProgress({ phase: "download", paused: gate.paused }); });
    onProgress({ phase: "download", paused: gate.paused });
    await Promise.race([gate.wait(), aborted(signal)]);
    return new Engine();
  }
  stats() { return { backend: "cpu", fallback: null }; }
  free() {}
}
export async function models() { tell("models"); return []; }
export async function delete_model(id) { tell("delete_model", id); }
export async function export_model(id) {
  tell("export_model", id);
  if (id === "torn") fail("not_stored");
  return { name: "x.gguf", blob: new Blob(["first ", new Blob(["second"])]) };
}
export async function import_model(file, options, onProgress, signal) {
  tell("import_model", file, options, onProgress, signal);
  if (options.name === "hangs.gguf") await aborted(signal);
  onProgress({ phase: "file", loaded: file.size, total: file.size });
  return { id: options.url ?? "file:" + options.name, complete: true };
}
export async function probe(options, signal) {
  tell("probe", options, signal);
  if (options.url?.includes("gone")) fail("http_status");
  return { bytes: options.bytes ?? null, stored: 0, complete: false };
}
`;

/** @type {import("./server.mjs").Server} */
let server;
/** @type {import("playwright-core").BrowserContext} */
let browser;
/** @type {import("playwright-core").Page} */
let page;

before(async () => {
  if (skip) return;
  server = await startServer({ isolation: false }); // there the build without threads runs
  server.fault("/chat/blank.html", { body: '<!doctype html><title>blank</title><link rel="icon" href="data:,">' });
  server.fault("/pkg/outcrop.js", { body: PLAYED });
  browser = await launchChromium({ gpu: false });
  page = await browser.newPage();
  await page.goto(`${server.url}chat/blank.html`);
  await page.evaluate(async () => {
    const api = Object.assign(/** @type {any} */ (window), await import(/** @type {string} */ ("/outcrop.js")));
    api.calls = [];
    new BroadcastChannel("calls").onmessage = ({ data }) => api.calls.push(data);
    /** What became of it: its value or its code. @param {Promise<any>} promise */
    api.became = (promise) => promise.then((value) => value, (error) => (error instanceof DOMException ? error.name : (error.code ?? String(error))));
    /** Until the calls are these many: they come over a channel of their own. @param {number} n */
    api.told = async (n) => {
      while (api.calls.length < n) await new Promise((resolve) => setTimeout(resolve, 5));
      return api.calls.splice(0);
    };
  });
});
after(async () => {
  await browser?.close();
  await server?.close();
});

const here = (/** @type {string} */ path) => `${server.url}${path}`;
/** Runs in the page. @template T @param {(api: any, given: any) => Promise<T>} task @param {any} [given] @returns {Promise<T>} */
const run = (task, given) => page.evaluate(`(${task})(window, ${JSON.stringify(given ?? null)})`);

/** What a load gives the engine's module. @param {string} source in JavaScript @param {object} [options] */
async function loads(source, options = {}) {
  const [call] = await run(
    async (api, { source, options }) => {
      const outcrop = await api.Outcrop.load(new Function(`return ${source}`)(), { backend: "cpu", ...options });
      outcrop.free();
      return api.told(1);
    },
    { source, options },
  );
  assert.deepEqual([call[0], ...call.slice(2)], ["load", "function", "signal", { paused: false, wait: "function", changed: true }]);
  return call[1];
}
const CPU = { backend: "cpu", threads: 1, threads_why: "the page is not cross-origin isolated", spent_ms: 0 };

test("a load says where the bytes are, and nothing that was not asked for", { skip }, async () => {
  const micro = MODELS.find((/** @type {any} */ { id }) => id === "granite-4.0-h-micro");
  assert.deepEqual(await loads(`"ai/granite-4.0-h-micro:3B"`), { ...CPU, name: micro.id, url: micro.url, bytes: micro.bytes, sha256: micro.sha256 });
  const [demo] = MODELS;
  assert.deepEqual(await loads(`"demo"`), { ...CPU, name: "granite-demo", url: here(demo.url), bytes: demo.bytes, sha256: demo.sha256 });
  assert.deepEqual(await loads(`"x.gguf"`), { ...CPU, name: "x", url: here("chat/x.gguf") });
  assert.deepEqual(await loads(`{ url: "/x.gguf", mirrors: ["hf:o/r/x.gguf"], sha256: "${A}", bytes: 7, chunks: { bytes: 4, sha256: ["${A}", "${A}"] }, name: "mine" }`, { store: false, nCtx: 64 }), {
    ...CPU,
    name: "mine",
    url: here("x.gguf"),
    mirrors: ["https://huggingface.co/o/r/resolve/main/x.gguf"],
    sha256: A,
    bytes: 7,
    chunks: { bytes: 4, sha256: [A, A] },
    store: false,
    n_ctx: 64,
  });
  assert.deepEqual(await loads(`"/x-00002-of-00002.gguf"`), { ...CPU, name: "x", parts: [{ url: here("x-00001-of-00002.gguf") }, { url: here("x-00002-of-00002.gguf") }] });
  assert.deepEqual(await loads(`new File(["12345"], "x.gguf")`), { ...CPU, name: "x", file: "File of 5" });
  assert.deepEqual(await loads(`{ files: [new File(["12345"], "x-00002-of-00002.gguf"), new File(["1"], "x-00001-of-00002.gguf")] }`), { ...CPU, name: "x", files: ["File of 1", "File of 5"] });
  assert.deepEqual(await loads(`{ stored: "file:x.gguf" }`), { ...CPU, name: "x", stored: "file:x.gguf" });
});

test("what makes no sense reaches no worker", { skip }, async () => {
  const codes = await run(async (api) => {
    const { Outcrop, became } = api;
    const workers = performance.getEntriesByName(new URL("/worker.js", location.href).href).length;
    const codes = [];
    for (const load of [
      () => Outcrop.load("llama"),
      () => Outcrop.load("h-micro:Q8_0"),
      () => Outcrop.load({ url: "/x.gguf", sha256: "12" }),
      () => Outcrop.load(new File(["x"], "x-00001-of-00002.gguf")),
      () => Outcrop.load("/x.gguf", { control: { paused: true } }),
      () => Outcrop.load("/x.gguf", { backend: "gpu" }),
      () => Outcrop.preflight("/x.gguf", { backend: "gpu" }),
      () => Outcrop.import("x.gguf"),
      () => Outcrop.import(new Blob(["x"]), { as: "llama" }),
      () => Outcrop.import(new File(["x"], "x.gguf"), { as: "h-micro" }),
    ]) codes.push(await became(load()));
    return { codes, started: performance.getEntriesByName(new URL("/worker.js", location.href).href).length - workers, calls: api.calls.length };
  });
  const invalid = "invalid_request";
  assert.deepEqual(codes, {
    codes: ["unknown_model", "unknown_model", invalid, "split_file", invalid, invalid, invalid, invalid, "unknown_model", "digest_mismatch"],
    started: 0,
    calls: 0,
  });
});

test("a control pauses a load, and continues it", { skip }, async () => {
  const { told, progress } = await run(async (api) => {
    const control = new api.DownloadControl();
    control.pause();
    /** @type {any[]} */
    const progress = [];
    const until = async (/** @type {number} */ n) => {
      while (progress.length < n) await new Promise((resolve) => setTimeout(resolve, 5));
    };
    const loading = api.Outcrop.load("/x.gguf", { backend: "cpu", control, onProgress: (/** @type {any} */ event) => progress.push(event.paused) });
    await until(1);
    control.continue();
    control.pause();
    await until(3);
    control.continue();
    const outcrop = await loading;
    control.pause();
    await until(5);
    outcrop.free();
    return { told: await api.told(5), progress };
  });
  assert.deepEqual(progress, [true, false, true, false, true]);
  assert.equal(told[0][4].paused, true, "paused from the start");
  assert.deepEqual(told.slice(1), [["gate", false], ["gate", true], ["gate", false], ["gate", true]]);
});

test("a paused load can be aborted", { skip }, async () => {
  const became = await run(async (api) => {
    const control = new api.DownloadControl();
    control.pause();
    const controller = new AbortController();
    const loading = api.Outcrop.load("/x.gguf", { backend: "cpu", control, signal: controller.signal, onProgress: () => controller.abort() });
    const became = await api.became(loading);
    await api.told(1);
    return became;
  });
  assert.equal(became, "AbortError");
});

test("export, import, delete, models", { skip }, async () => {
  const got = await run(async (api) => {
    const { Outcrop, became } = api;
    const { name, blob } = await Outcrop.export("https://a.example/x.gguf");
    const exported = [name, await blob.text()]; // its worker is gone by now
    const torn = await became(Outcrop.export("torn"));
    /** @type {any[]} */
    const progress = [];
    const file = new File(["12345"], "x.gguf");
    const imported = await Outcrop.import(file, { onProgress: (/** @type {any} */ event) => progress.push(event) });
    const placed = await Outcrop.import(file, { as: "/models/y.gguf" });
    await Outcrop.delete("an id");
    const models = await Outcrop.models();
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 300);
    const aborted = await became(Outcrop.import(new File(["x"], "hangs.gguf"), { signal: controller.signal }));
    return { exported, torn, progress, imported, placed, models, aborted, calls: await api.told(7) };
  });
  const { calls, ...rest } = got;
  assert.deepEqual(rest, {
    exported: ["x.gguf", "first second"],
    torn: "not_stored",
    progress: [{ phase: "file", loaded: 5, total: 5 }],
    imported: { id: "file:x.gguf", complete: true },
    placed: { id: here("models/y.gguf"), complete: true },
    models: [],
    aborted: "AbortError",
  });
  assert.deepEqual(calls, [
    ["export_model", "https://a.example/x.gguf"],
    ["export_model", "torn"],
    ["import_model", "File of 5", { name: "x.gguf" }, "function", "signal"],
    ["import_model", "File of 5", { url: here("models/y.gguf"), name: "x.gguf" }, "function", "signal"],
    ["delete_model", "an id"],
    ["models"],
    ["import_model", "File of 1", { name: "hangs.gguf" }, "function", "signal"],
  ]);
});

test("preflight asks for the size alone", { skip }, async () => {
  const got = await run(async (api) => {
    const { Outcrop, became } = api;
    const known = await Outcrop.preflight("h-350m", { backend: "cpu" });
    const unknown = await Outcrop.preflight("/x.gguf");
    const file = await Outcrop.preflight(new File(["12345"], "x.gguf"));
    const gone = await became(Outcrop.preflight("/gone.gguf"));
    return { known, unknown, file, gone, calls: (await api.told(7)).filter((/** @type {string[]} */ [name]) => name === "probe") };
  });
  const { known, unknown, file, gone, calls } = got;
  const small = MODELS.find((/** @type {any} */ { id }) => id === "granite-4.0-h-350m");
  assert.deepEqual([known.name, known.bytes, known.stored, known.verdict, known.instead], [small.id, small.bytes, 0, "fits", null]);
  assert.ok(known.free > 1e9, `${known.free} bytes`);
  assert.deepEqual([unknown.bytes, unknown.verdict, unknown.reasons.map((/** @type {any} */ { code }) => code)], [null, "fits", ["no_gpu", "unknown_size"]]);
  assert.deepEqual([file.name, file.bytes, file.verdict], ["x", 5, "fits"]);
  assert.equal(gone, "http_status");
  assert.deepEqual(calls, [
    ["probe", { url: small.url, bytes: small.bytes }, "signal"],
    ["probe", { url: here("x.gguf") }, "signal"],
    ["probe", { url: here("gone.gguf") }, "signal"],
  ]);
});

test("storage in figures, and a name's meaning", { skip }, async () => {
  const { storage, persisted, resolved } = await run(async (api) => {
    const { Outcrop } = api;
    const resolved = [];
    for (const model of ["H-1B:latest", "/x-00002-of-00002.gguf", new Blob([""]), { url: "/y.gguf", name: "mine" }]) resolved.push(await Outcrop.resolve(model));
    return { storage: await Outcrop.storage(), persisted: await Outcrop.persist(), resolved };
  });
  assert.equal(storage.free, storage.quota - storage.usage);
  assert.equal(typeof storage.persisted, "boolean");
  assert.equal(typeof persisted, "boolean");
  const one = MODELS.find((/** @type {any} */ { id }) => id === "granite-4.0-h-1b");
  assert.deepEqual(resolved, [
    { id: one.id, name: one.id, url: one.url },
    { id: null, name: "x", url: here("x-00001-of-00002.gguf") },
    { id: null, name: "file", url: null },
    { id: null, name: "mine", url: here("y.gguf") },
  ]);
});

test("a models.json that is none", { skip }, async () => {
  const codes = [];
  for (const fault of [{ body: "<!doctype html>" }, { body: '{"models": 7}' }, { status: 404 }]) {
    server.fault("/models.json", fault);
    await page.reload(); // it is read once a page
    codes.push(await page.evaluate(async () => (await import(/** @type {string} */ ("/outcrop.js"))).Outcrop.load("demo").catch((/** @type {any} */ { code }) => code)));
  }
  server.fault("/models.json", null);
  assert.deepEqual(codes, ["bad_response", "bad_response", "http_status"]);
});
