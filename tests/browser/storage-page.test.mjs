// The chat page around a download and around what is stored, with a played engine: what it says while a load waits, what it asks before a
// big one, what is kept, and the panel of stored models. Whether the engine does what it says is other tests' question.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, test } from "node:test";
import { skipWithout } from "./harness.mjs";
import { played, progress } from "./played-engine.mjs";
import { Visits } from "./visit.mjs";

const skip = skipWithout("chromium");
const visits = new Visits(skip);

const HUB = "https://huggingface.co/ibm-granite";
const MICRO = `${HUB}/granite-4.0-h-micro-GGUF/resolve/51ce07a9c9cfa971ca359d9625836bf8a4a1b61f/granite-4.0-h-micro-Q4_K_M.gguf`;
const H_1B = `${HUB}/granite-4.0-h-1b-GGUF/resolve/main/granite-4.0-h-1b-Q4_K_M.gguf`;
const TOTAL = 1942564512;
const PARTLY = { id: MICRO, bytes: 340e6, total: TOTAL, complete: false };
const DAY_MS = 24 * 3600_000;
const HOSTILE = '<img src=x onerror="document.title=1">&lt;b&gt;';

const button = (/** @type {string | RegExp} */ name) => visits.page.getByRole("button", { name });
const focused = () => visits.page.evaluate(() => document.activeElement?.textContent?.trim() || document.activeElement?.id);
const asked = () => visits.page.evaluate(() => /** @type {any} */ (window).asked);
const inAddress = (/** @type {string} */ name) => new URL(visits.page.url()).searchParams.get(name);

/** A load that stands still at `fields`. @param {Partial<import("../../www/worker.js").Progress>} fields @param {import("./played-engine.mjs").Script} [script] */
async function standStill(fields, script = {}) {
  await visits.open({ loadHangs: true, progress: [progress(fields)], ...script }, "?model=/big.gguf");
  await visits.card.locator(".line .part").first().waitFor();
}

/** @param {import("./played-engine.mjs").Script} script @param {import("./visit.mjs").Machine} [machine] */
async function openPanel(script, machine) {
  await visits.open(script, "", machine);
  await visits.statusIs("Granite Demo on the CPU");
  await button("Model: Granite Demo").click();
  await visits.dialog.getByText("Your own").waitFor();
  await visits.page.locator("#stored-list li, #stored-none:not([hidden])").first().waitFor();
}

const rows = () => visits.page.locator("#stored-list > li").allInnerTexts();

