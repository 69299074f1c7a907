// Several tabs of one browser that want the same model: one downloads, the others show how far it is and read the result; one that dies hands over.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { tally } from './fault-server.mjs';
import { SPEEDUP } from './fault-worlds.mjs';
import { skipWithout } from './harness.mjs';
import { modelOf, sleep } from './scene.mjs';
import { CHUNK, N, assertForward, body, useStage } from './stage.mjs';

/** Bytes that may come again when a downloader dies: the requests under way, and what it had in hand. */
const IN_FLIGHT = 10 * CHUNK;

describe('tabs', { skip: skipWithout('chromium') }, () => {
  const stage = useStage();

  /** Visits beside each other. @param {number} n */
  const tabs = async (n) => [stage.visit, ...(await Promise.all(Array.from({ length: n - 1 }, () => stage.scene.visit())))];
  /** @param {import('./scene.mjs').Visit} visit @param {string} url */
  const begin = (visit, url) => visit.beginLoad(url, { debug: { download: { chunk_bytes: CHUNK, speedup: SPEEDUP } } });

  /** What a page hears of others, from now on. @param {import('./scene.mjs').Visit} visit */
  async function listen(visit) {
    await visit.page.evaluate(() => {
      /** @type {any[]} */
      const heard = [];
      Object.assign(window, { heard });
      new BroadcastChannel('outcrop').addEventListener('message', ({ data }) => heard.push({ ...data, at: performance.now() }));
    });
    return () => visit.page.evaluate(() => /** @type {any} */ (window).heard);
  }

  for (const n of [2, 3]) {
    for (const origin of /** @type {const} */ (['same', 'other'])) {
      it(`${n} tabs at once, ${origin} origin: each chunk is asked for once`, async (t) => {
        const { file, url } = await stage.serve({ bytesPerSecond: 1.5e6 }, origin);
        const visits = await tabs(n);
        const heard = await listen(visits[0]);
        const running = await Promise.all(visits.map((visit) => begin(visit, url)));
        const answers = await Promise.all(running.map((one) => one.answer()));
        for (const { error } of answers) assert.equal(error, undefined, error?.message);
        await stage.visit.assertStored(url, body);
        await file.settled();
        assert.deepEqual(tally(file.log), { covered: body.length, again: 0, broken: 0, wholes: 0 });
        assert.ok(file.log.length <= N + 1, `${file.log.length} requests`);
        assert.deepEqual(answers.map(({ value }) => value.source.kind).toSorted(), [...Array.from({ length: n - 1 }, () => 'cache'), 'network']);
        for (const answer of answers) {
          assertForward(answer);
          assert.equal(answer.value.source.stored, true);
        }
        const followers = answers.filter(({ value }) => value.source.kind === 'cache');
        for (const { progress } of followers) {
          const waiting = progress.filter((p) => p.waiting === 'other-tab');
          const figures = new Set(waiting.map((p) => p.loaded));
          assert.ok(figures.size >= 3, `a follower showed ${figures.size} figures`);
          assert.ok(waiting.some((p) => p.bytesPerSecond > 0 && p.total === body.length));
          assert.equal(progress.at(-1).waiting, null);
        }
        const told = (await heard()).filter((/** @type {any} */ { id }) => id === url);
        t.diagnostic(`${told.map((/** @type {any} */ { type }) => type[0]).join('')} was told over the channel`);
        assert.ok(told.filter((/** @type {any} */ { type }) => type === 'progress').length >= 2);
        assert.equal(told.filter((/** @type {any} */ { type }) => type === 'stored').length, 1);
      });
    }
  }

  for (const how of /** @type {const} */ (['page', 'worker', 'abort'])) {
    it(`the downloading one goes (${how}): another takes over where it was`, async (t) => {
      const { file, url } = await stage.serve({ bytesPerSecond: 3e6 });
      const [first, second, third] = await tabs(3);
      const one = await begin(first, url);
      await one.until(({ loaded, waiting }) => loaded > CHUNK && waiting === null);
      const others = [await begin(second, url), await begin(third, url)];
      for (const other of others) await other.until(({ waiting }) => waiting === 'other-tab');
      await one.until(({ loaded }) => loaded > body.length / 2);
      const began = performance.now();
      if (how === 'page') await first.close();
      else if (how === 'worker') await first.terminate();
      else await one.post('abort');
      const heir = await Promise.race(others.map((other) => other.until(({ waiting }) => waiting === null).then(() => other)));
      t.diagnostic(`taken over after ${Math.round(performance.now() - began)} ms`);
      file.options.bytesPerSecond = undefined;
      const answers = await Promise.all(others.map((other) => other.answer()));
      for (const { error } of answers) assert.equal(error, undefined, error?.message);
      await second.assertStored(url, body);
      assert.ok((await heir.answer()).progress.some((p) => p.resumed > 0));
      const { again } = tally(file.log);
      t.diagnostic(`${again} bytes came again`);
      assert.ok(again <= IN_FLIGHT, `${again} bytes`);
      if (how === 'abort') assert.equal((await one.answer()).error?.code, 'aborted');
      stage.visit = second;
    });
  }

  it('a tab that comes late reads what is stored, and follows from there', async () => {
    const { file, url } = await stage.serve({ bytesPerSecond: 3e6 });
    const [first, second] = await tabs(2);
    const one = await begin(first, url);
    await one.until(({ loaded }) => loaded > body.length / 2);
    const two = await begin(second, url);
    const seen = await two.until(({ waiting }) => waiting === 'other-tab');
    assert.ok(seen.loaded >= 0 && seen.loaded <= body.length);
    for (const running of [one, two]) assert.equal((await running.answer()).error, undefined);
    assert.equal(tally(file.log).again, 0);
  });

  it('a follower can be aborted, and the download goes on', async () => {
    const { url } = await stage.serve({ bytesPerSecond: 3e6 });
    const [first, second] = await tabs(2);
    const one = await begin(first, url);
    await one.until(({ loaded }) => loaded > CHUNK);
    const two = await begin(second, url);
    await two.until(({ waiting }) => waiting === 'other-tab');
    await two.post('abort');
    assert.equal((await two.answer()).error?.code, 'aborted');
    assert.equal((await one.answer()).error, undefined);
    await first.assertStored(url, body);
  });

  it('different models do not wait for each other', async () => {
    const slow = await stage.serve({ bytesPerSecond: 1e6 }, 'other');
    const quick = await stage.serve({ body: modelOf(body.length, 2) }, 'other');
    const [first, second] = await tabs(2);
    const one = await begin(first, slow.url);
    await one.until(({ loaded }) => loaded > 0);
    const two = await begin(second, quick.url);
    assert.equal((await two.answer()).error, undefined);
    assert.equal((await one.last()).phase, 'download');
    await one.post('abort');
    await one.answer();
  });

  it('deleted in one tab while another reads it: it is loaded, or an error says why; nothing is left half', async (t) => {
    const { file, url } = await stage.serve({});
    const [first, second] = await tabs(2);
    await stage.assertWhole(await stage.load(url), url);
    const heard = await listen(first);
    const outcomes = [];
    for (let round = 0; round < 6; round++) {
      const reading = await begin(first, url);
      await sleep(round * 15);
      const gone = await second.ask({ type: 'delete', model: url });
      assert.equal(gone.error, undefined, gone.error?.message);
      const { value, error } = await reading.answer();
      outcomes.push(error?.code ?? value.source.kind);
      if (error) assert.ok(['storage', 'network'].includes(error.code), `${error.code}: ${error.message}`);
      const { manifest, chunks } = await second.storedSoFar(url, body);
      assert.ok(manifest ? manifest.complete === (chunks.length === N) : chunks.length === 0, `${chunks.length} chunks, ${manifest ? 'a' : 'no'} manifest`);
      await stage.assertWhole(await stage.load(url), url);
    }
    t.diagnostic(outcomes.join(', '));
    assert.ok((await heard()).some((/** @type {any} */ { type, id }) => type === 'deleted' && id === url));
    assert.ok(file.sent >= body.length);
  });

  it('deleted in one tab while another downloads it: nothing is left half', async (t) => {
    const { file, url } = await stage.serve({ bytesPerSecond: 4e6 });
    const [first, second] = await tabs(2);
    const one = await begin(first, url);
    await one.until(({ loaded }) => loaded > body.length / 2);
    const gone = await second.ask({ type: 'delete', model: url });
    const { value, error } = await one.answer();
    t.diagnostic(`delete: ${gone.error?.code ?? 'done'}; the download: ${error?.code ?? `loaded, ${value.source.stored ? 'stored' : `not stored (${value.source.why})`}`}`);
    const { manifest, chunks } = await second.storedSoFar(url, body);
    assert.ok(manifest ? !manifest.complete || chunks.length === N : chunks.length === 0, `${chunks.length} chunks, ${manifest ? 'a' : 'no'} manifest`);
    file.options.bytesPerSecond = undefined;
    await stage.assertWhole(await stage.load(url), url);
  });

  it('where there are no Web Locks, or no BroadcastChannel, one tab loads as ever', async () => {
    for (const missing of ["Object.defineProperty(WorkerNavigator.prototype, 'locks', { value: undefined })", 'delete self.BroadcastChannel']) {
      const visit = await stage.scene.visit(stage.scene.changedWorker(missing));
      const { url } = await stage.serve({});
      const { value, error } = await (await begin(visit, url)).answer();
      assert.equal(error, undefined, error?.message);
      assert.equal(value.source.stored, true);
      await visit.assertStored(url, body);
    }
  });
});
