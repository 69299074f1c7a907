// The store after harm, in Chromium: records lost, changed, cut short or never understood; databases of an older page and of a newer one. What can be
// repaired is, by fetching that alone; the rest runs unstored and says so.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { tally } from './fault-server.mjs';
import { chance } from './faults.mjs';
import { skipWithout } from './harness.mjs';
import { modelOf } from './scene.mjs';
import { CHUNK, N, assertForward, body, useStage } from './stage.mjs';

const SEED = Number(process.env.SEED ?? 1);
/** A model whose chunks are version 1's, of 16 MiB: one and a half of them. */
const V1_CHUNK = 16 << 20;
const older = modelOf(V1_CHUNK + V1_CHUNK / 2, 9);

describe('repair', { skip: skipWithout('chromium') }, () => {
  const stage = useStage();

  /** A model that is stored whole. @param {Partial<import('./fault-server.mjs').Options>} [options] */
  async function stored(options = {}) {
    const served = await stage.serve(options);
    await stage.assertWhole(await stage.load(served.url), served.url);
    await served.file.settled();
    served.file.log.length = 0;
    await stage.revisit();
    return served;
  }

  /** That these chunks were asked for, each once, and nothing else. @param {import('./fault-server.mjs').FaultyFile} file @param {number[]} chunks */
  function assertOnly({ log }, chunks) {
    const fetched = log.filter(({ sent }) => sent > 0).map(({ from, sent }) => ({ from, end: from + sent }));
    const bytes = fetched.reduce((sum, { from, end }) => sum + end - from, 0);
    assert.equal(bytes, chunks.reduce((sum, i) => sum + Math.min(CHUNK, body.length - i * CHUNK), 0), JSON.stringify(fetched));
    for (const { from, end } of fetched) assert.ok(chunks.some((i) => i * CHUNK <= from && end <= (i + 1) * CHUNK), `bytes ${from} to ${end} for chunks ${chunks}`);
  }

  for (const harm of /** @type {const} */ (['delete', 'corrupt', 'shorten'])) {
    it(`${harm}: random chunks, one to five of them, first and last among them, are fetched again alone`, { timeout: 120_000 }, async (t) => {
      const { file, url } = await stored();
      for (let round = 0; round < 6; round++) {
        const picked = Array.from({ length: 1 + Math.floor(chance(SEED, round, 0) * 5) }, (_, i) => Math.floor(chance(SEED, round, 1, i) * N));
        const chunks = [...new Set([...picked, ...(round === 0 ? [0] : round === 1 ? [N - 1] : [])])].toSorted((a, b) => a - b);
        await stage.visit.harm(url, chunks, harm);
        file.log.length = 0;
        const answer = await stage.load(url);
        await stage.assertWhole(answer, url);
        await file.settled();
        assertOnly(file, chunks);
        assertForward(answer);
        file.log.length = 0;
        assert.equal((await stage.load(url)).value.source.kind, 'cache');
        assert.equal(file.log.length, 0);
        t.diagnostic(`chunks ${chunks.join(', ')}`);
      }
    });
  }

  it('the same without a server: an error that says so, and what is right stays for when it is back', async () => {
    for (const harm of /** @type {const} */ (['delete', 'corrupt'])) {
      const { file, url } = await stored();
      await stage.visit.harm(url, [3, 9], harm);
      file.options.plan = () => ({ kind: 'refuse' });
      const { error } = await stage.load(url);
      assert.equal(error?.code, 'network', error?.message);
      assert.ok((await stage.visit.contents(url)).chunks.length >= N - 2, 'more was lost than there was before');
      file.options.plan = undefined;
      file.log.length = 0;
      await stage.assertWhole(await stage.load(url), url);
      assertOnly(file, [3, 9]);
    }
  });

  it('a chunk is missing, and the file on the server is another now: never a mix', async () => {
    const { file, url } = await stored();
    await stage.visit.harm(url, [4], 'delete');
    const other = modelOf(body.length, 11);
    file.change(other);
    await stage.assertWhole(await stage.load(url), url, other);
  });

  it('all chunks are gone, or all manifests', async () => {
    const { file, url } = await stored();
    await stage.visit.harm(url, Array.from({ length: N }, (_, i) => i), 'delete');
    await stage.assertWhole(await stage.load(url), url);
    await stage.visit.page.evaluate(rewrite, { id: url, manifest: null });
    file.log.length = 0;
    await stage.assertWhole(await stage.load(url), url);
    assert.ok(tally(file.log).covered <= body.length);
  });

  it('records that nobody can understand do no harm', async () => {
    const { file, url } = await stored();
    const { manifest } = await stage.visit.contents(url);
    const wrong = [];
    for (const junk of [
      'a string',
      { ...manifest, schema: 99 },
      { ...manifest, hashes: 'none' },
      { ...manifest, hashes: [] },
      { ...manifest, hashes: manifest.hashes.map(() => 'xyz') },
      { ...manifest, chunk_bytes: 0 },
      { ...manifest, chunk_bytes: 2 ** 53 },
      { ...manifest, length: 1e15 },
      { ...manifest, length: 1 },
      { ...manifest, length: null },
      { ...manifest, etag: null },
      { ...manifest, id: 'https://elsewhere.example/model.gguf' },
    ]) {
      await stage.visit.page.evaluate(rewrite, { id: url, manifest: junk });
      const changed = Object.entries(typeof junk === 'string' ? { junk } : junk).filter(([key, value]) => value !== manifest[key]);
      try {
        await stage.assertWhole(await stage.load(url), url);
        assert.ok((await stage.visit.models()).some(({ id, complete }) => id === url && complete));
      } catch (error) {
        wrong.push(`${JSON.stringify(changed).slice(0, 80)}: ${error instanceof Error ? error.message : error}`);
        await stage.revisit();
        await stage.visit.ask({ type: 'delete', model: url });
        await stage.load(url);
      }
    }
    assert.deepEqual(wrong, []);
    await stage.visit.page.evaluate(rewrite, { id: url, chunk: 2, value: 'no Blob' });
    file.log.length = 0;
    await stage.assertWhole(await stage.load(url), url);
    assertOnly(file, [2]);
  });

  describe('databases of other versions', () => {
    /** Only the engine may have opened it: a new profile's. @param {number} version @param {{complete: boolean, chunks: number}} what @param {string} url */
    async function write(version, { complete, chunks }, url) {
      await stage.visit.page.evaluate(writeDatabase, {
        version,
        url,
        chunks,
        chunkBytes: V1_CHUNK,
        manifest: { schema: 1, id: url, url, etag: complete || chunks ? (await fetch(url, { method: 'HEAD' })).headers.get('etag') : null, length: older.length, chunk_bytes: V1_CHUNK, hashes: [], complete },
      });
      await stage.revisit();
    }

    it('version 1, complete: it is loaded without a request, and is version 2 then', async () => {
      const { file, url } = await stage.serve({ body: older });
      await write(1, { complete: true, chunks: 2 }, url);
      file.log.length = 0;
      assert.deepEqual((await stage.visit.models()).map(({ id, bytes, total, complete }) => ({ id, bytes, total, complete })), [{ id: url, bytes: older.length, total: older.length, complete: true }]);
      const answer = await stage.load(url);
      assert.equal(answer.error, undefined, answer.error?.message);
      assert.deepEqual([answer.value.source.kind, answer.value.source.stored], ['cache', true]);
      assert.equal(file.log.length, 0);
      assert.equal(await stage.visit.page.evaluate(async () => (await indexedDB.databases()).find(({ name }) => name === 'outcrop')?.version), 2);
      // Its chunks have hashes from now on, or could be lost unnoticed.
      await stage.visit.assertStored(url, older);
      await stage.visit.harm(url, [1], 'corrupt');
      await stage.assertWhole(await stage.load(url), url, older);
      assert.deepEqual(file.log.map(({ from, sent }) => [from, sent]), [[V1_CHUNK, V1_CHUNK / 2]]);
      assert.equal((await stage.visit.ask({ type: 'delete', model: url })).error, undefined);
      assert.deepEqual((await stage.visit.contents()).chunks, []);
    });

    it('version 1, torn: it is whole in the end, and right', async (t) => {
      const { file, url } = await stage.serve({ body: older });
      await write(1, { complete: false, chunks: 1 }, url);
      file.log.length = 0;
      const sent = file.sent;
      const answer = await stage.load(url, {}, { chunk_bytes: undefined });
      await stage.assertWhole(answer, url, older);
      t.diagnostic(`${answer.progress[0].resumed} bytes of it were used, ${file.sent - sent} came`);
      assert.ok(file.sent - sent <= older.length);
    });

    it('an older page holds the database open and does not let go: it runs unstored, and says which tab', async () => {
      const { url } = await stage.serve({});
      const old = await stage.scene.visit();
      await old.page.evaluate(
        () =>
          new Promise((resolve, reject) => {
            indexedDB.deleteDatabase('outcrop').onsuccess = () => {
              const request = indexedDB.open('outcrop', 1);
              request.onupgradeneeded = () => ['manifests', 'chunks'].forEach((name) => request.result.createObjectStore(name));
              request.onsuccess = () => resolve(Object.assign(window, { held: request.result }) && undefined);
              request.onerror = () => reject(request.error);
            };
          }),
      );
      const { value, error, progress } = await stage.load(url);
      assert.equal(error, undefined, error?.message);
      assert.equal(value.source.stored, false);
      assert.match(value.source.why, /tab/);
      assert.equal(progress.at(-1).problem, 'blocked');
      await old.close();
      await stage.assertWhole(await stage.load(url), url);
    });

    it('a database of a newer page: it runs unstored, and touches nothing', async () => {
      const { url } = await stage.serve({});
      await stage.visit.page.evaluate(
        () =>
          new Promise((resolve, reject) => {
            indexedDB.deleteDatabase('outcrop').onsuccess = () => {
              const request = indexedDB.open('outcrop', 7);
              request.onupgradeneeded = () => request.result.createObjectStore('other');
              request.onsuccess = () => resolve(request.result.close());
              request.onerror = () => reject(request.error);
            };
          }),
      );
      await stage.revisit();
      const { value, error } = await stage.load(url);
      assert.equal(error, undefined, error?.message);
      assert.equal(value.source.stored, false);
      assert.ok(value.source.why);
      const version = await stage.visit.page.evaluate(async () => (await indexedDB.databases()).find(({ name }) => name === 'outcrop')?.version);
      assert.equal(version, 7);
      await stage.visit.page.evaluate(() => new Promise((resolve) => (indexedDB.deleteDatabase('outcrop').onsuccess = resolve)));
    });
  });
});

