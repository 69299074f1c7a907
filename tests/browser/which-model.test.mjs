// From what a caller gives to where a model's bytes are (www/names.js), without a browser: names, addresses, split models, files.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { placeOf, readCatalogue, sourceOf } from "../../www/names.js";

/** @typedef {import("../../www/names.js").KnownModel} KnownModel */

const BASE = "https://site.example/chat/";
const MODELS_JSON = "https://site.example/lib/models.json";
const read = (/** @type {string} */ path) => readFileSync(new URL(`../../${path}`, import.meta.url));
const PUBLISHED = readCatalogue(JSON.parse(read("www/models.json").toString()), MODELS_JSON);
const MICRO = /** @type {KnownModel} */ (PUBLISHED.find(({ id }) => id === "granite-4.0-h-micro"));

const A = "a".repeat(64);
const B = "0123456789abcdef".repeat(4);
const URL_A = "https://a.example/m/model.gguf";

/** @param {any} model @param {KnownModel[]} [catalogue] */
const source = (model, catalogue = PUBLISHED) => sourceOf(model, BASE, async () => catalogue);
/** What needs no look at models.json. @param {any} model */
const offline = (model) => sourceOf(model, BASE, () => Promise.reject(new Error("models.json was asked for")));

/** @param {Promise<unknown>} promise @param {string} code @param {RegExp} message */
const refuses = (promise, code, message) =>
  assert.rejects(promise, (/** @type {any} */ error) => {
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    return true;
  });

test("a known model has many names, in upper and lower case", async () => {
  const names = {
    "granite-4.0-h-micro": ["granite-4.0-h-micro", "granite-4.0-h-micro:latest", "granite-4.0-h-micro:3B", "granite-4.0-h-micro:3B-Q4_K_M", "h-micro", "h-micro:3b"],
    "granite-4.0-h-1b": ["granite-4.0-h-1b", "granite-4.0-h-1b:latest", "granite-4.0-h-1b:1B", "h-1b", "H-1B:1b-q4_k_m"],
    "granite-4.0-h-350m": ["granite-4.0-h-350m", "granite-4.0-h-350m:350M-Q4_K_M", "h-350m"],
    "granite-demo": ["granite-demo", "demo"],
  };
  for (const [id, all] of Object.entries(names)) {
    const known = PUBLISHED.find((model) => model.id === id);
    for (const name of all.flatMap((name) => [name, ` ${name}\n`, name.toUpperCase(), `ai/${name}`, `AI/${name.toLowerCase()}`])) {
      const found = await source(name);
      assert.deepEqual([found.id, found.name, found.where.url], [id, id, known?.url], name);
    }
  }
  for (const { id, aliases = [] } of PUBLISHED) for (const alias of aliases) assert.equal((await source(alias)).id, id);
});

test("names that are none say which there are", async () => {
  await refuses(source("granite-4.0-h-micro:7B"), "unknown_model", /no granite-4\.0-h-micro:7B here.*granite-4\.0-h-micro:latest, granite-4\.0-h-micro:3B,/);
  await refuses(source("ai/h-1b:Q8_0"), "unknown_model", /there are granite-4\.0-h-1b:latest/);
  await refuses(source("demo:latest"), "unknown_model", /load it as granite-demo/);
  await refuses(source("llama"), "unknown_model", /no model called llama here: there are granite-demo, granite-4\.0-h-micro/);
  await refuses(source("localhost:8080"), "unknown_model", /./);
  for (const odd of ["", " ", "ftp://x/y.gguf", "javascript:alert(1)", "data:,x", "https://[x/y.gguf"]) await refuses(source(odd), "invalid_request", /is not the address of a model/);
  for (const odd of [null, undefined, 7, {}, { stored: 1 }, []]) await refuses(source(odd), "invalid_request", /model/);
});

test("an address needs no models.json", async () => {
  for (const [said, url, name] of /** @type {const} */ ([
    [URL_A, URL_A, "model"],
    ["model.gguf", `${BASE}model.gguf`, "model"],
    ["h-1b.GGUF", `${BASE}h-1b.GGUF`, "h-1b"],
    ["/x/granite-Q4_K_M.gguf?download=1#top", "https://site.example/x/granite-Q4_K_M.gguf?download=1#top", "granite-Q4_K_M"],
    ["../up/my%20model.gguf", "https://site.example/up/my%20model.gguf", "my model"],
    ["https://a.example/100%.gguf", "https://a.example/100%.gguf", "100%"],
    ["https://a.example/", "https://a.example/", "https://a.example/"],
    ["blob:https://site.example/5b6c", "blob:https://site.example/5b6c", "5b6c"],
  ])) {
    assert.deepEqual(await offline(said), { id: null, name, where: { url } });
    assert.deepEqual(await offline({ url: said, name: "mine" }), { id: null, name: "mine", where: { url } });
  }
  assert.deepEqual(await offline(new URL(URL_A)), { id: null, name: "model", where: { url: URL_A } });
});