describe("a download", { skip }, () => {
  for (const [what, fields, words] of /** @type {[string, Partial<import("../../www/worker.js").Progress>, string][]} */ ([
    ["no network", { waiting: "offline", bytesPerSecond: null }, "340 MB of 1.94 GB · Waiting for the network; it goes on by itself."],
    ["a broken connection", { waiting: "retry", retrySeconds: 7.2 }, "340 MB of 1.94 GB · The connection broke off. Trying again in 8 seconds."],
    ["a server that is not there", { waiting: "retry", retrySeconds: 7.2, loaded: 0, total: null }, "The server does not answer. Trying again in 8 seconds."],
    ["a try that is due", { waiting: "retry", retrySeconds: 0 }, "The connection broke off. Trying again…"],
    ["a busy server", { waiting: "busy", retrySeconds: 180 }, "340 MB of 1.94 GB · The server is busy. Trying again in 3 minutes."],
    ["another tab", { waiting: "other-tab" }, "Another tab is downloading this model; this one will use it · 340 MB of 1.94 GB · 38.2 MB/s · 45 seconds left"],
    ["an earlier visit", { resumed: 300e6 }, "300 MB were stored in this browser already."],
    ["a note", { problem: "blocked", stored: false, note: "This browser lets nothing be stored." }, "This browser lets nothing be stored."],
    ["an unknown size", { total: null, secondsLeft: null }, "Downloading: 340 MB · 38.2 MB/s"],
  ])) {
    test(`in words: ${what}`, async () => {
      await standStill(fields);
      await visits.card.getByText(words).waitFor();
    });
  }

  test("the bar begins where the last visit stopped", async () => {
    await standStill({ loaded: 340e6, resumed: 340e6, bytesPerSecond: null, secondsLeft: null });
    const bar = visits.page.getByRole("progressbar", { name: "Loading big" });
    assert.equal(await bar.getAttribute("aria-valuetext"), "340 MB of 1.94 GB");
    assert.ok(Math.abs(Number(await bar.getAttribute("value")) - 17.5) < 0.1);
  });

  test("seconds are counted down between the engine's own words", async () => {
    await visits.open({ loadHangs: true }, "?model=/big.gguf");
    await visits.card.getByText("Starting the engine…").waitFor();
    await visits.page.clock.install();
    await played(visits.page).progress({ waiting: "retry", retrySeconds: 30 });
    await visits.card.getByText("Trying again in 30 seconds.").waitFor();
    await visits.page.clock.fastForward(1000);
    // The interval is older than the clock; what it draws is by the clock.
    await visits.card.getByText(/Trying again in 2\d seconds\./).waitFor();
  });

  test("pause and continue, by keyboard, answer at once", async () => {
    await standStill({});
    const seen = await played(visits.page).listen();
    await button("Pause downloading big").focus();
    await visits.page.keyboard.press("Enter");
    await visits.card.getByText("Paused at 340 MB of 1.94 GB").waitFor();
    assert.equal(await focused(), "Continue", "it is the same button");
    await played(visits.page).progress({ paused: true, loaded: 350e6 });
    await visits.card.getByText("Paused at 350 MB of 1.94 GB").waitFor();
    await visits.page.keyboard.press("Enter");
    await visits.card.getByText("Downloading: 350 MB of 1.94 GB").waitFor();
    assert.deepEqual((await seen()).map(({ type }) => type), ["pause", "continue"]);
  });

  test("what is not a download cannot be paused, nor what another tab downloads", async () => {
    await standStill({ phase: "cache", fromCache: true });
    await visits.card.getByText("Reading from this browser").waitFor();
    assert.equal(await button(/^Pause/).count(), 0);
    await played(visits.page).progress({});
    await button("Pause downloading big").waitFor();
    await played(visits.page).progress({ waiting: "other-tab" });
    await button("Pause downloading big").waitFor({ state: "hidden" });
    await played(visits.page).progress({ phase: "upload", loaded: TOTAL });
    await visits.card.getByText("Handing it to the CPU…").waitFor();
    assert.equal(await button(/^Pause/).count(), 0);
  });

  test("a screen reader hears of a wait once, and not of a short one", async () => {
    await standStill({});
    const heard = await visits.listen();
    const engine = played(visits.page);
    await engine.progress({ waiting: "retry", retrySeconds: 0.2 });
    await engine.progress({});
    for (let i = 0; i < 6; i++) {
      await engine.progress({ waiting: "offline", loaded: 340e6 + i });
      await visits.page.waitForTimeout(500);
    }
    assert.deepEqual(await heard(), ["No network. The download goes on by itself"]);
  });

  test("cancelled: what is kept is said as it is stored, and Continue goes on", async () => {
    await standStill({ loaded: 345e6 }, { stored: [{ ...PARTLY, id: `${visits.server.url}big.gguf` }] });
    await button("Cancel loading big").click();
    await visits.card.getByText("340 MB of 1.94 GB are kept in this browser; the next load goes on from there.").waitFor();
    await visits.statusIs("No model is loaded");
    assert.equal(await visits.page.evaluate(() => document.activeElement?.id), "card", "the focus is not lost with the button");
    await visits.page.keyboard.press("Tab");
    assert.equal(await focused(), "Continue");
    const seen = await played(visits.page).listen();
    await visits.page.keyboard.press("Enter");
    await visits.statusIs("Loading big…");
    await button("Pause downloading big").waitFor();
    assert.ok((await seen()).some(({ type, options }) => type === "load" && options.url === `${visits.server.url}big.gguf`));
  });

  test("cancelled while another tab downloads: that goes on", async () => {
    await standStill({ waiting: "other-tab" });
    await button("Cancel loading big").click();
    await visits.card.getByText("The other tab goes on downloading it, and this browser keeps it.").waitFor();
  });

  test("cancelled while a file is read: there is nothing to say", async () => {
    await standStill({ phase: "cache", fromCache: true });
    await button("Cancel loading big").click();
    await visits.statusIs("No model is loaded");
    assert.ok(await visits.card.isHidden());
  });

  test("broken off: the error says what is kept", async () => {
    const stored = [{ ...PARTLY, id: `${visits.server.url}big.gguf` }];
    await visits.open({ stored, progress: [progress({})], loadError: { code: "network", message: "reset" } }, "?model=/big.gguf");
    await visits.card.getByText("340 MB are kept: the next try goes on from there.").waitFor();
  });
});

