// The verdict before a download, for machines that nobody here owns: what is known of one goes in, the verdict comes out.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { advise, judge, preflight } from "../../www/preflight.js";

/**
 * @typedef {import("../../www/preflight.js").Browser} Browser
 * @typedef {import("../../www/preflight.js").Size} Size
 */

/** @type {import("../../www/names.js").KnownModel[]} */
const KNOWN = JSON.parse(readFileSync(new URL("../../www/models.json", import.meta.url), "utf8")).models;
const [DEMO, MICRO, ONE, SMALL] = /** @type {[number, number, number, number]} */ (
  ["granite-demo", "granite-4.0-h-micro", "granite-4.0-h-1b", "granite-4.0-h-350m"].map((id) => KNOWN.find((model) => model.id === id)?.bytes)
);
const GIB = 2 ** 30;
const GPU = { software: false, maxBufferSize: 2 * GIB, maxStorageBufferBindingSize: 2 * GIB };
const SOFTWARE = { ...GPU, software: true };
const PLAIN = { software: false, maxBufferSize: 256 * 2 ** 20, maxStorageBufferBindingSize: 128 * 2 ** 20 };

/** A desktop with a real GPU, as far as its browser tells. @type {Browser} */
const DESKTOP = { backend: "auto", supported: true, adapter: GPU, memory: 8 * GIB, threads: 4, free: 100e9 };
/** @type {Browser} */
const NO_GPU = { ...DESKTOP, adapter: null };

/** @param {number | null} bytes @param {Partial<Size>} [size] @returns {Size} */
const model = (bytes, size) => ({ bytes, stored: 0, keep: true, ...size });

