// @ts-check
// In the browser: a model loaded by Outcrop's CPU path and by wllama's, asked in turns by bench/wllama.mjs.

/**
 * @typedef {object} Speed
 * @property {number} prompt tokens read
 * @property {number} prefill_tps
 * @property {number} tokens written
 * @property {number} decode_tps
 *
 * @typedef {object} Engine
 * @property {number} load_ms
 * @property {number} threads
 * @property {string} build
 * @property {(prompt: number, tokens: number) => Promise<Speed>} run
 * @property {() => Promise<void>} free
 */

/** Plain words of one token each, others at each call. @param {number} n @param {number} run */
function words(n, run) {
  const list = 'the small red house near a cold river holds seven old friends who talk about long days and good bread'.split(' ');
  return Array.from({ length: n }, (_, i) => list[(i * 7 + run * 5 + ((i / 20) | 0)) % list.length]).join(' ');
}

/** @param {string} url @param {number} threads @param {number} n_ctx @returns {Promise<Engine>} */
async function ours(url, threads, n_ctx) {
  /** @type {typeof import('../www/engine.js')} */
  const { EngineWorker } = await import(new URL('/engine.js', location.href).href);
  const worker = new EngineWorker();
  const stats = await worker.request({ type: 'load', options: { url, backend: 'cpu', threads, n_ctx } });
  return {
    load_ms: stats.load.total_ms,
    threads: stats.threads,
    build: `${stats.build}, ${stats.activations} activations`,
    run: async (prompt, tokens) => worker.request({ type: 'bench', options: { prompt, tokens, repeats: 1 } }),
    free: async () => worker.close(/** @type {any} */ (new Error('done'))),
  };
}

/** @param {string} url @param {number} threads @param {number} n_ctx @returns {Promise<Engine>} */
async function theirs(url, threads, n_ctx) {
  const { Wllama } = await import(new URL('/wllama/index.js', location.href).href);
  const wllama = new Wllama({ default: '/wllama/wasm/wllama.wasm' }, { suppressNativeLog: true });
  const start = performance.now();
  await wllama.loadModelFromUrl(url, { n_gpu_layers: 0, n_threads: threads, n_ctx, n_batch: 512, useCache: true });
  const load_ms = performance.now() - start;
  let run = 0;
  return {
    load_ms,
    threads: wllama.getNumThreads(),
    build: `wllama 3.8.1, llama.cpp ${Wllama.getLibllamaVersion()}`,
    run: async (prompt, tokens) => {
      const { timings } = await wllama.createCompletion({
        prompt: words(prompt, run++),
        max_tokens: tokens,
        temperature: 0,
        cache_prompt: false,
        ignore_eos: true,
      });
      return {
        prompt: timings.prompt_n,
        prefill_tps: timings.prompt_per_second,
        tokens: timings.predicted_n,
        decode_tps: timings.predicted_per_second,
      };
    },
    free: () => wllama.exit(),
  };
}

/** @type {Record<string, Engine>} */
const engines = {};

Object.assign(globalThis, {
  /** @param {'ours' | 'wllama'} name @param {string} url @param {number} threads @param {number} n_ctx */
  load: async (name, url, threads, n_ctx) => {
    engines[name] = await (name === 'ours' ? ours : theirs)(url, threads, n_ctx);
    const { load_ms, threads: used, build } = engines[name];
    return { load_ms, threads: used, build };
  },
  /** @param {string} name @param {number} prompt @param {number} tokens */
  run: async (name, prompt, tokens) => {
    const { prompt: read, prefill_tps, tokens: written, decode_tps } = await engines[name].run(prompt, tokens);
    return { prompt: read, prefill_tps, tokens: written, decode_tps };
  },
  free: async () => {
    for (const engine of Object.values(engines)) await engine.free();
  },
});
