// @ts-check
// The two WebAssembly builds, and which one suits this browser and page.
//
//   pkg/outcrop.js      WebGPU; and the CPU on one thread, with the SIMD that every browser has
//   pkg/outcrop-cpu.js  no WebGPU; relaxed SIMD, and threads over one shared memory
//
// Threads need `SharedArrayBuffer`, which browsers give only to pages that are cross-origin isolated (README.md, "Threads").

import { failure } from "./lasting.js";
import { Helpers, MOST_THREADS } from "./threads.js";

/**
 * @typedef {typeof import("./pkg/outcrop.js")} Api
 * @typedef {typeof import("./pkg/outcrop-cpu.js")} CpuApi
 * @typedef {{build: "outcrop" | "outcrop-cpu", threads: number, why: string | null}} Choice `why` there are no more threads, if that is
 *   not what was asked for
 */

// The smallest modules that only validate where their instructions exist.
const SIMD = [1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11]; // i8x16.popcnt
const RELAXED = [1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 19, 1, 17, 0, 65, 1, 253, 15, 65, 1, 253, 15, 65, 0, 253, 17, 253, 147, 2, 11]; // i32x4.relaxed_dot_i8x16_i7x16_add
const THREADS = [1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 5, 4, 1, 3, 1, 1, 10, 11, 1, 9, 0, 65, 0, 254, 16, 2, 0, 26, 11]; // i32.atomic.load of a shared memory

/** @param {number[]} probe */
const has = (probe) => typeof WebAssembly === "object" && WebAssembly.validate(Uint8Array.from([0, 97, 115, 109, 1, 0, 0, 0, ...probe]));

/** Whether this browser can run the engine at all. */
export const isSupported = () => has(SIMD);

/** Why threads cannot be had here; null if they can. */
function whyNoThreads() {
  if (!(/** @type {any} */ (globalThis).crossOriginIsolated)) return "the page is not cross-origin isolated";
  if (!has(RELAXED)) return "this browser has no relaxed SIMD";
  if (!has(THREADS) || typeof SharedArrayBuffer !== "function") return "this browser has no threads in WebAssembly";
  return null;
}

/**
 * How many threads are used unless a number is asked for. Browsers count hardware threads; two of one core share the arithmetic that this
 * is made of, and what is left keeps the page and the rest of the machine alive. So: all of up to four, else half of them, at most eight.
 */
function usualThreads() {
  const n = navigator.hardwareConcurrency || 1;
  return n <= 4 ? n : Math.min(8, Math.ceil(n / 2));
}

/**
 * What to run on the CPU.
 *
 * @param {{threads?: number, threads_why?: string, debug?: import("./worker.js").Debug}} options of a load
 * @returns {Choice}
 */
export function chooseCpu({ threads, threads_why, debug }) {
  const why = whyNoThreads();
  const build = debug?.build ?? (why ? "outcrop" : "outcrop-cpu");
  if (why || build === "outcrop") {
    return { build, threads: 1, why: threads === 1 ? (threads_why ?? null) : (why ?? "this build has none") };
  }
  if (threads === undefined) {
    const n = usualThreads();
    return { build, threads: n, why: n === 1 ? "this machine runs one thread at a time" : null };
  }
  if (threads > MOST_THREADS) return { build, threads: MOST_THREADS, why: `${MOST_THREADS} is the most` };
  return { build, threads, why: threads_why ?? null };
}

/** What a build needs of its files. @template T @param {() => Promise<T>} load @returns {() => Promise<T>} loads once, and again after a failure */
function once(load) {
  /** @type {Promise<T> | null} */
  let loaded = null;
  return () =>
    (loaded ??= load().catch((error) => {
      loaded = null; // a later request may find the network back
      if (typeof error?.code === "string") throw error;
      const why = error instanceof Error ? error.message : String(error);
      // A memory that the browser has no room for.
      if (error instanceof RangeError) throw failure("out_of_memory", `not enough memory for the engine: ${why}`);
      const code = error instanceof WebAssembly.CompileError ? "unsupported_browser" : "engine_unavailable";
      throw failure(code, `the engine could not be loaded: ${why}`);
    }));
}

/** The build with WebGPU. @type {() => Promise<Api>} */
const plain = once(async () => {
  if (!isSupported()) {
    throw failure("unsupported_browser", "this browser has no WebAssembly SIMD; any browser of the last few years has it");
  }
  const api = await import("./pkg/outcrop.js");
  await api.default({ module_or_path: new URL("./pkg/outcrop_bg.wasm", import.meta.url) });
  return api;
});

/** The build with threads, and its helpers. @type {() => Promise<{api: CpuApi, helpers: Helpers}>} */
const threaded = once(async () => {
  const api = await import("./pkg/outcrop-cpu.js");
  const response = fetch(new URL("./pkg/outcrop-cpu_bg.wasm", import.meta.url));
  // A host that does not know the media type costs time, nothing else.
  const module = (await response).headers.get("content-type")?.startsWith("application/wasm")
    ? await WebAssembly.compileStreaming(response)
    : await WebAssembly.compile(await (await response).arrayBuffer());
  const { memory } = await api.default({ module_or_path: module });
  return { api, helpers: new Helpers(module, memory, api.make_room(MOST_THREADS - 1)) };
});

/** The helpers, if any were started. @type {Helpers | null} */
let started = null;

/** What the threads said of why they failed, if they did. @returns {string | null} */
export const lastWords = () => started?.lastWords ?? null;

/** What answers without a model: the build that is there, or the one that would run. @returns {Promise<Api | CpuApi>} */
export async function anyBuild() {
  if (ready) return ready;
  const { build } = navigator.gpu ? { build: "outcrop" } : chooseCpu({});
  return build === "outcrop" ? plain() : (await threaded()).api;
}
/** The last build that loaded a model. @type {Api | CpuApi | null} */
let ready = null;

/** What the engine asked for last and could not have, in bytes: it may be why it trapped. */
export function missingBytes() {
  try {
    return ready?.missing_bytes() ?? 0;
  } catch {
    return 0; // nothing is certain of an engine that trapped
  }
}

/** The build with WebGPU. */
export async function gpuBuild() {
  return (ready = await plain());
}

/**
 * The build for the CPU, its threads started. What cannot have threads, or a memory that they could share, has one, and says why.
 *
 * @param {Parameters<typeof chooseCpu>[0]} options
 * @returns {Promise<{api: Api | CpuApi, choice: Choice}>}
 */
export async function cpuBuild(options) {
  const choice = chooseCpu(options);
  if (choice.build === "outcrop") return { api: (ready = await plain()), choice };
  const made = await threaded().catch((error) => {
    if (error.code === "out_of_memory") return null;
    throw error;
  });
  // A memory that is shared takes all its addresses at once; another may be had.
  if (!made) return { api: (ready = await plain()), choice: { build: "outcrop", threads: 1, why: "the browser has no room for a memory that threads can share" } };
  const { api, helpers } = made;
  ready = api;
  if (choice.threads === 1) return { api, choice };
  started = helpers;
  const why = await helpers.start(choice.threads - 1);
  return { api, choice: why ? { ...choice, threads: 1, why } : choice };
}