describe("storage that runs full", { skip }, () => {
  const FULL = /** @type {const} */ ({ problem: "quota", stored: false, note: "Storage is full." });

  test("the load goes on; the visitor may agree to that", async () => {
    await standStill({});
    const heard = await visits.listen();
    await played(visits.page).progress(FULL);
    await visits.card.getByText("This browser’s storage is full.").waitFor();
    await button("Go on without storing").focus();
    await visits.page.keyboard.press("Enter");
    await visits.card.getByText("This browser’s storage is full.").waitFor({ state: "hidden" });
    assert.equal(await focused(), "Cancel", "the focus is not lost with the button");
    await played(visits.page).progress({ ...FULL, loaded: 900e6 });
    await visits.card.getByText("900 MB").waitFor();
    assert.ok(await button("Free space…").isHidden(), "asked once");
    await visits.card.getByText("Storage is full.", { exact: true }).waitFor();
    assert.deepEqual(await heard(), ["This browser’s storage is full. The load goes on without storing."]);
  });

  test("or make room, and what still arrives is stored", async () => {
    await standStill(FULL, { stored: [{ id: H_1B, bytes: 901162208 }] });
    await button("Free space…").click();
    await visits.dialog.waitFor();
    await visits.page.waitForFunction(() => document.activeElement?.id === "storage");
    await button("Delete Granite 4.0 H 1B from this browser").click();
    await button("Yes, delete Granite 4.0 H 1B").click();
    await visits.dialog.getByText("Granite 4.0 H 1B was deleted from this browser: 901 MB freed.").waitFor();
    await visits.page.keyboard.press("Escape");
    await played(visits.page).progress({ loaded: 400e6 });
    await visits.card.getByText("This browser’s storage is full.").waitFor({ state: "hidden" });
    assert.equal(await visits.page.locator("#announce").innerText(), "There is room again: what still arrives is stored.");
  });

  test("a small line lasts, with the way to make room", async () => {
    const why = "the browser's storage is full";
    await visits.open({ stats: { source: { kind: "network", url: "", stored: false, why } } });
    await visits.page.getByText(`Not wholly stored in this browser: ${why}.`).waitFor();
    await button("Free space…").click();
    await visits.page.waitForFunction(() => document.activeElement?.id === "storage");
  });
});

