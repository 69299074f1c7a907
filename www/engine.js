// @ts-check
// The page's end of the worker protocol (written down at the top of worker.js): one worker, many requests, each with an id.
//
// Knows nothing of chats or models. Its one subtlety: a worker that dies must not leave anybody waiting.

import { OutcropError, abortReason } from "./errors.js";

/**
 * @typedef {import("./worker.js").Response} Response
 *
 * @typedef {object} Hooks
 * @property {(progress: any) => void} [onProgress] a load's `Progress`, or a measurement's `BenchProgress`
 * @property {(text: string) => void} [onDelta]
 * @property {(call: import("./worker.js").ToolCall) => void} [onCall]
 * @property {AbortSignal | null} [signal] sends `abort`; what the worker answers to that still settles the promise
 * @property {import("./control.js").DownloadControl} [control] of a load: sends `pause` and `continue`, for as long as its model is loaded
 */

/** The address of the worker, as a value that a page with `require-trusted-types-for 'script'` lets through. */
function workerUrl() {
  const url = new URL("./worker.js", import.meta.url).href;
  const types = /** @type {any} */ (globalThis).trustedTypes;
  // A policy's name can be taken only once, so the address it made is kept.
  trustedUrl ??= types ? types.createPolicy("outcrop", { createScriptURL: () => url }).createScriptURL("") : url;
  return trustedUrl;
}
/** @type {any} */
let trustedUrl;

/**
 * @typedef {Record<string, any> & {type: string}} Message of the protocol, without its id
 * @typedef {{message: Message & {id: number}, begun: boolean, resolve: (value: any) => void, reject: (error: Error) => void, hooks: Hooks}} Entry
 *   `begun`: something of the answer has been told
 */

/** A worker with the engine in it. Its threads may fail: then another one takes its place, and does without. */
export class EngineWorker {
  #worker;
  #nextId = 1;
  /** Requests under way. @type {Map<number, Entry>} */
  #pending = new Map();
  /** The last load that worked: its model may be loaded again by itself, which is told as progress too. @type {{message: Message & {id: number}, hooks: Hooks} | null} */
  #loaded = null;
  /** What waits until the model is loaded again, in order. @type {object[] | null} */
  #held = null;
  /** Why nothing can be asked any more. @type {OutcropError | null} */
  #dead = null;
  #closed = new AbortController();

  constructor() {
    this.#worker = this.#start();
  }

