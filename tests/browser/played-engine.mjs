// An engine that plays a script, for what a real one does rarely, slowly or never: downloads that stand still, crashes, every error.
// It speaks the protocol of www/worker.js and takes its place in the test server.

/**
 * @typedef {object} Script
 * @property {object[]} [progress] events of every load
 * @property {{code: string, message: string}} [loadError] how every load ends
 * @property {boolean} [loadHangs] loads end only when they are aborted
 * @property {object} [stats] merged into the stats
 * @property {string[]} [says] the pieces of every answer; without it the answer is the request, as JSON
 * @property {boolean} [answerHangs] answers end only when they are aborted
 * @property {{code: string, message: string}} [answerError] how every answer ends
 * @property {object[]} [stored] the models in the store
 */

/** @param {import("./server.mjs").Server} server @param {Script} script */
export function playEngine(server, script) {
  server.fault("/worker.js", { body: `(${engine})(${JSON.stringify(script)});` });
}

/** Runs in the worker. @param {Script} script */
function engine(script) {
  const stats = {
    backend: "cpu",
    adapter: null,
    fallback: null,
    source: { kind: "network", url: "", stored: true, why: null },
    last: /** @type {object | null} */ (null),
    ...script.stats,
  };
  /** @type {Map<number, () => void>} */
  const hanging = new Map();
  const post = (/** @type {object} */ message) => self.postMessage(message);
  const hang = (/** @type {number} */ id) => new Promise((resolve) => hanging.set(id, () => resolve(undefined)));

  self.onmessage = async ({ data: { type, id, options, request, model } }) => {
    const result = (/** @type {unknown} */ value) => post({ type: "result", id, value });
    if (type === "abort") return hanging.get(id)?.();
    if (type === "stats") return result(stats);
    if (type === "models") return result(script.stored ?? []);
    if (type === "delete") {
      script.stored = script.stored?.filter((/** @type {any} */ stored) => stored.id !== model);
      return result(null);
    }
    if (type === "load") {
      if (options.backend !== "auto") stats.backend = options.backend;
      for (const progress of script.progress ?? []) post({ type: "progress", id, progress });
      if (script.loadHangs) {
        await hang(id);
        return post({ type: "error", id, error: { code: "aborted", message: "aborted" } });
      }
      return script.loadError ? post({ type: "error", id, error: script.loadError }) : result(stats);
    }
    const says = script.says ?? [JSON.stringify(request)];
    for (const text of says) {
      post({ type: "delta", id, text });
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    if (script.answerHangs) await hang(id);
    if (script.answerError) return post({ type: "error", id, error: script.answerError });
    stats.last = { prefill_tokens_per_second: 90, decode_tokens_per_second: 31.4, time_to_first_token_ms: 50 };
    const usage = { prompt_tokens: 9, completion_tokens: says.length, total_tokens: 9 + says.length, cached_tokens: 0 };
    result({ text: says.join(""), finish_reason: script.answerHangs ? "abort" : "stop", usage, timings: stats.last });
  };
}
