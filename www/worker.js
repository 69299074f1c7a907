// @ts-check
// The engine's worker: a thin wrapper that turns messages into calls of a wasm module, one of the two in `pkg/` (builds.js).
//
// PROTOCOL. Every request has a `type` and an `id` chosen by the sender, unique among requests under way. Its answers carry the
// same `id`: any number of `progress`, `delta` or `call` messages, then exactly one `result` or `error`. `abort`, `pause` and `continue` are
// the only messages without an answer. Requests may be sent at once, before the worker has loaded anything, and may overlap: chats and scores
// run one after another in the order in which they came, everything else is answered straight away.
//
//   request                                    progress / delta                    result.value
//   {type: "load",   id, options}              {type: "progress", id, progress}*   Stats
//   {type: "chat",   id, request}              {type: "delta", id, text}*          Reply
//                                              {type: "call", id, call}*           of the request's tools: ToolCall
//   {type: "score",  id, ids: Uint32Array}                                         Float32Array [ids.length, n_vocab] logits
//   {type: "encode", id, text}                                                     Uint32Array
//   {type: "decode", id, ids: Uint32Array}                                         string
//   {type: "stats",  id}                                                           Stats
//   {type: "bench",  id, options: BenchOptions} of a shape: {type: "progress", ..     BenchReport, or on the CPU CpuBenchReport
//                                              .. id, progress: BenchProgress}*
//   {type: "probe",  id, options: Source}                                          Probe
//   {type: "models", id}                                                           StoredModel[]
//   {type: "delete", id, model}                model: a StoredModel's id           null
//   {type: "export", id, model}                .. or that of a split model's part  {name, blob}: the file's usual name, and its bytes,
//                                                                                  which stay in storage until they are read
//   {type: "import", id, file: Blob, options: ImportOptions}
//                                              {type: "progress", id, progress}*   StoredModel
//   {type: "free",   id}                                                           null
//   {type: "abort",  id}                       id: that of the request to end      (none)
//   {type: "pause",  id}                       id: that of the load whose download (none)
//   {type: "continue", id}                     .. stands still, or goes on         (none)
//
// An aborted load, probe or import ends with the error `aborted`; of a load, what had arrived is kept. An aborted chat ends with a result: what
// was said so far, `finish_reason: "abort"`. A pause also holds for a load that begins again by itself.
// A GPU that is lost (`gpu_lost`) is opened again, and the model loaded again, once and by itself: see lasting.js. Requests that come
// meanwhile wait. `progress` messages with the load's id then come again, after its result, up to "ready".
//
// A load replaces the model that was loaded before. After `free` the worker can load again, or be terminated.
//
// ERRORS are `{type: "error", id, error: {code, message}}`. `code` is stable: those of `src/error.rs`, and
//   engine_crashed       the engine trapped. It is gone; every request under way gets this error, and so does every later one until
//                        the page starts a new worker
//   threads_failed       a thread of the engine crashed or stalled within its share of the work. As above; engine.js starts a new worker by
//                        itself, which loads the model again and does without threads
//   out_of_memory        there is no more memory. Where the engine could not go on without, it is gone as well: every later request gets this
//                        error too
//   not_loaded           a chat (score, ..) before a model was loaded, or after `free`
//   unsupported_browser  WebAssembly or its SIMD is missing
//   engine_unavailable   the wasm file could not be fetched
//   invalid_request      a malformed message
//   internal             something else that JavaScript threw; it should not happen
//
// PROGRESS. `phase` runs through these, in order; the first three exclude each other and count bytes of the model's file:
//   "download"   from the network; each chunk is checked, stored and handed to the device as it arrives. What was stored before counts too, so
//                that a download that goes on begins at `resumed`
//   "cache"      from IndexedDB, without any request
//   "file"       from a local file, or from local files
//   "upload"     the device takes the last bytes
//   "compile"    it waits for the kernels whose compiling began with the header and is not done yet; each of them is checked on a
//                small computation, then the first pass runs
//   "ready"      the last event of a load that worked
// If a GPU fails half-way, or its kernels compute wrongly, and `backend` is "auto", the same phases run again with `backend: "cpu"`.

import { anyBuild, cpuBuild, gpuBuild, lastWords, missingBytes } from "./builds.js";
import { DownloadControl } from "./control.js";
import { Lasting, failure } from "./lasting.js";