test("hf: names a file on the Hub", async () => {
  const hub = "https://huggingface.co/ibm-granite/granite-GGUF/resolve";
  for (const [said, url] of /** @type {const} */ ([
    ["hf:ibm-granite/granite-GGUF/m.gguf", `${hub}/main/m.gguf`],
    ["HF://ibm-granite/granite-GGUF/m.gguf", `${hub}/main/m.gguf`],
    ["hf:ibm-granite/granite-GGUF@51ce07a/sub/m.gguf", `${hub}/51ce07a/sub/m.gguf`],
    ["hf:ibm-granite/granite-GGUF@refs%2Fpr%2F1/m.gguf", `${hub}/refs%2Fpr%2F1/m.gguf`],
    ["hf:ibm-granite/granite-GGUF/a b#c?.gguf", `${hub}/main/a%20b%23c%3F.gguf`],
    ["hf:ibm-granite/granite-GGUF/sub/x@y.gguf", `${hub}/main/sub/x%40y.gguf`],
  ])) {
    assert.equal((await offline(said)).where.url, url);
    assert.equal((await offline({ url: said })).where.url, url);
  }
  assert.deepEqual((await offline({ url: URL_A, mirrors: ["hf:o/r/m.gguf"], sha256: A })).where.mirrors, ["https://huggingface.co/o/r/resolve/main/m.gguf"]);
  for (const odd of ["hf:", "hf:o", "hf:o/r", "hf:o/r/", "hf:o/r/readme.md", "hf:o/r@/m.gguf", "hf:o/../m.gguf", "hf:../r/m.gguf", "hf:o/r@../m.gguf", "hf:o/r/../../x.gguf", "hf:o/r//m.gguf"]) {
    await refuses(offline(odd), "invalid_request", /must be hf:owner\/repo\/path\/file\.gguf/);
  }
});

test("the address of an OCI blob is its digest", async () => {
  const blob = `https://registry.example/v2/ai/granite-4.0-h-micro/blobs/sha256:${B}`;
  assert.deepEqual(await offline(blob), { id: null, name: "granite-4.0-h-micro", where: { url: blob, sha256: B } });
  assert.equal((await offline(blob.replace("/blobs/", "/tags/"))).where.sha256, undefined);
  assert.equal((await offline(`${blob.replace("sha256:", "sha256%3A")}?sig=1`)).where.sha256, B);
  assert.equal((await offline({ url: URL_A, mirrors: [blob] })).where.sha256, B, "whoever names a mirror says that it is the same file");
  assert.equal((await offline({ url: blob, sha256: `sha256:${B.toUpperCase()}` })).where.sha256, B);
  await refuses(offline({ url: blob, sha256: A }), "invalid_request", /cannot have the digests/);
  await refuses(offline({ url: blob, mirrors: [blob.replace(B, A)] }), "invalid_request", /cannot have the digests/);
});