/** What the model and the browser are; the verdict; the reasons' codes in order. @type {[string, Size, Partial<Browser>, string, string[]][]} */
const CASES = [
  ["a desktop", model(MICRO), {}, "fits", ["unknown_gpu_memory"]],
  ["a small model", model(SMALL), {}, "fits", []],
  ["the smallest GPU that is WebGPU", model(SMALL), { adapter: PLAIN }, "fits", []],
  ["a GPU by name", model(SMALL), { backend: "webgpu" }, "fits", []],
  ["the CPU by name", model(SMALL), { backend: "cpu", adapter: null }, "fits", []],

  ["no GPU, four threads", model(MICRO), { adapter: null }, "slow", ["slow_cpu", "no_gpu"]],
  ["no GPU, eight threads", model(MICRO), { adapter: null, threads: 8 }, "fits", ["no_gpu"]],
  ["no GPU, one thread", model(SMALL), { adapter: null, threads: 1 }, "fits", ["no_gpu"]],
  ["no GPU, one thread", model(ONE), { adapter: null, threads: 1 }, "slow", ["slow_cpu", "no_gpu"]],
  ["no GPU, the demo", model(DEMO), { adapter: null, threads: 1 }, "fits", ["no_gpu"]],
  ["no GPU, but one is asked for", model(SMALL), { adapter: null, backend: "webgpu" }, "no", ["no_gpu"]],
  ["a software GPU", model(SMALL), { adapter: SOFTWARE }, "fits", ["software_gpu"]],
  ["a software GPU, one thread", model(MICRO), { adapter: SOFTWARE, threads: 1 }, "slow", ["slow_cpu", "software_gpu"]],
  ["a software GPU by name", model(SMALL), { adapter: SOFTWARE, backend: "webgpu" }, "slow", ["software_gpu"]],
  ["a GPU of small buffers", model(SMALL), { adapter: { ...PLAIN, maxBufferSize: PLAIN.maxBufferSize - 1 } }, "fits", ["gpu_limits"]],
  ["a GPU of small bindings", model(SMALL), { adapter: { ...PLAIN, maxStorageBufferBindingSize: PLAIN.maxStorageBufferBindingSize - 1 } }, "fits", ["gpu_limits"]],
  ["the same by name", model(SMALL), { adapter: { ...PLAIN, maxBufferSize: 1 }, backend: "webgpu" }, "no", ["gpu_limits"]],
  ["the CPU by name, slow", model(MICRO), { backend: "cpu", adapter: null, threads: 1 }, "slow", ["slow_cpu"]],

  ["more than a WebAssembly memory, on the CPU", model(3.8e9), { adapter: null, threads: 32 }, "no", ["no_memory", "no_gpu"]],
  ["the same on a GPU", model(3.8e9), {}, "fits", ["unknown_gpu_memory"]],
  ["the largest that it holds", model(3.7e9), { adapter: null, threads: 32 }, "fits", ["no_gpu"]],
  ["2 GB of memory", model(MICRO), { memory: 2 * GIB }, "no", ["no_memory", "unknown_gpu_memory"]],
  ["4 GB of memory", model(MICRO), { memory: 4 * GIB }, "slow", ["tight_memory", "unknown_gpu_memory"]],
  ["4 GB of memory", model(ONE), { memory: 4 * GIB }, "fits", ["unknown_gpu_memory"]],
  ["half a GB of memory", model(SMALL), { memory: GIB / 2 }, "slow", ["tight_memory"]],
  ["8 GB or more: browsers stop counting there", model(8e9), { memory: 8 * GIB }, "fits", ["unknown_gpu_memory"]],
  ["memory that is not told", model(8e9), { memory: null }, "fits", ["unknown_gpu_memory"]],

  ["no room", model(SMALL), { free: 100e6 }, "no", ["no_space"]],
  ["no room at all", model(SMALL), { free: 0 }, "no", ["no_space"]],
  ["room for the rest", model(SMALL, { stored: 150e6 }), { free: 100e6 }, "fits", []],
  ["stored already", model(SMALL, { stored: SMALL }), { free: 0 }, "fits", []],
  ["more stored than there is", model(SMALL, { stored: SMALL + 1 }), { free: 0 }, "fits", []],
  ["not to be kept", model(SMALL, { keep: false }), { free: 0 }, "fits", []],
  ["just enough, but for the store's own books", model(SMALL), { free: SMALL }, "no", ["no_space"]],
  ["room that is not told", model(SMALL), { free: null }, "fits", ["unknown_space"]],
  ["room that is not told, and not needed", model(SMALL, { keep: false }), { free: null }, "fits", []],

  ["a size that is not told", model(null), { adapter: null, free: 0, memory: GIB }, "fits", ["no_gpu", "unknown_size"]],
  ["a browser of long ago", model(SMALL), { supported: false }, "no", ["unsupported_browser"]],
  ["everything at once", model(MICRO), { adapter: null, memory: GIB, threads: 1, free: 0 }, "no", ["no_memory", "no_space", "slow_cpu", "no_gpu"]],
];

for (const [name, size, browser, verdict, codes] of CASES) {
  test(`${name}, ${size.bytes === null ? "?" : (size.bytes / 1e6).toFixed(0)} MB: ${verdict}`, () => {
    const judged = judge(size, { ...DESKTOP, ...browser });
    assert.deepEqual([judged.verdict, judged.reasons.map(({ code }) => code)], [verdict, codes]);
    for (const { text } of judged.reasons) assert.match(text, /^[A-Z][^]*\.$/, "a sentence");
  });
}

test("reasons name the figures that they rest on", () => {
  const texts = (/** @type {Size} */ size, /** @type {Partial<Browser>} */ browser) => judge(size, { ...DESKTOP, ...browser }).reasons.map(({ text }) => text).join(" ");
  assert.match(texts(model(MICRO), { free: 1e9 }), /takes 1\.96 GB, and there is room for 1\.00 GB/);
  assert.match(texts(model(MICRO, { stored: 1e9 }), { free: 5e8 }), /takes 952 MB, and there is room for 500 MB/);
  assert.match(texts(model(MICRO), { memory: 2 * GIB }), /take 2\.29 GB of memory; this machine has about 2 GB/);
  assert.match(texts(model(MICRO), { ...NO_GPU, threads: 1 }), /On one thread of the CPU, expect roughly one token a second/);
  assert.match(texts(model(MICRO), { ...NO_GPU, threads: 4 }), /On 4 threads of the CPU, expect roughly 4 tokens a second/);
  assert.match(texts(model(8e9), NO_GPU), /must fit into 4\.29 GB; this one would take 8\.95 GB/);
});

