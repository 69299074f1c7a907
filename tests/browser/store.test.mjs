// Download, storage and what may go wrong with them, in Chromium, against the real engine in its worker, with chunks as large as visitors' are.
//
// The page is served by one server and the models by another, of another origin, so that the models' one can be stopped while pages
// still load. Bad lines, harm to the store and several tabs have tests of their own: download, integrity, patience, resume, repair, tabs.
import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { skipWithout, startServer } from './harness.mjs';
import { CORS, Scene, modelOf, sha256, tiny } from './scene.mjs';
import { EXPECTED, assertForward } from './stage.mjs';

const CHUNK = 8 << 20;
/** Two whole chunks and a half. */
const big = modelOf(2 * CHUNK + CHUNK / 2);

describe('store', { skip: skipWithout('chromium') }, () => {
  /** @type {Scene} */
  let scene;
  /** @type {import('./server.mjs').Server} */
  let models;
  /** @type {import('./scene.mjs').Visit} */
  let visit;

  beforeEach(async () => {
    models = await startServer();
    models.fault('/big.gguf', { body: big, headers: CORS });
    models.fault('/tiny.gguf', { body: tiny, headers: CORS });
    scene = await Scene.open(); // a fresh profile: an empty store
    await open();
  });

  /** Ends what a test used; called by each, whatever came of it. @param {() => Promise<void>} body */
  const played = (body) => async () => {
    try {
      await body();
      assert.deepEqual(visit.errors.filter((e) => !EXPECTED.test(e)), []);
    } finally {
      await scene.close();
      await models.close();
    }
  };

  /** Opens the page anew, with a new worker. @param {string} [script] the worker's */
  async function open(script) {
    await visit?.close().catch(() => {});
    visit = await scene.visit(script);
  }

  /** @param {string} name */
  const load = (name) => visit.ask({ type: 'load', options: { url: models.url + name, backend: 'cpu' } });
  const stored = () => visit.models();
  /** @param {string} name */
  const requestsOf = (name) => models.requests.filter((r) => r.pathname === `/${name}`).length;

  it('keeps a model, and loads it again without its server', played(async () => {
    const first = await load('big.gguf');
    assert.equal(first.error, undefined);
    const id = `${models.url}big.gguf`;
    assert.deepEqual(first.value.source, { kind: 'network', url: id, stored: true, why: null, sha256: sha256(big), checked: false });
    assert.equal(first.value.model.bytes, big.length);
    assert.deepEqual([...new Set(first.progress.map((p) => p.phase))], ['download', 'upload', 'compile', 'ready']);
    assertForward(first);
    assert.equal(first.progress.at(-1).loaded, big.length);
    // Until the first answer nobody knows how much it is.
    assert.ok(first.progress.every((p) => (p.total === big.length || p.loaded === 0) && p.stored && !p.fromCache && p.note === null && p.backend === 'cpu'));
    await visit.assertStored(id, big);
    const { chunks } = await visit.contents(id);
    assert.deepEqual(chunks.map(({ bytes }) => bytes), [CHUNK, CHUNK, CHUNK / 2]);
    const [{ used_ms, ...model }] = await stored();
    assert.deepEqual(model, { id, url: id, name: null, bytes: big.length, total: big.length, complete: true, parts: 1, sha256: sha256(big) });
    assert.ok(Math.abs(Date.now() - used_ms) < 60_000);

    await models.close();
    await open();
    const second = await load('big.gguf');
    assert.equal(second.error, undefined);
    assert.equal(second.value.source.kind, 'cache');
    assert.deepEqual([...new Set(second.progress.map((p) => p.phase))], ['cache', 'upload', 'compile', 'ready']);
    assert.ok(second.progress.every((p) => p.fromCache && p.stored));
    const scores = await visit.ask({ type: 'score', ids: new Uint32Array([1, 2, 3]) });
    assert.equal(scores.value.length, 3 * second.value.model.n_vocab);

    assert.equal((await visit.ask({ type: 'delete', model: id })).error, undefined);
    assert.deepEqual(await stored(), []);
    assert.deepEqual((await visit.contents()).chunks, []);
    const gone = await load('big.gguf');
    assert.equal(gone.error?.code, 'network');
  }));

  it('goes on with a torn download by itself, and never takes it for a whole one', played(async () => {
    models.fault('/big.gguf', { body: big, headers: CORS, truncateAt: CHUNK + 1000 });
    const running = await visit.begin({ type: 'load', options: { url: `${models.url}big.gguf`, backend: 'cpu' } });
    await running.until(({ loaded }) => loaded >= CHUNK);
    models.fault('/big.gguf', { body: big, headers: CORS });
    const whole = await running.answer();
    assert.equal(whole.error, undefined, whole.error?.message);
    assert.equal(whole.value.source.kind, 'network');
    await visit.assertStored(`${models.url}big.gguf`, big);
    assert.equal((await load('big.gguf')).value.source.kind, 'cache');
  }));

  it('runs unstored when there is no room, and says so', played(async () => {
    // Less than its last chunk, the smallest, takes.
    await visit.devtools('Storage.overrideQuotaForOrigin', { origin: new URL(scene.site.url).origin, quotaSize: CHUNK / 8 });
    const { value, error, progress } = await load('big.gguf');
    assert.equal(error, undefined);
    assert.equal(value.source.stored, false);
    assert.match(value.source.why, /not enough space/);
    assert.equal(progress.at(-1)?.phase, 'ready');
    assert.equal(progress.at(-1)?.stored, false);
    assert.match(progress.at(-1)?.note ?? '', /not kept/);
    assert.deepEqual(await stored(), []);
    const scores = await visit.ask({ type: 'score', ids: new Uint32Array([1, 2, 3]) });
    assert.equal(scores.error, undefined);
  }));

  /** Starts the worker in a world that is changed before it. @param {string} change a script @param {boolean} [gpu] */
  async function visitChanged(change, gpu = false) {
    if (gpu) {
      await scene.context.close();
      await scene.launch({ gpu: true });
    }
    await open(scene.changedWorker(change));
  }

  it('runs where there is no storage at all', played(async () => {
    await visitChanged(`Object.defineProperty(self, 'indexedDB', { value: null })`);
    const { value, error } = await load('tiny.gguf');
    assert.equal(error, undefined);
    assert.equal(value.source.stored, false);
    assert.match(value.source.why, /IndexedDB/);
  }));

  it('reads streams that do not write into memory of ours, as older browsers have them', played(async () => {
    await visitChanged(`const { getReader } = ReadableStream.prototype;
      ReadableStream.prototype.getReader = function (options) {
        if (options?.mode === 'byob') throw new TypeError('not a stream of bytes');
        return getReader.call(this);
      }`);
    assert.equal((await load('big.gguf')).value?.source.kind, 'network');
    await visit.assertStored(`${models.url}big.gguf`, big);
    const { value } = await load('big.gguf');
    assert.deepEqual([value?.source.kind, value?.model.bytes], ['cache', big.length]);
  }));

  it('refuses what is no whole model, and stores none of it', played(async () => {
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

  it('does not lose a stored model to a broken server', played(async () => {
    await load('tiny.gguf');
    models.fault('/tiny.gguf', { body: 'moved', headers: CORS });
    assert.equal((await load('tiny.gguf')).value.source.kind, 'cache');
  }));

  it('takes a server that does not say how much it sends', played(async () => {
    models.fault('/big.gguf', { body: big, headers: CORS, noLength: true, noRange: true });
    const { value, progress } = await load('big.gguf');
    assert.equal(value.model.bytes, big.length);
    assert.equal(progress[0]?.total, null);
    assert.ok(progress.slice(1).some((p) => p.total === null || p.total >= tiny.length));
    assert.equal(progress.at(-1)?.total, big.length);
    assert.equal((await load('big.gguf')).value.source.kind, 'cache');
    // Without a length, only the model itself can tell that bytes are missing.
    models.fault('/cut.gguf', { body: tiny.subarray(0, tiny.length - 1), headers: CORS, noLength: true, noRange: true });
    assert.equal((await load('cut.gguf')).error?.code, 'truncated_file');
    assert.deepEqual((await stored()).filter((m) => m.complete).map((m) => m.bytes), [big.length]);
  }));

  it('refuses a compressed answer: its bytes cannot be counted, or begun in the middle', played(async () => {
    models.fault('/tiny.gguf', {
      body: gzipSync(tiny),
      headers: { ...CORS, 'Content-Encoding': 'gzip' },
    });
    const { error } = await load('tiny.gguf');
    assert.equal(error?.code, 'bad_response', error?.message);
    assert.match(error?.message ?? '', /compress|gzip/);
    assert.deepEqual(await stored(), []);
  }));

  it('ends at once when a download is aborted, and goes on from there the next time', played(async () => {
    models.fault('/big.gguf', { body: big, headers: CORS, bytesPerSecond: 3 << 20 });
    // One chunk after another, so that some are stored while others are missing.
    const running = await visit.begin({ type: 'load', options: { url: `${models.url}big.gguf`, backend: 'cpu', debug: { download: { parallel: 1 } } } });
    await running.until(({ loaded }) => loaded >= CHUNK);
    for (let end = Date.now() + 10_000; (await visit.sizes(`${models.url}big.gguf`)).chunks.length === 0 && Date.now() < end; );
    const start = performance.now();
    await running.post('abort');
    assert.equal((await running.answer()).error?.code, 'aborted');
    assert.ok(performance.now() - start < 1000, `${performance.now() - start} ms`);
    models.fault('/big.gguf', { body: big, headers: CORS });
    const answer = await load('big.gguf');
    assert.equal(answer.value.source.kind, 'network');
    assert.ok(answer.progress[0].resumed > 0);
    await visit.assertStored(`${models.url}big.gguf`, big);
  }));

  it('goes on with the CPU when the GPU is lost during the load, and does not download again', played(async () => {
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
    const { value, error, progress } = await visit.ask({ type: 'load', options: { url: `${models.url}tiny.gguf`, backend: 'auto' } });
    assert.equal(error, undefined);
    assert.equal(value.backend, 'cpu');
    assert.match(value.fallback, /GPU/);
    assert.deepEqual([...new Set(progress.map((p) => `${p.backend} ${p.phase}`))].slice(-4), ['cpu cache', 'cpu upload', 'cpu compile', 'cpu ready']);
    assert.match(progress.at(-1)?.note ?? '', /running on the CPU/);
    assert.equal(requestsOf('tiny.gguf'), 1);
    assert.equal((await visit.ask({ type: 'score', ids: new Uint32Array([1, 2, 3]) })).error, undefined);
  }));

  it('tells everyone when the engine has crashed', played(async () => {
    await visitChanged(`addEventListener('message', ({ data }) => data.type === 'models' && Object.defineProperty(self, 'performance', { value: null }))`);
    assert.equal((await load('tiny.gguf')).error, undefined);
    await stored(); // takes the clock away, without which the engine panics
    /** @param {string} content */
    const chat = (content) => visit.ask({ type: 'chat', request: { messages: [{ role: 'user', content }], max_tokens: 1 } });
    const both = await Promise.all([chat('one'), chat('two')]);
    assert.deepEqual(both.map(({ error }) => error?.code), ['engine_crashed', 'engine_crashed']);
    assert.match(both[0].error?.message ?? '', /clock/);
    assert.equal((await visit.ask({ type: 'stats' })).error?.code, 'engine_crashed');
    visit.errors.length = 0; // the panic's own report
  }));

  it('reads a local file where it lies', played(async () => {
    const answer = await visit.page.evaluate(async (url) => {
      const file = new File([await (await fetch(url)).blob()], 'mine.gguf');
      const page = /** @type {any} */ (window);
      return page.asked.get(page.begin({ type: 'load', options: { file, backend: 'cpu' } })).answer;
    }, `${models.url}big.gguf`);
    assert.equal(answer.error, undefined);
    assert.deepEqual(answer.value.source, { kind: 'file', url: null, stored: false, why: null, sha256: null, checked: false });
    assert.deepEqual([...new Set(answer.progress.map((/** @type {any} */ p) => p.phase))], ['file', 'upload', 'compile', 'ready']);
    assert.deepEqual(await stored(), []);
  }));
});
