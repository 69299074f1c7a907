// Measuring works: the figures of a loaded model are there and agree with each other, the bench page starts and stops.
import assert from 'node:assert/strict';
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

test('the bench page can be stopped', { skip, timeout: 120_000 }, async () => {
  const page = await browser.newPage();
  await page.goto(`${server.url}bench.html`);
  await page.selectOption('#shape', 'h-350m');
  await page.click('#run');
  await page.waitForFunction(() => document.querySelector('#status')?.textContent?.startsWith('Filling'));
  await page.click('#stop');
  await page.waitForFunction(() => document.querySelector('#status')?.textContent === 'Stopped');
  assert.equal(await page.isEnabled('#run'), true);
  assert.equal(await page.isVisible('#result'), false);
  await page.close();
});