/** Runs in the page: writes a record as it is. @param {{id: string, manifest?: any, chunk?: number, value?: any}} what */
async function rewrite({ id, manifest, chunk, value }) {
  const db = await new Promise((/** @type {(db: IDBDatabase) => void} */ resolve) => {
    const request = indexedDB.open('outcrop');
    request.onsuccess = () => resolve(request.result);
  });
  const transaction = db.transaction(['manifests', 'chunks'], 'readwrite');
  if (chunk !== undefined) transaction.objectStore('chunks').put(value, [id, chunk]);
  else if (manifest === null) transaction.objectStore('manifests').clear();
  else transaction.objectStore('manifests').put(manifest, id);
  await new Promise((resolve) => (transaction.oncomplete = resolve));
  db.close();
}

/** Runs in the page: the database as version 1 of the page wrote it. @param {{version: number, url: string, manifest: object, chunks: number, chunkBytes: number}} what */
async function writeDatabase({ version, url, manifest, chunks, chunkBytes }) {
  await new Promise((resolve) => (indexedDB.deleteDatabase('outcrop').onsuccess = resolve));
  const bytes = await (await fetch(url)).blob();
  const db = await new Promise((/** @type {(db: IDBDatabase) => void} */ resolve, reject) => {
    const request = indexedDB.open('outcrop', version);
    request.onupgradeneeded = () => ['manifests', 'chunks'].forEach((name) => request.result.createObjectStore(name));
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  for (let index = 0; index < chunks; index++) {
    // A copy: a Blob of a Blob would be read from where the first one lies.
    const chunk = new Blob([await bytes.slice(index * chunkBytes, (index + 1) * chunkBytes).arrayBuffer()]);
    const transaction = db.transaction('chunks', 'readwrite');
    transaction.objectStore('chunks').put(chunk, [url, index]);
    await new Promise((resolve) => (transaction.oncomplete = resolve));
  }
  const transaction = db.transaction('manifests', 'readwrite');
  transaction.objectStore('manifests').put(manifest, url);
  await new Promise((resolve) => (transaction.oncomplete = resolve));
  db.close();
}
