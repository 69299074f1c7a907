// @ts-check
// The helpers of the engine's CPU backend: workers with an instance of its module each, all over one memory. What they do there, and
// how they wait, is in src/backend/cpu/pool.rs; here they are started, and watched.

/** Most threads, the engine's own included. */
export const MOST_THREADS = 32;

/** How long they may take to start: their script comes from the network, the module is compiled already. */
const START_MS = 10_000;

/** The address of a helper's script, as a value that a site with `require-trusted-types-for 'script'` lets through. */
function helperUrl() {
  const url = new URL("./helper.js", import.meta.url).href;
  const types = /** @type {any} */ (globalThis).trustedTypes;
  trustedUrl ??= types ? types.createPolicy("outcrop", { createScriptURL: () => url }).createScriptURL("") : url;
  return trustedUrl;
}
/** @type {any} */
let trustedUrl;

export class Helpers {
  #module;
  #memory;
  #words;
  /** @type {Worker[]} */
  #workers = [];
  /** Why they are given up. @type {string | null} */
  #broken = null;
  /** What one of them said when it crashed. @type {string | null} */
  lastWords = null;

  /** @param {WebAssembly.Module} module @param {WebAssembly.Memory} memory @param {Uint32Array} words the address of each one's word */
  constructor(module, memory, words) {
    this.#module = module;
    this.#memory = memory;
    this.#words = words;
  }

  /** Has at least `n` of them, ready to help. @param {number} n @returns {Promise<string | null>} why not */
  async start(n) {
    if (this.#broken) return this.#broken;
    /** @type {Promise<void>[]} */
    const starting = [];
    try {
      while (this.#workers.length < n) starting.push(this.#add());
      await Promise.all(starting);
    } catch (error) {
      this.#broken = `threads could not be started: ${error instanceof Error ? error.message : error}`;
      // They are left asleep: one that is ended within the allocator would leave it locked.
      for (const promise of starting) promise.catch(() => {});
    }
    return this.#broken;
  }

  /** @returns {Promise<void>} once it runs */
  #add() {
    const worker = new Worker(helperUrl(), { type: "module", name: `outcrop-${this.#workers.length + 1}` });
    const i = this.#workers.push(worker);
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`one did not answer within ${START_MS / 1000} s`)), START_MS);
      const settle = (/** @type {() => void} */ how) => {
        clearTimeout(late);
        how();
      };
      worker.onmessage = ({ data }) => {
        if (data.type === "ready") return settle(resolve);
        this.lastWords = data.message;
        settle(() => reject(new Error(data.message)));
      };
      worker.onerror = (event) => {
        event.preventDefault();
        settle(() => reject(new Error(event.message || "the script of one could not be loaded")));
      };
      worker.onmessageerror = () => settle(() => reject(new Error("the engine's memory cannot be shared")));
      worker.postMessage({ i, module: this.#module, memory: this.#memory, word: this.#words[i - 1] });
    });
  }
}