test("what is said of a file is checked", async () => {
  const chunks = { bytes: 10, sha256: [A, B] };
  const said = { url: "m.gguf", mirrors: ["https://b.example/m.gguf", "m.gguf", "https://b.example/m.gguf"], sha256: A.toUpperCase(), bytes: 20, chunks };
  assert.deepEqual((await offline(said)).where, { url: `${BASE}m.gguf`, mirrors: ["https://b.example/m.gguf"], sha256: A, bytes: 20, chunks });
  assert.deepEqual((await offline({ url: URL_A, mirrors: null, sha256: null, bytes: null, chunks: null })).where, { url: URL_A });
  for (const [wrong, message] of /** @type {[object, RegExp][]} */ ([
    [{ sha256: "" }, /model\.gguf: sha256 is "", it must be 64 hexadecimal digits/],
    [{ sha256: A.slice(1) }, /64 hexadecimal digits/],
    [{ sha256: `${A}0` }, /64 hexadecimal digits/],
    [{ sha256: `g${A.slice(1)}` }, /64 hexadecimal digits/],
    [{ sha256: 7 }, /sha256 is 7/],
    [{ bytes: 0 }, /bytes is 0, it must be a whole number above 0/],
    [{ bytes: -1 }, /bytes/],
    [{ bytes: 1.5 }, /bytes/],
    [{ bytes: "20" }, /bytes is "20"/],
    [{ bytes: 2 ** 60 }, /bytes/],
    [{ mirrors: "https://b.example/m.gguf" }, /mirrors must be an array/],
    [{ mirrors: ["ftp://b.example/m.gguf"] }, /is not the address of a model/],
    [{ chunks: {} }, /chunks\.bytes is undefined/],
    [{ chunks: { bytes: 10 } }, /chunks\.sha256 must be an array/],
    [{ chunks: { bytes: 10, sha256: [] } }, /0 digests/],
    [{ chunks: { bytes: 10, sha256: [A, "x"] } }, /chunks\.sha256\[1\] is "x"/],
    [{ chunks, bytes: 21 }, /2 digests, it must be 3 for each 10 bytes/],
    [{ chunks, bytes: 10 }, /2 digests, it must be 1 for each 10 bytes/],
  ])) {
    await refuses(offline({ url: URL_A, ...wrong }), "invalid_request", message);
    await refuses(offline({ parts: [{ url: URL_A, ...wrong }] }), "invalid_request", message.source.startsWith("model") ? /part 1 of the model: sha256/ : message);
  }
});

test("any part of a split model means all of them", async () => {
  const part = (/** @type {number} */ i, host = "a.example") => `https://${host}/m/x-Q4_K_M-0000${i}-of-00003.gguf?k=1`;
  for (const i of [1, 2, 3]) {
    assert.deepEqual(await offline(part(i)), { id: null, name: "x-Q4_K_M", where: { parts: [1, 2, 3].map((i) => ({ url: part(i) })) } });
  }
  const mirrored = await offline({ url: part(2), mirrors: [part(3, "b.example")], name: "mine" });
  assert.deepEqual(mirrored.where.parts, [1, 2, 3].map((i) => ({ url: part(i), mirrors: [part(i, "b.example")] })));
  assert.equal(mirrored.name, "mine");
  assert.equal((await offline("hf:o/r/x-00001-of-00002.gguf")).where.parts?.[1]?.url, "https://huggingface.co/o/r/resolve/main/x-00002-of-00002.gguf");
  assert.deepEqual((await offline("x-00001-of-00001.gguf")).where, { url: `${BASE}x-00001-of-00001.gguf` }, "a model of one part is a file like others");
  assert.deepEqual((await offline("x-1-of-3.gguf")).where, { url: `${BASE}x-1-of-3.gguf` }, "and so is one that is named otherwise");

  await refuses(offline("x-00004-of-00003.gguf"), "split_file", /part 4 of 3/);
  await refuses(offline("x-00000-of-00003.gguf"), "split_file", /part 0 of 3/);
  await refuses(offline("x-00001-of-00000.gguf"), "split_file", /part 1 of 0/);
  await refuses(offline("x-00001-of-99999.gguf"), "split_file", /more than 999/);
  await refuses(offline({ url: part(1), mirrors: ["https://b.example/x-00001-of-00002.gguf"] }), "split_file", /is no mirror of/);
  await refuses(offline({ url: part(1), mirrors: ["https://b.example/x.gguf"] }), "split_file", /is no mirror of/);
  for (const whole of [{ sha256: A }, { bytes: 5 }, { chunks: { bytes: 5, sha256: [A] } }]) {
    await refuses(offline({ url: part(1), ...whole }), "invalid_request", /give them for each part, in `parts`/);
  }
});

