// Worlds to download in: a number makes a server, what goes wrong on it, and what the caller knows of the file; and what must come of it.
//
// download.test.mjs runs twenty, `./build.sh bench soak` hundreds.
import assert from 'node:assert/strict';
import { FaultyFile, serveFaulty, tally } from './fault-server.mjs';
import { chance, seeded } from './faults.mjs';
import { modelOf, sha256 } from './scene.mjs';

/** All waits of the downloader are this many times shorter: a transfer that stands still is given up after a second, which a busy machine seldom takes. */
export const SPEEDUP = 20;
/** Answers that the client gives up although all of them was sent, on a machine that is busy with other things. */
const SLACK = 1;
/** Requests. */
const MOST_AT_ONCE = 6;
/** Longer than any of these downloads takes. */
const MOST_MS = 90_000;
/** What may happen in between; whatever of it does, the file must arrive. @type {import('./faults.mjs').Fault['kind'][]} */
const KINDS = ['drop', 'drop', 'short', 'stall', 'cut', 'part', 'whole', 'unsatisfiable', 'status', 'status', 'refuse', 'slow', 'unmeasured'];

/**
 * @typedef {object} World
 * @property {number} seed
 * @property {boolean} sameOrigin
 * @property {import('./fault-server.mjs').Options} options of the server
 * @property {Buffer} body what must be stored in the end; where the file changes, the file before will do if all of it was under way by then
 * @property {number} chunkBytes
 * @property {'once' | 'always' | null} flip a bit on the wire: the first time that its byte is sent, or each
 * @property {boolean} changes
 * @property {string | null} digest that the caller gives
 * @property {string} words
 */

/** @param {number} seed @param {number} size bytes of the file @param {number[]} chunkSizes @returns {World} */
export function world(seed, size, chunkSizes) {
  let drawn = 0;
  const draw = () => chance(seed, drawn++);
  const one = (/** @type {readonly any[]} */ list) => list[Math.floor(draw() * list.length)];
  const likely = (/** @type {number} */ share) => draw() < share;

  const chunkBytes = one(chunkSizes);
  const rate = 0.03 + draw() * 0.25;
  const sameOrigin = likely(0.5);
  const cors = sameOrigin || likely(0.7) ? 'all' : 'none';
  const etag = likely(0.8) ? 'strong' : one(['weak', 'none']);
  const ranges = likely(0.9);
  const measured = likely(0.95);
  const redirect = likely(0.3) ? (likely(0.5) ? { answers: 2 + Math.floor(draw() * 40) } : { ms: 50 + draw() * 500 }) : undefined;
  const digest = likely(0.5);
  const flip = likely(0.25) ? (digest && likely(0.5) ? 'always' : 'once') : null;
  // Nobody could see a change without a tag.
  const changes = likely(0.25) && etag === 'strong' && cors === 'all';
  const after = draw() * 0.9 * size;
  const longer = likely(0.5) ? Math.floor(draw() * 1e6) : 0;

  const first = modelOf(size, seed);
  const body = changes ? modelOf(size + longer, seed + 1e6) : first;
  const flips = flip ? [{ at: Math.floor((0.2 + 0.8 * draw()) * size), times: flip === 'once' ? 1 : Infinity }] : undefined;
  const plan = seeded(seed, { rate, kinds: KINDS });
  const words = [
    `${chunkBytes >> 10} KiB chunks`,
    `${Math.round(rate * 100)} % of answers`,
    sameOrigin ? 'same origin' : `other origin (${cors})`,
    `${etag} tag`,
    ...(ranges ? [] : ['no ranges']),
    ...(measured ? [] : ['no lengths']),
    ...(redirect ? ['answers' in redirect ? `addresses for ${redirect.answers} answers` : `addresses for ${Math.round(redirect.ms)} ms`] : []),
    ...(digest ? ['digest'] : []),
    ...(flip ? [`a bit flipped ${flip}`] : []),
    ...(changes ? [`another file after ${Math.round(after / 1e6)} MB`] : []),
  ].join(', ');
  return {
    seed,
    sameOrigin,
    options: { body: first, plan, cors, etag, ranges, measured, redirect, flips, changes: changes ? [{ after, body }] : undefined },
    body,
    chunkBytes,
    flip,
    changes,
    digest: digest ? sha256(body) : null,
    words,
  };
}

/**
 * Downloads in a world, and asserts what must come of it. What is stored is deleted again.
 *
 * @param {import('./scene.mjs').Visit} visit @param {World} world
 */
