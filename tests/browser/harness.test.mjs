// The ground the other browser tests stand on: both browsers start, isolated, with a WebGPU adapter, or surely without one.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { launchChromium, launchFirefox, skipWithout, startServer } from './harness.mjs';

const probe = async () => {
  const adapter = navigator.gpu ? await navigator.gpu.requestAdapter() : null;
  return { adapter: adapter !== null, isolated: crossOriginIsolated };
};

const launchers = { chromium: launchChromium, firefox: launchFirefox };

for (const name of /** @type {const} */ (['chromium', 'firefox'])) {
  for (const gpu of [true, false]) {
    test(`${name} ${gpu ? 'with a WebGPU adapter' : 'without one'}`, { skip: skipWithout(name) }, async () => {
      const server = await startServer();
      const browser = await launchers[name]({ gpu });
      try {
        // `goto` and `evaluate` mean the same in both libraries; their types differ.
        const page = /** @type {import('puppeteer-core').Page} */ (await browser.newPage());
        server.fault('/probe.html', { body: '<!doctype html><title>probe</title>' });
        await page.goto(`${server.url}probe.html`);
        assert.deepEqual(await page.evaluate(probe), { adapter: gpu, isolated: true });
      } finally {
        await browser.close();
        await server.close();
      }
    });
  }
}
