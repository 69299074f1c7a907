// An engine that plays a script, for what a real one does rarely, slowly or never: downloads that stand still, crashes, every error.
// It speaks the protocol of www/worker.js and takes its place in the test server.

/**
 * @typedef {Partial<import("../../www/worker.js").StoredModel> & {id: string, bytes: number}} Stored the rest is as of a whole one-file model
 *
 * @typedef {object} Script
 * @property {object[]} [progress] events of every load
 * @property {{code: string, message: string}} [loadError] how every load ends
 * @property {boolean} [loadHangs] loads end only when they are aborted, or when `Played.finish` says so
 * @property {object} [stats] merged into the stats
 * @property {string[]} [says] the pieces of every answer; without it the answer is the request, as JSON
 * @property {boolean} [answerHangs] answers end only when they are aborted
 * @property {{code: string, message: string}} [answerError] how every answer ends
 * @property {Stored[]} [stored] the models in the store; deleting and importing change it, for every worker of this script
 * @property {{code: string, message: string}} [storeError] how it ends to ask what is stored
 * @property {{bytes: number | null, stored: number, complete: boolean}} [probe] the size of what has no published one
 * @property {number} [probeMs] how long it takes to find that out
 * @property {{code: string, message: string}} [importError] how every import ends that claims to be a published model
 * @property {boolean} [importHangs] imports stay half-way until they are aborted
 */

/** Where pages of one browser talk to the engines that play in it. */
const CHANNEL = "played";
let scripts = 0;

/**
 * A load event with every field, for a test to name only those it is about.
 *
 * @param {Partial<import("../../www/worker.js").Progress>} fields
 * @returns {import("../../www/worker.js").Progress}
 */
export const progress = (fields) => ({
  phase: "download", backend: "cpu", loaded: 340e6, total: 1942564512, bytesPerSecond: 38.2e6, secondsLeft: 41.9, fromCache: false, stored: true,
  note: null, resumed: 0, paused: false, waiting: null, retrySeconds: null, problem: null, ...fields,
});

/** @param {import("./server.mjs").Server} server @param {Script} script */
export function playEngine(server, script) {
  const body = `(${engine})(${JSON.stringify({ ...script, number: ++scripts })}, ${JSON.stringify(CHANNEL)});`;
  server.fault("/worker.js", { body, headers: { "Cache-Control": "no-store" } }); // the next script may be of the same length, and so of the same ETag
}

/**
 * Talks to the engine of a page, while its load hangs.
 *
 * @param {import("playwright-core").Page} page
 */
export function played(page) {
  // A load may be about to begin: what is said is said again until an engine has heard it.
  const send = (/** @type {object} */ message) =>
    page.evaluate(([name, message]) => {
      const channel = new BroadcastChannel(/** @type {string} */ (name));
      const token = Math.random();
      return new Promise((resolve) => {
        const again = setInterval(() => channel.postMessage({ ...message, token }), 50);
        channel.addEventListener("message", ({ data }) => {
          if (data.heard !== token) return;
          clearInterval(again);
          channel.close();
          resolve(undefined);
        });
        channel.postMessage({ ...message, token });
      });
    }, /** @type {const} */ ([CHANNEL, message]));
  return {
    /** @param {Partial<import("../../www/worker.js").Progress>} fields of the load's next event */
    progress: (fields) => send({ progress: progress(fields) }),
    finish: () => send({ finish: true }),
    /** Every message that engines get from now on, but their questions about stats. @returns {Promise<() => Promise<any[]>>} */
    listen: async () => {
      await page.evaluate((name) => {
        const seen = (/** @type {any} */ (window).seen = /** @type {any[]} */ ([]));
        new BroadcastChannel(name).addEventListener("message", ({ data }) => data.seen && seen.push(data.seen));
      }, CHANNEL);
      return () => page.evaluate(() => /** @type {any} */ (window).seen);
    },
  };
}

