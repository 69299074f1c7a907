// Downloads that end in the middle: aborted, the page closed, the worker terminated, the whole browser killed, at moments that a seed chooses. The
// next start goes on from what was stored, and asks again at most for the chunks that were under way.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { chance } from './faults.mjs';
import { skipWithout } from './harness.mjs';
import { interruptAndResume } from './interruptions.mjs';
import { modelOf, sha256, sleep } from './scene.mjs';
import { CHUNK, body, useStage } from './stage.mjs';

const SEED = Number(process.env.SEED ?? 1);

describe('resume', { skip: skipWithout('chromium') }, () => {
  const stage = useStage();

  for (const [how, times] of /** @type {const} */ ([['abort', 4], ['worker', 4], ['page', 4], ['kill', 4]])) {
    for (const origin of /** @type {const} */ (['same', 'other'])) {
      it(`${how}, ${times} times at random moments, ${origin} origin`, { timeout: 180_000 }, async (t) => {
        for (let i = 0; i < times; i++) {
          const whole = modelOf(body.length, 100 + i);
          const { file, url } = await stage.serve({ body: whole, bytesPerSecond: 4e6 }, origin);
          const run = await interruptAndResume(stage, { file, url, body: whole, how, at: chance(SEED, i, how.length) * 0.95, download: { chunk_bytes: CHUNK } });
          t.diagnostic(`after ${Math.round(run.at * 100)} %: ${run.stored} of ${run.sent} bytes sent were stored, ${run.again} came again`);
        }
      });
    }
  }

  it('a download that is torn again and again ends all the same, and each time begins where the last one stopped', { timeout: 120_000 }, async (t) => {
    const whole = modelOf(40 * CHUNK, 50);
    const { file, url } = await stage.serve({ body: whole, bytesPerSecond: 4e6 });
    /** @type {number[]} */
    const begun = [];
    for (let round = 0; round < 4; round++) {
      const running = await stage.begin(url);
      const { resumed, loaded } = await running.until(() => true);
      begun.push(resumed);
      assert.ok(loaded >= resumed);
      // Requests under way share the line: less than this might finish none of them.
      await running.until((p) => p.loaded >= resumed + 8 * CHUNK);
      await sleep(100 * chance(SEED, round));
      await stage.revisit();
    }
    file.options.bytesPerSecond = undefined;
    const answer = await stage.load(url);
    await stage.assertWhole(answer, url, whole);
    begun.push(answer.progress[0].resumed);
    t.diagnostic(`loads began with ${begun.map((bytes) => Math.round(bytes / CHUNK)).join(', ')} of 40 chunks; ${file.sent - whole.length} bytes of ${whole.length} came twice`);
    assert.ok(begun.every((bytes, i) => i === 0 || bytes > begun[i - 1]), `${begun}`);
  });

  it('all chunks are there, but the mark of completeness is not: no byte of the model is asked for', async () => {
    const { file, url } = await stage.serve({});
    await stage.load(url);
    await stage.visit.page.evaluate(async (id) => {
      const db = await new Promise((/** @type {(db: IDBDatabase) => void} */ resolve) => {
        const request = indexedDB.open('outcrop');
        request.onsuccess = () => resolve(request.result);
      });
      const transaction = db.transaction('manifests', 'readwrite');
      const store = transaction.objectStore('manifests');
      store.get(id).onsuccess = (event) => store.put({ .../** @type {IDBRequest} */ (event.target).result, complete: false, sha256: null }, id);
      await new Promise((resolve) => (transaction.oncomplete = resolve));
      db.close();
    }, url);
    const sent = file.sent;
    const answer = await stage.load(url);
    await stage.assertWhole(answer, url);
    assert.equal(answer.progress[0].resumed, body.length);
    assert.equal(file.sent, sent);
  });

  it('a torn download is not loaded when only what is stored may be, and is when it is whole', async () => {
    const { file, url } = await stage.serve({ bytesPerSecond: 4e6 });
    const running = await stage.begin(url);
    await running.until(({ loaded }) => loaded > body.length / 2);
    await running.post('abort');
    await running.answer();
    await file.settled();
    const asked = file.log.length;
    const { error } = await stage.visit.ask({ type: 'load', options: { stored: url, backend: 'cpu', threads: 1 } });
    assert.equal(error?.code, 'not_stored');
    assert.equal(file.log.length, asked);
    file.options.bytesPerSecond = undefined;
    await stage.assertWhole(await stage.load(url), url);
    const all = file.log.length;
    const { value } = await stage.visit.ask({ type: 'load', options: { stored: url, backend: 'cpu', threads: 1 } });
    assert.equal(value.source.kind, 'cache');
    assert.equal(file.log.length, all);
  });

  it('without a tag, or with a weak one: a file that changed between two visits is not mixed', async (t) => {
    for (const etag of /** @type {const} */ (['weak', 'none'])) {
      for (const origin of /** @type {const} */ (['same', 'other'])) {
        const { file, url } = await stage.serve({ etag, bytesPerSecond: 4e6 }, origin);
        const running = await stage.begin(url);
        await running.until(({ loaded }) => loaded > body.length / 2);
        await running.post('abort');
        await running.answer();
        const other = modelOf(body.length, 7);
        file.change(other);
        file.options.bytesPerSecond = undefined;
        await stage.assertWhole(await stage.load(url), url, other).catch((error) => assert.fail(`${etag} tag, ${origin} origin: ${error.message}`));
      }
    }
    t.diagnostic('weak tags and none, two origins each');
  });

  it('without a tag, but under a digest, it goes on where it was', async () => {
    const { file, url } = await stage.serve({ etag: 'none', bytesPerSecond: 4e6 });
    const running = await stage.begin(url, { sha256: sha256(body) });
    await running.until(({ loaded }) => loaded > body.length / 2);
    await running.post('abort');
    await running.answer();
    file.options.bytesPerSecond = undefined;
    const answer = await stage.load(url, { sha256: sha256(body) });
    await stage.assertWhole(answer, url);
    assert.ok(answer.progress[0].resumed > 0);
    assert.ok(file.sent < 2 * body.length - answer.progress[0].resumed);
  });
});