/**
 * @typedef {import("./builds.js").Api | import("./builds.js").CpuApi} Api
 *
 * @typedef {object} Remote a GGUF on the network
 * @property {string} url best an absolute one
 * @property {string[]} [mirrors] further addresses of the same file; its bytes are mixed only if a digest is known
 * @property {string} [sha256] its published digest, in hexadecimal; for bytes with another one the load ends in `digest_mismatch`
 * @property {number} [bytes] its published size
 * @property {{bytes: number, sha256: string[]}} [chunks] published digests of its pieces of so many bytes
 *
 * @typedef {object} Others the other places where bytes come from, one of them instead of `url`
 * @property {Remote[]} [parts] a split GGUF, all parts in order
 * @property {Blob} [file] a GGUF picked by the visitor; it is read where it lies, and not stored
 * @property {Blob[]} [files] a split one, all parts in order
 * @property {string} [stored] a StoredModel's id: loads from storage, and never asks the network
 *
 * @typedef {Partial<Remote> & Others} Source
 *
 * @typedef {{bytes: number | null, stored: number, complete: boolean}} Probe of the model, all parts together: its size by storage, by what is
 *   published, or by one small request, null if the server does not say; bytes in storage; whether it can be loaded from there alone
 *
 * @typedef {object} ImportOptions
 * @property {string} [url] stores it as if it came from there; else its id is `file:` and its name
 * @property {string} [name] for StoredModel
 * @property {string} [sha256] a file with another digest is not kept: `digest_mismatch`
 *
 * @typedef {Source & HowToLoad} LoadOptions
 *
 * @typedef {object} HowToLoad
 * @property {string} [name] what to call the model in `stats()`; else the file's own name
 * @property {boolean} [store] false: the model is neither read from storage nor written there
 * @property {boolean} [paused] the download waits for `continue` before its first request
 * @property {"auto" | "webgpu" | "cpu"} [backend] "auto": WebGPU where there is a real GPU and it works, else the CPU
 * @property {number} [n_ctx] tokens in the context, at most what the model was trained for; else that, up to 16384 on WebGPU and
 *   8192 on the CPU
 * @property {"f32" | "f16" | "q8_0"} [kv] how keys and values are stored
 * @property {"int8" | "f32"} [activations] what the CPU multiplies weights with: "int8", the default, or "f32"
 * @property {number} [threads] of the CPU, the engine's own included; else what suits the machine. One where threads cannot be had
 * @property {string} [threads_why] why it is one, for `stats()`: engine.js loads a model again after its threads failed
 * @property {Debug} [debug]
 *
 * @typedef {object} Debug for tests and measurements
 * @property {"outcrop" | "outcrop-cpu"} [build] what runs on the CPU, whatever the browser has
 * @property {boolean} [software] take a GPU that the CPU plays, also with "auto"
 * @property {boolean} [default_limits] ask the GPU for no limit and no feature beyond what every WebGPU has
 * @property {string} [forms] which forms of the GPU's kernels run, as in "matvec=subgroups,matmul=base"
 * @property {boolean} [tune] compare the forms anew, also on a GPU that the CPU plays
 * @property {string} [sabotage] kernels whose name begins with this do nothing, as if the GPU computed wrongly
 * @property {{chunk_bytes?: number, speedup?: number, parallel?: number}} [download] `chunk_bytes`: size of chunks; `speedup`: all waits
 *   of the downloader, as those before it tries again, are divided by it; `parallel`: chunks under way at once
 *
 * @typedef {object} Progress
 * @property {"download" | "cache" | "file" | "upload" | "compile" | "ready"} phase
 * @property {"webgpu" | "cpu"} backend the backend being loaded; an import's events have none
 * @property {number} loaded bytes so far, those that were in storage already among them. It goes back only when the file changed on the server
 * @property {number | null} total bytes of the whole file, null until it is known
 * @property {number | null} bytesPerSecond smoothed over some seconds; null until measured, and in phases without bytes
 * @property {number | null} secondsLeft null while unknown
 * @property {boolean} fromCache the bytes come from IndexedDB
 * @property {boolean} stored the model is, or is about to be, in IndexedDB
 * @property {string | null} note what the visitor should know: why the model is not stored, why the CPU is used
 * @property {number} resumed bytes that were in storage when this load began
 * @property {boolean} paused the download stands still until it is continued
 * @property {null | "offline" | "retry" | "busy" | "other-tab"} waiting why no bytes come: there is no network; a request failed and is made
 *   again; the server asked for patience; another tab downloads this file, and its figures are shown
 * @property {number | null} retrySeconds until the next try
 * @property {null | "quota" | "blocked" | "temporary"} problem why it is not stored: storage ran full, or too little room was left when the
 *   load began; the browser lets nothing be stored, or its storage failed; the address is good for this visit only. `note` says it in words
 *
 * @typedef {object} ChatRequest
 * @property {object[]} messages OpenAI's messages
 * @property {object[]} [tools] OpenAI's tools
 * @property {object[]} [documents] Granite's documents
 * @property {number} [max_tokens]
 * @property {number} [temperature] 0: greedy
 * @property {number} [top_p]
 * @property {number} [top_k]
 * @property {number} [min_p]
 * @property {number} [repetition_penalty]
 * @property {number} [seed]
 * @property {string | string[]} [stop]
 *
 * @typedef {object} Reply
 * @property {string} text the whole answer, as the model wrote it
 * @property {number[]} ids its tokens, also the one that ended it
 * @property {"stop" | "length" | "abort"} finish_reason
 * @property {{prompt_tokens: number, completion_tokens: number, total_tokens: number, cached_tokens: number}} usage
 * @property {Timings} timings
 *
 * @typedef {{name: string, arguments: string}} ToolCall `arguments` is JSON text
 *
 * @typedef {object} Timings rates are 0 where there was nothing to time
 * @property {number} time_to_first_token_ms
 * @property {number} prefill_ms
 * @property {number} decode_ms
 * @property {number} total_ms
 * @property {number} prefill_tokens_per_second
 * @property {number} decode_tokens_per_second
 *
 * @typedef {object} Stats
 * @property {"webgpu" | "cpu"} backend
 * @property {string | null} adapter the GPU in words; null on the CPU
 * @property {GpuStats | null} gpu what runs on the GPU; null on the CPU
 * @property {string | null} fallback why "auto" took the CPU; null if it did not
 * @property {number} losses how often the GPU was lost, and the model loaded again
 * @property {"simd128" | "relaxed-simd"} build the instructions that the wasm build uses: of `outcrop`, or of `outcrop-cpu`
 * @property {number} threads of the CPU, the engine's own included; 1 on WebGPU
 * @property {string | null} threads_why why there are no more threads, if that is not what was asked for: "the page is not cross-origin isolated"
 * @property {"int8" | "f32" | null} activations what the CPU multiplies weights with; null on WebGPU, where `gpu.forms` says
 * @property {"f32" | "f16" | "q8_0"} kv
 * @property {number} n_ctx tokens in the context
 * @property {number} n_ubatch most tokens in a pass
 * @property {{name: string, arch: string, file_type: string | null, bytes: number, n_layer: number, n_embd: number, n_vocab: number, n_ctx_train: number}} model
 * @property {{kind: "network" | "cache" | "file", url: string | null, stored: boolean, why: string | null, sha256: string | null, checked: boolean}} source
 *   `stored`: the model is in IndexedDB; `why`: the reason if it is not; `sha256`: the file's digest, null if it was not computed; `checked`: that
 *   digest was published, and met
 * @property {{device_ms: number, header_ms: number, read_ms: number, upload_ms: number, compile_ms: number, total_ms: number}} load
 *   the parts of the load: getting the device; until the header was understood; until the last byte was read (uploads overlap with
 *   it); the wait for the device after that; the wait for its kernels, their check, and the first pass. `total_ms` has a failed try on another backend in it
 * @property {{prompt: number, completion: number, cached: number}} tokens sums over all chats
 * @property {Timings | null} last of the last chat
 * @property {number} heap_bytes the engine's own memory, which never shrinks: so this is also its peak
 *
 * @typedef {object} BenchOptions
 * @property {string} [shape] h-350m, h-1b or h-micro: a stand-in for this published model, with random weights; else the loaded model
 * @property {number} prompt tokens to read
 * @property {number} tokens tokens to write
 * @property {number} repeats the median of so many runs counts; more than one come after one that does not count
 * @property {boolean} [details] on the CPU: also time a copy and the ops
 * @property {"auto" | "webgpu" | "cpu"} [backend] where the stand-in runs; as in a load, like the two below
 * @property {number} [threads]
 * @property {string} [threads_why]
 *
 * @typedef {{backend: "webgpu" | "cpu", loaded: number, total: number}} BenchProgress bytes of random weights that are on the device
 *
 * @typedef {object} StandIn what a report also says of a stand-in
 * @property {string} model the shape
 * @property {"webgpu" | "cpu"} backend
 * @property {string | null} fallback why "auto" took the CPU; null if it did not
 * @property {number} load_ms
 * @property {string} adapter on WebGPU
 * @property {boolean} software on WebGPU: the adapter computes on the CPU
 * @property {"simd128" | "relaxed-simd"} build on the CPU, as are those below; all as in `Stats`
 * @property {"int8" | "f32"} activations
 * @property {number} threads
 * @property {string | null} threads_why
 * @property {number} heap_bytes with the stand-in and its state in it
 *
 * @typedef {object} BenchReport of a model on a GPU
 * @property {number} prompt
 * @property {number} tokens
 * @property {number} repeats
 * @property {number} prefill_tps tokens a second
 * @property {number} decode_tps tokens a second
 * @property {number} dispatches_per_token
 * @property {number} submits_per_token
 * @property {number} tokens_per_submit
 * @property {number} loop_ratio time a token, over that of the same submits with nothing read back
 * @property {number} host_ms_per_token encoding, submitting and asking for the tokens
 * @property {number} encode_ms_per_token encoding alone
 * @property {{weights: number, state: number, kv: number, activations: number}} bytes_per_token
 * @property {number} copy_gbps gigabytes a second, read and written, of a plain copy
 * @property {number} share_of_copy bytes moved while decoding, of what the copy moves
 * @property {{op: string, dispatches: number, ms: number, gbps: number}[]} ops of one token
 *
 * @typedef {object} CpuBenchReport of a model on the CPU
 * @property {number} prompt
 * @property {number} tokens
 * @property {number} repeats
 * @property {number} prefill_tps tokens a second
 * @property {number} decode_tps tokens a second
 * @property {number} copy_gbps gigabytes a second, read and written, of a plain copy; this and what follows only with `details`
 * @property {number} bytes_per_token that weights, state, keys and values move
 * @property {number} share_of_copy those bytes while decoding, of what the copy moves
 * @property {CpuOp[]} ops of one token
 * @property {number} batch tokens of a whole batch of a prompt
 * @property {CpuOp[]} batch_ops of such a batch
 *
 * @typedef {{op: string, times: number, ms: number, gbps: number, gmacs: number}} CpuOp `gmacs`: 10^9 products of a weight and an activation a second
 *
 * @typedef {object} GpuStats
 * @property {Record<string, string>} forms which form of each family of kernels runs: "base" needs nothing that a WebGPU need not have
 * @property {"default" | "forced" | "measured" | "remembered"} chosen how they were chosen: by a measurement on this model's weights, or by one of an
 *   earlier load on this adapter and browser; "default" on a GPU that the CPU plays, and where nothing could be measured
 * @property {string | null} why_not why nothing could be measured
 * @property {{form: string, ms: number}[]} times what was measured: products of cold weights, in milliseconds
 * @property {number} tuning_ms how long that took
 * @property {{form: string, why: string}[]} dropped forms that were given up for the base form, because the self-check found them wrong or
 *   they could not be compiled
 * @property {number} check_ms how long the self-check took
 *
 * @typedef {object} StoredModel a split model is one of these
 * @property {string} id the address it came from, of a split model its first part's; `file:` and a name if it was imported without one
 * @property {string} url
 * @property {string | null} name what it was called when it was loaded or imported
 * @property {number} bytes in storage so far
 * @property {number | null} total its size, null as long as that is unknown
 * @property {boolean} complete false: a download that broke off; the next load goes on with it
 * @property {number | null} used_ms when it was loaded last, in milliseconds since 1970; null if that is not known
 * @property {number} parts files that it consists of
 * @property {string | null} sha256 digest of the whole file, once known; null for a split model
 *
 * @typedef {{code: string, message: string}} ErrorInfo
 *
 * @typedef {{type: "load", id: number, options: LoadOptions}
 *   | {type: "chat", id: number, request: ChatRequest}
 *   | {type: "score", id: number, ids: Uint32Array}
 *   | {type: "encode", id: number, text: string}
 *   | {type: "decode", id: number, ids: Uint32Array}
 *   | {type: "delete" | "export", id: number, model: string}
 *   | {type: "import", id: number, file: Blob, options: ImportOptions}
 *   | {type: "probe", id: number, options: Source}
 *   | {type: "bench", id: number, options: BenchOptions}
 *   | {type: "stats" | "models" | "free" | "abort" | "pause" | "continue", id: number}} Request
 *
 * @typedef {{type: "progress", id: number, progress: Progress | BenchProgress}
 *   | {type: "delta", id: number, text: string}
 *   | {type: "call", id: number, call: ToolCall}
 *   | {type: "result", id: number, value: any}
 *   | {type: "error", id: number, error: ErrorInfo}} Response
 */