test("what to take instead is the largest of the family that does better", () => {
  const known = KNOWN.map((model) => ({ ...model, stored: 0 }));
  const micro = { id: "granite-4.0-h-micro", bytes: MICRO, keep: true };
  const instead = (/** @type {object} */ asked, /** @type {Partial<Browser>} */ browser, all = known) => {
    const to = { ...micro, ...asked };
    const { verdict } = judge({ bytes: to.bytes, stored: 0, keep: to.keep }, { ...DESKTOP, ...browser });
    return advise({ ...to, verdict }, all, { ...DESKTOP, ...browser });
  };
  assert.equal(instead({}, {}), null, "it fits");
  assert.equal(instead({}, { memory: 4 * GIB }), "granite-4.0-h-1b");
  assert.equal(instead({}, { memory: 2 * GIB }), "granite-4.0-h-350m", "1b would be tight");
  assert.equal(instead({}, { memory: GIB / 2 }), "granite-4.0-h-350m", "better slow than not at all");
  assert.equal(instead({ id: "granite-4.0-h-350m", bytes: SMALL }, { memory: GIB / 2 }), null, "nothing is smaller, and the demo is no replacement");
  assert.equal(instead({}, { ...NO_GPU, threads: 4 }), "granite-4.0-h-1b");
  assert.equal(instead({}, { ...NO_GPU, threads: 1 }), "granite-4.0-h-350m");
  assert.equal(instead({}, { backend: "webgpu", adapter: null }), null, "no size helps against that");
  assert.equal(instead({}, { free: 300e6 }), "granite-4.0-h-350m");
  assert.equal(instead({}, { free: 0 }), null);
  const stored = known.map((model) => (model.id === "granite-4.0-h-1b" ? { ...model, stored: model.bytes } : model));
  assert.equal(instead({}, { free: 0 }, stored), "granite-4.0-h-1b", "what is stored needs no room");
  assert.equal(instead({ id: null, bytes: 5e9 }, NO_GPU), "granite-4.0-h-1b", "an unknown model's family is anybody's");
  assert.equal(instead({ id: null, bytes: null }, { supported: false }), null);
  assert.equal(instead({}, { memory: 4 * GIB }, known.map((model) => (model.id === "granite-4.0-h-1b" ? { ...model, family: "another" } : model))), "granite-4.0-h-350m");
});

/** Looks in a browser that is played. @param {object} navigator @param {any} where @param {object} [how] @param {Record<string, any>} [answers] of the worker */
async function looked(navigator, where, how, answers = {}) {
  const before = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  Object.defineProperty(globalThis, "navigator", { configurable: true, value: navigator });
  /** @type {string[]} */
  const asked = [];
  try {
    const found = await preflight({ id: null, name: "mine", where }, { backend: "auto", store: true, ...how }, KNOWN, async (message) => {
      asked.push(message.type);
      const answer = answers[message.type] ?? (message.type === "models" ? [] : { bytes: where.bytes ?? null, stored: 0, complete: false });
      if (answer instanceof Error) throw answer;
      return answer;
    });
    return { ...found, codes: found.reasons.map(({ code }) => code), asked };
  } finally {
    if (before) Object.defineProperty(globalThis, "navigator", before);
    else Reflect.deleteProperty(globalThis, "navigator");
  }
}

