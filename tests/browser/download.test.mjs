// Downloads over bad lines, in Chromium with a persistent profile: twenty worlds that seeds make, and each fault alone, with what must be asked
// for then, to the byte. The waits of the downloader are 50 times shorter than they are for visitors, unless a test measures them.
//
// integrity.test.mjs is about wrong bytes, patience.test.mjs about waiting, resume.test.mjs about what ends in the middle.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { serveFaulty, tally } from './fault-server.mjs';
import { endure, world } from './fault-worlds.mjs';
import { skipWithout } from './harness.mjs';
import { modelOf, sha256, tiny } from './scene.mjs';
import { CHUNK, N, assertForward, body, useStage } from './stage.mjs';

describe('download', { skip: skipWithout('chromium') }, () => {
  const stage = useStage();

  /** Most answers that were under way at once. @param {import('./fault-server.mjs').FaultyFile} file */
  function mostAtOnce({ log }) {
    const events = log.filter(({ ended }) => ended !== null).flatMap(({ at, ended }) => [{ t: at, n: 1 }, { t: Number(ended), n: -1 }]);
    let now = 0;
    let most = 0;
    for (const { n } of events.toSorted((a, b) => a.t - b.t)) most = Math.max(most, (now += n));
    return most;
  }

  it('twenty seeds of 16 MB', { timeout: 600_000 }, async (t) => {
    /** @type {Awaited<ReturnType<typeof endure>>[]} */
    const runs = [];
    for (let seed = 1; seed <= 20; seed++) {
      const one = world(seed, 16 << 20, [64 << 10, 128 << 10, 256 << 10]);
      try {
        const run = await endure(stage.visit, one);
        runs.push(run);
        t.diagnostic(`${seed}: ${run.outcome} after ${run.faults} faults in ${run.requests} requests, ${run.again} bytes again, ${Math.round(run.ms)} ms: ${run.words}`);
      } catch (error) {
        throw Object.assign(/** @type {Error} */ (error), { message: `seed ${seed} (${one.words}): ${/** @type {Error} */ (error).message}` });
      }
    }
    const count = (/** @type {string} */ outcome) => runs.filter((run) => run.outcome === outcome).length;
    t.diagnostic(`${count('identical')} identical, ${count('caught')} caught by their digest, ${count('unnoticed')} with a flipped bit that nobody could notice`);
    // What never happens is not tested.
    assert.ok(runs.reduce((sum, { faults }) => sum + faults, 0) > 200);
    assert.ok(count('caught') > 0 && runs.some(({ words }) => words.includes('another file')));
  });

  it('without faults: each byte once, four to six requests at a time, each but the first only for the version that was begun', async (t) => {
    const { file, url } = await stage.serve({ bytesPerSecond: 8e6 });
    const answer = await stage.load(url);
    await stage.assertWhole(answer, url);
    const { log } = file;
    assert.deepEqual(tally(log), { covered: body.length, again: 0, broken: 0, wholes: 0 });
    assert.ok(log.length <= N + 1, `${log.length} requests for ${N} chunks`);
    assert.ok(log.every(({ method, range }) => method === 'GET' && range), 'plain GETs of ranges');
    assert.deepEqual(log.map(({ ifRange }) => ifRange), [null, ...Array.from({ length: log.length - 1 }, () => file.etag)]);
    const most = mostAtOnce(file);
    t.diagnostic(`${log.length} requests, ${most} at once`);
    assert.ok(most >= 4 && most <= 6, `${most} at once`);
    const { progress } = answer;
    assert.ok(progress.every((p) => p.resumed === 0 && !p.paused && p.waiting === null && p.retrySeconds === null && p.problem === null), JSON.stringify(progress.at(-1)));
    assertForward(answer);
    assert.equal(progress.at(-1).loaded, body.length);
    assert.deepEqual([answer.value.source.sha256, answer.value.source.checked], [sha256(body), false]);
    const { manifest } = await stage.visit.contents(url);
    assert.deepEqual([manifest.etag, manifest.url, manifest.group, manifest.published, manifest.chunk_bytes], [file.etag, url, null, false, CHUNK]);
    assert.ok(manifest.used_ms >= manifest.created_ms && Date.now() - manifest.created_ms < 120_000);
    // The second time nothing is asked for.
    const before = log.length;
    const again = await stage.load(url);
    assert.deepEqual([again.value.source.kind, log.length], ['cache', before]);
    assert.ok(again.progress.every((p) => p.fromCache));
  });

  for (const cors of /** @type {const} */ (['all', 'none'])) {
    it(`from another origin that shows ${cors === 'all' ? 'its' : 'no'} headers: no preflight`, async () => {
      const { file, url } = await stage.serve({ cors }, 'other');
      await stage.assertWhole(await stage.load(url), url);
      assert.deepEqual([...new Set(file.log.map(({ method }) => method))], ['GET']);
      assert.ok(file.log.every(({ ifRange, headers }) => ifRange === null && headers.referer === undefined && headers.cookie === undefined));
      const { covered, again } = tally(file.log);
      assert.equal(covered, body.length);
      assert.ok(again <= CHUNK, `${again} bytes twice`);
    });
  }

  const at = 5 * CHUNK;
  /** What goes wrong with the sixth chunk, once. @type {{fault: import('./faults.mjs').Fault, more: number, from?: number, again?: number}[]} `more` requests, the next
    from byte `from` on, and `again` bytes a second time */
  const once = [
    { fault: { kind: 'drop', after: 100_000 }, more: 1, from: at + 100_000 },
    { fault: { kind: 'drop', after: 0 }, more: 1, from: at },
    { fault: { kind: 'short', after: 200_001 }, more: 1, from: at + 200_001 },
    { fault: { kind: 'stall', after: 50_000 }, more: 1, from: at + 50_000 },
    { fault: { kind: 'stall', after: 0 }, more: 1, from: at },
    { fault: { kind: 'cut', after: 77_777 }, more: 1, from: at, again: 77_777 }, // of a lie nothing is taken
    { fault: { kind: 'part', after: 77_777 }, more: 1, from: at + 77_777 },
    { fault: { kind: 'unsatisfiable' }, more: 1, from: at },
    { fault: { kind: 'whole' }, more: 1, from: at },
    ...[408, 425, 429, 500, 502, 503, 504].map((status) => ({ fault: /** @type {const} */ ({ kind: 'status', status }), more: 1, from: at })),
    { fault: { kind: 'unmeasured' }, more: 0 },
    { fault: { kind: 'unranged' }, more: 0 },
    { fault: { kind: 'slow', bytesPerSecond: 1e6 }, more: 0 },
  ];
  for (const origin of /** @type {const} */ (['same', 'other'])) {
    it(`each fault alone, ${origin} origin: what is missing is asked for again, and no more`, { timeout: 120_000 }, async (t) => {
      for (const { fault, more, from, again: most = 0 } of once) {
        const name = JSON.stringify(fault);
        const { file, url } = await stage.serve({ plan: ({ start, attempt }) => (start === at && attempt === 0 ? fault : null) }, origin);
        const answer = await stage.load(url);
        await stage.assertWhole(answer, url).catch((error) => assert.fail(`${name}: ${error.message}`));
        await file.settled();
        const { covered, again } = tally(file.log);
        const faulty = file.log.findIndex((entry) => entry.fault === fault.kind);
        assert.ok(faulty >= 0, `${name} did not happen`);
        if (from !== undefined) assert.ok(file.log.slice(faulty + 1).some(({ range }) => range?.start === from), `${name}: nobody asked from byte ${from} on`);
        assert.equal(covered, body.length, name);
        assert.ok(again <= most, `${name}: ${again} bytes came again`);
        assert.ok(file.log.length <= N + 1 + more, `${name}: ${file.log.length} requests`);
      }
      t.diagnostic(`${once.length} faults`);
    });
  }

  it('a connection that is reset before it answers', async () => {
    const { file, url } = await stage.serve({ plan: ({ start, attempt }) => (start === at && attempt < 3 ? { kind: 'refuse' } : null) });
    await stage.assertWhole(await stage.load(url), url);
    assert.equal(tally(file.log).again, 0);
  });

  it('a server that forgets about ranges in the middle: one stream from then on, and what is there is passed over', async () => {
    let forgot = false;
    const { file, url } = await stage.serve({ plan: ({ start }) => ((forgot ||= start === at) ? { kind: 'whole' } : null), bytesPerSecond: 20e6 });
    const answer = await stage.load(url);
    await stage.assertWhole(answer, url);
    assertForward(answer);
    const { again, wholes } = tally(file.log);
    assert.ok(wholes <= 6 && again === 0, `${wholes} answers of 200, ${again} bytes of ranges twice`);
  });

  it('a server without ranges: one request; when it breaks, another, and what was kept is passed over', async () => {
    const one = await stage.serve({ ranges: false });
    await stage.assertWhole(await stage.load(one.url), one.url);
    assert.equal(one.file.log.length, 1);
    const broken = await stage.serve({ ranges: false, plan: ({ n }) => (n === 0 ? { kind: 'drop', after: body.length >> 1 } : null) });
    const answer = await stage.load(broken.url);
    await stage.assertWhole(answer, broken.url);
    assert.equal(broken.file.log.length, 2);
    assertForward(answer);
  });

  it('a server that says no length, with and without ranges', async () => {
    for (const ranges of [true, false]) {
      const { url } = await stage.serve({ measured: false, ranges });
      await stage.assertWhole(await stage.load(url), url);
    }
  });

  it('files smaller than a chunk, or of whole chunks', async () => {
    for (const whole of [tiny, modelOf(12 * CHUNK)]) {
      const { file, url } = await stage.serve({ body: whole });
      await stage.assertWhole(await stage.load(url, {}, { chunk_bytes: whole === tiny ? 8 << 20 : CHUNK }), url, whole);
      assert.equal(tally(file.log).again, 0);
      if (whole === tiny) assert.equal(file.log.length, 1);
    }
  });

  it('addresses that expire are asked for again where they came from', async (t) => {
    for (const origin of /** @type {const} */ (['same', 'other'])) {
      const { file, url } = await stage.serve({ redirect: { answers: 5 } }, origin);
      await stage.assertWhole(await stage.load(url), url);
      const count = (/** @type {string} */ fault) => file.log.filter((entry) => entry.fault === fault).length;
      t.diagnostic(`${origin} origin: ${count('redirect')} addresses, ${count('expired')} answers of 403, ${file.log.length} requests`);
      assert.ok(count('expired') > 0 && count('redirect') >= 3);
      assert.equal(tally(file.log).again, 0);
      assert.equal(file.log.filter(({ method }) => method === 'OPTIONS').length, 0);
    }
  });

  it('an address of the page’s origin that leads to another: no preflight there either, also when it is resumed', async () => {
    const { file, url } = await stage.serve({});
    const elsewhere = await serveFaulty(file);
    stage.ends.push(elsewhere.close);
    file.options.redirect = { answers: 6, to: elsewhere.origin };
    file.options.bytesPerSecond = 4e6;
    const running = await stage.begin(url);
    await running.until(({ loaded }) => loaded >= 6 * CHUNK);
    await running.post('abort');
    assert.equal((await running.answer()).error?.code, 'aborted');
    file.options.bytesPerSecond = undefined;
    const answer = await stage.load(url);
    await stage.assertWhole(answer, url);
    assert.ok(answer.progress[0].resumed > 0);
    assert.equal(file.log.filter(({ method }) => method === 'OPTIONS').length, 0, 'preflights');
  });

  it('what is refused for good: the code, the status, and no second request', async () => {
    for (const status of [401, 403, 404, 410]) {
      const { file, url } = await stage.serve({ plan: () => ({ kind: 'status', status }) }, 'other');
      const { error } = await stage.load(url);
      assert.equal(error?.code, 'http_status');
      assert.match(error?.message ?? '', new RegExp(`${status}`));
      assert.equal(file.log.length, 1, `${status} is not asked for again`);
    }
    assert.deepEqual(await stage.visit.models().then((list) => list.filter(({ bytes }) => bytes === 0)), [], 'nothing was written down of what never began');
  });

  it('unstored: nothing is read from the store, and nothing is written', async () => {
    const { file, url } = await stage.serve({});
    const { value, error } = await stage.load(url, { store: false });
    assert.equal(error, undefined);
    assert.deepEqual([value.source.kind, value.source.stored], ['network', false]);
    assert.deepEqual((await stage.visit.contents(url)).chunks, []);
    await stage.assertWhole(await stage.load(url), url);
    const before = file.log.length;
    assert.equal((await stage.load(url, { store: false })).value.source.kind, 'network');
    assert.ok(file.log.length > before);
  });
});
