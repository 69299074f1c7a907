// @ts-check
// In the browser: from an address to the first token, by Outcrop's loader and by wllama's, and a fetch that keeps nothing. bench/load.mjs asks.

/**
 * @typedef {object} Start milliseconds since it was asked for
 * @property {number} ready_ms the model is on the device and, where it is kept, stored
 * @property {number} first_token_ms
 * @property {string} from where the bytes came from, as far as the engine tells
 * @property {number} prompt tokens that were read for the first one
 * @property {string} build
 * @property {any} load our load's parts; null of wllama
 * @property {number | null} heap_bytes our engine's own memory; null of wllama
 */

/** Plain words of one token each. @param {number} n */
const words = (n) => Array.from({ length: n }, (_, i) => 'the small red house near a cold river holds seven old friends'.split(' ')[i % 12]).join(' ');

/** @param {string} url @param {number} threads @param {number} n_ctx @returns {Promise<Start>} */
async function ours(url, threads, n_ctx) {
  /** @type {typeof import('../www/engine.js')} */
  const { EngineWorker } = await import(new URL('/engine.js', location.href).href);
  const start = performance.now();
  const worker = new EngineWorker();
  const stats = await worker.request({ type: 'load', options: { url, backend: 'cpu', threads, n_ctx } });
  const ready_ms = performance.now() - start;
  let first_token_ms = 0;
  const onDelta = () => (first_token_ms ||= performance.now() - start);
  const reply = await worker.request({ type: 'chat', request: { messages: [{ role: 'user', content: 'Hi' }], max_tokens: 1, temperature: 0 } }, { onDelta });
  // Random weights may say a token that is no text yet.
  first_token_ms ||= performance.now() - start;
  const { heap_bytes } = await worker.request({ type: 'stats' });
  worker.close(/** @type {any} */ (new Error('done')));
  return { ready_ms, first_token_ms, from: stats.source.kind, prompt: reply.usage.prompt_tokens, build: `${stats.build}, ${stats.threads} threads`, load: stats.load, heap_bytes };
}

/** @param {string} url @param {number} threads @param {number} n_ctx @param {number} prompt @returns {Promise<Start>} */
async function theirs(url, threads, n_ctx, prompt) {
  const { Wllama } = await import(new URL('/wllama/index.js', location.href).href);
  let bytes = 0;
  const start = performance.now();
  const wllama = new Wllama({ default: '/wllama/wasm/wllama.wasm' }, { suppressNativeLog: true });
  await wllama.loadModelFromUrl(url, {
    n_gpu_layers: 0,
    n_threads: threads,
    n_ctx,
    n_batch: 512,
    useCache: true,
    progressCallback: (/** @type {{loaded: number}} */ { loaded }) => (bytes = loaded),
  });
  const ready_ms = performance.now() - start;
  const { timings } = await wllama.createCompletion({ prompt: words(prompt), max_tokens: 1, temperature: 0, cache_prompt: false, ignore_eos: true });
  const first_token_ms = performance.now() - start;
  const build = `wllama 3.8.1, llama.cpp ${Wllama.getLibllamaVersion()}, ${wllama.getNumThreads()} threads`;
  await wllama.exit();
  return { ready_ms, first_token_ms, from: bytes ? 'network' : 'cache', prompt: timings.prompt_n, build, load: null, heap_bytes: null };
}

/** Milliseconds of a fetch whose bytes go nowhere. @param {string} url */
async function bare(url) {
  const start = performance.now();
  const response = await fetch(url, { cache: 'no-store' });
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
  let bytes = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) bytes += part.value.length;
  return { ms: performance.now() - start, bytes };
}

/** Tells the server, and waits for its answer. @param {string} state @param {object} [result] */
const tell = (state, result) => fetch(`/turn/${state}`, { method: 'POST', body: JSON.stringify(result ?? {}) });

const query = new URL(location.href).searchParams;
const url = query.get('url') ?? '';
const [threads, n_ctx, prompt] = ['threads', 'n_ctx', 'prompt'].map((key) => Number(query.get(key)));
await tell('ready');
try {
  const engine = query.get('engine');
  const measured = await (engine === 'ours' ? ours(url, threads, n_ctx) : engine === 'wllama' ? theirs(url, threads, n_ctx, prompt) : bare(url));
  await tell('done', measured);
} catch (error) {
  await tell('failed', { message: String(error) });
}