test("what the browser tells becomes the facts", async () => {
  const adapter = { limits: GPU, info: { isFallbackAdapter: false } };
  /** @type {any[]} */
  const wanted = [];
  const gpu = { requestAdapter: async (/** @type {any} */ options) => (wanted.push(options), adapter) };
  const room = { estimate: async () => ({ usage: 10e9, quota: 40e9 }), persisted: async () => false };
  const url = "https://a.example/x.gguf";

  const found = await looked({ gpu, storage: room, deviceMemory: 8, hardwareConcurrency: 4 }, { url, bytes: MICRO });
  const { name, bytes, stored, free, verdict, codes, instead, asked } = found;
  assert.deepEqual({ name, bytes, stored, free, verdict, codes, instead }, { name: "mine", bytes: MICRO, stored: 0, free: 30e9, verdict: "fits", codes: ["unknown_gpu_memory"], instead: null });
  assert.deepEqual(asked.sort(), ["models", "probe"]);
  assert.deepEqual(wanted, [{ powerPreference: "high-performance" }], "the adapter that the engine takes");

  // Older browsers say it of the adapter itself; a GPU that fails is none.
  for (const fallback of [{ limits: GPU, info: { isFallbackAdapter: true } }, { limits: GPU, isFallbackAdapter: true }]) {
    assert.ok((await looked({ gpu: { requestAdapter: async () => fallback }, storage: room }, { url, bytes: SMALL })).codes.includes("software_gpu"));
  }
  for (const none of [{ requestAdapter: async () => null }, { requestAdapter: () => Promise.reject(new Error("no")) }, undefined]) {
    assert.ok((await looked({ gpu: none, storage: room }, { url, bytes: SMALL })).codes.includes("no_gpu"));
  }
  assert.deepEqual((await looked({ storage: room, hardwareConcurrency: 1 }, { url, bytes: DEMO }, { backend: "cpu" })).codes, [], "no GPU is looked for");

  const full = { estimate: async () => ({ usage: 39.5e9, quota: 40e9 }) };
  const tight = await looked({ gpu, storage: full }, { url, bytes: MICRO }, {}, { models: [{ url: KNOWN[2]?.url, bytes: 6e8 }] });
  assert.deepEqual([tight.free, tight.verdict, tight.instead], [5e8, "no", "granite-4.0-h-1b"], "two thirds of it are stored");
  assert.equal((await looked({ gpu, storage: full }, { url, bytes: MICRO }, { store: false })).verdict, "fits");
  assert.equal((await looked({ gpu, storage: { estimate: async () => ({ usage: 2, quota: 1 }) } }, { url, bytes: MICRO })).free, 0);
  for (const storage of [undefined, {}, { estimate: () => Promise.reject(new TypeError("private")) }]) {
    const blocked = await looked({ gpu, storage }, { url, bytes: SMALL }, {}, { models: new Error("storage failed") });
    assert.deepEqual([blocked.free, blocked.verdict, blocked.codes], [null, "fits", ["unknown_space"]]);
  }
  await assert.rejects(looked({ gpu, storage: room }, { url }, {}, { probe: Object.assign(new Error("gone"), { code: "network" }) }), { code: "network" });
});

test("files are asked of nobody, and take no room", async () => {
  const storage = { estimate: async () => ({ usage: 0, quota: 0 }) };
  const files = [new Blob(["12345"]), new Blob(["123"])];
  const found = await looked({ storage }, { files });
  assert.deepEqual([found.bytes, found.verdict, found.asked], [8, "fits", ["models"]]);
  assert.equal((await looked({ storage }, { file: files[0] })).bytes, 5);
  assert.equal((await looked({ storage }, { stored: "file:x" }, {}, { probe: { bytes: SMALL, stored: 0, complete: false } })).verdict, "fits");
});

test("a browser that cannot run the engine is not asked by way of it", async () => {
  const { validate } = WebAssembly;
  WebAssembly.validate = () => false;
  try {
    const parts = [{ url: "https://a.example/1", bytes: 3 }, { url: "https://a.example/2", bytes: 4 }];
    for (const [where, bytes] of /** @type {[object, number | null][]} */ ([[{ parts }, 7], [{ parts: [...parts, { url: "https://a.example/3" }] }, null], [{ url: "x", bytes: 9 }, 9], [{ url: "x" }, null]])) {
      const old = await looked({}, where);
      assert.deepEqual([old.bytes, old.verdict, old.codes[0], old.asked], [bytes, "no", "unsupported_browser", []]);
    }
  } finally {
    WebAssembly.validate = validate;
  }
});
