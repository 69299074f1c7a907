// @ts-check
// Outcrop's JavaScript API: IBM Granite 4.0 H in a browser tab.
//
//   import { Outcrop } from "./outcrop.js";
//   const outcrop = await Outcrop.load("granite-4.0-h-350m", { onProgress: ({ loaded, total }) => console.log(loaded, total) });
//   const stream = await outcrop.chat.completions.create({ messages: [{ role: "user", content: "Hello!" }], stream: true });
//   for await (const chunk of stream) console.log(chunk.choices[0]?.delta.content ?? "");
//   outcrop.free();
//
// Plain ES modules, no bundler: serve the folder, with the Content-Security-Policy of index.html if you like. The engine runs in a
// worker of its own, one for each loaded model. No request is made but for these files and the model's.

import { Completions } from "./completions.js";
import { DownloadControl } from "./control.js";
import { EngineWorker } from "./engine.js";
import { OutcropError } from "./errors.js";
import { placeOf, readCatalogue, sourceOf } from "./names.js";
import { preflight, storage } from "./preflight.js";

export { DownloadControl } from "./control.js";
export { OutcropError } from "./errors.js";
export { ChatCompletionStream } from "./completions.js";

/**
 * @typedef {import("./worker.js").Progress} Progress
 * @typedef {import("./worker.js").Stats} Stats
 * @typedef {import("./worker.js").StoredModel} StoredModel
 * @typedef {import("./completions.js").Message} Message
 * @typedef {import("./completions.js").CompletionParameters} CompletionParameters
 * @typedef {import("./completions.js").ChatCompletion} ChatCompletion
 * @typedef {import("./completions.js").ChatCompletionChunk} ChatCompletionChunk
 *
 * @typedef {import("./names.js").KnownModel} KnownModel
 * @typedef {import("./names.js").ModelSource} ModelSource
 * @typedef {import("./names.js").Published} Published
 * @typedef {import("./preflight.js").Preflight} Preflight
 * @typedef {import("./preflight.js").Storage} Storage
 *
 * @typedef {object} LoadOptions
 * @property {"auto" | "webgpu" | "cpu"} [backend] "auto", the default: WebGPU where it works, else the CPU; `stats().fallback` says why
 * @property {(progress: Progress) => void} [onProgress] also later, if the GPU is lost and the model is loaded again
 * @property {AbortSignal | null} [signal] ends the load, as in fetch(). What had arrived is kept, and the next load goes on from there
 * @property {DownloadControl} [control] pauses the download and continues it
 * @property {boolean} [store] false: the model is neither read from this browser's storage nor written there; by default both, where it can be
 * @property {number} [nCtx] tokens in the context
 * @property {"f32" | "f16" | "q8_0"} [kv] how keys and values are stored: exactly, the default; in half the memory; or in 8 bits with a
 *   scale for each 32, 0.28 of it, for contexts from about 8192 tokens on
 * @property {"int8" | "f32"} [activations] on the CPU, what weights are multiplied with: rounded to 8 bits, the default, as llama.cpp does;
 *   or exact, several times slower. WebGPU does not round
 * @property {number} [threads] on the CPU: how many, the engine's own included. By default as many as the browser counts up to four, else
 *   half of them, at most eight. Where the page is not cross-origin isolated it is one, and `stats().threads_why` says so
 * @property {import("./worker.js").Debug} [debug] for tests and measurements
 */

/** @type {Promise<KnownModel[]> | null} */
let catalogue = null;

/**
 * A loaded model. Made by {@link Outcrop.load}.
 *
 * A GPU can be lost at any time: after sleep, or when its driver restarts. An answer under way then rejects with the code `gpu_lost`, the
 * model is loaded again by itself, and the same request may be made again at once: it waits until that is done. A GPU that is lost again
 * within ten minutes is given up for the CPU, or, if `backend` is "webgpu", every later request rejects with `gpu_lost`.
 * `stats().losses` counts.
 *
 * On the CPU, a thread can crash or stall. An answer that had begun then rejects with the code `threads_failed`, the model is loaded again by
 * itself, on one thread, and everything else waits for that.
 */
export class Outcrop {
  #engine;

  /** @private @param {EngineWorker} engine @param {string} model */
  constructor(engine, model) {
    this.#engine = engine;
    /** What the model is called in responses. @readonly */
    this.model = model;
    /** OpenAI's `chat.completions.create`. @readonly */
    this.chat = { completions: new Completions(engine, model) };
  }

