// How fast a model answers in a real browser: `node tests/browser/bench.mjs [model.gguf] [--backend=cpu|webgpu] [--json]`.
//
// Prefill is a prompt of some hundred tokens, decode 64 greedy tokens after it. Every run has another prompt, so that nothing is answered
// from the state of an earlier one; the best of three is shown. The adapter's name goes with the numbers: on a machine
// without a graphics card it is a software one, and they say nothing about a real one.
import path from 'node:path';
import { parseArgs } from 'node:util';
import { launchChromium, startServer } from './harness.mjs';

const RUNS = 3;
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { backend: { type: 'string' }, json: { type: 'boolean', default: false } },
});
const model = path.resolve(positionals[0] ?? 'models/demo/granite-demo-Q4_K_M.gguf');

/** @param {'webgpu' | 'cpu'} backend */
async function measure(backend) {
  const server = await startServer({ mounts: { '/bench/': path.dirname(model) } });
  const browser = await launchChromium({ gpu: backend === 'webgpu' });
  try {
    const page = await browser.newPage();
    await page.goto(server.url);
    return await page.evaluate(run, { backend, url: `${server.url}bench/${encodeURIComponent(path.basename(model))}`, runs: RUNS });
  } finally {
    await browser.close();
    await server.close();
  }
}

/**
 * Runs in the page.
 * @param {{ backend: 'webgpu' | 'cpu', url: string, runs: number }} options
 */
async function run({ backend, url, runs }) {
  /** @type {typeof import('../../www/outcrop.js')} */
  const { Outcrop } = await import(new URL('/outcrop.js', location.href).href);
  const outcrop = await Outcrop.load(url, { backend });
  const best = { prefill: 0, decode: 0, firstTokenMs: Infinity };
  let prompt = 0;
  for (let index = 0; index < runs; index++) {
    const content = `${index} ${'What is the capital of France, and which river runs through it? '.repeat(16)}`;
    const answer = await outcrop.chat.completions.create({ messages: [{ role: 'user', content }], max_tokens: 64, temperature: 0 });
    const { last } = await outcrop.stats();
    prompt = answer.usage.prompt_tokens;
    best.prefill = Math.max(best.prefill, last?.prefill_tokens_per_second ?? 0);
    best.decode = Math.max(best.decode, last?.decode_tokens_per_second ?? 0);
    best.firstTokenMs = Math.min(best.firstTokenMs, last?.time_to_first_token_ms ?? Infinity);
  }
  const { adapter, load, kv, threads } = await outcrop.stats();
  outcrop.free();
  return { backend, adapter, kv, threads, prompt, ...best, load };
}

const backends = /** @type {('webgpu' | 'cpu')[]} */ (values.backend ? [values.backend] : ['webgpu', 'cpu']);
const results = [];
for (const backend of backends) results.push(await measure(backend));
if (values.json) console.log(JSON.stringify({ model: path.basename(model), results }, null, 2));
else {
  console.log(`${path.basename(model)}, best of ${RUNS}`);
  console.table(
    results.map(({ backend, adapter, prompt, prefill, decode, firstTokenMs, load }) => ({
      backend,
      adapter: adapter ?? '-',
      'prompt tokens': prompt,
      'prefill tokens/s': Number(prefill.toFixed(1)),
      'decode tokens/s': Number(decode.toFixed(1)),
      'first token ms': Math.round(firstTokenMs),
      'load ms': Math.round(load.total_ms),
    })),
  );
}
