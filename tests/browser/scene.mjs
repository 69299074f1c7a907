// What tests of downloads and of the store share: a site with a blank page, a Chromium with a profile that lasts, the engine's worker in that page,
// and what IndexedDB holds, without the engine's help.
//
// A scene is a browser and may be killed and opened again; a visit is one page of it with one worker.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { chance, noise } from './faults.mjs';
import { collectErrors, launchChromium, startServer } from './harness.mjs';

/** What a host of models should send to other sites. */
export const CORS = {
  'Access-Control-Allow-Origin': '*',
  'Access-Control-Expose-Headers': 'Content-Encoding, Content-Range, ETag',
  'Cross-Origin-Resource-Policy': 'cross-origin',
};
export const tiny = readFileSync(fileURLToPath(new URL('../oracle/gguf/tiny-g2-Q4_K_M.gguf', import.meta.url)));

/** @typedef {import('../../www/worker.js').Progress} Progress */
/** @typedef {{value?: any, error?: {code: string, message: string}, progress: any[]}} Answer */
/** @typedef {{index: number, bytes: number, sha256: string}} StoredChunk */

/** Where the tiny model's quantised tensors begin. */
const TENSORS = 65_952;

/**
 * A tiny model of any size: what lies behind a GGUF's tensors is nobody's business. It is noise, which shows every byte that is out of place; and the
 * models of two seeds differ within their tensors too, in every few KiB.
 *
 * @param {number} size @param {number} [seed]
 */
export function modelOf(size, seed = 1) {
  assert.ok(size >= tiny.length);
  const body = Buffer.concat([tiny, noise(size - tiny.length, seed)]);
  for (let at = TENSORS; at < tiny.length; at += 8192) body[at] ^= Math.floor(chance(seed, at) * 8);
  return body;
}

/** @param {Uint8Array} bytes */
export const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

/** SHA-256 of each chunk. @param {Buffer} body @param {number} chunkBytes */
export const chunkHashes = (body, chunkBytes) =>
  Array.from({ length: Math.ceil(body.length / chunkBytes) }, (_, i) => sha256(body.subarray(i * chunkBytes, (i + 1) * chunkBytes)));

/** @param {number} ms */
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** A browser, its profile and the site. */
export class Scene {
  /** @type {import('./server.mjs').Server} */
  site;
  /** @type {import('playwright-core').BrowserContext} */
  context;
  /** @type {string} */
  #profile;
  /** @type {Parameters<typeof launchChromium>[0]} */
  #options;

  /** @param {import('./server.mjs').Server} site @param {string} profile @param {object} options */
  constructor(site, profile, options) {
    this.site = site;
    this.#profile = profile;
    this.#options = { ...options, userDataDir: profile };
    this.context = /** @type {any} */ (null);
  }

  /** @param {Parameters<typeof launchChromium>[0]} [options] */
  static async open(options = {}) {
    const site = await startServer();
    site.fault('/blank.html', { body: '<!doctype html><title>blank</title><link rel="icon" href="data:,">' });
    const scene = new Scene(site, await mkdtemp(path.join(os.tmpdir(), 'outcrop-profile-')), { gpu: false, ...options });
    await scene.launch();
    return scene;
  }