  #start() {
    const worker = new Worker(workerUrl(), { type: "module", name: "outcrop" });
    /** One that was replaced may have something on its way. @param {() => void} then */
    const ifCurrent = (then) => worker === this.#worker && then();
    worker.addEventListener("message", ({ data }) => ifCurrent(() => this.#receive(data)));
    worker.addEventListener("messageerror", () =>
      ifCurrent(() => this.close(new OutcropError("engine_crashed", "the engine sent something that could not be read"))),
    );
    worker.addEventListener("error", (event) => {
      event.preventDefault();
      // A script that cannot even be fetched gives an event without a message.
      const error = event.message
        ? new OutcropError("engine_crashed", `the engine crashed: ${event.message}`)
        : new OutcropError("engine_unavailable", "the engine's worker could not be loaded");
      ifCurrent(() => this.close(error));
    });
    return worker;
  }

  /** The error that every further request will get, or null. */
  get dead() {
    return this.#dead;
  }

  /**
   * Sends one request and waits for its answer.
   *
   * @param {Message} message the protocol's message, without its id
   * @param {Hooks} [hooks]
   * @returns {Promise<any>}
   */
  request(message, hooks = {}) {
    if (this.#dead) return Promise.reject(this.#dead);
    if (hooks.signal?.aborted) return Promise.reject(abortReason(hooks.signal));
    const id = this.#nextId++;
    const { signal, control } = hooks;
    const abort = () => this.#post({ type: "abort", id });
    signal?.addEventListener("abort", abort);
    // Not held back while a model is loaded again: it is that load's download which is to stand still.
    const pause = () => this.#worker.postMessage({ type: control?.paused ? "pause" : "continue", id });
    control?.changed.addEventListener("change", pause, { signal: this.#closed.signal });
    return new Promise((resolve, reject) => {
      /** @type {Entry} */
      const entry = { message: { ...message, id }, begun: false, resolve, reject, hooks };
      if (control) entry.message.options = { ...entry.message.options, paused: control.paused };
      this.#pending.set(id, entry);
      try {
        this.#post(entry.message);
      } catch (error) {
        // What was asked for cannot be cloned: a function among the messages, say.
        this.#pending.delete(id);
        reject(new OutcropError("invalid_request", error instanceof Error ? error.message : String(error)));
      }
    })
      .catch((error) => {
        control?.changed.removeEventListener("change", pause);
        throw error;
      })
      .finally(() => signal?.removeEventListener("abort", abort));
  }

  /** @param {object} message */
  #post(message) {
    if (this.#held) this.#held.push(structuredClone(message));
    else this.#worker.postMessage(message);
  }

  /** Ends the worker; whoever waits, now or later, gets `reason`. @param {OutcropError} reason */
  close(reason) {
    if (this.#dead) return;
    this.#dead = reason;
    this.#closed.abort();
    this.#worker.terminate();
    const waiting = [...this.#pending.values()];
    this.#pending.clear();
    for (const { reject } of waiting) reject(reason);
  }

  /**
   * The engine's threads failed: its memory is lost. Another worker loads the model again, on one thread; what had not begun to answer is
   * asked again there.
   *
   * @param {OutcropError} error
   */
  #restart(error) {
    this.#worker.terminate();
    this.#worker = this.#start();
    const waiting = [...this.#pending.values()];
    /** @param {{message: Message & {id: number}, hooks: Hooks}} of @returns {Message & {id: number}} */
    const alone = ({ message, hooks: { control } }) => ({
      ...message,
      options: { ...message.options, ...(control && { paused: control.paused }), threads: 1, threads_why: error.message },
    });
    // A load under way comes in the place of the model before.
    if (this.#loaded && !waiting.some(({ message }) => message.type === "load")) {
      this.#loaded.message = alone(this.#loaded);
      this.#post(this.#loaded.message);
      this.#held = [];
    }
    for (const entry of waiting) {
      const { message, begun, reject } = entry;
      if (["load", "bench"].includes(message.type)) entry.message = alone(entry);
      if (begun) {
        this.#pending.delete(message.id);
        reject(error);
      } else this.#post(entry.message);
    }
  }

  /** The model was loaded again, or could not be. @param {Response} data */
  #reloaded(data) {
    if (data.type === "progress") return this.#loaded?.hooks.onProgress?.(data.progress);
    if (data.type === "error") return this.close(new OutcropError(data.error.code, data.error.message));
    const held = this.#held ?? [];
    this.#held = null;
    for (const message of held) this.#worker.postMessage(message);
  }

  /** @param {Response} data */
  #receive(data) {
    const entry = this.#pending.get(data.id);
    if (!entry) {
      if (data.id === this.#loaded?.message.id) this.#reloaded(data);
      return;
    }
    switch (data.type) {
      case "progress":
        entry.hooks.onProgress?.(data.progress);
        break;
      case "delta":
        entry.begun = true;
        entry.hooks.onDelta?.(data.text);
        break;
      case "call":
        entry.begun = true;
        entry.hooks.onCall?.(data.call);
        break;
      case "result":
        this.#pending.delete(data.id);
        if (entry.message.type === "load") this.#loaded = { message: entry.message, hooks: entry.hooks };
        entry.resolve(data.value);
        break;
      case "error": {
        const error = new OutcropError(data.error.code, data.error.message);
        // Without threads there are none that could fail again.
        if (error.code === "threads_failed" && !this.#held) return this.#restart(error);
        this.#pending.delete(data.id);
        entry.reject(error);
        if (["engine_crashed", "threads_failed"].includes(error.code)) this.close(error);
      }
    }
  }
}