describe("before a big download", { skip }, () => {
  const LINK = "?model=granite-4.0-h-micro";

  test("it fits: size, room, and why the browser is asked to keep it, once", async () => {
    await visits.open({}, LINK);
    await button("Download 1.94 GB").waitFor();
    const words = await visits.card.innerText();
    assert.match(words, /Granite 4\.0 H Micro is a download of 1\.94 GB/);
    assert.match(words, /It fits on this device, and 60\.0 GB are free in this browser\./);
    assert.match(words, /Browsers may delete what sites have stored when the disk fills up\. .* asks yours to keep the model/);
    assert.equal((await asked()).persist, 0, "not before the click");
    await button("Download 1.94 GB").click();
    await visits.statusIs("Granite 4.0 H Micro on the CPU");
    assert.equal((await asked()).persist, 1);

    await visits.open({}, LINK);
    await button("Download 1.94 GB").waitFor();
    assert.doesNotMatch(await visits.card.innerText(), /asks yours/, "the second time nothing is asked");
    await button("Download 1.94 GB").click();
    await visits.statusIs("Granite 4.0 H Micro on the CPU");
    assert.equal((await asked()).persist, 0);
  });

  test("by keyboard, from the question through the load to the message", async () => {
    await visits.open({ loadHangs: true }, LINK);
    await button("Download 1.94 GB").focus();
    await visits.page.keyboard.press("Enter");
    await visits.statusIs("Loading Granite 4.0 H Micro…");
    const where = () => visits.page.evaluate(() => document.activeElement?.id);
    assert.equal(await where(), "card");
    await played(visits.page).progress({});
    await button("Pause downloading Granite 4.0 H Micro").waitFor();
    await visits.page.keyboard.press("Tab");
    assert.equal(await focused(), "Pause");
    await played(visits.page).finish();
    await visits.statusIs("Granite 4.0 H Micro on the CPU");
    assert.equal(await where(), "message");
  });

  test("it will be slow: the words, and a smaller one beside it", async () => {
    await visits.open({}, LINK, { cores: 2 });
    await visits.card.getByText(/It will be slow here\. Granite 4\.0 H 350M, 223 MB, would be faster\./).waitFor();
    assert.match(await visits.card.innerText(), /On 2 threads of the CPU/);
    await button("Download 1.94 GB").waitFor();
    await button("Take Granite 4.0 H 350M").click();
    await visits.statusIs("Granite 4.0 H 350M on the CPU");
    assert.equal(inAddress("model"), "granite-4.0-h-350m");
  });

  test("it does not fit: take another, or try anyway", async () => {
    await visits.open({}, LINK, { memory: 2 });
    await visits.card.getByText(/It does not fit here: take Granite 4\.0 H (1B|350M), /).waitFor();
    assert.match(await visits.card.innerText(), /this machine has about 2 GB/);
    await button("Download anyway").click();
    await visits.statusIs("Granite 4.0 H Micro on the CPU");
  });

  test("no room: the panel is one of the ways, and then it is asked anew", async () => {
    await visits.open({ stored: [{ id: H_1B, bytes: 901162208 }] }, LINK, { quota: 3e9 });
    await visits.card.getByText(/there is room for 710 MB/).waitFor();
    await button("Free space…").click();
    await button("Delete Granite 4.0 H 1B from this browser").click();
    await button("Yes, delete Granite 4.0 H 1B").click();
    await visits.dialog.getByText("901 MB freed").waitFor();
    await visits.page.evaluate(() => (StorageManager.prototype.estimate = async () => ({ quota: 3e9, usage: 1e6 })));
    await button("Close").click();
    await visits.card.getByText("It fits on this device, and 3.00 GB are free in this browser.").waitFor();
  });

  test("what is here already is not downloaded again", async () => {
    await visits.open({ stored: [PARTLY] }, LINK);
    await visits.card.getByText("340 MB are stored in this browser already; the download goes on from there.").waitFor();
    await button("Download the other 1.60 GB").waitFor();
  });

  test("an address is looked at before it is loaded", async () => {
    await visits.open({ probe: { bytes: 5e9, stored: 0, complete: false } }, "?model=https://example.com/own-Q8_0.gguf");
    await visits.card.getByText("own-Q8_0 is a download of 5.00 GB").waitFor();
    await visits.open({ probe: { bytes: null, stored: 0, complete: false } }, "?model=https://example.com/own-Q8_0.gguf");
    await visits.card.getByText("own-Q8_0 is a download of unknown size").waitFor();
    await button("Download").click();
    await visits.statusIs("own-Q8_0 on the CPU");
  });

  test("a file that is opened while an address is looked at comes instead of it", async () => {
    await visits.open({ probeMs: 1000 }, "?model=https://example.com/own-Q8_0.gguf");
    await visits.statusIs("Looking at own-Q8_0…");
    const seen = await played(visits.page).listen();
    await visits.page.locator("#file").setInputFiles({ name: "quicker.gguf", mimeType: "", buffer: Buffer.alloc(9) });
    await visits.statusIs("quicker on the CPU");
    await visits.page.waitForTimeout(1500);
    await visits.statusIs("quicker on the CPU");
    assert.equal((await seen()).filter(({ type }) => type === "load").length, 1);
  });

  test("from the list: what fits is loaded at once, for its size has been seen; what does not is asked about", async () => {
    await openPanel({});
    await button("Download: Granite 4.0 H 1B, 901 MB").click();
    await visits.statusIs("Granite 4.0 H 1B on the CPU");

    await openPanel({}, { memory: 2 });
    await button("Download: Granite 4.0 H Micro, 1.94 GB").click();
    await visits.card.getByText(/It does not fit here/).waitFor();
    await visits.statusIs("Granite Demo on the CPU");
    await button("Not now").click();
    assert.ok(await visits.card.isHidden());
    await visits.message.fill("Are you still there?");
    await visits.message.press("Enter");
    await visits.statusIs("tokens/s");
  });

  test("from the list: what was begun goes on without a question, what is whole without a look", async () => {
    await openPanel({ stored: [PARTLY, { id: H_1B, bytes: 901162208 }] }, { cores: 2 });
    const seen = await played(visits.page).listen();
    await button("Use: Granite 4.0 H 1B, 901 MB").click();
    await visits.statusIs("Granite 4.0 H 1B on the CPU");
    assert.deepEqual((await seen()).filter(({ type }) => type === "probe"), []);
    await button("Model: Granite 4.0 H 1B").click();
    await button("Continue: Granite 4.0 H Micro, 1.94 GB").click();
    await visits.statusIs("Granite 4.0 H Micro on the CPU");
  });

  test("a question takes the place of a load under way", async () => {
    await standStill({}, { probe: undefined });
    await visits.page.setViewportSize({ width: 1280, height: 720 });
    await button("Model: big").click();
    await visits.page.evaluate(() => Object.defineProperty(Navigator.prototype, "deviceMemory", { get: () => 2 }));
    await button("Download: Granite 4.0 H Micro, 1.94 GB").click();
    await visits.card.getByText(/It does not fit here/).waitFor();
    await visits.statusIs("No model is loaded");
    await button("Model: No model").waitFor();
  });
});

