// Our CPU path beside wllama's: `./build.sh bench wllama [--model M.gguf] [--threads 1,2] [--prompt 128] [--tokens 24] [--repeats 5] [--json FILE]`.
//
// wllama 3.8.1 is llama.cpp in WebAssembly. One headless Chromium, one page, both engines with the same file, the same number of threads
// and no GPU; they answer in turns, and who begins changes with each round. Every answer is one prompt read and so many tokens
// written, greedily; the first round warms up and does not count. Rates are each engine's own figures, medians over the rounds, and a ratio is that
// of the medians. Ours is given as many tokens as wllama makes of its prompt's words.
//
// The profile is a persistent one: an incognito context has too little storage for wllama's copy of a large model.
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { cpuOptions, median, needChromium, writeJson } from '../tests/browser/bench-options.mjs';
import { launchChromium, startServer } from '../tests/browser/harness.mjs';

const { prompt: words, tokens, repeats, ...options } = cpuOptions();
needChromium();

const folder = (/** @type {string} */ name) => fileURLToPath(new URL(name, import.meta.url));
const model = path.resolve(options.model);
/** @typedef {{ prompt: number, prefill_tps: number, tokens: number, decode_tps: number }} Speed */
const NAMES = /** @type {const} */ (['ours', 'wllama']);

/** @param {string} url @param {number} threads */
async function compare(url, threads) {
  const browser = await launchChromium({ gpu: false });
  try {
    const page = await browser.newPage();
    page.on('pageerror', (error) => console.error(error));
    await page.goto(`${url}bench/wllama.html`);
    await page.waitForFunction('globalThis.run');
    const address = `${url}model/${encodeURIComponent(path.basename(model))}`;
    // Room for what else a prompt's words may become.
    const n_ctx = Math.max(1024, 2 * words + tokens);
    const about = /** @type {Record<string, { load_ms: number, threads: number, build: string }>} */ ({});
    for (const name of NAMES) {
      about[name] = await page.evaluate(
        ([name, address, threads, n_ctx]) => /** @type {any} */ (globalThis).load(name, address, threads, n_ctx),
        /** @type {const} */ ([name, address, threads, n_ctx]),
      );
    }
    const ask = (/** @type {string} */ name, /** @type {number} */ n) =>
      page.evaluate(([name, n, tokens]) => /** @type {any} */ (globalThis).run(name, n, tokens), /** @type {const} */ ([name, n, tokens]));
    const runs = /** @type {Record<string, Speed[]>} */ ({ ours: [], wllama: [] });
    const prompt = (await ask('wllama', words)).prompt;
    await ask('ours', prompt);
    for (let round = 0; round < repeats; round++) {
      for (let turn = 0; turn < 2; turn++) {
        const name = NAMES[(round + turn) % 2];
        runs[name].push(await ask(name, name === 'ours' ? prompt : words));
      }
    }
    await page.evaluate(() => /** @type {any} */ (globalThis).free());
    const of = (/** @type {'ours' | 'wllama'} */ name) => ({
      ...about[name],
      prefill_tps: median(runs[name].map((run) => run.prefill_tps)),
      decode_tps: median(runs[name].map((run) => run.decode_tps)),
      runs: runs[name],
    });
    const [us, them] = [of('ours'), of('wllama')];
    const ratio = { prefill: us.prefill_tps / them.prefill_tps, decode: us.decode_tps / them.decode_tps, load: us.load_ms / them.load_ms };
    return { threads, prompt, tokens, repeats, ratio, ours: us, wllama: them };
  } finally {
    await browser.close();
  }
}

const server = await startServer({
  mounts: { '/bench/': folder('.'), '/wllama/': folder('../node_modules/@wllama/wllama/esm'), '/model/': path.dirname(model) },
});
const results = [];
try {
  for (const threads of options.threads) results.push(await compare(server.url, threads));
} finally {
  await server.close();
}
console.log(`${path.basename(model)}: ${results[0].ours.build}, beside ${results[0].wllama.build}; medians of ${repeats}`);
console.table(
  results.map(({ threads, prompt, ratio, ours, wllama }) => ({
    'threads asked': threads,
    'ours / theirs': `${ours.threads} / ${wllama.threads}`,
    prompt,
    'prefill ours': +ours.prefill_tps.toFixed(2),
    'prefill wllama': +wllama.prefill_tps.toFixed(2),
    'prefill ratio': +ratio.prefill.toFixed(2),
    'decode ours': +ours.decode_tps.toFixed(2),
    'decode wllama': +wllama.decode_tps.toFixed(2),
    'decode ratio': +ratio.decode.toFixed(2),
    'load ours, s': +(ours.load_ms / 1000).toFixed(1),
    'load wllama, s': +(wllama.load_ms / 1000).toFixed(1),
  })),
);
writeJson(options.json, { model: path.basename(model), results });
