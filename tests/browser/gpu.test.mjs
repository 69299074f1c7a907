// The GPU path's own promises, in Chromium on its software adapter: what is compiled when, what happens when something is wrong.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
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

test("kernels are compiled while the model arrives, none while somebody waits, and the fastest forms are taken", { skip }, async () => {
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
  const { load: times, gpu } = await load({ debug: { tune: true } });
  assert.equal(await say("What colour is grass?"), "Grass is green.");
  const seen = await worker.evaluate(() => /** @type {any} */ (globalThis).seen);
  assert.equal(seen.waited, 0);
  assert.ok(seen.ahead > 10, `${seen.ahead} kernels`);
  assert.deepEqual(gpu.dropped, []);
  assert.equal(gpu.chosen, "measured", gpu.why_not);
  assert.ok(gpu.times.length > 0 && gpu.times.every((/** @type {any} */ { ms }) => ms > 0), JSON.stringify(gpu.times));
  console.log(`${JSON.stringify(gpu.times)} in ${Math.round(gpu.tuning_ms)} ms: ${JSON.stringify(gpu.forms)}`);
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

// A device that is lost, as far as a test can make it so: the worker keeps its devices where the test can destroy them.
const KEEPS_DEVICES = `
  const { requestDevice } = GPUAdapter.prototype;
  globalThis.devices = [];
  GPUAdapter.prototype.requestDevice = async function (descriptor) {
    const device = await requestDevice.call(this, descriptor);
    globalThis.devices.push(device);
    return device;
  };
`;
/** @param {import("playwright-core").Worker} worker @returns {Promise<number>} how many devices there have been */
const lose = (worker) =>
  worker.evaluate(() => {
    const { devices } = /** @type {any} */ (globalThis);
    devices.at(-1).destroy();
    return devices.length;
  });

test("a GPU lost between answers is opened again unnoticed; lost again soon, it is given up for the CPU", { skip }, async () => {
  const worker = await startEngine();
  await worker.evaluate(KEEPS_DEVICES);
  const { gpu } = await load({ backend: "auto", debug: { software: true } });
  assert.equal(gpu.chosen, "remembered", "the first test has compared the forms");
  const stats = () => page.evaluate(() => /** @type {any} */ (window).engine.request({ type: "stats" }));
  assert.equal(await lose(worker), 1);
  assert.equal(await say("What colour is grass?"), "Grass is green.");
  const again = await stats();
  assert.deepEqual([again.backend, again.losses, again.fallback], ["webgpu", 1, null]);
  assert.equal(await lose(worker), 2);
  assert.equal(await say("One dish, two what?"), "The plural of dish is dishes.");
  const cpu = await stats();
  assert.deepEqual([cpu.backend, cpu.losses], ["cpu", 2]);
  assert.match(cpu.fallback, /^the GPU was lost: .*, for the second time$/);
});

test("the GPU's process crashes in the middle of an answer: it ends with an error, and asked again it is answered", { skip }, async () => {
  await startEngine();
  await load({ backend: "auto", debug: { software: true } });
  await page.evaluate(async (content) => {
    const api = /** @type {any} */ (window);
    const request = { messages: [{ role: "user", content }], temperature: 0 };
    await new Promise((begun) => {
      api.code = api.engine.request({ type: "chat", request }, { onDelta: begun }).then(() => "answered", (/** @type {any} */ { code }) => code);
    });
  }, "Write a poem about the sea.");
  await (await browser.newCDPSession(page)).send(/** @type {any} */ ("Browser.crashGpuProcess"));
  assert.equal(await page.evaluate(() => /** @type {any} */ (window).code), "gpu_lost");
  assert.equal(await say("What colour is grass?"), "Grass is green.");
  const { backend, losses, fallback } = await page.evaluate(() => /** @type {any} */ (window).engine.request({ type: "stats" }));
  assert.equal(losses, 1);
  // A browser that has seen its GPU process crash may offer no GPU for a while.
  assert.ok(backend === "webgpu" ? fallback === null : fallback, `${backend}: ${fallback}`);
  console.log(`after a crash of the GPU's process: ${backend}, ${fallback}`);
});

test("a GPU lost in the middle of an answer: the page says so, keeps the chat, loads the model again and asks again", { skip }, async () => {
  await page.evaluate(() => /** @type {any} */ (window).engine?.close(new Error("done with")));
  const prompts = JSON.parse(readFileSync(new URL("../../www/models.json", import.meta.url), "utf8")).models[0].examples;
  const worker = readFileSync(new URL("../../www/worker.js", import.meta.url), "utf8");
  server.fault("/worker.js", { body: KEEPS_DEVICES + worker });
  const tab = await browser.newPage();
  const odd = collectErrors(tab);
  await tab.goto(`${server.url}?backend=webgpu`);
  await tab.waitForFunction(() => document.querySelector("#status")?.textContent?.includes("on the GPU"), null, { timeout: 120_000 });
  const ask = async (/** @type {string} */ text) => {
    await tab.fill("#message", text);
    await tab.press("#message", "Enter");
  };
  const said = () => tab.$$eval("li.model .body", (bodies) => bodies.map((body) => /** @type {HTMLElement} */ (body).innerText));
  const answered = (/** @type {number} */ n) =>
    tab.waitForFunction((n) => document.querySelectorAll("li.model:not([aria-busy])").length === n, n, { timeout: 120_000 });
  await ask("What colour is grass?");
  await answered(1);
  await ask(prompts[6]);
  const begun = () => Boolean(document.querySelector("li.model[aria-busy] .body")?.textContent);
  await tab.waitForFunction(begun, null, { polling: 20, timeout: 120_000 });
  const [engine] = tab.workers();
  assert.ok(engine);
  await lose(engine);
  const button = tab.getByRole("button", { name: "Ask again" });
  await button.waitFor({ timeout: 60_000 });
  assert.match(await tab.locator("li.model .card").innerText(), /The graphics processor went away/);
  assert.equal((await said())[0], "Grass is green.");
  await button.click();
  await answered(2);
  assert.deepEqual(await said(), ["Grass is green.", "Oh sea, you are a friend of mine,\nYour gentle song is like a sign.\nThe birds are singing far and wide,\nbut the sea walks always by my side."]);
  await tab.waitForFunction(() => document.querySelector("#status")?.textContent?.includes("on the GPU ·"), null, { timeout: 60_000 });
  assert.equal(await engine.evaluate(() => /** @type {any} */ (globalThis).devices.length), 2);
  assert.deepEqual(odd, []);
  server.fault("/worker.js", null);
});

test("the page reported nothing odd", { skip }, () => {
  assert.deepEqual(errors, []);
});