describe("the panel of what is stored", { skip }, () => {
  test("each model once: size, part, parts, last use; room; the browser's promise", async () => {
    const now = Date.now();
    await openPanel({
      stored: [
        { id: "https://example.com/m/tiny-00001-of-00003.gguf", bytes: 3.1e9, parts: 3, used_ms: now - 12 * DAY_MS },
        { id: visits.demo, bytes: 3855872, used_ms: now + 3 * DAY_MS }, // the clock was set back
        { id: "file:half.gguf", bytes: 5e6, total: 9e6, complete: false },
        { ...PARTLY, used_ms: now - DAY_MS },
        { id: "file:mine%.gguf", bytes: 222e6, used_ms: Date.UTC(2020, 1, 29, 12) },
      ],
    });
    const found = await rows();
    const expected = [
      /^Granite Demo\s+3\.86 MB[^]*Used today\s+Export\s+Delete\s+In use$/,
      /^Granite 4\.0 H Micro\s+1\.94 GB[^]*340 MB of 1\.94 GB, partly · Used yesterday\s+Delete\s+Continue$/,
      /^tiny\s+3\.10 GB[^]*3 parts · Used 12 days ago\s+Export\s+Delete\s+Use$/,
      /^mine%\s+222 MB\s+Used on 29 February 2020\s+Export\s+Delete\s+Use$/,
      /^half\s+9\.00 MB\s+5\.00 MB of 9\.00 MB, partly\s+Delete\s+Continue$/,
    ];
    assert.equal(found.length, expected.length);
    expected.forEach((pattern, i) => assert.match(found[i] ?? "", pattern));
    assert.ok(await button("Continue: half").isDisabled(), "half a file cannot be gone on with");
    await visits.dialog.getByText("2.29 GB used · 60.0 GB free").waitFor();
    await visits.dialog.getByText("This browser may delete them when the disk fills up.").waitFor();
    assert.deepEqual(await visits.page.locator("#model-list .name").allInnerTexts(), ["Granite 4.0 H 1B 901 MB", "Granite 4.0 H 350M 223 MB"]);
    await button("Use: mine%").click();
    await visits.statusIs("mine% on the CPU");
    assert.equal(inAddress("model"), "file:mine%.gguf");
  });

  test("the browser is asked to keep them, and what came of it is said", async () => {
    await openPanel({ stored: [PARTLY] }, { persist: false });
    await button("Ask it to keep them").click();
    await visits.dialog.getByText(/This browser did not promise it\. .* a bookmark of this page may help\./).waitFor();
    await openPanel({ stored: [PARTLY] }, { persist: true });
    await button("Ask it to keep them").click();
    await visits.dialog.getByText("This browser has promised to keep them.").waitFor();
    assert.ok(await button("Ask it to keep them").isHidden());
  });

  test("deleting: a small one at once, a big one or an import after a question, by keyboard", async () => {
    await openPanel({ stored: [{ id: visits.demo, bytes: 3855872 }, { id: "file:small.gguf", bytes: 1e6 }] });
    await button("Delete Granite Demo from this browser").click();
    await visits.dialog.getByText("Granite Demo was deleted from this browser: 3.86 MB freed. In this tab it stays loaded.").waitFor();
    await button("Delete small from this browser").focus();
    await visits.page.keyboard.press("Enter");
    await visits.dialog.getByText("Without its file it does not come back.").waitFor();
    assert.equal(await focused(), "Keep", "a second Enter deletes nothing");
    await visits.page.keyboard.press("Enter");
    assert.equal(await focused(), "Delete", "the focus is where it was");
    await visits.page.keyboard.press("Enter");
    await visits.page.keyboard.press("Tab");
    await visits.page.keyboard.press("Enter");
    await visits.dialog.getByText("small was deleted from this browser: 1.00 MB freed.").waitFor();
    await visits.dialog.getByText("Nothing yet.").waitFor();
    assert.ok(await button("Ask it to keep them").isHidden(), "there is nothing to keep");
  });

  test("what is being loaded cannot be deleted under its own feet", async () => {
    await standStill({}, { stored: [{ ...PARTLY, id: `${visits.server.url}big.gguf` }] });
    await button("Model: big").click();
    await button("Loading: big").waitFor();
    assert.equal(await button("Delete big from this browser").count(), 0);
    await visits.page.evaluate((id) => new BroadcastChannel("outcrop").postMessage({ type: "progress", id, loaded: 800e6, total: 1942564512 }), `${visits.server.url}big.gguf`);
    await visits.dialog.getByText("800 MB of 1.94 GB, partly").waitFor();
  });

  test("other tabs: what they download, store and delete is seen here", async () => {
    await openPanel({ stored: [PARTLY, { id: "file:x.gguf", bytes: 30e6 }] });
    const tab = await visits.browser.newPage();
    await tab.goto(visits.server.url);
    const tell = (/** @type {any} */ message) => tab.evaluate((message) => new BroadcastChannel("outcrop").postMessage(message), message);
    for (const odd of [null, 7, {}, { type: "progress" }, { type: "progress", id: {}, loaded: "x" }, { type: "stored", id: 3 }]) await tell(odd);
    await button("Export x as a file").focus();
    await tell({ type: "progress", id: MICRO, loaded: 500e6, total: TOTAL });
    await visits.dialog.getByText("Another tab is downloading it: 500 MB of 1.94 GB").waitFor();
    assert.equal(await focused(), "Export", "the list is drawn anew under the focus");
    await tab.locator("#status").filter({ hasText: "Granite Demo on the CPU" }).waitFor();
    await tab.locator("#open-models").click();
    await tab.getByRole("button", { name: "Delete x from this browser" }).click();
    await tab.getByRole("button", { name: "Yes, delete x" }).click();
    await visits.page.locator("#stored-list > li").filter({ hasText: "30.0 MB" }).waitFor({ state: "detached" });
    await visits.dialog.getByText("340 MB of 1.94 GB, partly").waitFor({ timeout: 10_000 }); // the other tab fell silent
    await tab.close();
  });

  test("storage that is switched off: the reason, and all that works without", async () => {
    await visits.open({ storeError: { code: "storage", message: "no" } });
    await visits.statusIs("Granite Demo on the CPU");
    await button("Model: Granite Demo").click();
    await visits.dialog.getByText("This browser’s storage failed.").waitFor();
    await button("Download: Granite 4.0 H 350M, 223 MB").waitFor();
  });
});

