// Waiting, in Chromium: for a server that asks for patience, for a network that is gone, for a visitor who paused, and for how long. No waits
// are shortened where they are measured.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { tally } from './fault-server.mjs';
import { skipWithout } from './harness.mjs';
import { sleep } from './scene.mjs';
import { CHUNK, assertForward, body, useStage } from './stage.mjs';

const at = 5 * CHUNK;
const half = body.length >> 1;
/** How many bytes may come again after a break that hit all requests under way. */
const IN_FLIGHT = 6 * CHUNK;

describe('patience', { skip: skipWithout('chromium') }, () => {
  const stage = useStage();

  for (const [name, origin, fault] of /** @type {const} */ ([
    ['429 with seconds', 'same', { kind: 'status', status: 429, retryAfter: 2 }],
    ['503 with seconds, from another origin', 'other', { kind: 'status', status: 503, retryAfter: 2 }],
    ['429 with a date', 'same', { kind: 'status', status: 429, retryAfter: 'a date' }],
  ])) {
    it(`Retry-After is honoured: ${name}`, async (t) => {
      const { file, url } = await stage.serve(
        {
          plan: ({ start, attempt }) => {
            if (start !== at || attempt > 0) return null;
            // A date has whole seconds: this one lies two to three from now.
            return fault.retryAfter === 'a date' ? { ...fault, retryAfter: new Date(Date.now() + 3000).toUTCString() } : fault;
          },
        },
        origin,
      );
      const running = await stage.begin(url, {}, { speedup: 1 });
      const waiting = await running.until(({ waiting }) => waiting === 'busy');
      assert.ok(waiting.retrySeconds > 0 && waiting.retrySeconds <= 3, `${waiting.retrySeconds} s`);
      const answer = await running.answer();
      await stage.assertWhole(answer, url);
      const [refused, next] = file.log.filter(({ range }) => range?.start === at);
      const seconds = (next.at - refused.at) / 1000;
      t.diagnostic(`asked again after ${seconds.toFixed(2)} s`);
      assert.ok(seconds >= 1.95 && seconds < 6, `${seconds} s`);
      assert.equal(answer.progress.at(-1).waiting, null);
      assert.equal(tally(file.log).again, 0);
    });
  }

  it('a server that breaks again and again is asked less and less often', async (t) => {
    const { file, url } = await stage.serve({ plan: ({ start, attempt }) => (start === at && attempt < 4 ? { kind: 'status', status: 502 } : null) });
    const running = await stage.begin(url, {}, { speedup: 4 });
    const waiting = await running.until(({ waiting }) => waiting === 'retry');
    assert.ok(waiting.retrySeconds >= 0);
    await stage.assertWhole(await running.answer(), url);
    const times = file.log.filter(({ range }) => range?.start === at).map(({ at }) => at);
    const gaps = times.slice(1).map((t, i) => t - times[i]);
    t.diagnostic(`${gaps.map((ms) => Math.round(4 * ms)).join(', ')} ms between tries`);
    assert.equal(gaps.length, 4);
    assert.ok(gaps[0] + gaps[1] < gaps[2] + gaps[3], `${gaps}`);
  });

  it('a server that never gets better: an error that says what is kept, and the next load goes on from there', async (t) => {
    let down = true;
    const { file, url } = await stage.serve({ plan: ({ start }) => (down && start >= half ? { kind: 'refuse' } : null) });
    const { error } = await stage.load(url);
    assert.equal(error?.code, 'network', error?.message);
    assert.match(error?.message ?? '', /kept/);
    const tries = file.log.length;
    const { bytes } = await stage.visit.storedSoFar(url, body);
    assert.ok(bytes >= half - CHUNK, `${bytes} bytes are kept`);
    assert.deepEqual((await stage.visit.models()).filter(({ id }) => id === url).map(({ bytes, total, complete }) => ({ bytes, total, complete })), [{ bytes, total: body.length, complete: false }]);
    down = false;
    await stage.revisit();
    const answer = await stage.load(url);
    await stage.assertWhole(answer, url);
    assert.deepEqual([answer.progress[0].resumed, answer.progress[0].loaded >= bytes], [bytes, true], 'the bar starts where it stopped');
    assertForward(answer);
    t.diagnostic(`${tries} requests before it was given up, ${bytes} bytes kept`);
    const later = file.log.slice(tries);
    assert.equal(later.reduce((sum, { sent }) => sum + sent, 0), body.length - bytes);
  });

  it('silence ends, and is told from slowness', async () => {
    // A stall of every request at once, and a line so slow that each chunk takes many time-outs' worth of what a stall may last.
    const { file, url } = await stage.serve({ plan: ({ n, attempt }) => (n > 3 && n < 10 && attempt === 0 ? { kind: 'stall', after: 1000 } : null) });
    await stage.assertWhole(await stage.load(url), url);
    assert.equal(tally(file.log).again, 0);
    const slow = await stage.serve({ bytesPerSecond: 1e6 });
    await stage.assertWhole(await stage.load(slow.url), slow.url);
    assert.equal(tally(slow.file.log).again, 0);
  });

  it('no network: nothing is asked for until it is back', async (t) => {
    const { file, url } = await stage.serve({ bytesPerSecond: 2e6 });
    const running = await stage.begin(url, {}, { speedup: 10 });
    await running.until(({ loaded }) => loaded > half);
    await stage.scene.context.setOffline(true);
    const { loaded } = await running.until(({ waiting }) => waiting === 'offline');
    const asked = file.log.length;
    await sleep(2000);
    assert.ok(file.log.length <= asked, 'asked without a network');
    assert.equal((await running.last()).waiting, 'offline');
    const back = performance.now();
    file.options.bytesPerSecond = undefined;
    await stage.scene.context.setOffline(false);
    const answer = await running.answer();
    await stage.assertWhole(answer, url);
    t.diagnostic(`ready ${Math.round(performance.now() - back)} ms after the network was back, of which ${body.length - loaded} bytes were missing`);
    assertForward(answer);
    assert.ok(tally(file.log).again <= IN_FLIGHT);
  });

  it('no network from the start', async () => {
    const { file, url } = await stage.serve({}, 'other');
    await stage.load(url, { store: false }); // the engine's own files
    file.log.length = 0;
    await stage.scene.context.setOffline(true);
    const running = await stage.begin(url, {}, { speedup: 10 });
    const first = await Promise.race([running.answer(), running.until(({ waiting }) => waiting === 'offline')]);
    // Either it waits, or it says at once what the matter is.
    if (first.error) assert.deepEqual([first.error.code, /offline/.test(first.error.message)], ['network', true], first.error.message);
    await stage.scene.context.setOffline(false);
    if (first.error) await stage.load(url);
    else await running.answer();
    await stage.visit.assertStored(url, body);
  });

  it('paused: no byte flows, for as long as it takes; then it goes on where it was', async (t) => {
    for (const origin of /** @type {const} */ (['same', 'other'])) {
      const { file, url } = await stage.serve({ bytesPerSecond: 2e6 }, origin);
      const running = await stage.begin(url);
      await running.until(({ loaded }) => loaded > half / 2);
      await running.post('pause');
      const { loaded } = await running.until(({ paused }) => paused);
      await sleep(500); // what was on its way
      const [sent, asked] = [file.sent, file.log.length];
      const { bytes } = await stage.visit.storedSoFar(url, body);
      await sleep(2000);
      assert.deepEqual([file.sent, file.log.length], [sent, asked], 'bytes flowed');
      assert.equal((await stage.visit.storedSoFar(url, body)).bytes, bytes);
      assert.ok(loaded < body.length);
      await running.post('continue');
      await running.until(({ paused }) => !paused);
      await running.post('pause');
      await running.until(({ paused }) => paused);
      await running.post('continue');
      const answer = await running.answer();
      await stage.assertWhole(answer, url);
      assertForward(answer);
      const { again } = tally(file.log);
      t.diagnostic(`${origin} origin: paused twice, ${again} bytes came again`);
      assert.ok(again <= 2 * IN_FLIGHT);
    }
  });

  it('paused, then aborted, or paused before it began', async () => {
    const { file, url } = await stage.serve({ bytesPerSecond: 2e6 });
    const running = await stage.begin(url);
    await running.until(({ loaded }) => loaded > CHUNK);
    await running.post('pause');
    await running.until(({ paused }) => paused);
    const began = performance.now();
    await running.post('abort');
    assert.equal((await running.answer()).error?.code, 'aborted');
    assert.ok(performance.now() - began < 1000);
    file.options.bytesPerSecond = undefined;
    const early = await stage.begin(url);
    await early.post('pause');
    await early.until(({ paused }) => paused);
    await sleep(500);
    const asked = file.log.length;
    await sleep(500);
    assert.equal(file.log.length, asked);
    await early.post('continue');
    await stage.assertWhole(await early.answer(), url);
  });

  it('aborted while it waits for a retry, or for a network', async () => {
    const busy = await stage.serve({ plan: () => ({ kind: 'status', status: 503, retryAfter: 60 }) });
    const running = await stage.begin(busy.url, {}, { speedup: 1 });
    await running.until(({ waiting }) => waiting === 'busy');
    await running.post('abort');
    const began = performance.now();
    assert.equal((await running.answer()).error?.code, 'aborted');
    assert.ok(performance.now() - began < 1000);
    assert.equal(busy.file.log.length, 1);
  });
});
