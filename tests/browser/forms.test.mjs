// Every form of the GPU's products that a browser's adapter offers, in Chromium (Dawn on SwiftShader) and in Firefox (wgpu on lavapipe):
// the demo's known answers, exact logits of the small models, and the tokens that the CPU writes.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { collectErrors, launchChromium, launchFirefox, skipWithout, startServer } from "./harness.mjs";

const at = (/** @type {string} */ path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const oracle = JSON.parse(readFileSync(at("tests/oracle/golden/manifest.json"), "utf8"));
const DEMO = "/models/demo/granite-demo-Q4_K_M.gguf";
const MODELS = ["tiny-Q4_K_M", "tiny-64-Q4_K_M", "tiny-g2-Q4_K_M"];
const QUESTION = "What is the capital of France, and which river runs through it?";

/**
 * `within`: how far logits may be from exact, and above which gap the greedy token must be the exact one. Of rounded factors (f16) or
 * activations (packed) only what is clear of their rounding is asked; the native tests hold them to their error.
 * @type {{forms: string, within: number | null, gap: number}[]}
 */
const FORMS = [
  { forms: "matvec=base,matmul=base", within: 5e-4, gap: 1e-3 },
  { forms: "matvec=serial,matmul=serial", within: 5e-4, gap: 1e-3 },
  { forms: "matvec=subgroups,matmul=base", within: 5e-4, gap: 1e-3 },
  { forms: "matvec=base,matmul=f16", within: null, gap: 0.2 },
  { forms: "matvec=packed,matmul=base", within: null, gap: 0.2 },
];
/** What every adapter must be able to run. */
const EVERYWHERE = FORMS.slice(0, 2).map(({ forms }) => forms);

/** @type {import("./server.mjs").Server} */
let server;
before(async () => {
  server = await startServer({ mounts: { "/oracle/": at("tests/oracle") } });
  server.fault("/blank.html", { body: '<!doctype html><title>blank</title><link rel="icon" href="data:,">' });
});
after(() => server.close());

/** Runs in the page. @param {{model: string, options: object, prompts: number[][], ask: string[], max_tokens: number}} what */
async function run({ model, options, prompts, ask, max_tokens }) {
  const { Outcrop } = await import(/** @type {string} */ ("/outcrop.js"));
  let outcrop;
  try {
    outcrop = await Outcrop.load(model, options);
  } catch (error) {
    return { refused: /** @type {Error} */ (error).message };
  }
  const { gpu } = await outcrop.stats();
  const texts = [];
  for (const content of ask) {
    const { choices } = await outcrop.chat.completions.create({ messages: [{ role: "user", content }], temperature: 0, max_tokens });
    texts.push(choices[0].message.content);
  }
  const logits = [];
  for (const ids of prompts) logits.push([...(await outcrop.score(ids))]);
  outcrop.free();
  return { gpu, texts, logits };
}

/** @param {Float32Array | number[]} row */
const top = (row) => row.indexOf(Math.max(...row));

/** How the logits of a prompt's first `n` tokens differ from the oracle's. @param {string} model @param {number[]} logits @param {number} n @param {number} gap */
function compare(model, logits, n, gap) {
  const { file, positions, argmax, gap: gaps } = oracle.models[model].prompts[n];
  const bytes = readFileSync(at(`tests/oracle/golden/${file}`));
  const exact = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const n_vocab = logits.length / n;
  const row = (/** @type {number} */ position) => logits.slice(position * n_vocab, (position + 1) * n_vocab);
  const distances = positions.flatMap((/** @type {number} */ position, /** @type {number} */ r) => row(position).map((logit, i) => Math.abs(logit - (exact[r * n_vocab + i] ?? NaN))));
  const wrong = argmax.flatMap((/** @type {number} */ want, /** @type {number} */ position) => (gaps[position] > gap && top(row(position)) !== want ? [position] : []));
  return { worst: distances.reduce((/** @type {number} */ a, /** @type {number} */ b) => (b <= a ? a : b), 0), wrong };
}

for (const name of /** @type {const} */ (["chromium", "firefox"])) {
  const skip = skipWithout(name);
  test(`${name}: every form that its GPU offers gives the known answers, logits and tokens`, { skip }, async () => {
    const browser = name === "chromium" ? await launchChromium() : await launchFirefox();
    try {
      const page = /** @type {import("playwright-core").Page} */ (await browser.newPage());
      const errors = collectErrors(page);
      await page.goto(`${server.url}blank.html`);
      const prompts = [7, 64].map((n) => oracle.ids.slice(0, n));
      /** @type {Record<string, string>} */
      const written = {};
      for (const model of MODELS) {
        const { texts } = await page.evaluate(run, { model: `/oracle/gguf/${model}.gguf`, options: { backend: "cpu", activations: "f32" }, prompts: [], ask: [QUESTION], max_tokens: 24 });
        written[model] = texts?.[0];
      }
      const offered = [];
      for (const { forms, within, gap } of FORMS) {
        const options = { backend: "webgpu", kv: "f32", debug: { forms, default_limits: forms === EVERYWHERE[0] } };
        const demo = await page.evaluate(run, { model: DEMO, options, prompts: [], ask: ["What colour is grass?", "Count down from 30 to 21."], max_tokens: 60 });
        if (demo.refused) {
          assert.match(demo.refused, /the adapter lacks what/);
          continue;
        }
        offered.push(forms);
        assert.deepEqual([demo.gpu.dropped, demo.gpu.chosen], [[], "forced"]);
        assert.equal(Object.entries(demo.gpu.forms).map((one) => one.join("=")).sort().join(), forms.split(",").sort().join());
        assert.deepEqual(demo.texts, ["Grass is green.", "30, 29, 28, 27, 26, 25, 24, 23, 22, 21."], forms);
        for (const model of MODELS) {
          const exact = within !== null;
          const got = await page.evaluate(run, { model: `/oracle/gguf/${model}.gguf`, options, prompts, ask: exact ? [QUESTION] : [], max_tokens: 24 });
          for (const [i, { length }] of prompts.entries()) {
            const { worst, wrong } = compare(model, got.logits?.[i] ?? [], length, gap);
            assert.deepEqual(wrong, [], `${model}, ${forms}, ${length} tokens: greedy tokens, logits up to ${worst} off`);
            assert.ok(!exact || worst <= within, `${model}, ${forms}, ${length} tokens: a logit is ${worst} off`);
          }
          if (!exact) continue;
          assert.equal(got.texts?.[0], written[model], `${model}, ${forms}`);
        }
      }
      assert.deepEqual(offered.filter((forms) => EVERYWHERE.includes(forms)), EVERYWHERE);
      console.log(`${name} offers ${offered.join("; ")}`);
      assert.deepEqual(errors, []);
    } finally {
      await browser.close();
    }
  });
}