/** Runs in the worker. @param {Script & {number: number}} script @param {string} channelName */
function engine(script, channelName) {
  const stats = {
    backend: "cpu",
    adapter: null,
    fallback: null,
    source: { kind: "network", url: "", stored: true, why: null, sha256: null, checked: false },
    last: /** @type {object | null} */ (null),
    ...script.stats,
  };
  /** How to end what hangs, by its id. @type {Map<number, (aborted: boolean) => void>} */
  const hanging = new Map();
  const post = (/** @type {object} */ message) => self.postMessage(message);
  const hang = (/** @type {number} */ id) => new Promise((resolve) => hanging.set(id, resolve));
  const channel = new BroadcastChannel(channelName);
  const tabs = new BroadcastChannel("outcrop");
  let load = 0;
  let last = 0;
  channel.addEventListener("message", ({ data: { token, progress, finish } }) => {
    if (!token || !load) return;
    channel.postMessage({ heard: token });
    if (token === last) return;
    last = token;
    if (progress) post({ type: "progress", id: load, progress });
    if (finish) hanging.get(load)?.(false);
  });

  // Every question has a worker of its own: what they share is in a cache.
  const place = `/played-${script.number}`;
  const store = {
    read: async () => {
      const kept = await caches.match(place);
      const stored = kept ? await kept.json() : (script.stored ?? []);
      return stored.map((/** @type {any} */ model) => ({ url: model.id, name: null, total: model.bytes, complete: true, used_ms: null, parts: 1, sha256: null, ...model }));
    },
    write: async (/** @type {any[]} */ stored) => (await caches.open("played")).put(place, new Response(JSON.stringify(stored))),
  };

  self.onmessage = async ({ data: { type, id, options, request, model, file } }) => {
    const result = (/** @type {unknown} */ value) => post({ type: "result", id, value });
    const fail = (/** @type {object} */ error) => post({ type: "error", id, error });
    const aborted = { code: "aborted", message: "aborted" };
    if (type !== "stats") channel.postMessage({ seen: { type, ...(options && { options }), ...(model && { model }) } });
    switch (type) {
      case "abort":
        return hanging.get(id)?.(true);
      case "pause":
      case "continue":
        return;
      case "stats":
        return result(stats);
      case "models":
        return script.storeError ? fail(script.storeError) : result(await store.read());
      case "delete":
        await store.write((await store.read()).filter((/** @type {any} */ stored) => stored.id !== model));
        tabs.postMessage({ type: "deleted", id: model });
        return result(null);
      case "export":
        return result({ name: "whatever.gguf", blob: new Blob(["GGUF", model]) });
      case "import": {
        post({ type: "progress", id, progress: { phase: "file", loaded: file.size / 2, total: file.size } });
        if (script.importHangs) {
          await hang(id);
          return fail(aborted);
        }
        if (script.importError && options.url) return fail(script.importError);
        const key = options.url ?? `file:${file.name}`;
        const imported = { id: key, bytes: file.size, used_ms: Date.now() };
        const others = (await store.read()).filter((/** @type {any} */ stored) => stored.id !== key);
        await store.write([...others, imported]);
        tabs.postMessage({ type: "stored", id: key });
        return result((await store.read()).at(-1));
      }
      case "probe": {
        await new Promise((resolve) => setTimeout(resolve, script.probeMs ?? 0));
        const url = options.url ?? options.parts?.[0]?.url;
        const stored = (await store.read()).find((/** @type {any} */ stored) => stored.id === url);
        return result(script.probe ?? { bytes: options.bytes ?? 5e6, stored: stored?.bytes ?? 0, complete: stored?.complete ?? false });
      }
      case "load":
        load = id;
        if (options.backend !== "auto") stats.backend = options.backend;
        for (const progress of script.progress ?? []) post({ type: "progress", id, progress });
        if (script.loadHangs && (await hang(id))) return fail(aborted);
        return script.loadError ? fail(script.loadError) : result(stats);
    }
    const says = script.says ?? [JSON.stringify(request)];
    for (const text of says) {
      post({ type: "delta", id, text });
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    if (script.answerHangs) await hang(id);
    if (script.answerError) return fail(script.answerError);
    stats.last = { prefill_tokens_per_second: 90, decode_tokens_per_second: 31.4, time_to_first_token_ms: 50 };
    const usage = { prompt_tokens: 9, completion_tokens: says.length, total_tokens: 9 + says.length, cached_tokens: 0 };
    result({ text: says.join(""), finish_reason: script.answerHangs ? "abort" : "stop", usage, timings: stats.last });
  };
}
