// A full disk, in Chromium with quotas that the DevTools protocol lowers: what fits is kept, what does not is loaded all the same, and nothing that was
// stored before is lost.
//
// Each test has a profile of its own: a browser believes for half a minute what it found out about its quota, and how much of it is in use
// is told late. `navigator.storage.estimate` never tells of these quotas.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { serveFaulty } from './fault-server.mjs';
import { skipWithout } from './harness.mjs';
import { Scene } from './scene.mjs';
import { CHUNK, N, body } from './stage.mjs';

const options = { debug: { download: { chunk_bytes: CHUNK } } };

describe('quota', { skip: skipWithout('chromium') }, () => {
  /** @type {Scene} */
  let scene;
  /** @type {Awaited<ReturnType<typeof serveFaulty>>} */
  let models;

  beforeEach(async () => {
    scene = await Scene.open();
    models = await serveFaulty({ body });
  });
  afterEach(async () => {
    await scene.close();
    await models.close();
  });

  /** Leaves so much to the site. @param {import('./scene.mjs').Visit} visit @param {number} quotaSize bytes */
  async function only(visit, quotaSize) {
    const origin = new URL(scene.site.url).origin;
    const session = await visit.devtools('Storage.overrideQuotaForOrigin', { origin, quotaSize });
    return async () => {
      await /** @type {any} */ (session).send('Storage.overrideQuotaForOrigin', { origin });
      await session.detach();
    };
  }

  /** Another browser with the same profile. */
  async function restart() {
    await scene.context.close();
    await scene.launch();
    return scene.visit();
  }

  it('no room at all: it runs unstored, and says why', async () => {
    const visit = await scene.visit();
    await only(visit, 1);
    const { value, error, progress } = await visit.load(models.url, options);
    assert.equal(error, undefined, error?.message);
    assert.deepEqual([value.source.stored, progress.at(-1).stored, progress.at(-1).problem], [false, false, 'quota']);
    assert.match(value.source.why, /not enough space/);
    assert.match(progress.at(-1).note, /not kept/);
    assert.equal((await visit.ask({ type: 'score', ids: new Uint32Array([1, 2, 3]) })).error, undefined);
    assert.deepEqual((await visit.contents()).chunks, []);
    assert.ok(models.file.sent <= body.length, 'nothing came twice for that');
  });

  it('a browser that says beforehand that there is too little room: that is told before the first byte, and what fits is kept all the same', async () => {
    const visit = await scene.visit(scene.changedWorker('navigator.storage.estimate = async () => ({ quota: 3e6, usage: 2.5e6 })'));
    const { value, error, progress } = await visit.load(models.url, { ...options, bytes: body.length });
    assert.equal(error, undefined, error?.message);
    assert.deepEqual([progress[0].loaded, progress[0].stored, progress[0].problem], [0, false, 'quota']);
    assert.match(progress[0].note, /not enough space: it takes .* MB, and there is room for 0\.5 MB/);
    assert.deepEqual([value.source.stored, value.source.why, progress.at(-1).problem], [true, null, null]);
    await visit.assertStored(models.url, body);
  });

  it('room for half of it: it goes on unstored, the half is kept, and the next load goes on from there', async (t) => {
    const visit = await scene.visit();
    const more = await only(visit, body.length / 2);
    const { value, error, progress } = await visit.load(models.url, options);
    assert.equal(error, undefined, error?.message);
    assert.equal(value.source.stored, false);
    assert.match(value.source.why, /not enough space/);
    const problems = progress.map((p) => p.problem);
    assert.deepEqual([problems[0], problems.at(-1)], [null, 'quota']);
    const { bytes, manifest } = await visit.storedSoFar(models.url, body);
    t.diagnostic(`${bytes} of ${body.length} bytes are kept, of ${body.length / 2} that there was room for`);
    // Three chunks are under way at once, and the browser holds each against what it has counted by then.
    assert.ok(bytes >= 4 * CHUNK && bytes <= body.length / 2 + 2 * CHUNK, `${bytes} bytes`);
    assert.equal(manifest.complete, false);
    assert.deepEqual((await visit.models()).map(({ bytes, total, complete }) => ({ bytes, total, complete })), [{ bytes, total: body.length, complete: false }]);
    await more();
    await visit.close();
    const sent = models.file.sent;
    const later = await scene.visit();
    const again = await later.load(models.url, options);
    assert.equal(again.error, undefined, again.error?.message);
    await later.assertStored(models.url, body);
    assert.deepEqual([again.value.source.stored, again.progress[0].resumed, again.progress.at(-1).problem], [true, bytes, null]);
    assert.equal(models.file.sent - sent, body.length - bytes);
  });

  it('other models stay, and one that is deleted meanwhile makes room', async (t) => {
    let visit = await scene.visit();
    const one = models.url.replace('model', 'one');
    assert.equal((await visit.load(one, options)).value.source.stored, true);
    visit = await restart();
    await only(visit, body.length * 1.5);
    models.file.options.bytesPerSecond = 2e6;
    const running = await visit.beginLoad(models.url, options);
    await running.until(({ problem }) => problem === 'quota');
    await visit.assertStored(one, body);
    const other = await scene.visit();
    assert.equal((await other.ask({ type: 'delete', model: one })).error, undefined);
    const { value, error } = await running.answer();
    assert.equal(error, undefined, error?.message);
    const { chunks } = await visit.storedSoFar(models.url, body);
    // When the browser gives room back after a deletion is its affair.
    t.diagnostic(`${chunks.length} of ${N} chunks are kept; ${value.source.stored ? 'stored' : value.source.why}`);
    assert.ok(chunks.length > 3);
    assert.equal(value.source.stored, chunks.length === N);
  });

  it('a repair that cannot be written is loaded all the same', async () => {
    let visit = await scene.visit();
    await visit.load(models.url, options);
    await visit.harm(models.url, [1, 2], 'delete');
    visit = await restart();
    await only(visit, 1);
    const { value, error } = await visit.load(models.url, options);
    assert.equal(error, undefined, error?.message);
    assert.equal(value.model.bytes, body.length);
    const { bytes } = await visit.storedSoFar(models.url, body);
    assert.ok(bytes >= body.length - 2 * CHUNK, 'what is right stays');
    assert.equal(value.source.stored, bytes === body.length);
  });
});
