// From an address to the first token, cold and warm, by our loader and by wllama's: `./build.sh bench load [--model M.gguf] [--threads 2]
// [--rate 40] [--repeats 3] [--engines ours,wllama] [--json FILE]`.
//
// One server, one machine, one run. Each round measures, in turns, a fetch that keeps nothing, and each engine's cold start (from the network: stored
// and on the device) and warm start (from its storage) to ready and to the first token; once with the server held to `--rate` MB/s for all connections
// together, once unheld. Which engine begins changes with each round. Each start has a browser of its own, that nobody watches (harness.mjs says why), and
// each cold one a profile of its own, a persistent one. Both run on the CPU, on as many threads, and read as many tokens before the first one.
//
// Memory is the renderer's VmHWM, the most it ever had resident. Of that the file's bytes are weights, and what the renderer had before the start is
// the browser's own; the rest is told.
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { median, needChromium, writeJson } from '../tests/browser/bench-options.mjs';
import { FaultyFile } from '../tests/browser/fault-server.mjs';
import { openUnwatched, startServer } from '../tests/browser/harness.mjs';
import { forgetPeaks, renderers } from '../tests/browser/resident.mjs';

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: 'target/h-350m.gguf' },
    threads: { type: 'string', default: '2' },
    rate: { type: 'string', default: '40' },
    repeats: { type: 'string', default: '3' },
    engines: { type: 'string', default: 'ours,wllama' },
    json: { type: 'string' },
  },
});
const [threads, rate, repeats] = [values.threads, values.rate, values.repeats].map(Number);
const engines = /** @type {('ours' | 'wllama')[]} */ (values.engines.split(','));
const N_CTX = 512;
const MIB = 1 << 20;
needChromium();

const folder = (/** @type {string} */ name) => fileURLToPath(new URL(name, import.meta.url));
const file = new FaultyFile({ body: path.resolve(values.model) });
const site = await startServer({ mounts: { '/bench/': folder('.'), '/wllama/': folder('../node_modules/@wllama/wllama/esm') } });
site.route('/model/', (request, response) => file.handle(request, response));
const url = `${site.url}model/${encodeURIComponent(path.basename(values.model))}`;
/** Tokens that ours reads before its first one; wllama is given as many. */
let prompt = 32;

/** @typedef {import('./load-page.mjs').Start & {peak_bytes: number | null, own_bytes: number | null, sent_bytes: number}} Measured */

/** What the page says next. @type {{ready: () => void, done: (result: any) => void, failed: (error: Error) => void}} */
let turns;
site.route('/turn/', async (request, response) => {
  let text = '';
  for await (const part of request) text += part;
  const result = JSON.parse(text);
  if (request.url === '/turn/ready') turns.ready();
  else if (request.url === '/turn/done') turns.done(result);
  else turns.failed(new Error(result.message));
  response.end();
});

/**
 * One start in a browser of its own.
 *
 * @param {string} profile @param {'ours' | 'wllama' | 'bare'} engine @returns {Promise<any>}
 */
async function start(profile, engine) {
  /** Memory of each renderer before the start. */
  let before = /** @type {NonNullable<ReturnType<typeof renderers>>} */ ([]);
  const sent = file.sent;
  const result = new Promise((resolve, reject) => {
    turns = {
      ready: () => {
        forgetPeaks();
        before = renderers() ?? [];
      },
      done: (measured) => {
        const most = renderers()?.toSorted((a, b) => b.peak - a.peak)[0];
        const own_bytes = before.find(({ pid }) => pid === most?.pid)?.resident ?? null;
        resolve({ ...measured, peak_bytes: most?.peak ?? null, own_bytes, sent_bytes: file.sent - sent });
      },
      failed: reject,
    };
  });
  const query = new URLSearchParams({ engine, url, threads: String(threads), n_ctx: String(N_CTX), prompt: String(prompt) });
  const close = await openUnwatched(`${site.url}bench/load.html?${query}`, profile);
  try {
    const measured = /** @type {any} */ (await result);
    if (engine === 'ours') prompt = measured.prompt;
    return measured;
  } finally {
    await close();
  }
}

