// The chat page before and during a download, with a played engine: what it asks, what it says while a load waits, what is kept, full storage,
// and names in its address. Whether the engine does what it says is other tests' question.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { skipWithout } from "./harness.mjs";
import { played, progress } from "./played-engine.mjs";
import { Visits } from "./visit.mjs";

const skip = skipWithout("chromium");
const visits = new Visits(skip);
const { button, focused, asked, inAddress, openPanel, standStill } = visits;

const HUB = "https://huggingface.co/ibm-granite";
const MICRO = `${HUB}/granite-4.0-h-micro-GGUF/resolve/51ce07a9c9cfa971ca359d9625836bf8a4a1b61f/granite-4.0-h-micro-Q4_K_M.gguf`;
const H_1B = `${HUB}/granite-4.0-h-1b-GGUF/resolve/main/granite-4.0-h-1b-Q4_K_M.gguf`;
const TOTAL = 1942564512;
const PARTLY = { id: MICRO, bytes: 340e6, total: TOTAL, complete: false };

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
    assert.equal(await focused(), "card", "the focus is not lost with the button");
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

describe("storage without room for all of it", { skip }, () => {
  const FULL = /** @type {const} */ ({ problem: "quota", stored: false, note: "Storage is full." });

  test("the load goes on; the visitor may agree to that", async () => {
    await standStill({});
    const heard = await visits.listen();
    await played(visits.page).progress(FULL);
    await visits.card.getByText("This browser’s storage has no room for all of it.").waitFor();
    await button("Go on without storing").focus();
    await visits.page.keyboard.press("Enter");
    await visits.card.getByText("This browser’s storage has no room for all of it.").waitFor({ state: "hidden" });
    assert.equal(await focused(), "Cancel", "the focus is not lost with the button");
    await played(visits.page).progress({ ...FULL, loaded: 900e6 });
    await visits.card.getByText("900 MB").waitFor();
    assert.ok(await button("Free space…").isHidden(), "asked once");
    await visits.card.getByText("Storage is full.", { exact: true }).waitFor();
    assert.deepEqual(await heard(), ["This browser’s storage has no room for all of it. The load goes on, and what does not fit is not stored."]);
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
    await visits.card.getByText("This browser’s storage has no room for all of it.").waitFor({ state: "hidden" });
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
    assert.equal(await focused(), "card");
    await played(visits.page).progress({});
    await button("Pause downloading Granite 4.0 H Micro").waitFor();
    await visits.page.keyboard.press("Tab");
    assert.equal(await focused(), "Pause");
    await played(visits.page).finish();
    await visits.statusIs("Granite 4.0 H Micro on the CPU");
    assert.equal(await focused(), "message");
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

const LONG = "a-rather-long-name_that_does_not_want_to_be_broken_anywhere_at_all_please_keep_it_whole_thank_you";

for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
  for (const width of [360, 1280]) {
    test(`nothing to complain about for axe, nothing wider than the window: ${colorScheme}, ${width} px`, { skip }, async () => {
      const set = async () => {
        await visits.page.emulateMedia({ colorScheme });
        await visits.page.setViewportSize({ width, height: 720 });
      };
      await visits.open({}, "?model=h-micro", { memory: 2, quota: 3e9 });
      await set();
      await button("Download anyway").waitFor();
      await visits.look("question");
      await visits.open({ loadHangs: true, progress: [progress({ problem: "quota", stored: false })] }, `?model=/${LONG}.gguf`);
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
