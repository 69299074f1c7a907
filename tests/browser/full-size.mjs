// A large model in Chromium on the GPU: cold load, a short answer, then a warm start with the server stopped, and what memory it took.
//
//   node tests/browser/full-size.mjs M.gguf [--tokens 4] [--json FILE]
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { writeJson } from './bench-options.mjs';
import { launchChromium, startServer } from './harness.mjs';
import { watchHeap } from './heap.mjs';

const MIB = 1 << 20;
/** Most that the engine's own memory and the tab's JavaScript heaps may ever take, bytes. */
export const LIMITS = { heap: 128 * MIB, js: 256 * MIB };

/**
 * Loads and asks, once from the network and once from IndexedDB.
 * @param {string} file
 * @param {number} tokens
 */
export async function fullSize(file, tokens) {
  const server = await startServer({ mounts: { '/bench/': path.dirname(path.resolve(file)) } });
  const browser = await launchChromium({ gpu: true });
  let serving = true;
  try {
    const page = await browser.newPage();
    await page.goto(`${server.url}bench.html`);
    const heap = await watchHeap(page);
    const work = { url: `${server.url}bench/${encodeURIComponent(path.basename(file))}`, tokens };
    const cold = await page.evaluate(loadAndAsk, work);
    await server.close();
    serving = false;
    const warm = await page.evaluate(loadAndAsk, work);
    const js = await heap.stop();
    return { file: path.basename(file), cold, warm, heap_bytes: Math.max(cold.heap_bytes, warm.heap_bytes), js };
  } finally {
    await browser.close();
    if (serving) await server.close();
  }
}

/**
 * Runs in the page; a worker for each load, as after a reload, but from modules that are there already.
 * @param {{ url: string, tokens: number }} work
 */
async function loadAndAsk({ url, tokens }) {
  /** @type {typeof import('../../www/engine.js')} */
  const { EngineWorker } = await import(new URL('/engine.js', location.href).href);
  const start = performance.now();
  const page = /** @type {{ next?: import('../../www/engine.js').EngineWorker }} */ (globalThis);
  const worker = page.next ?? new EngineWorker();
  if (!page.next) {
    // The worker of the warm start is made while there is a server to fetch its script from.
    page.next = new EngineWorker();
    await page.next.request({ type: 'models' });
  }
  const loaded = await worker.request({ type: 'load', options: { url, backend: 'webgpu', kv: 'f16', n_ctx: 1024 } });
  let first = 0;
  const reply = await worker.request(
    { type: 'chat', request: { messages: [{ role: 'user', content: 'Hi' }], max_tokens: tokens, temperature: 0 } },
    { onDelta: () => (first ||= performance.now()) },
  );
  const stats = await worker.request({ type: 'stats' });
  await worker.request({ type: 'free' });
  worker.close(/** @type {any} */ (new Error('done')));
  return {
    source: loaded.source.kind,
    adapter: loaded.adapter,
    backend: loaded.backend,
    load: loaded.load,
    first_token_ms: loaded.load.total_ms + reply.timings.time_to_first_token_ms,
    wall_ms: performance.now() - start,
    tokens: reply.usage.completion_tokens,
    text: reply.text,
    heap_bytes: stats.heap_bytes,
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { tokens: { type: 'string', default: '4' }, json: { type: 'string' } },
  });
  const result = await fullSize(positionals[0], Number(values.tokens));
  console.log(JSON.stringify(result, null, 2));
  writeJson(values.json, result);
  const js = result.js.used + result.js.backing;
  if (result.heap_bytes > LIMITS.heap || js > LIMITS.js) {
    console.error(`too much memory: the engine ${result.heap_bytes}, JavaScript ${js} bytes`);
    process.exit(1);
  }
}
