// Ends downloads in the middle and starts them again: for resume.test.mjs and `./build.sh bench soak`.
import assert from 'node:assert/strict';
import { SPEEDUP } from './fault-worlds.mjs';
import { sleep } from './scene.mjs';

/** Most requests under way at once. */
const PARALLEL = 6;
/** Chunks that have arrived and are being hashed or written. */
const IN_HAND = 4;

/**
 * Begins a download, ends it when a share of it was sent, starts it again, and asserts what was asked for then.
 *
 * @param {{scene: import('./scene.mjs').Scene, visit: import('./scene.mjs').Visit, revisit: () => Promise<import('./scene.mjs').Visit>}} stage
 * @param {object} work
 * @param {import('./fault-server.mjs').FaultyFile} work.file throttled; not any more when it is resumed
 * @param {string} work.url
 * @param {Buffer | null} work.body null: too large for such looks; what is stored is not compared with it
 * @param {'abort' | 'worker' | 'page' | 'kill'} work.how
 * @param {number} work.at share of the file
 * @param {{chunk_bytes?: number}} work.download
 * @param {object} [work.options] of the load
 */
export async function interruptAndResume(stage, { file, url, body, how, at, download, options = {} }) {
  const { scene } = stage;
  const { size } = file;
  const load = { ...options, debug: { download: { speedup: SPEEDUP, ...download } } };
  const pid = how === 'kill' ? await scene.pid() : 0;
  const running = await stage.visit.beginLoad(url, load);
  while (file.sent < at * size) await sleep(2);
  if (how === 'kill') {
    await scene.kill(pid);
    await scene.launch();
    stage.visit = await scene.visit();
  } else {
    if (how === 'abort') {
      await running.post('abort');
      assert.equal((await running.answer()).error?.code, 'aborted');
    }
    if (how === 'worker') await stage.visit.terminate();
    await stage.revisit();
  }
  await file.settled();
  const sent = file.sent;
  const first = file.log.length;
  file.options = { ...file.options, bytesPerSecond: undefined };

  const stored = body ? await stage.visit.storedSoFar(url, body) : await stage.visit.sizes(url);
  const there = new Set(stored.chunks.map(({ index }) => index));
  const began = performance.now();
  const { value, error, progress } = await stage.visit.load(url, load);
  const ms = performance.now() - began;
  assert.equal(error, undefined, `${error?.code}: ${error?.message}`);
  assert.equal(value.source.stored, true, value.source.why);
  if (body) await stage.visit.assertStored(url, body);
  await file.settled();
  const later = file.log.slice(first);
  const chunkBytes = stored.manifest?.chunk_bytes ?? size;
  // Nothing that was stored is asked for again.
  for (const { range, status, from, sent, fault } of later.filter((entry) => entry.sent > 0)) {
    assert.equal(status, 206, `${fault ?? 'a request'} for ${JSON.stringify(range)}`);
    for (let index = Math.floor(from / chunkBytes); index * chunkBytes < from + sent; index++) assert.ok(!there.has(index), `chunk ${index} was stored and came again`);
  }
  const again = file.sent - size;
  assert.ok(again <= (PARALLEL + IN_HAND) * chunkBytes, `${again} bytes came again, ${chunkBytes} to a chunk`);
  assert.equal(progress[0].resumed, stored.bytes);
  assert.ok(progress[0].loaded >= stored.bytes, 'the bar starts where it stopped');
  return { how, at, sent, stored: stored.bytes, again, ms };
}