/** With a profile that is thrown away. @template T @param {(profile: string) => Promise<T>} body */
async function withProfile(body) {
  const profile = await mkdtemp(path.join(os.tmpdir(), 'outcrop-profile-'));
  try {
    return await body(profile);
  } finally {
    await rm(profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** @param {number | undefined} bytesPerSecond */
async function rounds(bytesPerSecond) {
  file.options.bytesPerSecond = bytesPerSecond;
  /** @type {number[]} */
  const bares = [];
  const cold = /** @type {Record<string, Measured[]>} */ (Object.fromEntries(engines.map((engine) => [engine, []])));
  const warm = /** @type {Record<string, Measured[]>} */ (Object.fromEntries(engines.map((engine) => [engine, []])));
  for (let round = 0; round < repeats; round++) {
    bares.push((await withProfile((profile) => start(profile, 'bare'))).ms);
    for (const engine of round % 2 ? engines.toReversed() : engines) {
      await withProfile(async (profile) => {
        cold[engine].push(await start(profile, engine));
        warm[engine].push(await start(profile, engine));
      });
      const [c, w] = [cold[engine], warm[engine]].map((list) => /** @type {Measured} */ (list.at(-1)));
      if (w.sent_bytes > 0 || c.sent_bytes < file.size) throw new Error(`${engine}: ${c.sent_bytes} bytes came for the cold start, ${w.sent_bytes} for the warm one`);
      console.log(`${bytesPerSecond ? `${rate} MB/s` : 'unheld'}, round ${round + 1}, ${engine}: cold ${(c.ready_ms / 1000).toFixed(2)} s, warm ${(w.ready_ms / 1000).toFixed(2)} s, first token ${(w.first_token_ms / 1000).toFixed(2)} s`);
    }
  }
  const middle = (/** @type {Measured[]} */ list, /** @type {'ready_ms' | 'first_token_ms'} */ key) => median(list.map((one) => one[key]));
  const most = (/** @type {Measured[]} */ list) => (list.some(({ peak_bytes }) => peak_bytes === null) ? null : Math.max(...list.map(({ peak_bytes }) => Number(peak_bytes))));
  const own = (/** @type {Measured[]} */ list) => (list.some(({ own_bytes }) => own_bytes === null) ? null : Math.min(...list.map(({ own_bytes }) => Number(own_bytes))));
  const bare_ms = median(bares);
  const of = (/** @type {'ours' | 'wllama'} */ engine) => ({
    engine,
    build: cold[engine][0].build,
    cold_ready_ms: middle(cold[engine], 'ready_ms'),
    cold_mbps: file.size / 1000 / middle(cold[engine], 'ready_ms'),
    over_bare: middle(cold[engine], 'ready_ms') / bare_ms,
    warm_ready_ms: middle(warm[engine], 'ready_ms'),
    warm_mbps: file.size / 1000 / middle(warm[engine], 'ready_ms'),
    warm_first_token_ms: middle(warm[engine], 'first_token_ms'),
    peak_bytes: { cold: most(cold[engine]), warm: most(warm[engine]) },
    own_bytes: own([...cold[engine], ...warm[engine]]),
    cold: cold[engine],
    warm: warm[engine],
  });
  return { bytes_per_second: bytesPerSecond ?? null, bare_ms, bare_mbps: file.size / 1000 / bare_ms, engines: engines.map(of) };
}

/** @type {Awaited<ReturnType<typeof rounds>>[]} */
const results = [];
try {
  for (const held of [rate * 1e6, undefined]) results.push(await rounds(held));
} finally {
  await site.close();
}
const mb = (/** @type {number | null} */ bytes) => (bytes === null ? 'not told' : Math.round(bytes / MIB));
console.log(`\n${path.basename(values.model)}, ${(file.size / 1e6).toFixed(0)} MB, ${threads} threads; medians of ${repeats}; memory in MiB, most of all rounds`);
console.table(
  results.flatMap(({ bytes_per_second, bare_ms, bare_mbps, engines }) =>
    engines.map(({ engine, cold_ready_ms, cold_mbps, over_bare, warm_ready_ms, warm_mbps, warm_first_token_ms, peak_bytes, own_bytes }) => {
      const beyond = (/** @type {number | null} */ peak) => (peak === null || own_bytes === null ? null : peak - own_bytes - file.size);
      return {
        line: bytes_per_second ? `${rate} MB/s` : 'unheld',
        engine,
        'bare, s': +(bare_ms / 1000).toFixed(2),
        'bare, MB/s': +bare_mbps.toFixed(1),
        'cold, s': +(cold_ready_ms / 1000).toFixed(2),
        'cold, MB/s': +cold_mbps.toFixed(1),
        'over bare': +over_bare.toFixed(3),
        'warm, s': +(warm_ready_ms / 1000).toFixed(2),
        'warm, MB/s': +warm_mbps.toFixed(0),
        'first token, s': +(warm_first_token_ms / 1000).toFixed(2),
        own: mb(own_bytes),
        'beyond weights and own, cold': mb(beyond(peak_bytes.cold)),
        'and warm': mb(beyond(peak_bytes.warm)),
      };
    }),
  ),
);
const ratios = results.map(({ bytes_per_second, engines }) => {
  const [us, them] = ['ours', 'wllama'].map((name) => engines.find(({ engine }) => engine === name));
  return us && them ? { bytes_per_second, cold: them.cold_ready_ms / us.cold_ready_ms, warm_first_token: them.warm_first_token_ms / us.warm_first_token_ms } : null;
});
for (const ratio of ratios) {
  if (ratio) console.log(`${ratio.bytes_per_second ? `${rate} MB/s` : 'unheld'}: wllama takes ${ratio.cold.toFixed(2)} times as long cold, ${ratio.warm_first_token.toFixed(2)} times as long from a warm start to the first token`);
}
writeJson(values.json, { model: path.basename(values.model), bytes: file.size, threads, repeats, ratios, results });