const engineOf = () => new Lasting(make);
let lasting = engineOf();
/** Set once the engine has trapped: nothing in its memory can be trusted from then on. @type {ErrorInfo | null} */
let crashed = null;
/** Requests under way, by id, and how to end them. @type {Map<number, AbortController>} */
const pending = new Map();
/** Where loads wait while they are paused, by id: of those under way, and of the last one, which may begin again by itself. @type {Map<number, DownloadControl>} */
const gates = new Map();

/** @param {Response} message @param {Transferable[]} [transfer] */
const post = (message, transfer = []) => self.postMessage(message, { transfer });

/** Passes a request's progress on. @param {number} id @returns {(progress: any) => void} */
const tell = (id) => (progress) => post({ type: "progress", id, progress });

/** Whether the browser offers a GPU, good or bad. */
const hasAdapter = async () => Boolean(await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" }).catch(() => null));

/**
 * Does something where it was asked for: "auto" tries the GPU, then the CPU.
 *
 * @template T
 * @param {{backend?: string, threads?: number, threads_why?: string, debug?: Debug}} options
 * @param {(api: Api, where: object) => Promise<T>} task `where`: what stands for these options from then on
 * @returns {Promise<T>}
 */
async function somewhere(options, task) {
  const { backend = "auto" } = options;
  if (!["auto", "webgpu", "cpu"].includes(backend)) {
    throw failure("invalid_request", `backend is ${JSON.stringify(backend)}, it must be "auto", "webgpu" or "cpu"`);
  }
  const start = performance.now();
  /** Why not on the GPU. @type {string | undefined} */
  let fallback;
  if (backend !== "cpu") {
    try {
      // The other build is smaller: the one with WebGPU is not fetched in vain.
      if (backend === "auto" && !(await hasAdapter())) throw Object.assign(failure("no_webgpu", "WebGPU is not available: no adapter is offered"), { elsewhere: true });
      return await task(await gpuBuild(), { backend: "webgpu", software: backend === "webgpu", threads: 1 });
    } catch (error) {
      if (backend !== "auto" || !(/** @type {any} */ (error)?.elsewhere)) throw error;
      fallback = message(error);
    }
  }
  const { api, choice } = await cpuBuild(options);
  const { threads, why: threads_why } = choice;
  const spent_ms = fallback === undefined ? 0 : performance.now() - start;
  return task(api, { backend: "cpu", threads, threads_why, fallback, spent_ms });
}

/** Loads a model. @type {import("./lasting.js").Make} */
function make(options, onProgress, signal, gate) {
  return somewhere(options, ({ Engine }, where) => Engine.load({ ...options, ...where }, onProgress, signal, gate));
}

/** @param {Request} request @param {AbortSignal} signal */
async function answer(request, signal) {
  const { id } = request;
  switch (request.type) {
    case "load": {
      const { options } = request;
      const gate = new DownloadControl();
      if (options.paused) gate.pause();
      for (const other of gates.keys()) if (!pending.has(other)) gates.delete(other);
      gates.set(id, gate);
      return lasting.load({ options, onProgress: tell(id), gate }, signal);
    }
    case "chat": {
      let begun = false;
      const onPart = (/** @type {string | undefined} */ text, /** @type {ToolCall} */ call) => {
        begun = true;
        post(text === undefined ? { type: "call", id, call } : { type: "delta", id, text });
      };
      return lasting.run((engine) => engine.chat(request.request, onPart, signal), () => begun);
    }
    case "score":
      return lasting.run((engine) => engine.score(request.ids, signal));
    case "encode":
      return (await lasting.get()).encode(request.text);
    case "decode":
      return (await lasting.get()).decode(request.ids);
    case "stats":
      return lasting.stats();
    case "bench": {
      const { options } = request;
      if (!options.shape) return (await lasting.get()).bench(options, signal);
      lasting.free(); // two models may not fit
      return somewhere(options, (api, where) => api.bench({ ...options, ...where }, tell(id), signal));
    }
    case "probe":
      return (await anyBuild()).probe(request.options, signal);
    case "models":
      return (await anyBuild()).models();
    case "delete":
      await (await anyBuild()).delete_model(request.model);
      return null;
    case "export":
      return (await anyBuild()).export_model(request.model);
    case "import":
      return (await anyBuild()).import_model(request.file, request.options ?? {}, tell(id), signal);
    case "free":
      lasting.free();
      return null;
    default:
      throw failure("invalid_request", `unknown message type ${JSON.stringify(/** @type {any} */ (request).type)}`);
  }
}

/** @param {Request} request */
async function serve(request) {
  const { id } = request;
  if (crashed) return post({ type: "error", id, error: crashed });
  if (pending.has(id)) return post({ type: "error", id, error: { code: "invalid_request", message: `request id ${id} is in use` } });
  const controller = new AbortController();
  pending.set(id, controller);
  try {
    const value = await answer(request, controller.signal);
    // Whoever waited for an engine that crashed has been told.
    if (pending.delete(id)) post({ type: "result", id, value }, value instanceof Float32Array ? [value.buffer] : []);
  } catch (error) {
    if (error instanceof WebAssembly.RuntimeError) return crash(error);
    const code = /** @type {any} */ (error)?.code;
    const info = { code: typeof code === "string" ? code : "internal", message: message(error) };
    if (pending.delete(id)) post({ type: "error", id, error: info });
  }
}

/** @param {unknown} error */
const message = (error) => (error instanceof Error ? error.message : String(error));

/** The engine trapped (a bug, or a thread is lost): tell everyone who waits. @param {unknown} error */
async function crash(error) {
  const { outcropPanic: panic, outcropPanicCode: code } = /** @type {any} */ (globalThis); // left by the panic hook in api.rs; the trap itself says little
  // Nor does one for want of memory; no other says `unreachable` and leaves no panic.
  const missing = panic || !/unreachable/i.test(message(error)) ? 0 : missingBytes();
  crashed ??= code
    ? { code, message: panic }
    : missing
      ? { code: "out_of_memory", message: `not enough memory for the engine: ${missing} bytes` }
      : { code: "engine_crashed", message: `the engine crashed: ${panic ?? message(error)}` };
  lasting = engineOf(); // the old one is not freed: that would run code of the module that trapped
  if (code) {
    // What a thread has said is still on its way.
    await new Promise((resolve) => setTimeout(resolve, 50));
    if (lastWords()) crashed.message = `${panic}: ${lastWords()}`;
  }
  for (const id of pending.keys()) post({ type: "error", id, error: crashed });
  pending.clear();
}

// A trap inside an awaited future leaves its promise pending for ever; it surfaces here instead.
self.addEventListener("error", (event) => {
  if (event.error instanceof WebAssembly.RuntimeError) {
    event.preventDefault();
    crash(event.error);
  }
});
self.addEventListener("unhandledrejection", (event) => {
  if (event.reason instanceof WebAssembly.RuntimeError) {
    event.preventDefault();
    crash(event.reason);
  }
});

self.addEventListener("message", (/** @type {MessageEvent<Request>} */ { data }) => {
  if (data?.type === "abort") pending.get(data.id)?.abort();
  else if (data?.type === "pause") gates.get(data.id)?.pause();
  else if (data?.type === "continue") gates.get(data.id)?.continue();
  else if (Number.isInteger(data?.id)) serve(data);
});
