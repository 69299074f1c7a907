// @ts-check
// Before any byte: whether a model will fit and run here, and if not, which of its family would.
//
// What is known of this browser is gathered first (`look`); what follows from it is a pure function of that (`judge`, `advise`), so that it can be
// tested for machines that nobody here owns. Browsers round what they tell of memory and tell nothing of a GPU's: a verdict is an
// estimate, and a load is never refused because of one.

/**
 * @typedef {import("./names.js").KnownModel} KnownModel
 * @typedef {import("./worker.js").StoredModel} StoredModel
 *
 * @typedef {"fits" | "slow" | "no"} Verdict
 *
 * @typedef {object} Reason
 * @property {"no_space" | "no_memory" | "no_gpu" | "unsupported_browser" | "gpu_limits" | "software_gpu" | "slow_cpu" | "tight_memory" | "unknown_size"
 *   | "unknown_space" | "unknown_gpu_memory"} code
 *   no_space: storage has no room to keep it; no_memory: the machine, or the CPU path's 4 GiB, has none to run it in; no_gpu: WebGPU is not offered;
 *   gpu_limits: this GPU offers less than every WebGPU should; software_gpu: the CPU plays the GPU; slow_cpu: it runs on the CPU, at less
 *   than a reader's pace; tight_memory: it takes most of the machine's memory; unknown_..: what could not be judged
 * @property {string} text in plain words, a whole sentence
 *
 * @typedef {object} Preflight
 * @property {string} name the model's
 * @property {number | null} bytes of the model, null if the server does not tell
 * @property {number} stored bytes of it that are in this browser's storage
 * @property {number | null} free bytes that this browser would still store, null if it does not tell
 * @property {Verdict} verdict "fits": nothing speaks against it; "slow": it will run, but slowly or short of memory; "no": it cannot run here as it
 *   was asked for, or cannot be kept
 * @property {Reason[]} reasons what speaks against it, then what should be known besides
 * @property {string | null} instead the largest known model of the family that does better here: a name to load; null if there is none
 *
 * @typedef {object} Storage of this site as a whole, bytes, as the browser estimates them; null where it does not tell
 * @property {number | null} usage
 * @property {number | null} quota
 * @property {number | null} free the rest of the quota
 * @property {boolean | null} persisted the browser has promised not to clear it by itself when the disk gets full
 *
 * @typedef {{software: boolean, maxBufferSize: number, maxStorageBufferBindingSize: number}} Adapter
 *
 * @typedef {object} Browser what is known of this one
 * @property {"auto" | "webgpu" | "cpu"} backend asked for
 * @property {boolean} supported WebAssembly and its SIMD are there
 * @property {Adapter | null} adapter null if there is none, and if none was looked for
 * @property {number | null} memory of the machine, bytes, as the browser rounds it; null if it does not tell
 * @property {number} threads of the CPU that would be used
 * @property {number | null} free bytes that can still be stored
 *
 * @typedef {object} Size of a model
 * @property {number | null} bytes
 * @property {number} stored bytes of it that need not be stored any more
 * @property {boolean} keep it is to be stored
 *
 * @typedef {{verdict: Verdict, reasons: Reason[]}} Judgement
 */

/** What every WebGPU offers; the engine asks for no more (`wgpu::Limits::default`). */
const LIMITS = { maxBufferSize: 256 * 2 ** 20, maxStorageBufferBindingSize: 128 * 2 ** 20 };
/** A 32-bit WebAssembly memory. The CPU path keeps the whole model in it; the GPU path only a few chunks. */
const HEAP = 4 * 2 ** 30;
/** Many browsers tell no more than this, however much the machine has. */
const MOST_TOLD = 8 * 2 ** 30;
/** Bytes of weights that a thread of the CPU gets through in a second: 1.6e9 on a busy server, beside ten other programs. */
const THREAD_RATE = 2e9;
/** Tokens a second that still read well. */
const PACE = 5;

/**
 * Memory that a model takes while it answers: its weights; keys, values, states and scratch of a context of the usual length. The heap on the CPU
 * without the keys and values was 250 MB for h-350m (223 MB), 970 MB for h-1b (901 MB), 2032 MB for h-micro (1943 MB); those take 67, 134 and 134 MB
 * for 8192 tokens.
 *
 * @param {number} bytes
 */