describe("files in and out", { skip }, () => {
  const saved = () =>
    visits.page.evaluate(async () => {
      const folder = await navigator.storage.getDirectory();
      /** @type {Record<string, string>} */
      const texts = {};
      for await (const [name, handle] of /** @type {any} */ (folder)) {
        texts[name] = await (await handle.getFile()).text();
        await folder.removeEntry(name);
      }
      return texts;
    });

  test("export by a link, whose address is given back", async () => {
    await openPanel({ stored: [{ id: "https://example.com/a%20b/granite%2Fx.gguf?download=1", bytes: 30e6 }] });
    await visits.page.clock.install();
    const download = visits.page.waitForEvent("download");
    await button(/^Export /).click();
    const file = await download;
    assert.equal(file.suggestedFilename(), "granite_x.gguf");
    assert.equal(await readFile(await file.path(), "utf8"), "GGUFhttps://example.com/a%20b/granite%2Fx.gguf?download=1");
    await visits.dialog.getByText("was exported.").waitFor();
    assert.equal((await asked()).revoked, 0, "not before the browser has opened it");
    await visits.page.clock.fastForward(61_000);
    assert.equal((await asked()).revoked, 1);
  });

  test("export to a file of the visitor's choice", async () => {
    await openPanel({ stored: [{ id: MICRO, bytes: TOTAL }] }, { picker: true });
    await button("Export Granite 4.0 H Micro as a file").click();
    await visits.dialog.getByText("Granite 4.0 H Micro was exported.").waitFor();
    assert.deepEqual(await saved(), { "exported.gguf": `GGUF${MICRO}` });
  });

  test("a split model is exported part by part", async () => {
    const part = (/** @type {number} */ i) => `https://example.com/tiny-0000${i}-of-00002.gguf`;
    await openPanel({ stored: [{ id: part(1), bytes: 3e9, parts: 2 }, { id: "https://example.com/odd.gguf", bytes: 3e9, parts: 2 }] }, { picker: true });
    assert.equal(await button("Export odd as a file").count(), 0, "nothing tells its parts apart");
    await button("Export tiny as a file").click();
    await visits.dialog.getByText("tiny was exported: 2 files.").waitFor();
    assert.deepEqual(await saved(), { "tiny-00001-of-00002.gguf": `GGUF${part(1)}`, "tiny-00002-of-00002.gguf": `GGUF${part(2)}` });
  });

  /** @param {string} name @param {number} [bytes] */
  const pick = (name, bytes = 2e6) => visits.page.locator("#import-file").setInputFiles({ name, mimeType: "", buffer: Buffer.alloc(bytes) });

  test("import: a file of its own, then loaded by its name", async () => {
    await openPanel({});
    const seen = await played(visits.page).listen();
    await pick("my own.gguf");
    await visits.dialog.getByText("my own is stored in this browser.").waitFor();
    assert.deepEqual((await seen()).find(({ type }) => type === "import").options, { name: "my own.gguf" });
    await button("Use: my own, 2.00 MB").waitFor();
    assert.match((await rows())[0] ?? "", /^my own\s+2\.00 MB\s+Used today/);
    await button("Use: my own, 2.00 MB").click();
    await visits.statusIs("my own on the CPU");
    assert.deepEqual((await seen()).findLast(({ type }) => type === "load").options.stored, "file:my own.gguf");
  });

  test("import: known by its name or by its size, it takes the known one's place", async () => {
    await openPanel({});
    const seen = await played(visits.page).listen();
    await pick("anything.gguf", 3855872);
    await visits.dialog.getByText("Granite Demo is stored in this browser.").waitFor();
    const { url, sha256 } = (await seen()).find(({ type }) => type === "import").options;
    assert.equal(url, visits.demo);
    assert.match(sha256, /^[0-9a-f]{64}$/);
    await button("Delete Granite Demo from this browser").waitFor();
    assert.equal(await visits.dialog.getByText("Granite Demo 3.86 MB").count(), 1, "each model once");
  });

  for (const [what, name, bytes, script] of /** @type {[string, string, number, import("./played-engine.mjs").Script][]} */ ([
    ["bytes", "other.gguf", 3855872, { importError: { code: "digest_mismatch", message: "no" } }],
    ["size", "granite-demo-Q4_K_M (1).gguf", 1e6, {}],
  ])) {
    test(`import: what only seems to be a known one, by its ${what}, may have a name of its own`, async () => {
      await openPanel(script);
      await pick(name, bytes);
      await visits.dialog.getByText("looks like Granite Demo, but is not the file that was published.").waitFor();
      await button("Import it under its own name").click();
      await visits.dialog.getByText(`${name.replace(".gguf", "")} is stored in this browser.`).waitFor();
    });
  }

  test("import: a bar, and a way to stop", async () => {
    await openPanel({ importHangs: true });
    await pick("slow.gguf");
    await visits.dialog.getByText("1.00 MB of 2.00 MB").waitFor();
    assert.equal(await visits.page.getByRole("progressbar", { name: "Importing slow.gguf" }).getAttribute("value"), "50");
    assert.ok(await button("Import a file…").isDisabled(), "one at a time");
    await button("Cancel: Importing slow.gguf").click();
    await visits.dialog.getByText("The import of slow.gguf was stopped.").waitFor();
    assert.ok(await button("Import a file…").isEnabled());
  });

  test("several files at once are one split model, picked or dropped", async () => {
    const [one, two] = ["own-00001-of-00002.gguf", "own-00002-of-00002.gguf"];
    await openPanel({});
    const seen = await played(visits.page).listen();
    const loads = async () => (await seen()).filter(({ type }) => type === "load");
    await visits.page.locator("#file").setInputFiles([two, one].map((name) => ({ name, mimeType: "", buffer: Buffer.from(name) })));
    await visits.statusIs("own on the CPU");
    assert.equal((await loads())[0].options.files.length, 2);
    await visits.page.evaluate((names) => {
      const data = new DataTransfer();
      for (const name of names) data.items.add(new File([name], name));
      for (const type of ["dragover", "drop"]) document.body.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
    }, [two, one]);
    await visits.page.waitForFunction(() => /** @type {any} */ (window).seen.filter((/** @type {any} */ { type }) => type === "load").length === 2);
    const names = await Promise.all((await loads()).map(({ options }) => options.files.length));
    assert.deepEqual(names, [2, 2]);

    await button("Model: own").click();
    await visits.page.locator("#file").setInputFiles({ name: two, mimeType: "", buffer: Buffer.from(two) });
    const alert = visits.page.getByRole("alert").filter({ hasText: "These parts do not make one model" });
    await alert.getByText("Details").click();
    assert.match(await alert.innerText(), /missing: 1/);
  });
});

