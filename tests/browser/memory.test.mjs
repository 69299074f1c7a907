// Memory's end while a model is loaded, in Chromium: an error with the code `out_of_memory` wherever it comes, and the page goes on.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { after, before, test } from "node:test";
import { launchChromium, skipWithout, startServer } from "./harness.mjs";

const skip = skipWithout("chromium");
const at = (/** @type {string} */ path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const text = (/** @type {string} */ path) => readFileSync(at(path), "utf8");

/** @type {import("./server.mjs").Server} */
let server;
/** @type {import("playwright-core").BrowserContext} */
let browser;
/** @type {import("playwright-core").Page} */
let page;

before(async () => {
  if (skip) return;
  server = await startServer({ mounts: { "/oracle/": at("tests/oracle") } });
  server.fault("/blank.html", { body: '<!doctype html><title>blank</title><link rel="icon" href="data:,">' });
  browser = await launchChromium({ gpu: false });
  page = await browser.newPage();
});
after(async () => {
  await browser?.close();
  await server?.close();
});

/** Opens a page whose engine's worker begins with `script`. @param {string} [script] */
async function open(script = "") {
  // Of another length each time, so that the browser takes it for another file.
  const padding = `\n//${" ".repeat(++opened)}`;
  server.fault("/worker.js", { body: script + text("www/worker.js") + padding });
  await page.goto(`${server.url}blank.html`);
}
let opened = 0;

/** A shared memory has at most so many MiB, and not the 4 GiB that the engine asks for. @param {number} mib */
const capped = (mib) => `
  const Memory = WebAssembly.Memory;
  WebAssembly.Memory = class extends Memory {
    constructor(descriptor) { super(descriptor.shared ? { ...descriptor, maximum: ${mib * 16} } : descriptor); }
  };`;

const DEMO = "/models/demo/granite-demo-Q4_K_M.gguf";
const SMALL = "/oracle/gguf/tiny-g2-Q4_K_M.gguf";

/** Loads models one after another, and has each answer; what became of each. @param {string[]} models @param {object} [options] @returns {Promise<any[]>} */
const loads = (models, options = {}) =>
  page.evaluate(
    async (/** @type {[string[], object]} */ [models, options]) => {
      const { Outcrop } = await import(/** @type {string} */ ("/outcrop.js"));
      const became = [];
      for (const model of models) {
        try {
          const outcrop = await Outcrop.load(model, { backend: "cpu", ...options });
          const { threads, threads_why, build } = await outcrop.stats();
          became.push({ build, threads, threads_why, logits: (await outcrop.score([1, 2, 3])).length });
          outcrop.free();
        } catch (error) {
          const { code, message } = /** @type {any} */ (error);
          became.push(code ? { code, message } : String(error));
        }
      }
      return became;
    },
    /** @type {[string[], object]} */ ([models, options]),
  );

test("wherever memory ends within a load, the load says so", { skip, timeout: 120_000 }, async () => {
  const whys = new Set();
  for (let mib = 3; mib < 8.75; mib += 0.25) {
    await open(capped(mib));
    const [{ code, message }] = await loads([DEMO], { threads: 2 });
    assert.equal(code, "out_of_memory", `${mib} MiB: ${code}: ${message}`);
    assert.match(message, /^not enough memory for .+: [1-9]\d* bytes$/);
    whys.add(message.replace(/:.*/, ""));
  }
  console.log([...whys].join(", "));
  // Both ways: what can fail with an error, and what traps.
  assert.ok(whys.has("not enough memory for weights") && whys.has("not enough memory for the engine"), [...whys].join(", "));
  await open(capped(32));
  assert.equal((await loads([DEMO], { threads: 2 }))[0].threads, 2, "where there is enough");
});

test("a page whose memory does not do for one model loads a smaller one", { skip }, async () => {
  await open(capped(9.5));
  const [big, small, again] = await loads([DEMO, SMALL, DEMO], { threads: 2 });
  assert.equal(big.code, "out_of_memory");
  assert.deepEqual(small, { build: "relaxed-simd", threads: 2, threads_why: null, logits: 3 * 2048 });
  assert.equal(again.code, "out_of_memory");
});

/**
 * The small model's header with a feed-forward so wide that its matrices have some GiB each.
 *
 * @param {number} wide
 */
function claiming(wide) {
  const bytes = Buffer.from(readFileSync(at("tests/oracle/gguf/tiny-g2-Q4_K_M.gguf")));
  let offset = 0n;
  const after = (/** @type {string} */ words) => bytes.indexOf(words) + words.length;
  bytes.writeUInt32LE(wide, after("granitehybrid.feed_forward_length") + 4);
  for (const [part, axis] of /** @type {const} */ ([["gate", 1], ["up", 1], ["down", 0]])) {
    for (let layer = 0; bytes.includes(`blk.${layer}.ffn_${part}.weight`); layer++) {
      // The number of axes, both of them, the type, and where the data are: far from all others.
      const info = after(`blk.${layer}.ffn_${part}.weight`);
      bytes.writeBigUInt64LE(BigInt(wide), info + 4 + 8 * axis);
      bytes.writeBigUInt64LE((offset += 2n ** 36n), info + 24);
    }
  }
  return bytes;
}

for (const build of ["outcrop", "outcrop-cpu"]) {
  test(`${build}: a model that can never fit is refused at once, and the same worker loads another`, { skip }, async () => {
    await open();
    // More than a chunk comes before its length is known.
    server.fault("/claims.gguf", { body: Buffer.concat([claiming(2 ** 24), Buffer.alloc(9 << 20)]), noLength: true, noRange: true });
    const { failed, seconds, stats } = await page.evaluate(
      async ([build, small]) => {
        const { EngineWorker } = await import(/** @type {string} */ ("/engine.js"));
        const engine = new EngineWorker();
        const load = (/** @type {string} */ url) =>
          engine.request({ type: "load", options: { url: new URL(url, location.href).href, backend: "cpu", debug: { build } } });
        const began = performance.now();
        const failed = await load("/claims.gguf").catch((/** @type {any} */ { code, message }) => ({ code, message }));
        const seconds = (performance.now() - began) / 1000;
        const stats = await load(small);
        engine.close(new Error("done"));
        return { failed, seconds, stats };
      },
      /** @type {const} */ ([build, SMALL]),
    );
    assert.equal(failed.code, "out_of_memory", failed.message);
    const [, found] = /^not enough memory for weights: (\d+) bytes$/.exec(failed.message) ?? [];
    assert.ok(Number(found) > 2 ** 32, failed.message);
    assert.ok(seconds < 10, `${seconds} s`);
    assert.ok(stats.heap_bytes < 64 * 2 ** 20, `${stats.heap_bytes} bytes`);
  });
}

test("a browser without room for a memory that is shared: one thread", { skip }, async () => {
  await open(`
    const Memory = WebAssembly.Memory;
    WebAssembly.Memory = class extends Memory {
      constructor(descriptor) {
        if (descriptor.shared) throw new RangeError("WebAssembly.Memory(): could not allocate memory");
        super(descriptor);
      }
    };`);
  const why = "the browser has no room for a memory that threads can share";
  assert.deepEqual(await loads([SMALL], { threads: 2 }), [{ build: "simd128", threads: 1, threads_why: why, logits: 3 * 2048 }]);
});
