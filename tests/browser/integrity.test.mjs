// Wrong bytes, in Chromium: files that change while they are downloaded, bits that flip on the wire, answers that lie, mirrors. Whatever happens,
// what is stored is one file's, and what a digest says is wrong is neither kept nor loaded.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { FaultyFile, serveFaulty, tally } from './fault-server.mjs';
import { skipWithout } from './harness.mjs';
import { chunkHashes, modelOf, sha256 } from './scene.mjs';
import { CHUNK, N, assertForward, body, useStage } from './stage.mjs';

const half = body.length >> 1;
const hashes = chunkHashes(body, CHUNK);
const digest = sha256(body);
/** In the second half of the file, behind the model's tensors. */
const place = 11 * CHUNK + 1234;

describe('integrity', { skip: skipWithout('chromium') }, () => {
  const stage = useStage();

  /** Nothing of a model may be left. @param {string} url */
  async function assertGone(url) {
    const { manifest, chunks } = await stage.visit.contents(url);
    assert.deepEqual([manifest, chunks], [null, []]);
  }

  for (const origin of /** @type {const} */ (['same', 'other'])) {
    for (const [what, other] of /** @type {const} */ ([['another file of the same length', modelOf(body.length, 2)], ['a longer one', modelOf(body.length + 3 * CHUNK, 3)], ['a shorter one', modelOf(body.length - 3 * CHUNK, 4)]])) {
      it(`the file becomes ${what}, ${origin} origin: a clean start, never a mix`, async () => {
        const { file, url } = await stage.serve({ changes: [{ after: half, body: other }] }, origin);
        const answer = await stage.load(url);
        await stage.assertWhole(answer, url, other);
        await file.settled();
        const { covered, again } = tally(file.log, 1);
        assert.equal(covered, other.length);
        // Another origin's answers cannot be asked for under a condition: those under way when the first is seen to be of another file are in vain.
        assert.ok(again <= (origin === 'same' ? 0 : 6 * CHUNK), `${again} bytes of the new file twice`);
        assert.equal(answer.progress.filter((p, i, all) => i > 0 && p.loaded < all[i - 1].loaded).length, 1, 'the bar goes back once');
      });
    }
  }

  it('the file changed since the last visit: nothing of the old one is used', async () => {
    const { file, url } = await stage.serve({ bytesPerSecond: 4e6 });
    const running = await stage.begin(url);
    await running.until(({ loaded }) => loaded > half);
    await running.post('abort');
    await running.answer();
    const { chunks } = await stage.visit.contents(url);
    assert.ok(chunks.length > 2);
    const other = modelOf(body.length, 5);
    file.change(other);
    file.options.bytesPerSecond = undefined;
    await stage.revisit();
    await stage.assertWhole(await stage.load(url), url, other);
    assert.equal(tally(file.log).covered, other.length);
  });

  it('a complete file is loaded from storage, whatever became of it on the server', async () => {
    const { file, url } = await stage.serve({});
    await stage.load(url);
    file.change(modelOf(body.length, 6));
    const before = file.log.length;
    assert.equal((await stage.load(url)).value.source.kind, 'cache');
    assert.equal(file.log.length, before);
  });

  it('a file that changes faster than it can be downloaded', async () => {
    const changes = Array.from({ length: 40 }, (_, i) => ({ after: 2 * CHUNK, body: modelOf(body.length, 10 + i) }));
    const { file, url } = await stage.serve({ changes });
    const { error } = await stage.load(url);
    assert.equal(error?.code, 'file_changed', error?.message);
    assert.ok(file.version < 40, `given up after ${file.version} changes`);
    const { chunks, manifest } = await stage.visit.contents(url);
    assert.ok(!manifest?.complete, `${chunks.length} chunks`);
  });

  it('a bit flips once, under the file’s digest: all is fetched once more, and is right', async () => {
    const { file, url } = await stage.serve({ flips: [{ at: place, times: 1 }] });
    const answer = await stage.load(url, { sha256: digest });
    await stage.assertWhole(answer, url);
    assert.deepEqual([answer.value.source.sha256, answer.value.source.checked], [digest, true]);
    assert.equal((await stage.visit.contents(url)).manifest.published, true);
    assert.ok(tally(file.log).again >= body.length - CHUNK && file.sent <= 2 * body.length + CHUNK, `${file.sent} bytes`);
  });

  it('a bit flips always, or the digest is another file’s: digest_mismatch, nothing kept, no third try', async () => {
    for (const { flips, sha256 } of [{ flips: [{ at: place, times: Infinity }], sha256: digest }, { flips: [], sha256: '0'.repeat(64) }]) {
      const { file, url } = await stage.serve({ flips });
      const { error, value } = await stage.load(url, { sha256 });
      assert.deepEqual([error?.code, value], ['digest_mismatch', undefined]);
      assert.ok(file.sent <= 2 * body.length + CHUNK, `${file.sent} bytes`);
      await assertGone(url);
      assert.equal((await stage.visit.ask({ type: 'score', ids: new Uint32Array([1]) })).error?.code, 'not_loaded');
    }
  });

  it('a bit flips under published chunk hashes: that chunk is fetched again, alone', async () => {
    for (const times of [1, 2]) {
      const { file, url } = await stage.serve({ flips: [{ at: place, times }] });
      const answer = await stage.load(url, { sha256: digest, chunks: { bytes: CHUNK, sha256: hashes } });
      await stage.assertWhole(answer, url);
      assert.equal(tally(file.log).again, times * CHUNK);
      assert.deepEqual(file.log.filter(({ range }) => range?.start === 11 * CHUNK).length, 1 + times);
    }
    const { file, url } = await stage.serve({ flips: [{ at: place, times: Infinity }] });
    const { error } = await stage.load(url, { sha256: digest, chunks: { bytes: CHUNK, sha256: hashes } });
    assert.equal(error?.code, 'digest_mismatch');
    assert.ok(file.sent < 2 * body.length, `${file.sent} bytes`);
    // The chunks that are right may stay; the wrong one may not.
    const { chunks } = await stage.visit.contents(url);
    for (const { index, sha256 } of chunks) assert.equal(sha256, hashes[index]);
  });

  it('a flip that nobody could know of is loaded; the manifest’s hashes are those of what came', async (t) => {
    const { url } = await stage.serve({ flips: [{ at: place, times: 1 }] });
    const { error, value } = await stage.load(url);
    assert.equal(error, undefined);
    assert.deepEqual([value.source.checked, value.source.sha256 === digest], [false, false]);
    const { manifest, chunks } = await stage.visit.contents(url);
    assert.deepEqual(chunks.map(({ sha256 }) => sha256), manifest.hashes);
    assert.deepEqual(chunks.filter(({ sha256 }, i) => sha256 !== hashes[i]).map(({ index }) => index), [11]);
    t.diagnostic('1 wrong chunk of 16 without a digest, as it must be');
  });

  for (const [name, fault] of /** @type {const} */ ([
    ['compressed', { kind: 'gzip' }],
    ['of other bytes than asked for', { kind: 'shifted', by: 100 }],
    ['longer than asked for', { kind: 'long', extra: 10 }],
  ])) {
    it(`answers ${name}: bad_response, and nothing of them is kept`, async () => {
      const always = await stage.serve({ plan: () => fault });
      const { error } = await stage.load(always.url);
      assert.equal(error?.code, 'bad_response', error?.message);
      assert.ok(always.file.log.length < 40, `${always.file.log.length} requests`);
      // One such answer in the middle: an error or the right file, but never its bytes.
      const once = await stage.serve({ plan: ({ start, attempt }) => (start === 5 * CHUNK && attempt === 0 ? fault : null) });
      const answer = await stage.load(once.url);
      if (answer.error) {
        assert.equal(answer.error.code, 'bad_response', answer.error.message);
        await stage.visit.storedSoFar(once.url, body);
      } else await stage.assertWhole(answer, once.url);
    });
  }

  it('a captive portal’s page, in the middle: what is stored stays, and none of the page is taken', async () => {
    let portal = false;
    const { file, url } = await stage.serve({ plan: () => (portal ? { kind: 'page' } : null), bytesPerSecond: 4e6 });
    const running = await stage.begin(url);
    await running.until(({ loaded }) => loaded > half);
    const { bytes } = await stage.visit.storedSoFar(url, body);
    assert.ok(bytes > 0);
    portal = true;
    const answer = await running.answer();
    assert.ok(['bad_response', 'network'].includes(answer.error?.code ?? ''), JSON.stringify(answer.error));
    assert.ok((await stage.visit.storedSoFar(url, body)).bytes >= bytes, 'a page that is no model took a download away');
    portal = false;
    file.options.bytesPerSecond = undefined;
    const again = await stage.load(url);
    await stage.assertWhole(again, url);
    assert.ok(again.progress[0].resumed > 0);
  });

  describe('mirrors', () => {
    /** @param {Partial<import('./fault-server.mjs').Options>} first @param {Partial<import('./fault-server.mjs').Options>} [second] */
    async function two(first, second = {}) {
      return [await stage.serve(first, 'other'), await stage.serve(second, 'other')];
    }
    const gone = { plan: () => /** @type {const} */ ({ kind: 'status', status: 404 }) };

    it('an address that never answered is replaced without a digest; the model keeps the name of the first', async () => {
      const [first, second] = await two(gone);
      const answer = await stage.load(first.url, { mirrors: [second.url] });
      await stage.assertWhole(answer, first.url);
      assert.equal(tally(second.file.log).covered, body.length);
      assert.deepEqual((await stage.visit.contents(second.url)).chunks, []);
      assert.equal((await stage.load(first.url)).value.source.kind, 'cache');
    });

    it('so is one where nobody listens', async () => {
      const [first, second] = await two({});
      await stage.ends.shift()?.(); // the first server's
      await stage.assertWhole(await stage.load(first.url, { mirrors: [second.url] }), first.url);
    });

    it('one that breaks in the middle is not mixed with another without a digest', async () => {
      const [first, second] = await two({ plan: ({ start, n }) => (start > half && n > 2 ? { kind: 'refuse' } : null) });
      const { error } = await stage.load(first.url, { mirrors: [second.url] });
      assert.equal(error?.code, 'network', error?.message);
      assert.equal(second.file.sent, 0);
      assert.ok((await stage.visit.storedSoFar(first.url, body)).bytes > 0, 'what came is kept');
    });

    it('under a digest the mirror sends the rest, and no more', async (t) => {
      const [first, second] = await two({ plan: ({ start }) => (start >= 8 * CHUNK ? { kind: 'status', status: 404 } : null) });
      const answer = await stage.load(first.url, { mirrors: [second.url], sha256: digest });
      await stage.assertWhole(answer, first.url);
      assertForward(answer);
      t.diagnostic(`${first.file.sent} bytes from the first, ${second.file.sent} from its mirror`);
      assert.ok(first.file.sent > 0 && second.file.sent > 0 && first.file.sent + second.file.sent <= body.length + CHUNK);
    });

    it('a mirror with another file is found out by the digest', async () => {
      const [first, second] = await two({ plan: ({ start }) => (start >= 8 * CHUNK ? { kind: 'status', status: 404 } : null) }, { body: modelOf(body.length, 2) });
      const { error } = await stage.load(first.url, { mirrors: [second.url], sha256: digest });
      assert.ok(['digest_mismatch', 'http_status', 'bad_response'].includes(error?.code ?? ''), JSON.stringify(error));
      const { manifest } = await stage.visit.contents(first.url);
      assert.ok(!manifest?.complete);
    });

    it('a mirror with a file of another length is not taken for the rest', async () => {
      const [first, second] = await two({ plan: ({ start }) => (start >= 8 * CHUNK ? { kind: 'status', status: 404 } : null) }, { body: modelOf(body.length + 1, 1) });
      const { error } = await stage.load(first.url, { mirrors: [second.url], sha256: digest });
      assert.ok(['bad_response', 'http_status'].includes(error?.code ?? ''), JSON.stringify(error));
      assert.ok(first.file.sent <= 8 * CHUNK, 'what the first had sent was thrown away for its sake');
      assert.ok(second.file.sent <= 12 * CHUNK, `${second.file.sent} bytes of it`);
      assert.ok((await stage.visit.storedSoFar(first.url, body)).bytes > 0);
    });

    it('all gone: the last one’s status', async () => {
      const [first, second] = await two(gone, { plan: () => ({ kind: 'status', status: 410 }) });
      const { error } = await stage.load(first.url, { mirrors: [second.url] });
      assert.equal(error?.code, 'http_status');
      assert.deepEqual([first.file.log.length, second.file.log.length], [1, 1]);
    });

    it('a mirror on the page’s own origin: no preflight, no tag of the other’s', async () => {
      const first = await stage.serve(gone, 'other');
      const second = await stage.serve({}, 'same');
      await stage.assertWhole(await stage.load(first.url, { mirrors: [second.url] }), first.url);
      assert.ok(second.file.log.every(({ ifRange }) => ifRange === null || ifRange === second.file.etag));
    });

    it('a mirror is asked when the first answers in a way that cannot be used', async () => {
      const [first, second] = await two({ plan: () => ({ kind: 'gzip' }) });
      await stage.assertWhole(await stage.load(first.url, { mirrors: [second.url] }), first.url);
    });
  });

  it('the same file at two addresses is two models', async () => {
    const file = new FaultyFile({ body });
    const { origin, close } = await serveFaulty(file);
    stage.ends.push(close);
    for (const name of ['one.gguf', 'two.gguf']) await stage.assertWhole(await stage.load(`${origin}/${name}`), `${origin}/${name}`);
    assert.equal((await stage.visit.models()).filter(({ id }) => id.startsWith(origin)).length, 2);
    assert.ok(file.sent >= 2 * body.length && N > 2);
  });
});