describe("names in the page's address", { skip }, () => {
  for (const [text, name, query] of [
    ["demo", "Granite Demo", "granite-demo"],
    ["H-350M:350m-q4_k_m", "Granite 4.0 H 350M", "granite-4.0-h-350m"],
    ["hf:ibm-granite/some-GGUF@main/sub/some-Q8_0.gguf", "some-Q8_0", "hf:ibm-granite/some-GGUF@main/sub/some-Q8_0.gguf"],
    ["/parts/own-00002-of-00003.gguf", "own", "/parts/own-00002-of-00003.gguf"],
    ["file:mine.gguf", "mine", "file:mine.gguf"],
  ]) {
    test(/** @type {string} */ (text), async () => {
      await visits.open({}, `?model=${encodeURIComponent(/** @type {string} */ (text))}`);
      if (name?.includes("350M")) await button("Download 223 MB").click();
      await visits.statusIs(`${name} on the CPU`);
      assert.equal(inAddress("model"), query);
    });
  }

  test("a name that there is none of", async () => {
    await visits.open({}, "?model=llama");
    await visits.page.getByRole("alert").filter({ hasText: "There is no model of that name here" }).waitFor();
    await button("Choose a model").click();
    await visits.dialog.waitFor();
  });

  test("typed into the dialog", async () => {
    await openPanel({});
    const address = visits.page.getByRole("textbox", { name: "Address of a GGUF" });
    await address.fill("hf:nonsense");
    await address.press("Enter");
    await visits.dialog.getByText("That is not an address.").waitFor();
    await address.fill("hf:ibm-granite/some-GGUF/some-Q8_0.gguf");
    await address.press("Enter");
    await visits.statusIs("some-Q8_0 on the CPU");
  });
});

