// Measuring works: the figures of a loaded model are there and agree with each other; the bench page measures the GPU or the CPU, and stops.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { launchChromium, skipWithout, startServer } from './harness.mjs';

const skip = skipWithout('chromium');
/** @type {Awaited<ReturnType<typeof startServer>>} */
let server;
/** @type {Awaited<ReturnType<typeof launchChromium>>} */
let browser;

before(async () => {
  if (skip) return;
  server = await startServer({});
  browser = await launchChromium({ gpu: true });
});
after(async () => {
  await browser?.close();
  await server?.close();
});

test('a loaded model is measured', { skip, timeout: 300_000 }, async () => {
  const page = await browser.newPage();
  await page.goto(`${server.url}bench.html`);
  const report = await page.evaluate(async () => {
    /** @type {typeof import('../../www/engine.js')} */
    const { EngineWorker } = await import(new URL('/engine.js', location.href).href);
    const worker = new EngineWorker();
    const url = new URL('/models/demo/granite-demo-Q4_K_M.gguf', location.href).href;
    await worker.request({ type: 'load', options: { url, backend: 'webgpu' } });
    return worker.request({ type: 'bench', options: { prompt: 20, tokens: 3, repeats: 1 } });
  });
  assert.equal(report.prompt, 20);
  for (const key of ['prefill_tps', 'decode_tps', 'copy_gbps', 'share_of_copy']) assert.ok(report[key] > 0, key);
  const moved = Object.values(report.bytes_per_token).reduce((sum, n) => sum + n, 0);
  const share = (moved * report.decode_tps) / (report.copy_gbps * 1e9);
  assert.ok(Math.abs(share / report.share_of_copy - 1) < 1e-6, `${share} ${report.share_of_copy}`);
  const dispatches = report.ops.reduce((/** @type {number} */ sum, /** @type {any} */ op) => sum + op.dispatches, 0);
  assert.equal(dispatches, report.dispatches_per_token);
  assert.ok(report.ops.every((/** @type {any} */ op) => op.ms > 0));
  await page.close();
});

/** Fills the bench page's form for a measurement that takes seconds, and starts it. @param {import('playwright-core').Page} page @param {Record<string, number>} [fields] */
async function start(page, fields = { prompt: 8, tokens: 3, repeats: 1 }) {
  await page.selectOption('#shape', 'h-350m');
  for (const [id, value] of Object.entries(fields)) await page.fill(`#${id}`, `${value}`);
  await page.click('#run');
}

/** Waits for the end of a measurement. @param {import('playwright-core').Page} page @returns {Promise<any>} what the page copies as JSON */
async function finish(page) {
  const status = await page.waitForFunction(() => {
    const text = document.querySelector('#status')?.textContent ?? '';
    return /^(Done|Stopped|It did not work)/.test(text) && text;
  });
  assert.equal(await status.jsonValue(), 'Done');
  await page.click('#copy-json');
  await page.waitForFunction(() => document.querySelector('#copy-json')?.textContent === 'Copied');
  return JSON.parse(await page.evaluate(() => navigator.clipboard.readText()));
}

/** What the page shows of a name. @param {import('playwright-core').Page} page @param {string} name */
const shown = (page, name) => page.locator('dt', { hasText: name }).locator('+ dd').textContent();

for (const where of ['webgpu', 'cpu']) {
  test(`the bench page can be stopped: ${where}`, { skip, timeout: 120_000 }, async () => {
    const page = await browser.newPage();
    await page.goto(`${server.url}bench.html`);
    await page.selectOption('#where', where);
    await start(page, {});
    await page.waitForFunction(() => document.querySelector('#status')?.textContent?.startsWith('Filling'));
    await page.click('#stop');
    await page.waitForFunction(() => document.querySelector('#status')?.textContent === 'Stopped');
    assert.equal(await page.isEnabled('#run'), true);
    assert.equal(await page.isVisible('#result'), false);
    await page.close();
  });
}

test('without WebGPU the bench page measures the CPU, on any number of threads', { skip, timeout: 300_000 }, async () => {
  const browser = await launchChromium({ gpu: false });
  const bare = await startServer({ isolation: false });
  try {
    await browser.grantPermissions(['clipboard-read', 'clipboard-write']);
    const page = await browser.newPage();
    await page.goto(`${server.url}bench.html`);
    await start(page);
    const report = await finish(page);
    assert.deepEqual([report.model, report.backend, report.build, report.activations], ['h-350m', 'cpu', 'relaxed-simd', 'int8']);
    assert.match(report.fallback, /^WebGPU is not available: /);
    assert.match((await shown(page, 'Ran on')) ?? '', /^the CPU: WebGPU is not available: /);
    assert.match((await shown(page, 'Threads')) ?? '', new RegExp(`^${report.threads}\\b`));
    assert.match((await shown(page, 'Build')) ?? '', /relaxed SIMD and threads, 8-bit activations/);
    for (const key of ['load_ms', 'heap_bytes', 'prefill_tps', 'decode_tps', 'copy_gbps', 'bytes_per_token']) assert.ok(report[key] > 0, key);
    const share = (report.bytes_per_token * report.decode_tps) / (report.copy_gbps * 1e9);
    assert.ok(Math.abs(share / report.share_of_copy - 1) < 1e-6, `${share} ${report.share_of_copy}`);
    // A token reads every weight once, and there are 206 MB of those.
    assert.ok(report.bytes_per_token > 206e6 && report.heap_bytes > 206e6, `${report.bytes_per_token} ${report.heap_bytes}`);
    for (const [i, ops] of [report.ops, report.batch_ops].entries()) {
      const names = ops.map((/** @type {any} */ { op }) => op.split(' ')[0]);
      const all = ['attend', 'embed', 'mamba_mix', 'matmul_add', 'norm_matmul', 'pick', 'swiglu'];
      assert.deepEqual([...new Set(names)].sort(), i ? all.filter((name) => name !== 'pick') : all);
      assert.equal(await page.locator(`table >> nth=${i} >> tbody tr`).count(), ops.length);
    }

    await page.selectOption('#where', 'cpu');
    await start(page, { threads: 1 });
    const { threads, threads_why, fallback, prompt } = await finish(page);
    assert.deepEqual([threads, threads_why, fallback, prompt], [1, null, null, 8], 'what a visitor typed stays');

    // A thread that crashes in its first share of the work: one thread measures.
    const helper = readFileSync(new URL('../../www/helper.js', import.meta.url), 'utf8');
    const crash = `const word = new Int32Array(data.memory.buffer, data.word, 1);
      while (Atomics.compareExchange(word, 0, 2, 3) !== 2); // POSTED, TAKEN
      throw new Error('it divided by zero');`;
    server.fault('/helper.js', { body: helper.replace('help(data.i);', crash) });
    await start(page, { threads: 2 });
    const alone = await finish(page);
    assert.deepEqual([alone.threads, alone.threads_why], [1, "the engine's threads failed: one of them crashed: it divided by zero"]);
    server.fault('/helper.js', null);

    await page.goto(`${bare.url}bench.html`);
    await page.selectOption('#where', 'cpu');
    await start(page);
    const plain = await finish(page);
    assert.deepEqual([plain.build, plain.threads, plain.threads_why], ['simd128', 1, 'the page is not cross-origin isolated']);
    assert.equal(await shown(page, 'Threads'), '1: the page is not cross-origin isolated');
  } finally {
    await bare.close();
    await browser.close();
  }
});
