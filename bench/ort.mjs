// Our products beside onnxruntime-web's `MatMulNBits`: `./build.sh bench ort [--json FILE]`.
//
// One headless Chromium on SwiftShader, one GPU device for both, taking turns: 4 bits a weight, blocks of 32, f32 activations and
// sums. Ours run from the WGSL, uniforms and workgroup counts that the engine itself records (examples/shaders.rs), on Q4_0 (the very
// numbers that MatMulNBits gets) and on Q4_K (what Granite's files have; other numbers). Weights and activations stand on the device
// before, results stay there; a time is that of one submit and the wait for it, over the products in it. Both are checked against
// a plain product. A software adapter does well under 1 GMAC/s, so rows are cut where a product would be more than `--macs` million.
//
// onnxruntime-web comes in two builds with WebGPU kernels of their own: `webgpu` (its C++ provider) and `all` (the older one, in
// JavaScript). Neither is the faster at every size, so the means are against whichever is, shape by shape.
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { median, needChromium, writeJson } from '../tests/browser/bench-options.mjs';
import { launchChromium, startServer } from '../tests/browser/harness.mjs';

const { values } = parseArgs({
  options: {
    shapes: { type: 'string', default: '2048x8512,2048x16384,8192x2048,4096x2048' },
    tokens: { type: 'string', default: '1,8,64,256' },
    types: { type: 'string', default: 'Q4_0,Q4_K' },
    rounds: { type: 'string', default: '7' },
    macs: { type: 'string', default: '400' },
    builds: { type: 'string', default: 'webgpu,all' },
    // `gpu`: the kernels that a real GPU would get.
    forms: { type: 'string', default: 'software' },
    json: { type: 'string' },
  },
});
const folder = (/** @type {string} */ name) => fileURLToPath(new URL(name, import.meta.url));
const types = values.types.split(',');

/** What is to be measured: the whole of a vector's product, several at a time; of a matrix's as many rows as `--macs` allows. */
const jobs = values.tokens.split(',').flatMap((t) =>
  values.shapes.split(',').map((shape) => {
    const tokens = Number(t);
    const [k, rows] = shape.split('x').map(Number);
    // Whole tiles of either engine.
    const most = Math.max(256, Math.floor((Number(values.macs) * 1e6) / (k * tokens * 128)) * 128);
    const n = Math.min(rows, most);
    return { shape, k, n, tokens, copies: Math.max(1, Math.min(4, Math.floor(1e8 / (k * n * tokens)))), rounds: Number(values.rounds) };
  }),
);

function dispatches() {
  const wanted = jobs.flatMap(({ n, k, tokens }) => types.flatMap((type) => [type, `${n}`, `${k}`, `${tokens}`]));
  const printed = execFileSync('cargo', ['run', '--quiet', '--locked', '--example', 'shaders', '--', ...(values.forms === 'gpu' ? [] : ['--software']), ...wanted], { maxBuffer: 1 << 28 });
  return /** @type {import('./ort-page.mjs').Dispatch[][]} */ (JSON.parse(printed.toString()));
}

/** @param {number[]} list */
const geomean = (list) => Math.exp(list.reduce((sum, v) => sum + Math.log(v), 0) / list.length);
/** @param {number} v @param {number} digits */
const round = (v, digits) => Number(v.toPrecision(digits));

needChromium();
const made = dispatches();
const server = await startServer({ mounts: { '/bench/': folder('.'), '/ort/': folder('../node_modules/onnxruntime-web/dist') } });
const browser = await launchChromium();
/** @typedef {{ name: string, kernel: string, ms: number[], nmse: number }} Result */
/** @type {{ tokens: number, shape: string, n: number, type: string, kernel: string, build: string, ort_ms: number, ours_ms: number, ratio: number, gmacs: number, nmse: number }[]} */
const rows = [];
const builds = values.builds.split(',');
let adapter = '';
let failed = false;
try {
  const pages = [];
  for (const build of builds) {
    const page = await browser.newPage();
    page.on('pageerror', (e) => console.error(e));
    page.on('console', (m) => void (m.type() === 'error' && console.error(m.text())));
    await page.goto(`${server.url}bench/ort.html?build=${build}`);
    await page.waitForFunction('globalThis.measure');
    pages.push(page);
  }
  for (const [i, job] of jobs.entries()) {
    const ours = Object.fromEntries(types.map((type, j) => [type, made[i * types.length + j][0]]));
    for (const [b, page] of pages.entries()) {
      /** @type {{ adapter: string, results: Result[] }} */
      const got = await page.evaluate((j) => /** @type {any} */ (globalThis).measure(j), { ...job, ours });
      adapter = got.adapter;
      const [peer, ...sides] = got.results;
      for (const side of sides) {
        const [ort, own] = [median(peer.ms), median(side.ms)];
        rows.push({
          tokens: job.tokens,
          shape: job.shape,
          n: job.n,
          type: side.name,
          kernel: side.kernel,
          build: builds[b],
          ort_ms: round(ort, 4),
          ours_ms: round(own, 4),
          ratio: round(ort / own, 3),
          gmacs: round((job.k * job.n * job.tokens) / own / 1e6, 3),
          nmse: round(side.nmse, 2),
        });
      }
      // Sums of up to 8192 terms in f32, in any order.
      for (const side of got.results.filter((r) => !(r.nmse < 1e-9))) {
        failed = true;
        console.error(`${side.name}, ${job.shape}, ${job.tokens} tokens: error power ${side.nmse} of the signal's`);
      }
    }
    console.error(`${i + 1}/${jobs.length}: ${job.shape} (${job.n} rows), ${job.tokens} tokens`);
  }
} finally {
  await browser.close();
  await server.close();
}

/** Our time against the faster build's, over the shapes. */
const means = types.flatMap((type) =>
  [...new Set(jobs.map((j) => j.tokens))].map((tokens) => {
    const of = jobs.filter((j) => j.tokens === tokens).map(({ shape }) =>
      Math.min(...rows.filter((r) => r.type === type && r.tokens === tokens && r.shape === shape).map((r) => r.ratio)),
    );
    return { type, tokens, ratio: round(geomean(of), 3), target: tokens === 1 ? 1.3 : tokens >= 64 ? 1 : null };
  }),
);
console.log(`ratio: onnxruntime-web's time over ours, medians of ${values.rounds} in turns; ${adapter}`);
console.table(rows);
console.log('Geometric means over the shapes, against the faster build');
console.table(means);
writeJson(values.json, { adapter, rounds: Number(values.rounds), rows, means });
process.exit(failed ? 1 : 0);
