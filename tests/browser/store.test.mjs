// Download, storage and what may go wrong with them, in Chromium, against the real engine in its worker.
//
// The page is served by one server and the models by another, of another origin, so that the models' one can be stopped while pages
// still load. Models are a tiny one with zeros behind its tensors, which a GGUF may have, to span several chunks.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, beforeEach, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { collectErrors, launchChromium, skipWithout, startServer } from './harness.mjs';

const CHUNK = 16 << 20;
const tiny = await readFile(fileURLToPath(new URL('../oracle/gguf/tiny-g2-Q4_K_M.gguf', import.meta.url)));
/** Two whole chunks and a half. */
const big = Buffer.concat([tiny, Buffer.alloc(2 * CHUNK + CHUNK / 2 - tiny.length)]);
const CORS = { 'Access-Control-Allow-Origin': '*', 'Cross-Origin-Resource-Policy': 'cross-origin' };

/** @typedef {import('../../www/worker.js').Progress} Progress */
/** @typedef {{value?: any, error?: {code: string, message: string}, progress: Progress[]}} Answer */

describe('store', { skip: skipWithout('chromium') }, () => {
  /** @type {import('./server.mjs').Server} */
  let site;
  /** @type {import('./server.mjs').Server} */
  let models;
  /** @type {import('playwright-core').BrowserContext} */
  let context;
  /** @type {import('playwright-core').Page} */
  let page;
  /** @type {string[]} */
  let errors;

  before(async () => {
    site = await startServer();
    site.fault('/blank.html', { body: '<!doctype html><title>blank</title>' });
  });
  after(() => site.close());

  beforeEach(async () => {
    models = await startServer();
    models.fault('/big.gguf', { body: big, headers: CORS });
    models.fault('/tiny.gguf', { body: tiny, headers: CORS });
    context = await launchChromium({ gpu: false }); // a fresh profile: an empty store
    await visit();
  });

  /** Ends what a test used; called by each, whatever came of it. @param {() => Promise<void>} body */
  const scene = (body) => async () => {
    try {
      await body();
      assert.deepEqual(errors.filter((e) => !/Failed to load resource|net::ERR_|CORS policy/.test(e)), []);
    } finally {
      await context.close();
      await models.close();
    }
  };

  /** Opens the page anew, with a new worker. @param {string} [script] the worker's */
  async function visit(script = '/worker.js') {
    await page?.close().catch(() => {});
    page = await context.newPage();
    errors = collectErrors(page);
    await page.goto(`${site.url}blank.html`);
    await page.evaluate((script) => {
      const worker = new Worker(script, { type: 'module' });
      let last = 0;
      Object.assign(window, {
        /** @param {any} message @param {number} [abortAt] */
        ask: (message, abortAt) =>
          new Promise((resolve) => {
            const id = ++last;
            /** @type {any[]} */
            const progress = [];
            worker.addEventListener('message', ({ data }) => {
              if (data.id !== id) return;
              if (data.type === 'progress') {
                progress.push(data.progress);
                if (abortAt !== undefined && data.progress.loaded >= abortAt) worker.postMessage({ type: 'abort', id });
              }
              if (data.type === 'result') resolve({ value: data.value, progress });
              if (data.type === 'error') resolve({ error: data.error, progress });
            });
            worker.postMessage({ ...message, id });
          }),
      });
    }, script);
  }

  /** @param {object} message @param {number} [abortAt] bytes @returns {Promise<Answer>} */
  const ask = (message, abortAt) => page.evaluate(([m, at]) => /** @type {any} */ (window).ask(m, at ?? undefined), /** @type {const} */ ([message, abortAt ?? null]));
  /** @param {string} name @param {number} [abortAt] */
  const load = (name, abortAt) => ask({ type: 'load', options: { url: models.url + name, backend: 'cpu' } }, abortAt);
  const stored = async () => (await ask({ type: 'models' })).value;
  /** @param {string} name */
  const requestsOf = (name) => models.requests.filter((r) => r.pathname === `/${name}`).length;

  /** What IndexedDB holds, without the engine's help: SHA-256 of the chunks in a row, and each one's size. */
  const contents = () =>
    page.evaluate(async () => {
      /** @type {IDBDatabase} */
      const db = await new Promise((resolve, reject) => {
        const request = indexedDB.open('outcrop');
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
      });
      /** @type {Blob[]} */
      const chunks = await new Promise((resolve) => {
        const request = db.transaction('chunks').objectStore('chunks').getAll();
        request.onsuccess = () => resolve(request.result);
      });
      db.close();
      const digest = await crypto.subtle.digest('SHA-256', await new Blob(chunks).arrayBuffer());
      return { sizes: chunks.map((c) => c.size), sha256: [...new Uint8Array(digest)].map((b) => b.toString(16).padStart(2, '0')).join('') };
    });
  /** @param {Uint8Array} bytes */
  const sha256 = async (bytes) => Buffer.from(await crypto.subtle.digest('SHA-256', /** @type {Uint8Array<ArrayBuffer>} */ (bytes))).toString('hex');

  it('keeps a model, and loads it again without its server', scene(async () => {
    const first = await load('big.gguf');
    assert.equal(first.error, undefined);
    assert.deepEqual(first.value.source, { kind: 'network', url: `${models.url}big.gguf`, stored: true, why: null });
    assert.equal(first.value.model.bytes, big.length);
    const phases = first.progress.map((p) => p.phase);
    assert.deepEqual([...new Set(phases)], ['download', 'upload', 'compile', 'ready']);
    const bytes = first.progress.map((p) => p.loaded);
    assert.deepEqual(bytes, [...bytes].sort((a, b) => a - b));
    assert.equal(bytes.at(-1), big.length);
    assert.ok(first.progress.every((p) => p.total === big.length && p.stored && !p.fromCache && p.note === null && p.backend === 'cpu'));
    assert.deepEqual(await contents(), { sizes: [CHUNK, CHUNK, CHUNK / 2], sha256: await sha256(big) });
    const id = `${models.url}big.gguf`;
    assert.deepEqual(await stored(), [{ id, url: id, bytes: big.length, complete: true }]);

    await models.close();
    await visit();
    const second = await load('big.gguf');
    assert.equal(second.error, undefined);
    assert.equal(second.value.source.kind, 'cache');
    assert.deepEqual([...new Set(second.progress.map((p) => p.phase))], ['cache', 'upload', 'compile', 'ready']);
    assert.ok(second.progress.every((p) => p.fromCache && p.stored));
    const scores = await ask({ type: 'score', ids: new Uint32Array([1, 2, 3]) });
    assert.equal(scores.value.length, 3 * second.value.model.n_vocab);

    assert.equal((await ask({ type: 'delete', model: id })).error, undefined);
    assert.deepEqual(await stored(), []);
    assert.deepEqual((await contents()).sizes, []);
    const gone = await load('big.gguf');
    assert.equal(gone.error?.code, 'network');
  }));

  it('never takes a torn download for a whole one', scene(async () => {
    models.fault('/big.gguf', { body: big, headers: CORS, truncateAt: 2 * CHUNK + 1000, times: 1 });
    const torn = await load('big.gguf');
    assert.equal(torn.error?.code, 'network');
    await visit();
    assert.deepEqual((await stored()).map((/** @type {any} */ m) => m.complete), [false]);
    models.fault('/big.gguf', { body: big, headers: CORS });
    const whole = await load('big.gguf');
    assert.equal(whole.value.source.kind, 'network');
    assert.equal(requestsOf('big.gguf'), 2);
    assert.deepEqual(await contents(), { sizes: [CHUNK, CHUNK, CHUNK / 2], sha256: await sha256(big) });
    assert.equal((await load('big.gguf')).value.source.kind, 'cache');
  }));

  it('downloads again when a stored chunk is missing or short', scene(async () => {
    assert.equal((await load('big.gguf')).value.source.kind, 'network');
    for (const harm of ['delete', 'shorten']) {
      await page.evaluate(async (harm) => {
        /** @type {IDBDatabase} */
        const db = await new Promise((resolve) => {
          const request = indexedDB.open('outcrop');
          request.onsuccess = () => resolve(request.result);
        });
        await new Promise((resolve) => {
          const transaction = db.transaction('chunks', 'readwrite');
          const chunks = transaction.objectStore('chunks');
          chunks.getAllKeys().onsuccess = (event) => {
            const key = /** @type {IDBRequest} */ (event.target).result[1];
            if (harm === 'delete') chunks.delete(key);
            else chunks.put(new Blob(['short']), key);
          };
          transaction.oncomplete = () => resolve(undefined);
        });
        db.close();
      }, harm);
      assert.deepEqual((await stored()).map((/** @type {any} */ m) => m.complete), [false], harm);
      assert.equal((await load('big.gguf')).value.source.kind, 'network', harm);
      assert.equal((await contents()).sha256, await sha256(big), harm);
    }
  }));

  it('runs unstored when there is no room, and says so', scene(async () => {
    const cdp = await context.newCDPSession(page);
    await cdp.send('Storage.overrideQuotaForOrigin', { origin: new URL(site.url).origin, quotaSize: 20 << 20 });
    const { value, error, progress } = await load('big.gguf');
    assert.equal(error, undefined);
    assert.equal(value.source.stored, false);
    assert.match(value.source.why, /not enough space/);
    assert.equal(progress.at(-1)?.phase, 'ready');
    assert.equal(progress.at(-1)?.stored, false);
    assert.match(progress.at(-1)?.note ?? '', /not kept/);
    assert.deepEqual(await stored(), []);
    const scores = await ask({ type: 'score', ids: new Uint32Array([1, 2, 3]) });
    assert.equal(scores.error, undefined);
  }));

  /** Starts the worker in a world that is changed before it. @param {string} change a script @param {boolean} [gpu] */
  async function visitChanged(change, gpu = false) {
    if (gpu) {
      await context.close();
      context = await launchChromium();
    }
    // What is sent before the engine's own listener is there must not get lost.
    const script = `${change};
      const early = [], keep = (event) => early.push(event.data);
      addEventListener('message', keep);
      import('/worker.js').then(() => {
        removeEventListener('message', keep);
        for (const data of early) dispatchEvent(new MessageEvent('message', { data }));
      });`;
    site.fault('/changed.js', { body: script });
    await visit('/changed.js');
  }

  it('runs where there is no storage at all', scene(async () => {
    await visitChanged(`Object.defineProperty(self, 'indexedDB', { value: null })`);
    const { value, error } = await load('tiny.gguf');
    assert.equal(error, undefined);
    assert.equal(value.source.stored, false);
    assert.match(value.source.why, /IndexedDB/);
  }));

  it('refuses what is no whole model, and stores none of it', scene(async () => {
    models.fault('/page.gguf', { body: '<!doctype html><title>Not found</title>', headers: CORS });
    models.fault('/short.gguf', { body: tiny.subarray(0, tiny.length - 1), headers: CORS });
    models.fault('/header.gguf', { body: tiny.subarray(0, 1000), headers: CORS });
    models.fault('/empty.gguf', { body: '', headers: CORS });
    models.fault('/gone.gguf', { status: 404, body: 'gone', headers: CORS });
    models.fault('/secret.gguf', { body: tiny });
    for (const [name, code] of [
      ['page.gguf', 'not_gguf'],
      ['short.gguf', 'truncated_file'],
      ['header.gguf', 'truncated_file'],
      ['empty.gguf', 'truncated_file'],
      ['gone.gguf', 'http_status'],
      ['secret.gguf', 'network'],
    ]) {
      const { error } = await load(name ?? '');
      assert.equal(error?.code, code, `${name}: ${error?.message}`);
    }
    assert.deepEqual(await stored(), []);
  }));

  it('does not lose a stored model to a broken server', scene(async () => {
    await load('tiny.gguf');
    models.fault('/tiny.gguf', { body: 'moved', headers: CORS });
    assert.equal((await load('tiny.gguf')).value.source.kind, 'cache');
  }));

  it('takes a server that does not say how much it sends', scene(async () => {
    models.fault('/big.gguf', { body: big, headers: CORS, noLength: true });
    const { value, progress } = await load('big.gguf');
    assert.equal(value.model.bytes, big.length);
    assert.equal(progress[0]?.total, null);
    assert.ok(progress.slice(1).some((p) => p.total === null || p.total >= tiny.length));
    assert.equal(progress.at(-1)?.total, big.length);
    assert.equal((await load('big.gguf')).value.source.kind, 'cache');
    // Without a length, only the model itself can tell that bytes are missing.
    models.fault('/cut.gguf', { body: tiny.subarray(0, tiny.length - 1), headers: CORS, noLength: true });
    assert.equal((await load('cut.gguf')).error?.code, 'truncated_file');
    assert.deepEqual((await stored()).filter((/** @type {any} */ m) => m.complete).map((/** @type {any} */ m) => m.bytes), [big.length]);
  }));

  it('takes a compressed answer', scene(async () => {
    models.fault('/tiny.gguf', {
      body: gzipSync(tiny),
      headers: { ...CORS, 'Content-Encoding': 'gzip', 'Access-Control-Expose-Headers': 'Content-Encoding' },
    });
    const { value, error } = await load('tiny.gguf');
    assert.equal(error, undefined);
    assert.equal(value.model.bytes, tiny.length);
    assert.equal((await load('tiny.gguf')).value.source.kind, 'cache');
  }));

  it('ends at once when a download is aborted', scene(async () => {
    models.fault('/big.gguf', { body: big, headers: CORS, bytesPerSecond: 4 << 20 });
    const start = performance.now();
    const { error } = await load('big.gguf', 1 << 20);
    assert.equal(error?.code, 'aborted');
    assert.ok(performance.now() - start < 5000, `${performance.now() - start} ms, of ten seconds for all`);
    models.fault('/big.gguf', { body: big, headers: CORS });
    assert.equal((await load('big.gguf')).value.source.kind, 'network');
  }));

  it('goes on with the CPU when the GPU is lost during the load, and does not download again', scene(async () => {
    await visitChanged(
      `Object.defineProperty(GPUAdapterInfo.prototype, 'isFallbackAdapter', { get: () => false });
      const request = GPUAdapter.prototype.requestDevice;
      GPUAdapter.prototype.requestDevice = async function (descriptor) {
        const device = await request.call(this, descriptor);
        addEventListener('message', ({ data }) => data === 'lose it' && device.destroy());
        return device;
      };
      const post = postMessage;
      self.postMessage = (message, ...rest) => {
        if (message.progress?.phase === 'upload' && message.progress.backend === 'webgpu') dispatchEvent(new MessageEvent('message', { data: 'lose it' }));
        post(message, ...rest);
      }`,
      true,
    );
    const { value, error, progress } = await ask({ type: 'load', options: { url: `${models.url}tiny.gguf`, backend: 'auto' } });
    assert.equal(error, undefined);
    assert.equal(value.backend, 'cpu');
    assert.match(value.fallback, /GPU/);
    assert.deepEqual([...new Set(progress.map((p) => `${p.backend} ${p.phase}`))].slice(-4), ['cpu cache', 'cpu upload', 'cpu compile', 'cpu ready']);
    assert.match(progress.at(-1)?.note ?? '', /running on the CPU/);
    assert.equal(requestsOf('tiny.gguf'), 1);
    assert.equal((await ask({ type: 'score', ids: new Uint32Array([1, 2, 3]) })).error, undefined);
  }));

  it('tells everyone when the engine has crashed', scene(async () => {
    await visitChanged(`addEventListener('message', ({ data }) => data.type === 'models' && Object.defineProperty(self, 'performance', { value: null }))`);
    assert.equal((await load('tiny.gguf')).error, undefined);
    await stored(); // takes the clock away, without which the engine panics
    /** @param {string} content */
    const chat = (content) => ask({ type: 'chat', request: { messages: [{ role: 'user', content }], max_tokens: 1 } });
    const both = await Promise.all([chat('one'), chat('two')]);
    assert.deepEqual(both.map(({ error }) => error?.code), ['engine_crashed', 'engine_crashed']);
    assert.match(both[0].error?.message ?? '', /clock/);
    assert.equal((await ask({ type: 'stats' })).error?.code, 'engine_crashed');
    errors = []; // the panic's own report
  }));

  it('reads a local file where it lies', scene(async () => {
    const answer = await page.evaluate(async (url) => {
      const file = new File([await (await fetch(url)).blob()], 'mine.gguf');
      return /** @type {any} */ (window).ask({ type: 'load', options: { file, backend: 'cpu' } });
    }, `${models.url}big.gguf`);
    assert.equal(answer.error, undefined);
    assert.deepEqual(answer.value.source, { kind: 'file', url: null, stored: false, why: null });
    assert.deepEqual([...new Set(answer.progress.map((/** @type {Progress} */ p) => p.phase))], ['file', 'upload', 'compile', 'ready']);
    assert.deepEqual(await stored(), []);
  }));
});
