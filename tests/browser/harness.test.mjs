// The ground the other browser tests stand on: both browsers start, isolated, with a WebGPU adapter, or surely without one.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { launchChromium, launchFirefox, skipWithout, startServer } from './harness.mjs';

const probe = async () => {
  const adapter = navigator.gpu ? await navigator.gpu.requestAdapter() : null;
  return { adapter: adapter !== null, isolated: crossOriginIsolated };
};

for (const gpu of [true, false]) {
  const name = gpu ? 'with a WebGPU adapter' : 'without one';
  test(`chromium ${name}`, { skip: skipWithout('chromium') }, async () => {
    const server = await startServer();
    const browser = await launchChromium({ gpu });
    try {
      const page = await browser.newPage();
      server.fault('/probe.html', { body: '<!doctype html><title>probe</title>' });
      await page.goto(`${server.url}probe.html`);
      assert.deepEqual(await page.evaluate(probe), { adapter: gpu, isolated: true });
    } finally {
      await browser.close();
      await server.close();
    }
  });

  test(`firefox ${name}`, { skip: skipWithout('firefox') }, async () => {
    const server = await startServer();
    const browser = await launchFirefox({ gpu });
    try {
      const page = await browser.newPage();
      server.fault('/probe.html', { body: '<!doctype html><title>probe</title>' });
      await page.goto(`${server.url}probe.html`);
      assert.deepEqual(await page.evaluate(probe), { adapter: gpu, isolated: true });
    } finally {
      await browser.close();
      await server.close();
    }
  });
}