const needs = (bytes) => 1.1 * bytes + 150e6;
/** IndexedDB keeps books of its own. @param {number} bytes */
const takes = (bytes) => 1.01 * bytes;

/** In words, as in "1.94 GB". @param {number} bytes */
const gb = (bytes) => (bytes < 1e9 ? `${(bytes / 1e6).toPrecision(3)} MB` : `${(bytes / 1e9).toPrecision(3)} GB`);

/**
 * Whether a model of this size fits and runs.
 *
 * @param {Size} size
 * @param {Browser} browser
 * @returns {Judgement}
 */
export function judge({ bytes, stored, keep }, { backend, supported, adapter, memory, threads, free }) {
  /** @type {Record<Verdict, Reason[]>} */
  const found = { no: [], slow: [], fits: [] };
  const say = (/** @type {Verdict} */ verdict, /** @type {Reason["code"]} */ code, /** @type {string} */ text) => void found[verdict].push({ code, text });

  if (!supported) say("no", "unsupported_browser", "This browser is too old: it has no WebAssembly with SIMD, which every browser of the last few years has.");

  // Where it would run.
  const lacking = adapter && (adapter.maxBufferSize < LIMITS.maxBufferSize || adapter.maxStorageBufferBindingSize < LIMITS.maxStorageBufferBindingSize);
  const named = backend === "webgpu";
  const gpu = backend !== "cpu" && adapter !== null && !lacking && (named || !adapter.software);
  const verdict = named ? "no" : "fits"; // the CPU does as well, if it is quick enough: see below
  const how = named ? "" : " It would run on the CPU.";
  if (backend !== "cpu" && !adapter) say(verdict, "no_gpu", `This browser offers no graphics processor.${how}`);
  else if (lacking) say(verdict, "gpu_limits", `The graphics processor lets the page use less of it than the engine needs.${how}`);
  else if (adapter?.software && named) say("slow", "software_gpu", "The only graphics processor here is played by the CPU: slower than the CPU by itself.");
  else if (adapter?.software) say("fits", "software_gpu", `The only graphics processor here is played by the CPU.${how}`);

  if (bytes === null) {
    say("fits", "unknown_size", "The server does not say how large the model is, so nothing can be said of space and memory.");
  } else {
    const need = needs(bytes);
    if (!gpu && !named && need > HEAP) {
      say("no", "no_memory", `On the CPU a model and its state must fit into ${gb(HEAP)}; this one would take ${gb(need)}.`);
    } else if (memory !== null && memory < MOST_TOLD && need > memory) {
      say("no", "no_memory", `It would take ${gb(need)} of memory; this machine has about ${memory / 2 ** 30} GB.`);
    } else if (memory !== null && memory < MOST_TOLD && need > memory / 2) {
      say("slow", "tight_memory", `It would take ${gb(need)} of memory, more than half of this machine's: close other programs, or expect it to be slow or to fail.`);
    }
    const rate = (threads * THREAD_RATE) / bytes;
    if (!gpu && !named && rate < PACE) {
      const many = threads === 1 ? "one thread" : `${threads} threads`;
      say("slow", "slow_cpu", `On ${many} of the CPU, expect roughly ${rate < 1.5 ? "one token" : `${Math.round(rate)} tokens`} a second: slower than most people read.`);
    }
    const rest = keep ? takes(Math.max(0, bytes - stored)) : 0;
    if (rest > 0 && free === null) say("fits", "unknown_space", "This browser does not say how much it would store.");
    else if (free !== null && rest > free) {
      say("no", "no_space", `Keeping it in this browser takes ${gb(rest)}, and there is room for ${gb(free)}. It can run without being kept; it is then downloaded at each visit.`);
    }
    if (gpu && !adapter.software && need >= 1e9) {
      say("fits", "unknown_gpu_memory", `It takes about ${gb(need)} of the graphics processor's memory; browsers do not tell how much that has.`);
    }
  }
  return { verdict: found.no.length ? "no" : found.slow.length ? "slow" : "fits", reasons: [...found.no, ...found.slow, ...found.fits] };
}

