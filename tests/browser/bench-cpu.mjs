// How fast the CPU runs a model in Chromium, which share of its memory's speed that is, and what memory it takes: `./build.sh bench cpu`.
//
//   node tests/browser/bench-cpu.mjs --model M.gguf [--threads 1,2] [--prompt 128] [--tokens 24] [--repeats 5] [--json FILE]
//
// A browser of its own for each number of threads: peaks never go down again.
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { cpuOptions, needChromium, writeJson } from './bench-options.mjs';
import { launchChromium, startServer } from './harness.mjs';
import { mostResident } from './resident.mjs';

/**
 * Runs in the page.
 * @param {{ url: string, threads: number, options: import('../../www/worker.js').BenchOptions }} work
 */
async function run({ url, threads, options }) {
  /** @type {typeof import('../../www/engine.js')} */
  const { EngineWorker } = await import(new URL('/engine.js', location.href).href);
  const worker = new EngineWorker();
  const n_ctx = options.prompt + options.tokens + 64;
  const loaded = await worker.request({ type: 'load', options: { url, backend: 'cpu', threads, n_ctx } });
  // Without the copy that is measured, which is no part of the engine.
  const { details: _, ...plain } = options;
  await worker.request({ type: 'bench', options: { ...plain, repeats: 1 } });
  const { heap_bytes } = await worker.request({ type: 'stats' });
  return { worker, loaded, heap_bytes };
}

/**
 * One measurement in a browser of its own.
 * @param {string} model @param {number} threads @param {import('../../www/worker.js').BenchOptions} options
 */
export async function measure(model, threads, options) {
  const server = await startServer({ mounts: { '/bench/': path.dirname(path.resolve(model)) } });
  const browser = await launchChromium({ gpu: false });
  try {
    const page = await browser.newPage();
    await page.goto(`${server.url}bench.html`);
    const url = `${server.url}bench/${encodeURIComponent(path.basename(model))}`;
    const handle = await page.evaluateHandle(run, { url, threads, options });
    const { loaded, heap_bytes } = await handle.evaluate(({ loaded, heap_bytes }) => ({ loaded, heap_bytes }));
    const peak_resident_bytes = mostResident('peak');
    /** @type {import('../../www/worker.js').CpuBenchReport} */
    const report = await handle.evaluate(({ worker }, options) => worker.request({ type: 'bench', options }), { ...options, details: true });
    return {
      backend: 'Chromium, CPU',
      model: path.basename(model),
      bytes: loaded.model.bytes,
      build: loaded.build,
      activations: loaded.activations,
      threads: loaded.threads,
      threads_asked: threads,
      ...(loaded.threads_why ? { threads_why: loaded.threads_why } : {}),
      load_ms: loaded.load.total_ms,
      peak_heap_bytes: heap_bytes,
      peak_resident_bytes,
      ...report,
    };
  } finally {
    await browser.close();
    await server.close();
  }
}

/** @param {Awaited<ReturnType<typeof measure>>} r */
function show(r) {
  console.log(`\n${r.model}, ${r.threads} of ${r.threads_asked} threads, ${r.build}, ${r.activations} activations${r.threads_why ? ` (${r.threads_why})` : ''}`);
  console.log(`prefill     ${r.prefill_tps.toFixed(2)} tokens/s (${r.prompt} tokens, median of ${r.repeats})`);
  console.log(`decode      ${r.decode_tps.toFixed(2)} tokens/s (${r.tokens} tokens)`);
  console.log(`load        ${(r.load_ms / 1000).toFixed(1)} s for ${(r.bytes / 1e6).toFixed(0)} MB`);
  const resident = r.peak_resident_bytes === null ? 'not told by this system' : `${(r.peak_resident_bytes / 1e6).toFixed(0)} MB`;
  console.log(`memory      heap ${(r.peak_heap_bytes / 1e6).toFixed(0)} MB, most resident of the renderer ${resident}`);
  console.log(`traffic     ${(r.bytes_per_token / 1e6).toFixed(1)} MB a token`);
  console.log(`copy        ${r.copy_gbps.toFixed(2)} GB/s; decoding moves ${(r.share_of_copy * 100).toFixed(1)} % of that`);
  for (const [title, ops] of /** @type {const} */ ([
    ['op of one token', r.ops],
    [`op of ${r.batch} tokens`, r.batch_ops],
  ])) {
    const all = ops.reduce((sum, op) => sum + op.ms, 0);
    console.table(
      ops.map(({ op, times, ms, gbps, gmacs }) => ({
        [title]: op,
        times,
        ms: +ms.toFixed(3),
        '%': +((ms / all) * 100).toFixed(1),
        'GB/s': +gbps.toFixed(2),
        'of copy, %': +((gbps / r.copy_gbps) * 100).toFixed(1),
        'GMAC/s': +gmacs.toFixed(2),
      })),
    );
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { model, threads: counts, json, ...options } = cpuOptions();
  needChromium();
  /** @type {Awaited<ReturnType<typeof measure>>[]} */
  const results = [];
  for (const threads of counts) {
    const report = await measure(model, threads, options);
    // One thread where two were asked for is the first measurement again.
    if (results.some((other) => other.threads === report.threads && other.build === report.build)) {
      console.log(`\n${threads} threads: there is only ${report.threads}${report.threads_why ? `, ${report.threads_why}` : ''}`);
      continue;
    }
    show(report);
    results.push(report);
  }
  const [one, two] = [1, 2].map((n) => results.find(({ threads }) => threads === n));
  if (one && two) {
    const scaling = (/** @type {'prefill_tps' | 'decode_tps'} */ key) => (two[key] / one[key]).toFixed(2);
    console.log(`\n2 threads over 1: prefill ${scaling('prefill_tps')}, decode ${scaling('decode_tps')}`);
  }
  writeJson(json, results);
}
