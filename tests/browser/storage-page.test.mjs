// The chat page's panel of what is stored, with a played engine: the list, the room, the browser's promise, other tabs, files in and out. Whether
// the engine does what it says is other tests' question.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, test } from "node:test";
import { skipWithout } from "./harness.mjs";
import { played, progress } from "./played-engine.mjs";
import { Visits } from "./visit.mjs";

const skip = skipWithout("chromium");
const visits = new Visits(skip);
const { button, focused, asked, inAddress, openPanel, standStill } = visits;

const HUB = "https://huggingface.co/ibm-granite";
const MICRO = `${HUB}/granite-4.0-h-micro-GGUF/resolve/51ce07a9c9cfa971ca359d9625836bf8a4a1b61f/granite-4.0-h-micro-Q4_K_M.gguf`;
const TOTAL = 1942564512;
const PARTLY = { id: MICRO, bytes: 340e6, total: TOTAL, complete: false };
const DAY_MS = 24 * 3600_000;
const HOSTILE = '<img src=x onerror="document.title=1">&lt;b&gt;';

const rows = () => visits.page.locator("#stored-list > li").allInnerTexts();

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

const LONG = "a-rather-long-name_that_does_not_want_to_be_broken_anywhere_at_all_please_keep_it_whole_thank_you";

for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
  for (const width of [360, 1280]) {
    test(`nothing to complain about for axe, nothing wider than the window: ${colorScheme}, ${width} px`, { skip }, async () => {
      const set = async () => {
        await visits.page.emulateMedia({ colorScheme });
        await visits.page.setViewportSize({ width, height: 720 });
      };
      const stored = [PARTLY, { id: visits.demo, bytes: 3855872, used_ms: Date.now() }, { id: `https://example.com/${LONG}.gguf`, bytes: 4e9, parts: 3 }, { id: `file:${LONG}.gguf`, bytes: 30e6 }];
      await openPanel({ stored, importHangs: true });
      await set();
      await visits.look("panel");
      await button("Delete Granite 4.0 H Micro from this browser").click();
      await visits.look("a question");
      await button("Ask it to keep them").click();
      await visits.dialog.getByText("did not promise").waitFor();
      await visits.look("a note");
      await visits.page.locator("#import-file").setInputFiles({ name: `${LONG}.gguf`, mimeType: "", buffer: Buffer.alloc(9) });
      await visits.dialog.getByText("Importing").waitFor();
      await visits.look("an import");
      await openPanel({});
      await set();
      await visits.look("empty panel");
    });
  }
}
