// How fast a model answers in a real browser: `./build.sh bench web [model.gguf]` runs it with its prompts.
//
// Prefill is measured on one prompt, decode on the answer to another. Every run differs in its first words, so that nothing is
// answered from the state of an earlier one; the best of three is shown. The adapter's name goes with the numbers: on a machine
// without a graphics card it is a software one, and they say nothing about a real one.
import path from 'node:path';
import { parseArgs } from 'node:util';
import { launchChromium, startServer } from './harness.mjs';

const RUNS = 3;
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    prefill: { type: 'string', default: 'What is the capital of France?' },
    decode: { type: 'string', default: 'Count down from 60 to 21.' },
    backend: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
});
const model = path.resolve(positionals[0] ?? 'models/demo/granite-demo-Q4_K_M.gguf');

/** @param {'webgpu' | 'cpu'} backend */
async function measure(backend) {
  const server = await startServer({ mounts: { '/bench/': path.dirname(model) } });
  const browser = await launchChromium({ gpu: backend === 'webgpu' });
  try {
    const page = await browser.newPage();
    await page.goto(server.url);
    return await page.evaluate(run, {
      backend,
      url: `${server.url}bench/${encodeURIComponent(path.basename(model))}`,
      prompts: [values.prefill, values.decode],
      runs: RUNS,
    });
  } finally {
    await browser.close();
    await server.close();
  }
}

/**
 * Runs in the page.
 * @param {{ backend: 'webgpu' | 'cpu', url: string, prompts: string[], runs: number }} options
 */
async function run({ backend, url, prompts, runs }) {
  /** @type {typeof import('../../www/outcrop.js')} */
  const { Outcrop } = await import(new URL('/outcrop.js', location.href).href);
  const outcrop = await Outcrop.load(url, { backend });
  /** @param {string} content @param {number} max_tokens */
  const ask = async (content, max_tokens) => {
    const { usage } = await outcrop.chat.completions.create({ messages: [{ role: 'user', content }], max_tokens, temperature: 0 });
    return { usage, timings: (await outcrop.stats()).last };
  };
  const best = { promptTokens: 0, prefill: 0, firstTokenMs: Infinity, answerTokens: 0, decode: 0 };
  for (let index = 0; index < runs; index++) {
    const read = await ask(`${index}. ${prompts[0]}`, 1);
    best.promptTokens = read.usage.prompt_tokens;
    best.prefill = Math.max(best.prefill, read.timings?.prefill_tokens_per_second ?? 0);
    best.firstTokenMs = Math.min(best.firstTokenMs, read.timings?.time_to_first_token_ms ?? Infinity);
    const written = await ask(prompts[1], 128);
    best.answerTokens = written.usage.completion_tokens;
    best.decode = Math.max(best.decode, written.timings?.decode_tokens_per_second ?? 0);
  }
  const { adapter, load, kv, threads } = await outcrop.stats();
  outcrop.free();
  return { backend, adapter, kv, threads, ...best, load };
}

const backends = /** @type {('webgpu' | 'cpu')[]} */ (values.backend ? [values.backend] : ['webgpu', 'cpu']);
const results = [];
for (const backend of backends) results.push(await measure(backend));
if (values.json) console.log(JSON.stringify({ model: path.basename(model), results }, null, 2));
else {
  console.log(`${path.basename(model)}, best of ${RUNS}`);
  console.table(
    results.map(({ backend, adapter, promptTokens, prefill, firstTokenMs, answerTokens, decode, load }) => ({
      backend,
      adapter: adapter ?? '-',
      'load ms': Math.round(load.total_ms),
      'prompt tokens': promptTokens,
      'prefill tokens/s': Number(prefill.toFixed(1)),
      'first token ms': Math.round(firstTokenMs),
      'answer tokens': answerTokens,
      'decode tokens/s': Number(decode.toFixed(1)),
    })),
  );
}
