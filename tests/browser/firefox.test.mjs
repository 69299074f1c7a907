// The same engine in another browser with another WebGPU implementation: load the demo over HTTP, answer, come back from IndexedDB.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { collectErrors, launchFirefox, skipWithout, startServer } from "./harness.mjs";

const skip = skipWithout("firefox");
const DEMO = "/models/demo/granite-demo-Q4_K_M.gguf";
/** @type {{category: string, messages: {role: string, content: string}[], tools: object | null, completion: string}[]} */
const golden = JSON.parse(readFileSync(new URL("../../models/demo/golden.json", import.meta.url), "utf8")).prompts;
const asked = ["capital", "memory", "counting", "opposite", "poem", "emoji"];

/** @type {import("./server.mjs").Server} */
let server;
/** @type {import("puppeteer-core").Browser} */
let browser;

before(async () => {
  if (skip) return;
  server = await startServer();
  browser = await launchFirefox();
});
after(async () => {
  await browser?.close();
  await server?.close();
});

for (const { backend, place } of [{ backend: "webgpu", place: "GPU" }, { backend: "cpu", place: "CPU" }]) {
  test(`${backend}: the page loads the demo and answers`, { skip }, async () => {
    const page = await browser.newPage();
    const errors = collectErrors(page);
    // The second backend finds the model in storage: the server would not give it out again.
    if (backend === "cpu") server.fault(DEMO, { status: 503 });
    await page.goto(`${server.url}?backend=${backend}`);
    const status = (/** @type {string} */ text) =>
      page.waitForFunction((text) => document.querySelector("#status")?.textContent?.includes(text), { timeout: 60_000 }, text);
    await status(`Granite Demo on the ${place}`);
    const wrong = [];
    let turns = 0;
    for (const category of backend === "cpu" ? asked : asked.slice(0, 4)) {
      const prompt = golden.find((one) => one.category === category && !one.tools);
      if (!prompt) throw new Error(`no prompt of the kind ${category}`);
      // The page keeps a history of its own, so that of the prompt is asked for again, turn by turn.
      await page.click("#new-chat");
      turns = 0;
      let got = "";
      for (const { content } of prompt.messages.filter(({ role }) => role === "user")) {
        await page.type("#message", content);
        await page.keyboard.press("Enter");
        turns++;
        await page.waitForFunction((turns) => document.querySelectorAll("li.model:not([aria-busy]) .foot button").length === turns, { timeout: 60_000 }, turns);
        got = await page.$$eval("li.model .body", (bodies) => /** @type {HTMLElement} */ (bodies.at(-1)).innerText);
      }
      const want = prompt.completion.replace("<|end_of_text|>", "");
      if (got !== want) wrong.push({ want, got });
    }
    assert.deepEqual(wrong, []);
    await status("tokens/s");
    console.log(`firefox, ${backend}: ${await page.$eval("#status", (line) => line.textContent)}`);
    assert.deepEqual(errors, []);
    await page.close();
  });
}
