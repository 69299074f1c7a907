// The bits of every logit, in both builds and on one and two threads: the hashes that tests/logits.rs finds natively, which says more.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { after, before, test } from "node:test";
import { launchChromium, launchFirefox, skipWithout, startServer } from "./harness.mjs";

const skip = skipWithout("chromium");
const at = (/** @type {string} */ path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const json = (/** @type {string} */ path) => JSON.parse(readFileSync(at(path), "utf8"));

/** @type {{lengths: number[], cases: {model: string, activations: string, kv: string, hashes: string[]}[]}} */
const { lengths, cases } = json("tests/fixtures/logits.json");
/** @type {number[]} */
const ids = json("tests/oracle/golden/manifest.json").ids;

/** @type {import("./server.mjs").Server} */
let server;

before(async () => {
  if (skip) return;
  server = await startServer({ mounts: { "/oracle/": at("tests/oracle") } });
  server.fault("/blank.html", { body: '<!doctype html><title>blank</title><link rel="icon" href="data:,">' });
});
after(() => server?.close());

/** In a page: the build that ran, and hashes of the logits of each prompt. @param {{options: object, model: string, prompts: number[][]}} work */
async function hashes({ options, model, prompts }) {
  /** FNV-1a in 64 bits, times 2^40 + 0x1b3 in halves. @param {Uint8Array} bytes */
  function fnv1a(bytes) {
    let [high, low] = [0xcbf29ce4, 0x84222325];
    for (const byte of bytes) {
      low = (low ^ byte) >>> 0;
      const product = low * 0x1b3;
      high = (Math.imul(high, 0x1b3) + Math.floor(product / 2 ** 32) + (low << 8)) >>> 0;
      low = product >>> 0;
    }
    return [high, low].map((half) => half.toString(16).padStart(8, "0")).join("");
  }
  const { Outcrop } = await import(/** @type {string} */ ("/outcrop.js"));
  const outcrop = await Outcrop.load(`/oracle/gguf/${model}.gguf`, options);
  try {
    const found = [];
    for (const ids of prompts) {
      const logits = await outcrop.score(ids);
      found.push(fnv1a(new Uint8Array(logits.buffer, logits.byteOffset, logits.byteLength)));
    }
    const { build, threads } = await outcrop.stats();
    return { ran: `${build} ${threads}`, found };
  } finally {
    outcrop.free();
  }
}

/** @param {{evaluate: (f: any, argument?: any) => Promise<any>}} page @param {string} build @param {number} threads */
async function check(page, build, threads) {
  const wrong = [];
  for (const { model, activations, kv, hashes: expected } of cases) {
    const options = { backend: "cpu", activations, kv, threads, debug: { build } };
    const { ran, found } = await page.evaluate(hashes, { options, model, prompts: lengths.map((n) => ids.slice(0, n)) });
    assert.equal(ran, `${build === "outcrop" ? "simd128" : "relaxed-simd"} ${threads}`);
    if (found.join() !== expected.join()) wrong.push({ model, activations, kv, found, expected });
  }
  assert.deepEqual(wrong, []);
}

const BUILDS = [
  { build: "outcrop", threads: 1 },
  { build: "outcrop-cpu", threads: 1 },
  { build: "outcrop-cpu", threads: 2 },
];

for (const { build, threads } of BUILDS) {
  test(`Chromium, ${build}, threads: ${threads}: the same bits as natively`, { skip }, async () => {
    const browser = await launchChromium({ gpu: false });
    try {
      const page = await browser.newPage();
      await page.goto(`${server.url}blank.html`);
      await check(page, build, threads);
    } finally {
      await browser.close();
    }
  });
}

// Another compiler of WebAssembly, with instructions of its own for what is relaxed.
test("Firefox, outcrop-cpu, threads: 2: the same bits as natively", { skip: skip || skipWithout("firefox") }, async () => {
  const browser = await launchFirefox({ gpu: false });
  try {
    const page = await browser.newPage();
    await page.goto(`${server.url}blank.html`);
    await check(page, "outcrop-cpu", 2);
  } finally {
    await browser.close();
  }
});
