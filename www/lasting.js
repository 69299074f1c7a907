// @ts-check
// The loaded engine, and its return after the GPU was lost: a driver restarts, a laptop sleeps, another tab is too greedy.
//
// The model is loaded again by itself, with the same options, from this browser's storage (or wherever it came from). A request that had
// begun to answer fails with `gpu_lost`; one that had not is run again, and nobody need know. A GPU that is lost again soon is
// given up for the CPU, unless it was asked for by name.

/**
 * @typedef {import("./pkg/outcrop.js").Engine | import("./pkg/outcrop-cpu.js").Engine} Engine
 * @typedef {import("./worker.js").LoadOptions} LoadOptions
 * @typedef {import("./worker.js").Progress} Progress
 * @typedef {import("./control.js").DownloadControl} DownloadControl
 * @typedef {(options: LoadOptions, onProgress: (progress: Progress) => void, signal: AbortSignal, gate: DownloadControl) => Promise<Engine>} Make
 * @typedef {{options: LoadOptions, onProgress: (progress: Progress) => void, gate: DownloadControl}} Recipe
 */

/** Two losses within this time are one too many. */
const SOON_MS = 10 * 60_000;

/** An error of the protocol's own. @param {string} code @param {string} message */
export const failure = (code, message) => Object.assign(new Error(message), { code });

export class Lasting {
  #make;
  /** @type {Engine | null} */
  #engine = null;
  /** How it was made. @type {Recipe | null} */
  #recipe = null;
  /** It is being made again. @type {Promise<void> | null} */
  #again = null;
  #abort = new AbortController();
  /** Why it could not be made again. @type {unknown} */
  #failed = null;
  #lostAt = -Infinity;
  #losses = 0;
  /** Why the GPU was given up. @type {string | null} */
  #fallback = null;

  /** @param {Make} make */
  constructor(make) {
    this.#make = make;
  }

  /** Loads a model in place of the one before. @param {Recipe} recipe @param {AbortSignal} signal */
  async load(recipe, signal) {
    this.free();
    const { options, onProgress, gate } = recipe;
    const engine = await this.#make(options, onProgress, signal, gate);
    this.free(); // two loads at once: the last to arrive stays
    this.#engine = engine;
    this.#recipe = recipe;
    [this.#lostAt, this.#losses, this.#fallback] = [-Infinity, 0, null];
    return this.stats();
  }

  /** The engine, once it is there. @returns {Promise<Engine>} */
  async get() {
    await this.#again;
    if (this.#failed) throw this.#failed;
    if (!this.#engine) throw failure("not_loaded", "no model is loaded");
    return this.#engine;
  }

  /**
   * Runs a request.
   *
   * @template T
   * @param {(engine: Engine) => Promise<T>} task
   * @param {() => boolean} [begun] whether anything of its answer has been told
   * @returns {Promise<T>}
   */
  async run(task, begun = () => false) {
    const engine = await this.get();
    try {
      return await task(engine);
    } catch (error) {
      if (/** @type {any} */ (error)?.code !== "gpu_lost") throw error;
      this.#lost(engine, error);
      if (begun()) throw error;
    }
    return task(await this.get());
  }

  async stats() {
    const stats = (await this.get()).stats();
    return { ...stats, fallback: stats.fallback ?? this.#fallback, losses: this.#losses };
  }

  /** Frees the model, if there is one. What still runs on it ends at its next token. */
  free() {
    this.#abort.abort();
    this.#engine?.free();
    this.#engine = this.#recipe = this.#again = this.#failed = null;
  }

  /** @param {Engine} engine the one that lost its GPU @param {unknown} error */
  #lost(engine, error) {
    const recipe = this.#recipe;
    if (engine !== this.#engine || !recipe) return; // another request has told already
    this.#engine = null;
    const now = performance.now();
    const soon = now - this.#lostAt < SOON_MS;
    this.#lostAt = now;
    this.#losses++;
    let { options } = recipe;
    if (soon && options.backend === "webgpu") {
      this.#failed = error;
      return engine.free();
    }
    if (soon) {
      options = { ...options, backend: "cpu" };
      this.#fallback = `${/** @type {any} */ (error).message}, for the second time`;
    }
    const { signal } = (this.#abort = new AbortController());
    const again = this.#make(options, recipe.onProgress, signal, recipe.gate)
      .then(
        (next) => {
          if (signal.aborted) next.free();
          else this.#engine = next;
        },
        (error) => {
          if (!signal.aborted) this.#failed = error;
        },
      )
      .finally(() => {
        engine.free(); // whoever waited for their turn on it has been told by now, or is told then
        if (this.#again === again) this.#again = null;
      });
    this.#again = again;
  }
}