  /**
   * Loads a model: from this browser's storage if it is there, else from the network (and into the storage).
   *
   * @param {ModelSource} model
   * @param {LoadOptions} [options]
   * @returns {Promise<Outcrop>} rejects with an OutcropError, or the signal's reason
   */
  static async load(model, { backend = "auto", onProgress, signal, control, store, nCtx, kv, activations, threads, debug } = {}) {
    checkBackend(backend);
    if (control !== undefined && !(control instanceof DownloadControl)) throw new OutcropError("invalid_request", "control must be a DownloadControl");
    const { name, where } = await sourceOf(model, base(), Outcrop.catalogue);
    const asked = { ...where, name, backend, store, n_ctx: nCtx, kv, activations, threads, debug };
    // What was not asked for is left out: the engine then chooses.
    const options = Object.fromEntries(Object.entries(asked).filter(([, value]) => value !== undefined));
    const engine = new EngineWorker();
    const freed = new OutcropError("not_loaded", "the load was given up");
    try {
      await withAbort(signal, engine.request({ type: "load", options }, { onProgress, signal, control }));
    } catch (error) {
      engine.close(freed);
      throw error;
    }
    return new Outcrop(engine, name);
  }

  /** The models that this copy of Outcrop knows by name (models.json). @returns {Promise<KnownModel[]>} */
  static catalogue() {
    catalogue ??= fetchCatalogue().catch((error) => {
      catalogue = null;
      throw error;
    });
    return catalogue;
  }

  /**
   * What a name, an address or a file means, without fetching any of it.
   *
   * @param {ModelSource} model
   * @returns {Promise<{id: string | null, name: string, url: string | null}>} `id`: of the known model, if it is one; `url`: of a split
   *   model its first part's; null for files. Rejects with `unknown_model`, `invalid_request` or `split_file`, as a load does
   */
  static async resolve(model) {
    const { id, name, where } = await sourceOf(model, base(), Outcrop.catalogue);
    return { id, name, url: where.url ?? where.parts?.[0]?.url ?? null };
  }

  /**
   * Whether a model will fit and run here, before any byte of it is fetched. One small request is made if its size is not known otherwise.
   *
   * @param {ModelSource} model
   * @param {{backend?: "auto" | "webgpu" | "cpu", store?: boolean, signal?: AbortSignal | null}} [options] the first two as for the load
   * @returns {Promise<Preflight>} an estimate: a load may be tried whatever it says
   */
  static async preflight(model, { backend = "auto", store = true, signal } = {}) {
    checkBackend(backend);
    const source = await sourceOf(model, base(), Outcrop.catalogue);
    const known = await Outcrop.catalogue();
    return withWorker(signal, (ask) => preflight(source, { backend, store }, known, ask));
  }

  /** The models in this browser's storage, broken-off downloads included: the next load of one goes on with it. @returns {Promise<StoredModel[]>} */
  static models() {
    return withWorker(null, (ask) => ask({ type: "models" }));
  }

  /** Deletes a model from this browser's storage. @param {string} id a stored model's `id` @returns {Promise<void>} */
  static async delete(id) {
    await withWorker(null, (ask) => ask({ type: "delete", model: id }));
  }

  /**
   * A stored model as a file. Nothing is copied: the Blob's bytes stay in this browser's storage until something reads them.
   *
   * @param {string} id a stored model's `id`, or the address of one part of a split model, which has a file for each
   * @returns {Promise<{name: string, blob: Blob}>} `name` ends in .gguf. Rejects with `not_stored` unless all of it is there
   */
  static export(id) {
    return withWorker(null, (ask) => ask({ type: "export", model: id }));
  }

  /**
   * Copies a file into this browser's storage, for loads to come.
   *
   * @param {File | Blob} file a GGUF; of a split model one part, each being imported by itself
   * @param {object} [options]
   * @param {string | URL} [options.as] a known model's name, or an address: it is stored as if it had been downloaded from there, and checked
   *   against what is published of it. Otherwise it is loaded as `{stored: id}`
   * @param {(progress: Progress) => void} [options.onProgress]
   * @param {AbortSignal | null} [options.signal]
   * @returns {Promise<StoredModel>} rejects with `digest_mismatch` if the file is not the published one, and with `storage_full` if there is no room
   */
  static async import(file, { as, onProgress, signal } = {}) {
    if (!(file instanceof Blob)) throw new OutcropError("invalid_request", "import takes a File or a Blob");
    const given = /** @type {File} */ (file).name;
    const { url, sha256, bytes, name = given } = as === undefined ? {} : await placeOf(as, file, base(), Outcrop.catalogue);
    if (bytes !== undefined && bytes !== file.size) {
      throw new OutcropError("digest_mismatch", `${given ?? "the file"} is not ${as}: it has ${file.size} bytes, the published one ${bytes}`);
    }
    const options = { ...(url && { url }), ...(name && { name }), ...(sha256 && { sha256 }) };
    return withWorker(signal, (ask) => ask({ type: "import", file, options }, { onProgress }));
  }

