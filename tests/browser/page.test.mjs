// The chat page, with a played engine: what it shows, how it is used by keyboard and screen reader, and what it says when things
// go wrong. Whether the engine is any good is chat.test.mjs's question.
import assert from "node:assert/strict";
import { test } from "node:test";
import { skipWithout } from "./harness.mjs";
import { playEngine, progress } from "./played-engine.mjs";
import { Visits } from "./visit.mjs";

const skip = skipWithout("chromium");
const visits = new Visits(skip);

const MICRO = "https://huggingface.co/ibm-granite/granite-4.0-h-micro-GGUF/resolve/51ce07a9c9cfa971ca359d9625836bf8a4a1b61f/granite-4.0-h-micro-Q4_K_M.gguf";
const DOWNLOAD = progress({ backend: "webgpu" });
const MARKDOWN = ["# Rock\n\nGranite is **hard**:\n\n1. quartz\n2. mica\n\n| mineral | hardness |\n|-|-:|\n| quartz | 7 |\n\n", "```\nlet mohs = 7; // a line that is longer than a narrow screen is wide\n```\n\n> quoted [link](https://example.com)"];

/** @type {import("playwright-core").Page} */
let page;

/** @param {import("./played-engine.mjs").Script} script @param {string} [query] */
async function open(script, query = "") {
  page = await visits.open(script, query);
}

const messageBox = () => visits.message;
const card = () => visits.card;
/** @param {RegExp | string} text */
const statusIs = (text) => visits.statusIs(text);
/** @param {string} text */
async function ask(text) {
  await messageBox().fill(text);
  await messageBox().press("Enter");
}

test("the first visit loads the demo, says what it is, and waits at the message box", { skip }, async () => {
  await open({ says: ["Hel", "lo"] });
  await statusIs("Granite Demo on the CPU");
  assert.match(await page.locator("#demo-note").innerText(), /not IBM’s/);
  assert.match(await page.locator("#welcome").innerText(), /Nothing you write leaves this tab/);
  assert.equal(await page.evaluate(() => document.activeElement?.id), "message");
  assert.ok(await page.getByRole("button", { name: "Send" }).isDisabled(), "there is nothing to send yet");
  await page.getByRole("button", { name: "What is the capital of Portugal?" }).click();
  await page.getByText("Hello", { exact: true }).waitFor();
  await statusIs("Granite Demo on the CPU · 31 tokens/s");
  assert.ok(await page.locator("#welcome").isHidden());
  await page.getByRole("button", { name: "New chat" }).click();
  assert.ok(await page.locator("#welcome").isVisible());
  assert.equal(await page.locator("#turns li").count(), 0);
});

test("a download shows bytes, rate and time left, and can be cancelled", { skip }, async () => {
  await open({ progress: [DOWNLOAD], loadHangs: true }, "?model=/big.gguf");
  await card().getByText("Downloading: 340 MB of 1.94 GB · 38.2 MB/s · 45 seconds left").waitFor();
  const bar = page.getByRole("progressbar", { name: "Loading big" });
  assert.equal(await bar.getAttribute("aria-valuetext"), "340 MB of 1.94 GB");
  assert.equal(Math.round(Number(await bar.getAttribute("value"))), 18);
  await messageBox().fill("written while waiting");
  assert.ok(await page.getByRole("button", { name: "Send" }).isDisabled());
  await page.getByRole("button", { name: "Cancel loading big" }).click();
  await statusIs("No model is loaded");
  await card().getByText("Nothing of it is kept; the next load begins anew.").waitFor();
  await card().getByRole("button", { name: "Close" }).click();
  assert.ok(await card().isHidden());
});

test("what is stored is read from this browser, and the page says so", { skip }, async () => {
  await open({ progress: [{ ...DOWNLOAD, phase: "cache", fromCache: true }], loadHangs: true }, "?model=/big.gguf");
  await card().getByText("Reading from this browser: 340 MB of 1.94 GB").waitFor();
});

test("a link cannot start a big download by itself; a stored model needs no question", { skip }, async () => {
  const stored = [{ id: MICRO, bytes: 1942564512 }];
  await open({ stored: [] }, "?model=granite-4.0-h-micro");
  const download = page.getByRole("button", { name: "Download 1.94 GB" });
  await download.waitFor();
  assert.match(await card().innerText(), /Granite 4.0 H Micro is a download of 1.94 GB/);
  await download.click();
  await statusIs("Granite 4.0 H Micro on the CPU");
  await open({ stored }, "?model=granite-4.0-h-micro");
  await statusIs("Granite 4.0 H Micro on the CPU");
});

