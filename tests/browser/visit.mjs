// Visits to the chat page with a played engine, on a machine of the test's choice.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, afterEach, before } from "node:test";
import { collectErrors, launchChromium, startServer } from "./harness.mjs";
import { playEngine, progress } from "./played-engine.mjs";

const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/**
 * @typedef {object} Machine what a page is told of it
 * @property {number} [quota] bytes that the browser would store
 * @property {number} [usage] bytes that it has stored
 * @property {boolean} [persisted] it has promised to keep them
 * @property {boolean} [persist] its answer when asked for that
 * @property {number} [cores] of the CPU
 * @property {number} [memory] in GiB
 * @property {boolean} [picker] it has the File System Access API, whose picker chooses a file `exported.gguf` in the origin's private file system
 */

/** Runs in the page, before its scripts. @param {Machine} machine */
function pretend({ quota = 62.3e9, usage = 2.29e9, persisted = false, persist = false, cores = 16, memory = 8, picker = false }) {
  let kept = persisted;
  Object.defineProperty(Navigator.prototype, "hardwareConcurrency", { get: () => cores });
  Object.defineProperty(Navigator.prototype, "deviceMemory", { get: () => memory });
  const asked = { persist: 0, revoked: 0 };
  Object.assign(window, {
    asked,
    showSaveFilePicker: picker ? async () => (await navigator.storage.getDirectory()).getFileHandle("exported.gguf", { create: true }) : undefined,
    showDirectoryPicker: picker ? () => navigator.storage.getDirectory() : undefined,
  });
  StorageManager.prototype.estimate = async () => ({ quota, usage });
  StorageManager.prototype.persisted = async () => kept;
  StorageManager.prototype.persist = async () => {
    asked.persist++;
    return (kept ||= persist);
  };
  const { revokeObjectURL } = URL;
  URL.revokeObjectURL = (url) => {
    asked.revoked++;
    revokeObjectURL.call(URL, url);
  };
}

/** Server and browser of a test file, a page for each test. @param {string | false} skip */
export class Visits {
  /** @type {import("./server.mjs").Server} */
  server = /** @type {any} */ (null);
  /** @type {import("playwright-core").BrowserContext} */
  browser = /** @type {any} */ (null);
  /** The page that was opened last. @type {import("playwright-core").Page} */
  page = /** @type {any} */ (null);
  /** What it reported as wrong. @type {string[]} */
  errors = [];

  /** @param {string | false} skip */
  constructor(skip) {
    before(async () => {
      if (skip) return;
      this.server = await startServer();
      this.browser = await launchChromium({ gpu: false });
    });
    after(async () => {
      await this.browser?.close();
      await this.server?.close();
    });
    afterEach(async () => {
      await this.page?.close();
      assert.deepEqual(this.errors.splice(0), [], "the page reported errors");
    });
  }

  /** @param {import("./played-engine.mjs").Script} script @param {string} [query] @param {Machine} [machine] */
  async open(script, query = "", machine = {}) {
    playEngine(this.server, script);
    await this.fresh();
    await this.page.addInitScript(pretend, machine);
    await this.page.goto(this.server.url + query);
    return this.page;
  }

  /** An empty page in place of the last. */
  async fresh() {
    await this.page?.close();
    assert.deepEqual(this.errors, []);
    this.page = await this.browser.newPage();
    this.errors = collectErrors(this.page); // violations of the page's policy are told to the console too, as errors
  }

  /** Where the demo is served. */
  get demo() {
    return `${this.server.url}models/demo/granite-demo-Q4_K_M.gguf`;
  }

  get message() {
    return this.page.getByRole("textbox", { name: "Message" });
  }

  get card() {
    return this.page.getByRole("region", { name: "Loading the model" });
  }

  get dialog() {
    return this.page.getByRole("dialog", { name: "Models" });
  }

  /** @param {RegExp | string} text */
  statusIs(text) {
    return this.page.locator("#status").filter({ hasText: text }).waitFor();
  }

  /** A load that stands still at `fields`. @param {Partial<import("../../www/worker.js").Progress>} fields @param {import("./played-engine.mjs").Script} [script] */
  standStill = async (fields, script = {}) => {
    await this.open({ loadHangs: true, progress: [progress(fields)], ...script }, "?model=/big.gguf");
    await this.card.locator(".line .part").first().waitFor();
  };

  /** The models dialog. @param {import("./played-engine.mjs").Script} script @param {Machine} [machine] */
  openPanel = async (script, machine) => {
    await this.open(script, "", machine);
    await this.statusIs("Granite Demo on the CPU");
    await this.button("Model: Granite Demo").click();
    await this.page.locator("#stored-list li, #stored-none:not([hidden])").first().waitFor();
  };

  button = (/** @type {string | RegExp} */ name) => this.page.getByRole("button", { name });

  /** Where the keyboard is: a button's label, else the element's id. */
  focused = () => this.page.evaluate(() => (document.activeElement instanceof HTMLButtonElement && document.activeElement.textContent) || document.activeElement?.id);

  /** What the page asked of the browser, how often. @returns {Promise<{persist: number, revoked: number}>} */
  asked = () => this.page.evaluate(() => /** @type {any} */ (window).asked);

  inAddress = (/** @type {string} */ name) => new URL(this.page.url()).searchParams.get(name);

  /** What a screen reader hears from now on. @returns {Promise<() => Promise<string[]>>} */
  async listen() {
    await this.page.evaluate(() => {
      const heard = (/** @type {any} */ (window).heard = /** @type {string[]} */ ([]));
      const regions = [...document.querySelectorAll("[aria-live], [role=status], [role=log]")];
      for (const region of regions) new MutationObserver(() => heard.push(region.textContent ?? "")).observe(region, { childList: true, characterData: true, subtree: true });
    });
    return () => this.page.evaluate(() => /** @type {any} */ (window).heard);
  }

  /** Has axe look for trouble, and the eye for what is too wide. @param {string} where */
  async look(where) {
    const { page } = this;
    await page.waitForFunction(() => document.getAnimations().every((animation) => animation.playState !== "running" || animation.effect?.getTiming().iterations === Infinity));
    const complaints = await page.evaluate(`${axeSource}; axe.run().then(({ violations }) => violations.map(({ id, nodes }) => id + ": " + nodes.map(({ html, failureSummary }) => html + " " + failureSummary).join(" | ")))`);
    assert.deepEqual(complaints, [], where);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${where}: wider than the window`);
    const wide = await page.evaluate(() => [...document.querySelectorAll("main, dialog[open], .card, .transfer")].filter((e) => e.scrollWidth > e.clientWidth).map((e) => e.outerHTML));
    assert.deepEqual(wide, [], `${where}: scrolls sideways`);
  }
}