  /** How full this browser's storage is. @returns {Promise<Storage>} */
  static storage() {
    return storage();
  }

  /**
   * Asks the browser never to clear this site's storage by itself. Some ask the visitor, so say first why.
   *
   * @returns {Promise<boolean>} whether it has promised
   */
  static async persist() {
    return (await navigator.storage?.persist?.().catch(() => false)) ?? false;
  }

  /** What runs, where, how fast, and why not elsewhere. @returns {Promise<Stats>} */
  stats() {
    return this.#engine.request({ type: "stats" });
  }

  /** The tokens of a text; control tokens are never parsed out of it. @param {string} text @returns {Promise<Uint32Array>} */
  tokenize(text) {
    return this.#engine.request({ type: "encode", text });
  }

  /** The text of some tokens. @param {ArrayLike<number>} ids @returns {Promise<string>} */
  detokenize(ids) {
    return this.#engine.request({ type: "decode", ids: Uint32Array.from(ids) });
  }

  /**
   * The logits at every position of a sequence, from an empty state: for evaluation and tests.
   *
   * @param {ArrayLike<number>} ids
   * @returns {Promise<Float32Array>} `[ids.length, n_vocab]`, row-major
   */
  score(ids) {
    return this.#engine.request({ type: "score", ids: Uint32Array.from(ids) });
  }

  /** Gives back all memory, the GPU's too. Answers under way, and later calls, reject with the code `not_loaded`. */
  free() {
    this.#engine.close(new OutcropError("not_loaded", "the model was freed"));
  }
}

/** @param {unknown} backend */
function checkBackend(backend) {
  if (["auto", "webgpu", "cpu"].includes(/** @type {string} */ (backend))) return;
  throw new OutcropError("invalid_request", `backend: ${JSON.stringify(backend)}, expected "auto", "webgpu" or "cpu"`);
}

/** What addresses are relative to. */
const base = () => globalThis.document?.baseURI ?? globalThis.location?.href;

/**
 * Asks a worker that lives no longer than the question: listing what is stored must not need a loaded model.
 *
 * @template T
 * @param {AbortSignal | null | undefined} signal
 * @param {(ask: (message: {type: string, [key: string]: unknown}, hooks?: import("./engine.js").Hooks) => Promise<any>) => Promise<T>} task
 * @returns {Promise<T>}
 */
async function withWorker(signal, task) {
  const engine = new EngineWorker();
  try {
    return await withAbort(signal, task((message, hooks) => engine.request(message, { ...hooks, signal })));
  } finally {
    engine.close(new OutcropError("not_loaded", "no model is loaded"));
  }
}

/**
 * Rejects as soon as the signal fires, without waiting for the worker to agree.
 *
 * @template T
 * @param {AbortSignal | null | undefined} signal
 * @param {Promise<T>} promise
 * @returns {Promise<T>}
 */
async function withAbort(signal, promise) {
  if (!signal) return promise;
  /** @type {() => void} */
  let stop = () => {};
  const aborted = new Promise((_, reject) => {
    stop = () => reject(signal.reason);
    signal.addEventListener("abort", stop);
  });
  try {
    return await Promise.race([promise, /** @type {Promise<never>} */ (aborted)]);
  } finally {
    signal.removeEventListener("abort", stop);
    promise.catch(() => {}); // the loser of the race is nobody's business
  }
}

/** @returns {Promise<KnownModel[]>} */
async function fetchCatalogue() {
  const address = new URL("./models.json", import.meta.url);
  /** @type {Response} */
  let response;
  try {
    response = await fetch(address);
  } catch (error) {
    throw new OutcropError("network", `could not download ${address}: ${error instanceof Error ? error.message : error}`);
  }
  if (!response.ok) throw new OutcropError("http_status", `could not download ${address}: the server answered ${response.status}`);
  const json = await response.json().catch(() => null); // a page instead of the file, as some hosts answer for what they have not
  return readCatalogue(json, address.href);
}