test("the parts of a split model, one by one", async () => {
  const parts = [{ url: "x-00001-of-00002.gguf", sha256: A, bytes: 5 }, { url: "x-00002-of-00002.gguf", mirrors: ["https://b.example/y"] }];
  assert.deepEqual(await offline({ parts }), {
    id: null,
    name: "x",
    where: {
      parts: [
        { url: `${BASE}x-00001-of-00002.gguf`, sha256: A, bytes: 5 },
        { url: `${BASE}x-00002-of-00002.gguf`, mirrors: ["https://b.example/y"] },
      ],
    },
  });
  assert.equal((await offline({ parts: [{ url: "https://a.example/blob1" }, { url: "https://a.example/blob2" }], name: "mine" })).name, "mine");
  assert.deepEqual((await offline({ parts: [{ url: URL_A }] })).where, { url: URL_A });
  await refuses(offline({ parts: [...parts].reverse() }), "split_file", /x-00002-of-00002\.gguf cannot be part 1 of 2/);
  await refuses(offline({ parts: parts.slice(0, 1) }), "split_file", /x-00001-of-00002\.gguf cannot be part 1 of 1/);
  await refuses(offline({ parts: [] }), "invalid_request", /parts must be an array/);
  await refuses(offline({ parts: [null] }), "invalid_request", /not the address/);
});