export async function endure(visit, world) {
  const { seed, sameOrigin, chunkBytes, flip, changes, digest } = world;
  const { site } = visit.scene;
  const file = new FaultyFile(world.options);
  const server = sameOrigin ? null : await serveFaulty(file);
  if (sameOrigin) for (const prefix of ['/faulty/', '/signed/']) site.route(prefix, (request, response) => file.handle(request, response));
  const url = server?.url ?? `${site.url}faulty/${seed}/model.gguf`;
  const began = performance.now();
  try {
    const running = await visit.beginLoad(url, {
      ...(digest ? { sha256: digest } : {}),
      debug: { download: { chunk_bytes: chunkBytes, speedup: SPEEDUP, seed } },
    });
    /** @type {NodeJS.Timeout | undefined} */
    let late;
    const answer = await Promise.race([running.answer(), new Promise((resolve) => (late = setTimeout(resolve, MOST_MS)))]);
    clearTimeout(late);
    if (!answer) {
      const under = file.log.filter(({ ended }) => ended === null).map(({ range, fault, sent }) => ({ range, fault, sent }));
      throw new Error(`it does not end: ${JSON.stringify({ progress: await running.last(), requests: file.log.length, under })}`);
    }
    const { value, error, progress } = /** @type {import('./scene.mjs').Answer} */ (answer);
    const ms = performance.now() - began;
    await visit.ask({ type: 'free' });
    /** @type {'identical' | 'caught' | 'unnoticed'} */
    let outcome = 'identical';
    const { manifest, chunks } = await visit.contents(url);
    const before = /** @type {Buffer} */ (world.options.body);
    // All of a file may have been under way when it changed.
    const old = changes && manifest && differing(chunks, before, manifest.chunk_bytes) < differing(chunks, world.body, manifest.chunk_bytes);
    const [body, version] = old ? [before, 0] : [world.body, file.version];
    // A whole answer that is shorter than the file, and says that this is its length, is taken at its word by whoever has no digest. A real model's
    // tensors would tell.
    const lies = file.log.filter(({ status, fault }) => status === 200 && (fault === 'cut' || fault === 'part')).length;
    const shortened = !digest && lies > 0 && manifest?.length < body.length;
    if (error) {
      assert.equal(error.code, 'digest_mismatch', error.message);
      assert.ok(digest && (flip === 'always' || lies > 1));
      assert.deepEqual([manifest, chunks], [null, []], 'what is wrong was kept');
      outcome = 'caught';
    } else if (shortened) {
      await visit.assertStored(url, body.subarray(0, manifest.length));
      outcome = 'unnoticed';
    } else if (flip && !digest && differing(chunks, body, manifest.chunk_bytes) === 1) {
      outcome = 'unnoticed';
    } else {
      await visit.assertStored(url, body);
      assert.deepEqual([value.source.stored, value.source.sha256, value.source.checked], [true, value.source.sha256 === null && !digest ? null : sha256(body), digest !== null]);
      assert.equal(value.model.bytes, body.length);
    }
    // Bytes come twice only where an answer broke: at most a chunk for each. But a wrong digest means to fetch all once more, and the bytes after
    // which the file changed are in the other version's tally.
    await file.settled();
    const { again, broken, covered } = tally(file.log, version);
    // Where a request cannot be made to depend on the version, some are answered from the new file before the first of them is seen to be.
    const inVain = changes && !(sameOrigin && !world.options.redirect) ? MOST_AT_ONCE * chunkBytes : 0;
    const wrong = digest ? Number(flip !== null) + lies : 0;
    const refetched = inVain + wrong * body.length;
    assert.ok(again <= (broken + SLACK) * chunkBytes + refetched, `${again} bytes came again, of ${broken} broken answers`);
    if (outcome !== 'caught') assert.equal(covered, shortened ? manifest.length : body.length);
    assert.equal(file.version, changes ? 1 : 0);
    assert.equal(file.log.filter(({ method }) => method === 'OPTIONS').length, 0, 'preflights');
    // The bar goes back only when another file begins, or a wrong one is thrown away.
    const back = progress.filter((p, i) => i > 0 && p.loaded < progress[i - 1].loaded).length;
    assert.ok(back <= (changes ? 1 : 0) + wrong, `the bar went back ${back} times`);
    await visit.ask({ type: 'delete', model: url });
    assert.deepEqual((await visit.contents(url)).chunks, []);
    const faults = file.log.filter(({ fault }) => fault !== null && fault !== 'redirect').length;
    return { seed, words: world.words, outcome, ms, bytes: body.length, requests: file.log.length, faults, again, broken };
  } finally {
    await server?.close();
    file.close();
  }
}

/** Chunks that are not the file's. @param {import('./scene.mjs').StoredChunk[]} chunks @param {Buffer} body @param {number} chunkBytes */
function differing(chunks, body, chunkBytes) {
  return chunks.filter(({ index, sha256: hash }) => hash !== sha256(body.subarray(index * chunkBytes, (index + 1) * chunkBytes))).length;
}