test("that a digest was published and met is said where the model is chosen", { skip }, async () => {
  await openPanel({ stats: { source: { kind: "network", stored: true, why: null, sha256: "0", checked: true } } });
  await visits.dialog.getByText("Now on the CPU. Its bytes are those that were published (SHA-256).").waitFor();
});

test("hostile names are text, wherever they stand", { skip }, async () => {
  const address = `https://example.com/${encodeURIComponent(HOSTILE)}.gguf`;
  await openPanel({ importHangs: true, stored: [{ id: address, bytes: 30e6 }, { id: `file:${HOSTILE}.gguf`, bytes: 30e6 }] });
  assert.equal((await rows()).filter((row) => row.startsWith(HOSTILE)).length, 2);
  await button(`Delete ${HOSTILE} from this browser`).first().click();
  await visits.page.locator("#import-file").setInputFiles({ name: `${HOSTILE}.gguf`, mimeType: "", buffer: Buffer.alloc(9) });
  await visits.dialog.getByText(`Importing ${HOSTILE}`).waitFor();
  await button(`Cancel: Importing ${HOSTILE}.gguf`).click();
  await visits.dialog.getByText(`The import of ${HOSTILE}.gguf was stopped.`).waitFor();
  await visits.page.keyboard.press("Escape");
  await visits.open({ progress: [progress({ note: HOSTILE })], loadHangs: true, stored: [{ id: address, bytes: 1e6, total: 9e6, complete: false }] }, `?model=${encodeURIComponent(address)}`);
  await visits.card.getByText(HOSTILE).first().waitFor();
  await button(`Cancel loading ${HOSTILE}`).click();
  await visits.card.getByText(`The download of ${HOSTILE} was stopped`).waitFor();
  assert.equal(await visits.page.locator(":is(#card, #models, #announce, .status) img").count(), 0);
  assert.equal(await visits.page.title(), "Outcrop");
});

for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
  for (const width of [360, 1280]) {
    test(`nothing to complain about for axe, nothing wider than the window: ${colorScheme}, ${width} px`, { skip }, async () => {
      const long = "a-rather-long-name_that_does_not_want_to_be_broken_anywhere_at_all_please_keep_it_whole_thank_you";
      const set = async () => {
        await visits.page.emulateMedia({ colorScheme });
        await visits.page.setViewportSize({ width, height: 720 });
      };
      const stored = [PARTLY, { id: visits.demo, bytes: 3855872, used_ms: Date.now() }, { id: `https://example.com/${long}.gguf`, bytes: 4e9, parts: 3 }, { id: `file:${long}.gguf`, bytes: 30e6 }];
      await openPanel({ stored, importHangs: true });
      await set();
      await visits.look("panel");
      await button("Delete Granite 4.0 H Micro from this browser").click();
      await visits.look("a question");
      await button("Ask it to keep them").click();
      await visits.dialog.getByText("did not promise").waitFor();
      await visits.look("a note");
      await visits.page.locator("#import-file").setInputFiles({ name: `${long}.gguf`, mimeType: "", buffer: Buffer.alloc(9) });
      await visits.dialog.getByText("Importing").waitFor();
      await visits.look("an import");
      await openPanel({});
      await set();
      await visits.look("empty panel");
      await visits.open({}, "?model=h-micro", { memory: 2, quota: 3e9 });
      await set();
      await button("Download anyway").waitFor();
      await visits.look("question");
      await visits.open({ loadHangs: true, progress: [progress({ problem: "quota", stored: false })] }, `?model=/${long}.gguf`);
      await set();
      await button("Free space…").waitFor();
      await visits.look("full");
      for (const waiting of /** @type {const} */ (["other-tab", "retry"])) {
        await played(visits.page).progress({ waiting, retrySeconds: 30, resumed: 3e6 });
        await visits.card.getByText("3.00 MB were stored").waitFor();
        await visits.look(waiting);
      }
      await button(/^Pause/).click();
      await visits.look("paused");
      await button(/^Cancel/).click();
      await visits.card.getByText("was stopped").waitFor();
      await visits.look("stopped");
    });
  }
}