test("the models dialog: sizes first, what is stored, deleting, an address, the page's own address", { skip }, async () => {
  await open({ stored: [{ id: MICRO, bytes: 1942564512 }, { id: "https://example.com/own.gguf", bytes: 5e6, total: 9e6, complete: false }] });
  await statusIs("Granite Demo on the CPU");
  await page.getByRole("button", { name: "Model: Granite Demo" }).click();
  const dialog = page.getByRole("dialog", { name: "Models" });
  await dialog.getByText("To download").waitFor();
  const rows = await dialog.getByRole("listitem").allInnerTexts();
  const expected = [/H Micro\s+1.94 GB[^]*Stored[^]*Export[^]*Delete[^]*Use/, /own\s+9.00 MB[^]*5.00 MB of 9.00 MB, partly[^]*Continue/, /Granite Demo\s+3.86 MB[^]*In use/, /H 1B\s+901 MB[^]*Download/, /H 350M\s+223 MB[^]*Download/];
  assert.equal(rows.length, expected.length, "each model once");
  expected.forEach((pattern, i) => assert.match(rows[i] ?? "", pattern));

  await dialog.getByRole("button", { name: "Delete Granite 4.0 H Micro from this browser" }).click();
  await dialog.getByRole("button", { name: "Yes, delete Granite 4.0 H Micro" }).click();
  await dialog.getByText("Granite 4.0 H Micro was deleted from this browser: 1.94 GB freed.").waitFor();

  const address = dialog.getByRole("textbox", { name: "Address of a GGUF" });
  await address.fill("nonsense");
  await address.press("Enter");
  await dialog.getByText("That is not an address.").waitFor();
  await address.fill("https://example.com/some/granite.gguf");
  await address.press("Enter");
  await statusIs("granite on the CPU");
  assert.ok(await dialog.isHidden());
  assert.equal(new URL(page.url()).searchParams.get("model"), "https://example.com/some/granite.gguf");

  await page.getByRole("button", { name: "Model: granite" }).click();
  await dialog.getByRole("radio", { name: "GPU" }).check();
  await statusIs("granite on the GPU");
  assert.equal(new URL(page.url()).searchParams.get("backend"), "webgpu");
  await page.keyboard.press("Escape");
  assert.equal(await page.evaluate(() => document.activeElement?.id), "open-models", "focus returns to where it came from");
});

test("why the CPU is used is said beside the message box", { skip }, async () => {
  await open({ stats: { fallback: "no adapter was found" } });
  await page.getByText("The GPU is not used: no adapter was found.").first().waitFor();
});

test("system prompt and settings reach the engine", { skip }, async () => {
  await open({});
  await statusIs("Granite Demo");
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByRole("textbox", { name: "System prompt" }).fill("Answer like a pirate.");
  await page.getByRole("spinbutton", { name: "Temperature" }).fill("9");
  await page.getByText("More about sampling").click();
  await page.getByRole("spinbutton", { name: "Seed" }).fill("7");
  await page.getByRole("button", { name: "Done" }).click();
  await ask("Hello");
  await statusIs("tokens/s");
  const request = JSON.parse(await page.locator(".model .body").innerText());
  const messages = [{ role: "system", content: "Answer like a pirate." }, { role: "user", content: "Hello" }];
  assert.deepEqual(request, { messages, temperature: 2, max_tokens: 1024, top_p: 1, top_k: 0, min_p: 0, repetition_penalty: 1, seed: 7 });
});

test("the keyboard: Enter, Shift+Enter, Escape", { skip }, async () => {
  await open({ says: ["one ", "two "], answerHangs: true });
  await statusIs("Granite Demo on the CPU");
  await messageBox().fill("first");
  await messageBox().press("Shift+Enter");
  await messageBox().pressSequentially("second");
  await messageBox().press("Enter");
  assert.equal(await page.locator(".you .body").innerText(), "first\nsecond");
  await page.getByText("one two").waitFor();
  assert.equal(await page.locator("li.model").getAttribute("aria-busy"), "true");
  await messageBox().pressSequentially("next");
  await messageBox().press("Enter");
  assert.equal(await page.locator("#turns li").count(), 2, "one answer at a time");
  await messageBox().press("Escape");
  await page.getByText("Stopped", { exact: true }).first().waitFor();
  assert.equal(await messageBox().inputValue(), "next", "what was being written stays");
  assert.equal(await page.locator("li.model").getAttribute("aria-busy"), null);
  await messageBox().press("Enter");
  await page.getByRole("button", { name: "Stop" }).click();
  await page.locator("li.model >> nth=1").getByText("Stopped").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement?.id), "message", "focus is never lost with a button");
});

test("a screen reader hears an answer once, when it is whole", { skip }, async () => {
  await open({ says: ["The ", "capital ", "is ", "Lisbon."] });
  await statusIs("Granite Demo on the CPU");
  const heard = await visits.listen();
  await ask("Which city?");
  await statusIs("tokens/s");
  assert.deepEqual(await heard(), ["Granite Demo: The capital is Lisbon."]);
});

