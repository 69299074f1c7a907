// How fast a GPU runs a model in Chromium, and which share of its memory's speed that is: `./build.sh bench gpu` runs it.
//
// The engine's worker is asked as bench.html asks it. The adapter's name goes with the numbers: on a machine without a graphics card it
// is a software one, and they say nothing about a real one.
import path from 'node:path';
import { parseArgs } from 'node:util';
import { needChromium, writeJson } from './bench-options.mjs';
import { launchChromium, startServer } from './harness.mjs';

const { values } = parseArgs({
  options: {
    shape: { type: 'string', default: 'h-350m' },
    model: { type: 'string' },
    prompt: { type: 'string', default: '64' },
    tokens: { type: 'string', default: '16' },
    repeats: { type: 'string', default: '3' },
    json: { type: 'string' },
  },
});
needChromium();

const model = values.model && path.resolve(values.model);
const server = await startServer({ mounts: model ? { '/bench/': path.dirname(model) } : {} });
const browser = await launchChromium({ gpu: true });
try {
  const page = await browser.newPage();
  await page.goto(`${server.url}bench.html`);
  const report = await page.evaluate(run, {
    url: model ? `${server.url}bench/${encodeURIComponent(path.basename(model))}` : null,
    options: {
      ...(model ? {} : { shape: values.shape, backend: /** @type {const} */ ('webgpu') }),
      prompt: Number(values.prompt),
      tokens: Number(values.tokens),
      repeats: Number(values.repeats),
    },
  });
  show(report);
  writeJson(values.json, report);
} finally {
  await browser.close();
  await server.close();
}

/**
 * Runs in the page.
 * @param {{ url: string | null, options: import('../../www/worker.js').BenchOptions }} work
 * @returns {Promise<import('../../www/worker.js').BenchReport & { backend: string, model: string, adapter: string }>}
 */
async function run({ url, options }) {
  /** @type {typeof import('../../www/engine.js')} */
  const { EngineWorker } = await import(new URL('/engine.js', location.href).href);
  const worker = new EngineWorker();
  const loaded = url && (await worker.request({ type: 'load', options: { url, backend: 'webgpu', kv: 'f16' } }));
  const report = await worker.request({ type: 'bench', options });
  const about = loaded ? { model: loaded.model.name, adapter: loaded.adapter, load_ms: loaded.load.total_ms } : {};
  return { ...about, ...report, backend: 'Chromium' };
}

/** @param {Awaited<ReturnType<typeof run>>} r */
function show(r) {
  const moved = Object.values(r.bytes_per_token).reduce((sum, n) => sum + n, 0);
  console.log(`${r.model} on ${r.adapter}, ${r.backend}`);
  console.log(`prefill     ${r.prefill_tps.toFixed(2)} tokens/s (${r.prompt} tokens, median of ${r.repeats})`);
  console.log(`decode      ${r.decode_tps.toFixed(2)} tokens/s (${r.tokens} tokens)`);
  console.log(`dispatches  ${r.dispatches_per_token} a token, ${r.submits_per_token} submits`);
  console.log(
    `token loop  ${r.loop_ratio.toFixed(3)} of the time of the same submits unread, ${r.tokens_per_submit} tokens a submit; ${r.host_ms_per_token.toFixed(3)} ms a token at the host`,
  );
  console.log(`traffic     ${(moved / 1e6).toFixed(1)} MB a token`);
  console.log(`copy        ${r.copy_gbps.toFixed(2)} GB/s; decoding moves ${(r.share_of_copy * 100).toFixed(1)} % of that`);
  const all = r.ops.reduce((sum, op) => sum + op.ms, 0);
  console.table(
    r.ops.map(({ op, dispatches, ms, gbps }) => ({
      'op of one token': op,
      times: dispatches,
      ms: +ms.toFixed(3),
      '%': +((ms / all) * 100).toFixed(1),
      'GB/s': +gbps.toFixed(2),
    })),
  );
}
