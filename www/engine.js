// @ts-check
// The page's end of the worker protocol (written down at the top of worker.js): one worker, many requests, each with an id.
//
// Knows nothing of chats or models. Its one subtlety: a worker that dies must not leave anybody waiting.

import { OutcropError, abortReason } from "./errors.js";

/**
 * @typedef {import("./worker.js").Progress} Progress
 * @typedef {import("./worker.js").Response} Response
 *
 * @typedef {object} Hooks
 * @property {(progress: Progress) => void} [onProgress]
 * @property {(text: string) => void} [onDelta]
 * @property {(call: import("./worker.js").ToolCall) => void} [onCall]
 * @property {AbortSignal | null} [signal] sends `abort`; what the worker answers to that still settles the promise
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

/** A worker with the engine in it. */
export class EngineWorker {
  #worker;
  #nextId = 1;
  /** Requests under way. @type {Map<number, {type: string, resolve: (value: any) => void, reject: (error: Error) => void, hooks: Hooks}>} */
  #pending = new Map();
  /** The last load that worked: its model may be loaded again by itself, which is told as progress too. @type {{id: number, hooks: Hooks} | null} */
  #loaded = null;
  /** Why nothing can be asked any more. @type {OutcropError | null} */
  #dead = null;

  constructor() {
    this.#worker = new Worker(workerUrl(), { type: "module", name: "outcrop" });
    this.#worker.addEventListener("message", ({ data }) => this.#receive(data));
    this.#worker.addEventListener("messageerror", () => {
      this.close(new OutcropError("engine_crashed", "the engine sent something that could not be read"));
    });
    this.#worker.addEventListener("error", (event) => {
      event.preventDefault();
      // A script that cannot even be fetched gives an event without a message.
      const error = event.message
        ? new OutcropError("engine_crashed", `the engine crashed: ${event.message}`)
        : new OutcropError("engine_unavailable", "the engine's worker could not be loaded");
      this.close(error);
    });
  }

  /** The error that every further request will get, or null. */
  get dead() {
    return this.#dead;
  }

  /**
   * Sends one request and waits for its answer.
   *
   * @param {Record<string, unknown> & {type: string}} message the protocol's message, without its id
   * @param {Hooks} [hooks]
   * @returns {Promise<any>}
   */
  request(message, hooks = {}) {
    if (this.#dead) return Promise.reject(this.#dead);
    if (hooks.signal?.aborted) return Promise.reject(abortReason(hooks.signal));
    const id = this.#nextId++;
    const abort = () => this.#worker.postMessage({ type: "abort", id });
    hooks.signal?.addEventListener("abort", abort);
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { type: message.type, resolve, reject, hooks });
      try {
        this.#worker.postMessage({ ...message, id });
      } catch (error) {
        // What was asked for cannot be cloned: a function among the messages, say.
        this.#pending.delete(id);
        reject(new OutcropError("invalid_request", error instanceof Error ? error.message : String(error)));
      }
    }).finally(() => hooks.signal?.removeEventListener("abort", abort));
  }

  /** Ends the worker; whoever waits, now or later, gets `reason`. @param {OutcropError} reason */
  close(reason) {
    if (this.#dead) return;
    this.#dead = reason;
    this.#worker.terminate();
    const waiting = [...this.#pending.values()];
    this.#pending.clear();
    for (const { reject } of waiting) reject(reason);
  }

  /** @param {Response} data */
  #receive(data) {
    const entry = this.#pending.get(data.id);
    if (!entry) {
      if (data.type === "progress" && data.id === this.#loaded?.id) this.#loaded.hooks.onProgress?.(data.progress);
      return;
    }
    switch (data.type) {
      case "progress":
        entry.hooks.onProgress?.(data.progress);
        break;
      case "delta":
        entry.hooks.onDelta?.(data.text);
        break;
      case "call":
        entry.hooks.onCall?.(data.call);
        break;
      case "result":
        this.#pending.delete(data.id);
        if (entry.type === "load") this.#loaded = { id: data.id, hooks: entry.hooks };
        entry.resolve(data.value);
        break;
      case "error": {
        this.#pending.delete(data.id);
        const error = new OutcropError(data.error.code, data.error.message);
        entry.reject(error);
        if (error.code === "engine_crashed") this.close(error);
      }
    }
  }
}