test("files of the visitor's", async () => {
  const file = (/** @type {string} */ name) => new File(["x"], name);
  const names = async (/** @type {any} */ model) => (await offline(model)).where.files?.map((file) => /** @type {File} */ (file).name);
  const one = file("my#model?.gguf");
  assert.deepEqual(await offline(one), { id: null, name: "my#model?", where: { file: one } });
  assert.deepEqual(await offline({ file: one, name: "mine" }), { id: null, name: "mine", where: { file: one } });
  assert.deepEqual(await offline({ files: [one] }), { id: null, name: "my#model?", where: { file: one } });
  const blob = new Blob(["x"]);
  assert.deepEqual(await offline(blob), { id: null, name: "file", where: { file: blob } });

  const parts = [1, 2, 3].map((i) => file(`x#y-0000${i}-of-00003.gguf`));
  const [first, second, third] = /** @type {[File, File, File]} */ (parts);
  assert.deepEqual(await offline({ files: new Set([third, first, second]) }), { id: null, name: "x#y", where: { files: parts } });
  const nameless = [new Blob(["b"]), new Blob(["a"])];
  assert.deepEqual((await offline({ files: nameless })).where.files, nameless, "what has no name stays in order");
  assert.deepEqual(await names({ files: [file("b.gguf"), file("a.gguf")] }), ["a.gguf", "b.gguf"], "their headers say whether they fit together");

  await refuses(offline(second), "split_file", /x#y is split into 3 files, to be opened together: missing: 1, 3/);
  await refuses(offline({ files: [third, first] }), "split_file", /missing: 2/);
  await refuses(offline({ files: [first, first, second, third] }), "split_file", /there are 4/);
  await refuses(offline({ files: [first, first, third] }), "split_file", /missing: 2/);
  await refuses(offline({ files: [...parts, file("z-00001-of-00003.gguf")] }), "split_file", /z-00001-of-00003\.gguf is no part of x#y/);
  await refuses(offline({ files: [first, file("x#y-00002-of-00002.gguf")] }), "split_file", /is no part of/);
  await refuses(offline({ files: [first, file("x.gguf")] }), "split_file", /x\.gguf is no part of x#y/);
  await refuses(offline({ files: [first, blob] }), "split_file", /a file without a name is no part of x#y/);
  await refuses(offline(file("x-00001-of-99999.gguf")), "split_file", /missing: 2, 3, 4 and 995 more/);
  await refuses(offline(file("x-00004-of-00003.gguf")), "split_file", /missing: 1, 2, 3/);
  for (const odd of [{ files: [] }, { files: null }, { file: "x.gguf" }, { files: [one, "x"] }]) await refuses(offline(odd), "invalid_request", /Files or Blobs/);
});

test("what is stored goes by its id", async () => {
  assert.deepEqual(await offline({ stored: URL_A }), { id: null, name: "model", where: { stored: URL_A } });
  assert.deepEqual(await offline({ stored: "file:my model#1.gguf" }), { id: null, name: "my model#1", where: { stored: "file:my model#1.gguf" } });
  assert.equal((await offline({ stored: URL_A, name: "mine" })).name, "mine");
});

test("models.json is read whole, or refused with a reason", async () => {
  const entry = { id: "x", name: "X", url: "m/x.gguf", bytes: 20, description: "", examples: [] };
  const [known] = readCatalogue({ models: [{ ...entry, mirrors: ["../x.gguf"], sha256: A }] }, MODELS_JSON);
  assert.deepEqual(known, { ...entry, url: "https://site.example/lib/m/x.gguf", mirrors: ["https://site.example/x.gguf"], sha256: A });
  assert.deepEqual((await source("X", [/** @type {KnownModel} */ (known)])).where, { url: known?.url, mirrors: known?.mirrors, sha256: A, bytes: 20 });

  const { url, ...without } = entry;
  const split = { ...without, parts: [{ url: "x-00001-of-00002.gguf", sha256: A, bytes: 15 }, { url: "x-00002-of-00002.gguf", bytes: 5 }] };
  const [model] = readCatalogue({ models: [split] }, MODELS_JSON);
  assert.equal(model?.url, "https://site.example/lib/x-00001-of-00002.gguf");
  const { where } = await source("x", [/** @type {KnownModel} */ (model)]);
  assert.deepEqual(where.parts?.map(({ url, bytes }) => [url, bytes]), [["https://site.example/lib/x-00001-of-00002.gguf", 15], ["https://site.example/lib/x-00002-of-00002.gguf", 5]]);

  await refuses(source("x", readCatalogue({ models: [{ ...entry, sha256: "?" }] }, MODELS_JSON)), "invalid_request", /x in models\.json: sha256/);
  for (const [json, message] of /** @type {[any, RegExp][]} */ ([
    [null, /no array `models`/],
    [{ models: {} }, /no array `models`/],
    [{ models: [{}] }, /a model has no id/],
    [{ models: [{ id: "x" }] }, /x: undefined is not the address/],
    [{ models: [{ ...entry, mirrors: 7 }] }, /x: /],
    [{ models: [{ ...entry, parts: 7 }] }, /x: /],
  ])) {
    assert.throws(() => readCatalogue(json, MODELS_JSON), (/** @type {any} */ error) => error.code === "bad_response" && message.test(error.message), JSON.stringify(json));
  }
});

test("our models.json: names without doubles, addresses that load, the demo's own digest", async () => {
  const names = PUBLISHED.flatMap(({ id, aliases = [] }) => [id, ...aliases]).map((name) => name.toLowerCase());
  assert.equal(new Set(names).size, names.length);
  for (const model of PUBLISHED) {
    for (const tag of (model.aliases ?? []).filter((alias) => alias.includes(":"))) assert.ok(tag.startsWith(`${model.id}:`), tag);
    const { where } = await source(model.id);
    assert.ok(where.parts ?? where.bytes === model.bytes);
    if (where.parts?.every(({ bytes }) => bytes)) assert.equal(where.parts.reduce((sum, { bytes = 0 }) => sum + bytes, 0), model.bytes);
  }
  const demo = PUBLISHED.find(({ id }) => id === "granite-demo");
  const bytes = read("models/demo/granite-demo-Q4_K_M.gguf");
  assert.equal(demo?.bytes, bytes.length);
  assert.equal(demo?.sha256, createHash("sha256").update(bytes).digest("hex"));
  assert.match(MICRO.url, /resolve\/[0-9a-f]{40}\//);
});

test("an imported file goes where its model would be stored", async () => {
  const file = (/** @type {string} */ name) => new File(["x"], name);
  const place = (/** @type {string | URL} */ as, name = "x.gguf", catalogue = PUBLISHED) => placeOf(as, file(name), BASE, async () => catalogue);
  assert.deepEqual(await place("h-micro"), { url: MICRO.url, bytes: MICRO.bytes, sha256: MICRO.sha256, name: "granite-4.0-h-micro" });
  assert.equal((await place("demo")).sha256, PUBLISHED[0]?.sha256);
  assert.deepEqual(await place(URL_A), { url: URL_A });
  assert.deepEqual(await place(new URL(URL_A)), { url: URL_A });
  assert.deepEqual(await place("x-00002-of-00003.gguf"), { url: `${BASE}x-00002-of-00003.gguf` }, "a part's address is that part's");
  await refuses(place("llama"), "unknown_model", /llama/);
  const parts = [1, 2].map((i) => ({ url: `https://a.example/m-0000${i}-of-00002.gguf`, sha256: i === 1 ? A : B }));
  const split = readCatalogue({ models: [{ id: "m", name: "M", bytes: 2, parts, description: "", examples: [] }] }, MODELS_JSON);
  assert.deepEqual(await place("m", "mine-00002-of-00002.gguf", split), { ...parts[1], name: "m" });
  await refuses(place("m", "x.gguf", split), "split_file", /import each by its own name/);
  await refuses(place("m", "x-00003-of-00003.gguf", split), "split_file", /2 files/);
});
