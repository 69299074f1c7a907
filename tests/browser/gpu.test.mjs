// The GPU path's own promises, in Chromium on its software adapter: what is compiled when, what happens when something is wrong.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { collectErrors, launchChromium, skipWithout, startServer } from "./harness.mjs";

const skip = skipWithout("chromium");
const DEMO = "/models/demo/granite-demo-Q4_K_M.gguf";

/** @type {import("./server.mjs").Server} */
let server;
/** @type {import("playwright-core").BrowserContext} */
let browser;
/** @type {import("playwright-core").Page} */
let page;
/** @type {string[]} */
let errors;

before(async () => {
  if (skip) return;
  server = await startServer();
  server.fault("/blank.html", { body: '<!doctype html><title>blank</title><link rel="icon" href="data:,">' });
  browser = await launchChromium();
  page = await browser.newPage();
  errors = collectErrors(page);
  await page.goto(`${server.url}blank.html`);
});
after(async () => {
  await browser?.close();
  await server?.close();
});

/** Starts an engine as `engine` in the page; its worker, which has loaded the engine's code and no model. @returns {Promise<import("playwright-core").Worker>} */
async function startEngine() {
  const [worker] = await Promise.all([
    page.waitForEvent("worker"),
    page.evaluate(async () => {
      const api = /** @type {any} */ (window);
      const { EngineWorker } = await import(/** @type {string} */ ("/engine.js"));
      api.engine?.close(new Error("done with"));
      api.engine = new EngineWorker();
      await api.engine.request({ type: "models" });
    }),
  ]);
  return worker;
}

/** Loads the demo. @param {object} [options] @returns {Promise<any>} its stats */
const load = (options = {}) =>
  page.evaluate((options) => /** @type {any} */ (window).engine.request({ type: "load", options }), { url: new URL(DEMO, server.url).href, backend: "webgpu", ...options });

/** @param {string} content @returns {Promise<string>} */
const say = async (content) =>
  (await page.evaluate((content) => /** @type {any} */ (window).engine.request({ type: "chat", request: { messages: [{ role: "user", content }], temperature: 0 } }), content)).text;

test("kernels are compiled while the model arrives, and none while somebody waits", { skip }, async () => {
  const worker = await startEngine();
  await worker.evaluate(() => {
    const scope = /** @type {any} */ (globalThis);
    const device = scope.GPUDevice.prototype;
    scope.seen = { ahead: 0, waited: 0 };
    const { createComputePipeline, createComputePipelineAsync } = device;
    device.createComputePipeline = function (/** @type {any} */ descriptor) {
      scope.seen.waited++;
      return createComputePipeline.call(this, descriptor);
    };
    device.createComputePipelineAsync = function (/** @type {any} */ descriptor) {
      scope.seen.ahead++;
      return createComputePipelineAsync.call(this, descriptor);
    };
  });
  const { load: times, gpu } = await load();
  assert.equal(await say("What colour is grass?"), "Grass is green.");
  const seen = await worker.evaluate(() => /** @type {any} */ (globalThis).seen);
  assert.equal(seen.waited, 0);
  assert.ok(seen.ahead > 10, `${seen.ahead} kernels`);
  assert.deepEqual(gpu.dropped, []);
  console.log(`${seen.ahead} kernels compiled ahead, ${Math.round(times.compile_ms)} ms after the download; their check took ${Math.round(gpu.check_ms)}`);
});

test("a GPU that computes wrongly is found out, and the CPU answers instead", { skip }, async () => {
  const stats = await load({ backend: "auto", debug: { software: true, default_limits: true, sabotage: "mamba_step" } });
  assert.equal(stats.backend, "cpu");
  assert.match(stats.fallback, /^the GPU failed: mamba_step_\d+.* gave wrong results for a token/);
  assert.equal(stats.gpu, null);
  assert.equal(stats.source.kind, "cache", "the model was not downloaded twice");
  assert.equal(await say("What colour is grass?"), "Grass is green.");
});

test("the page reported nothing odd", { skip }, () => {
  assert.deepEqual(errors, []);
});