  /** The browser, with the profile as it is. @param {Parameters<typeof launchChromium>[0]} [options] other ones from now on */
  async launch(options = {}) {
    Object.assign(this.#options ?? {}, options);
    this.context = await launchChromium(this.#options);
  }

  /** The browser's main process. */
  async pid() {
    const session = await /** @type {import('playwright-core').Browser} */ (this.context.browser()).newBrowserCDPSession();
    const { processInfo } = await session.send('SystemInfo.getProcessInfo');
    await session.detach();
    return /** @type {{id: number}} */ (processInfo.find(({ type }) => type === 'browser')).id;
  }

  /** Ends all processes of the browser at once, as a power cut would. @param {number} pid from `pid`, asked for before: it takes its time */
  async kill(pid) {
    const gone = new Promise((resolve) => this.context.once('close', resolve));
    process.kill(-pid, 'SIGKILL'); // playwright gives each browser a process group of its own
    await gone;
  }

  /**
   * The engine's worker in a world that is changed before it.
   *
   * @param {string} change a script
   * @returns the worker's script, for `visit`
   */
  changedWorker(change) {
    // What is sent before the engine's own listener is there must not get lost.
    const body = `${change};
      const early = [], keep = (event) => early.push(event.data);
      addEventListener('message', keep);
      import('/worker.js').then(() => {
        removeEventListener('message', keep);
        for (const data of early) dispatchEvent(new MessageEvent('message', { data }));
      });`;
    this.site.fault('/changed.js', { body });
    return '/changed.js';
  }

  /** A page with a worker. @param {string} [script] the worker's */
  async visit(script = '/worker.js') {
    const page = await this.context.newPage();
    const errors = collectErrors(page);
    await page.goto(`${this.site.url}blank.html`);
    await page.evaluate(inPage, script);
    return new Visit(this, page, errors);
  }

  async close() {
    await this.context.close().catch(() => {});
    await this.site.close();
    await rm(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Runs in the page: a worker, and everything it answers. @param {string} script */
function inPage(script) {
  const worker = new Worker(script, { type: 'module' });
  /** @type {Map<number, {progress: any[], resolve: (answer: any) => void, answer: Promise<any>}>} */
  const asked = new Map();
  let last = 0;
  worker.addEventListener('message', ({ data }) => {
    const entry = asked.get(data.id);
    if (data.type === 'progress') entry?.progress.push(data.progress);
    if (data.type === 'result') entry?.resolve({ value: data.value, progress: entry.progress });
    if (data.type === 'error') entry?.resolve({ error: data.error, progress: entry.progress });
  });
  Object.assign(window, {
    worker,
    asked,
    /** @param {any} message */
    begin: (message) => {
      const id = ++last;
      let resolve = (/** @type {any} */ _) => {};
      const answer = new Promise((done) => (resolve = done));
      asked.set(id, { progress: [], resolve, answer });
      worker.postMessage({ ...message, id });
      return id;
    },
  });
}

/** A page of a scene, with a worker. */
export class Visit {
  /** @param {Scene} scene @param {import('playwright-core').Page} page @param {string[]} errors what the page reports as wrong */
  constructor(scene, page, errors) {
    this.scene = scene;
    this.page = page;
    this.errors = errors;
  }

  /** @param {object} message of the worker's protocol, without its id */
  async begin(message) {
    const id = await this.page.evaluate((message) => /** @type {any} */ (window).begin(message), message);
    return new Running(this.page, id);
  }

  /** @param {object} message @returns {Promise<Answer>} */
  async ask(message) {
    return (await this.begin(message)).answer();
  }

  /** @param {string} url @param {object} [options] of a load */
  beginLoad(url, options = {}) {
    return this.begin({ type: 'load', options: { url, backend: 'cpu', threads: 1, n_ctx: 64, ...options } });
  }

  /** @param {string} url @param {object} [options] of a load @returns {Promise<Answer>} */
  async load(url, options = {}) {
    return (await this.beginLoad(url, options)).answer();
  }

  /** @returns {Promise<any[]>} */
  async models() {
    return (await this.ask({ type: 'models' })).value;
  }

  /** Ends the worker in the middle of whatever it does. */
  terminate() {
    return this.page.evaluate(() => /** @type {any} */ (window).worker.terminate());
  }

  /** @param {string} method @param {object} parameters of the DevTools protocol */
  async devtools(method, parameters) {
    const session = await this.scene.context.newCDPSession(this.page);
    await /** @type {any} */ (session).send(method, parameters);
    return session;
  }

  /** What IndexedDB holds of a model. @param {string} [id] else all models' */
  contents(id) {
    return this.page.evaluate(contentsInPage, { id, hash: true });
  }

  /** As `contents`, without reading a byte of them: for large files. @param {string} id */
  async sizes(id) {
    const { manifest, chunks } = await this.page.evaluate(contentsInPage, { id, hash: false });
    return { manifest, chunks, bytes: chunks.reduce((sum, { bytes }) => sum + bytes, 0) };
  }

  /** Does something to chunk records. @param {string} id @param {number[]} indices @param {'delete' | 'corrupt' | 'shorten'} harm */
  harm(id, indices, harm) {
    return this.page.evaluate(harmInPage, /** @type {const} */ ([id, indices, harm]));
  }

  /** That all of a file is stored, byte for byte, and said to be complete. @param {string} id @param {Buffer} body */
  async assertStored(id, body) {
    const { manifest, chunks } = await this.contents(id);
    assert.ok(manifest, 'there is no manifest');
    assert.deepEqual([manifest.schema, manifest.id, manifest.complete, manifest.length], [2, id, true, body.length]);
    const hashes = chunkHashes(body, manifest.chunk_bytes);
    assert.deepEqual(chunks.map(({ index }) => index), hashes.map((_, i) => i), 'chunks are missing, or there are too many');
    const wrong = chunks.filter(({ index, sha256 }) => sha256 !== hashes[index]).map(({ index }) => index);
    assert.deepEqual(wrong, [], 'chunks with other bytes than the file');
    assert.deepEqual(manifest.hashes, hashes, 'hashes in the manifest');
    if (manifest.sha256 !== null) assert.equal(manifest.sha256, sha256(body));
  }

  /** The chunks that are stored so far; none may differ from the file. @param {string} id @param {Buffer} body */
  async storedSoFar(id, body) {
    const { manifest, chunks } = await this.contents(id);
    for (const { index, sha256: hash } of chunks) {
      assert.equal(hash, sha256(body.subarray(index * manifest.chunk_bytes, (index + 1) * manifest.chunk_bytes)), `chunk ${index} is not the file's`);
    }
    return { manifest, chunks, bytes: chunks.reduce((sum, { bytes }) => sum + bytes, 0) };
  }

  close() {
    return this.page.close();
  }
}

/** A request under way. */
class Running {
  /** @type {Promise<Answer> | null} */
  #answer = null;

  /** @param {import('playwright-core').Page} page @param {number} id */
  constructor(page, id) {
    this.page = page;
    this.id = id;
  }

  /** @returns {Promise<any[]>} */
  progress() {
    return this.page.evaluate((id) => /** @type {any} */ (window).asked.get(id).progress, this.id);
  }

  /** @returns {Promise<any>} the latest progress */
  last() {
    return this.page.evaluate((id) => /** @type {any} */ (window).asked.get(id).progress.at(-1) ?? null, this.id);
  }

  /** Waits for progress like this. @param {(progress: any) => boolean} like @param {number} [ms] at most */
  async until(like, ms = 20_000) {
    const end = performance.now() + ms;
    for (;;) {
      const last = await this.last();
      if (last && like(last)) return last;
      const done = await Promise.race([this.answer(), sleep(20)]);
      if (done) throw new Error(`the request ended before: ${JSON.stringify({ ...done, progress: done.progress.slice(-2) })}`);
      if (performance.now() > end) throw new Error(`it did not come to that within ${ms} ms: ${like}; the last was ${JSON.stringify(last)}`);
    }
  }

  /** @param {'abort' | 'pause' | 'continue'} type */
  post(type) {
    return this.page.evaluate(([type, id]) => /** @type {any} */ (window).worker.postMessage({ type, id }), /** @type {const} */ ([type, this.id]));
  }

  /** @returns {Promise<Answer>} */
  answer() {
    this.#answer ??= this.page.evaluate((id) => /** @type {any} */ (window).asked.get(id).answer, this.id);
    this.#answer.catch(() => {}); // a page that is closed meanwhile; whoever waits is told
    return this.#answer;
  }
}

/** Runs in the page. @param {{id: string | undefined, hash: boolean}} what @returns {Promise<{manifest: any, manifests: any[], chunks: StoredChunk[]}>} */
async function contentsInPage({ id, hash }) {
  if (!(await indexedDB.databases()).some(({ name }) => name === 'outcrop')) return { manifest: null, manifests: [], chunks: [] };
  const result = (/** @type {IDBRequest} */ request) =>
    new Promise((/** @type {(value: any) => void} */ resolve, reject) => {
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
  /** @type {IDBDatabase} */
  const db = await result(indexedDB.open('outcrop'));
  try {
    const transaction = db.transaction(['manifests', 'chunks']);
    const range = id === undefined ? undefined : IDBKeyRange.bound([id], [id, []]);
    const [manifests, keys, blobs] = await Promise.all([
      result(transaction.objectStore('manifests').getAll()),
      result(transaction.objectStore('chunks').getAllKeys(range)),
      result(transaction.objectStore('chunks').getAll(range)),
    ]);
    const chunks = [];
    for (const [i, blob] of blobs.entries()) {
      const digest = hash ? [...new Uint8Array(await crypto.subtle.digest('SHA-256', await blob.arrayBuffer()))] : [];
      chunks.push({ index: keys[i][1], bytes: blob.size, sha256: digest.map((b) => b.toString(16).padStart(2, '0')).join('') });
    }
    return { manifest: manifests.find((/** @type {any} */ m) => m.id === id) ?? null, manifests, chunks };
  } finally {
    db.close();
  }
}

/** Runs in the page. @param {readonly [string, number[], string]} work */
async function harmInPage([id, indices, harm]) {
  const result = (/** @type {IDBRequest} */ request) =>
    new Promise((/** @type {(value: any) => void} */ resolve, reject) => {
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
  /** @type {IDBDatabase} */
  const db = await result(indexedDB.open('outcrop'));
  for (const index of indices) {
    const key = [id, index];
    const blob = await result(db.transaction('chunks').objectStore('chunks').get(key));
    const bytes = new Uint8Array(await blob.arrayBuffer());
    // The first byte of the file, "G", would be missed at once; one in the middle only by its hash.
    bytes[bytes.length >> 1] ^= 1;
    const transaction = db.transaction('chunks', 'readwrite');
    const chunks = transaction.objectStore('chunks');
    if (harm === 'delete') chunks.delete(key);
    else chunks.put(new Blob([harm === 'shorten' ? bytes.subarray(0, bytes.length >> 1) : bytes]), key);
    await new Promise((resolve) => (transaction.oncomplete = resolve));
  }
  db.close();
}