/**
 * The largest model of the family that does better than this one.
 *
 * @param {{id: string | null, bytes: number | null, verdict: Verdict, keep: boolean}} asked
 * @param {{id: string, family?: string, bytes: number, stored: number}[]} known
 * @param {Browser} browser
 * @returns {string | null} its id
 */
export function advise({ id, bytes, verdict, keep }, known, browser) {
  if (verdict === "fits" || bytes === null) return null;
  const family = known.find((model) => model.id === id)?.family;
  const smaller = known
    .filter((model) => model.family && (family ?? model.family) === model.family && model.bytes < bytes)
    .sort((a, b) => b.bytes - a.bytes);
  const better = verdict === "no" ? ["fits", "slow"] : ["fits"];
  for (const wanted of better) {
    const found = smaller.find((model) => judge({ ...model, keep }, browser).verdict === wanted);
    if (found) return found.id;
  }
  return null;
}

// ---- looking ----

/**
 * What can be known of this browser, without asking anybody else.
 *
 * @param {"auto" | "webgpu" | "cpu"} backend
 * @returns {Promise<Browser>}
 */
export async function look(backend) {
  const [adapter, { free }, { chooseCpu, isSupported }] = await Promise.all([backend === "cpu" ? null : findAdapter(), storage(), import("./builds.js")]);
  const { deviceMemory } = /** @type {{deviceMemory?: number}} */ (navigator);
  return {
    backend,
    supported: isSupported(),
    adapter,
    memory: deviceMemory ? deviceMemory * 2 ** 30 : null,
    threads: chooseCpu({}).threads,
    free,
  };
}

/** @returns {Promise<Adapter | null>} the one that the engine would take */
async function findAdapter() {
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" }).catch(() => null);
  if (!adapter) return null;
  const { maxBufferSize, maxStorageBufferBindingSize } = adapter.limits;
  // Browsers before 2025 say it of the adapter itself.
  const software = adapter.info?.isFallbackAdapter ?? /** @type {any} */ (adapter).isFallbackAdapter ?? false;
  return { software, maxBufferSize, maxStorageBufferBindingSize };
}

/** How full this browser's storage is. @returns {Promise<Storage>} */
export async function storage() {
  // Pages without https, and some private windows, have none of this.
  const manager = /** @type {StorageManager | undefined} */ (navigator.storage);
  const [estimate, persisted] = await Promise.all([
    manager?.estimate?.().catch(() => null) ?? null,
    manager?.persisted?.().catch(() => null) ?? null,
  ]);
  const { usage = null, quota = null } = estimate ?? {};
  return { usage, quota, free: usage === null || quota === null ? null : Math.max(0, quota - usage), persisted };
}

/**
 * @param {import("./names.js").Source} source
 * @param {{backend: "auto" | "webgpu" | "cpu", store: boolean}} how
 * @param {KnownModel[]} catalogue
 * @param {(message: {type: string, [key: string]: unknown}) => Promise<any>} ask the worker
 * @returns {Promise<Preflight>}
 */
export async function preflight({ id, name, where }, { backend, store }, catalogue, ask) {
  const browser = await look(backend);
  const files = where.file ? [where.file] : where.files;
  /** @type {[import("./worker.js").Probe, StoredModel[]]} */
  const [{ bytes, stored }, models] = await Promise.all([
    files || !browser.supported ? { bytes: published(where), stored: 0, complete: false } : ask({ type: "probe", options: where }),
    browser.supported ? ask({ type: "models" }).catch(() => []) : [], // a browser that stores nothing has nothing stored
  ]);
  const keep = store && !files && !where.stored;
  const judgement = judge({ bytes, stored, keep }, browser);
  const known = catalogue.map((model) => ({ ...model, stored: models.find(({ url }) => url === model.url)?.bytes ?? 0 }));
  const instead = advise({ id, bytes, verdict: judgement.verdict, keep }, known, browser);
  return { name, bytes, stored, free: browser.free, ...judgement, instead };
}

/** A model's size as far as it is known without asking. @param {import("./names.js").Where} where @returns {number | null} */
function published({ file, files, parts, bytes }) {
  const sizes = (file ? [file] : files)?.map(({ size }) => size) ?? parts?.map(({ bytes }) => bytes) ?? [bytes];
  return sizes.reduce((/** @type {number | null} */ sum, size) => (sum === null || size === undefined ? null : sum + size), 0);
}
