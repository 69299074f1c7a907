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
import { EngineWorker } from "./engine.js";
import { OutcropError } from "./errors.js";

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
 * @typedef {object} KnownModel an entry of models.json
 * @property {string} id the name to load it by
 * @property {string} name for people
 * @property {string} url absolute
 * @property {number} bytes size of the download
 * @property {string} description
 * @property {string[]} examples prompts that suit it
 *
 * @typedef {string | URL | Blob | {url: string | URL, name?: string} | {file: Blob, name?: string}} ModelSource
 *   a name from models.json, an address (relative to the page), or a file
 *
 * @typedef {object} LoadOptions
 * @property {"auto" | "webgpu" | "cpu"} [backend] "auto", the default: WebGPU where it works, else the CPU; `stats().fallback` says why
 * @property {(progress: Progress) => void} [onProgress] also later, if the GPU is lost and the model is loaded again
 * @property {AbortSignal | null} [signal] ends the load, as in fetch()
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
  static async load(model, { backend = "auto", onProgress, signal, nCtx, kv, activations, threads, debug } = {}) {
    if (!["auto", "webgpu", "cpu"].includes(backend)) {
      throw new OutcropError("invalid_request", `backend: ${JSON.stringify(backend)}, expected "auto", "webgpu" or "cpu"`);
    }
    const source = await resolve(model);
    const options = {
      url: source.url,
      file: source.file,
      name: source.name,
      backend,
      ...(nCtx === undefined ? {} : { n_ctx: nCtx }),
      ...(kv === undefined ? {} : { kv }),
      ...(activations === undefined ? {} : { activations }),
      ...(threads === undefined ? {} : { threads }),
      ...(debug === undefined ? {} : { debug }),
    };
    const engine = new EngineWorker();
    const freed = new OutcropError("not_loaded", "the load was given up");
    try {
      await withAbort(signal, engine.request({ type: "load", options }, { onProgress, signal }));
    } catch (error) {
      engine.close(freed);
      throw error;
    }
    return new Outcrop(engine, source.name);
  }

  /** The models that this copy of Outcrop knows by name (models.json). @returns {Promise<KnownModel[]>} */
  static catalogue() {
    catalogue ??= fetchCatalogue().catch((error) => {
      catalogue = null;
      throw error;
    });
    return catalogue;
  }

  /** The models in this browser's storage, torn downloads included. @returns {Promise<StoredModel[]>} */
  static models() {
    return once({ type: "models" });
  }

  /** Deletes a model from this browser's storage. @param {string} id a stored model's `id` @returns {Promise<void>} */
  static async delete(id) {
    await once({ type: "delete", model: id });
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

/** Asks a worker that lives for one question: listing what is stored must not need a loaded model. @param {{type: string, [key: string]: unknown}} message */
async function once(message) {
  const engine = new EngineWorker();
  try {
    return await engine.request(message);
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
  /** @type {KnownModel[]} */
  const models = (await response.json()).models;
  return models.map((model) => ({ ...model, url: new URL(model.url, address).href }));
}

/** @param {ModelSource} model @returns {Promise<{url?: string, file?: Blob, name: string}>} */
async function resolve(model) {
  if (model instanceof Blob) return { file: model, name: fileName(/** @type {File} */ (model).name ?? "file") };
  if (typeof model === "object" && model && "file" in model) {
    return { file: model.file, name: model.name ?? fileName(/** @type {File} */ (model.file).name ?? "file") };
  }
  if (typeof model === "object" && model && "url" in model) {
    const url = address(model.url);
    return { url, name: model.name ?? fileName(url) };
  }
  const text = String(model);
  // Whatever cannot be a name is an address, so that an address needs no other file to be loaded first.
  if (!/^[\w.-]+$/.test(text) || /\.gguf$/i.test(text)) return { url: address(text), name: fileName(address(text)) };
  const known = (await Outcrop.catalogue()).find(({ id }) => id === text);
  if (!known) {
    throw new OutcropError("unknown_model", `there is no model called ${text} here; give its address, ending in .gguf`);
  }
  return { url: known.url, name: known.id };
}

/** @param {string | URL} text @returns {string} */
function address(text) {
  try {
    const url = new URL(text, globalThis.document?.baseURI ?? globalThis.location?.href);
    if (["http:", "https:", "blob:"].includes(url.protocol)) return url.href;
  } catch {
    // said below
  }
  throw new OutcropError("invalid_request", `${text} is not the address of a model`);
}

/** `https://host/x/granite-Q4_K_M.gguf?download=1` -> `granite-Q4_K_M`. @param {string} path */
function fileName(path) {
  const last = path.split(/[?#]/)[0]?.split("/").pop() ?? "";
  return last.replace(/\.gguf$/i, "") || path;
}