test("the chat outlives a crash of the engine", { skip }, async () => {
  await open({ says: ["fine"] });
  await statusIs("Granite Demo on the CPU");
  await ask("first");
  await statusIs("tokens/s");
  playEngine(visits.server, { says: ["half "], answerError: { code: "engine_crashed", message: "the engine crashed: unreachable" } });
  await page.getByRole("button", { name: "Model: Granite Demo" }).click();
  await page.getByRole("radio", { name: "GPU" }).check();
  await page.keyboard.press("Escape");
  await statusIs("Granite Demo on the GPU");
  await ask("second");
  const alert = page.getByRole("alert").filter({ hasText: "The engine crashed" });
  await alert.waitFor();
  assert.match(await alert.innerText(), /Your chat is still here/);
  await alert.getByText("Details", { exact: true }).click();
  assert.match(await alert.innerText(), /the engine crashed: unreachable \(engine_crashed\)/);
  playEngine(visits.server, {});
  await alert.getByRole("button", { name: "Try again" }).click();
  await statusIs("Granite Demo on the GPU");
  assert.equal(await messageBox().inputValue(), "second", "the question is back in the box");
  await messageBox().press("Enter");
  await statusIs("tokens/s");
  const { messages } = JSON.parse(await page.locator(".model .body >> nth=-1").innerText());
  assert.deepEqual(messages.map((/** @type {any} */ { content }) => content), ["first", "fine", "second"]);
});

test("a worker that dies without a word is noticed", { skip }, async () => {
  const { server } = visits;
  server.fault("/worker.js", { status: 404 });
  await visits.fresh();
  page = visits.page;
  visits.errors = []; // that a script is missing is an error
  await page.goto(server.url);
  await page.getByRole("alert").filter({ hasText: "Part of this page could not be loaded" }).waitFor();
  server.fault("/worker.js", { body: "self.onmessage = () => { throw new Error('out of luck') }" });
  await page.getByRole("button", { name: "Try again" }).click();
  await page.getByRole("alert").filter({ hasText: "The engine crashed" }).waitFor();
});

for (const { code, title, remedy } of [
  { code: "no_webgpu", title: "No graphics processor to use here", remedy: "Run on the CPU" },
  { code: "out_of_memory", title: "Not enough memory", remedy: "Choose a model" },
  { code: "storage", title: "This browser’s storage failed", remedy: "Try again" },
  { code: "digest_mismatch", title: "These are not the bytes that were published", remedy: "Try again" },
  { code: "bad_response", title: "The server gives this file out in a way that cannot be used", remedy: "Choose a model" },
  { code: "file_changed", title: "The file keeps changing on its server", remedy: "Try again" },
  { code: "split_file", title: "These parts do not make one model", remedy: "Choose a model" },
  { code: "not_stored", title: "This model is not stored here any more", remedy: "Choose a model" },
  { code: "brand_new", title: "Something went wrong", remedy: "Try again" },
]) {
  test(`an error in words, and a way on: ${code}`, { skip }, async () => {
    await open({ loadError: { code, message: "the engine's own words" } });
    const alert = page.getByRole("alert").filter({ hasText: title });
    await alert.waitFor();
    await alert.getByRole("button", { name: remedy }).waitFor();
    await alert.getByText("Details", { exact: true }).click();
    assert.match(await alert.innerText(), new RegExp(`the engine's own words \\(${code}\\)`));
  });
}

for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
  for (const width of [360, 1280]) {
    test(`nothing to complain about for axe, nothing wider than the window: ${colorScheme}, ${width} px`, { skip }, async () => {
      const look = (/** @type {string} */ where) => visits.look(where);
      const set = async () => {
        await page.emulateMedia({ colorScheme });
        await page.setViewportSize({ width, height: 720 });
      };
      await open({ says: MARKDOWN, stored: [{ id: MICRO, bytes: 1942564512 }] });
      await set();
      await statusIs("Granite Demo on the CPU");
      await look("empty");
      await ask("Tell me about a rather long-winded_word_that_does_not_want_to_be_broken_anywhere_at_all_please_keep_it_whole_thank_you");
      await statusIs("tokens/s");
      await look("answered");
      await page.getByRole("button", { name: "Model: Granite Demo" }).click();
      await page.getByText("To download").waitFor();
      await look("models");
      await page.keyboard.press("Escape");
      await page.getByRole("button", { name: "Settings" }).click();
      await page.getByText("More about sampling").click();
      await look("settings");
      await open({ progress: [DOWNLOAD], loadHangs: true }, "?model=/big.gguf");
      await set();
      await card().getByText("340 MB").waitFor();
      await look("download");
      await open({ loadError: { code: "network", message: `could not download https://example.com/${"x".repeat(200)}` } });
      await set();
      await page.getByText("Details", { exact: true }).click();
      await look("error");
    });
  }
}
