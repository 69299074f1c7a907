// The server that the download's tests trust: each fault does what it says, the log says what was sent, and a seed means the same faults in
// whichever order requests come.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, test } from 'node:test';
import { FaultyFile, serveFaulty, tally } from './fault-server.mjs';
import { chance, noise, seeded } from './faults.mjs';
import { startServer } from './harness.mjs';

const SIZE = 300_000;
const body = noise(SIZE, 1);
const other = noise(SIZE + 5, 2);

/** @type {Awaited<ReturnType<typeof serveFaulty>>} */
let server;
before(async () => {
  server = await serveFaulty({ body });
});
after(() => server.close());

/** Begins a test with other options and an empty log. @param {Partial<import('./fault-server.mjs').Options>} options */
function set(options) {
  server.file.options = { body, ...options };
  server.file.log.length = 0;
}

/** @param {number} start @param {number} end @param {Record<string, string>} [headers] */
const get = (start, end, headers = {}, url = server.url) => fetch(url, { headers: { Range: `bytes=${start}-${end - 1}`, ...headers } });
/** What came until the answer broke. @param {Response} response */
async function received(response) {
  const pieces = [];
  let error = null;
  try {
    for await (const piece of response.body ?? []) pieces.push(piece);
  } catch (e) {
    error = e;
  }
  return { bytes: Buffer.concat(pieces), broke: error !== null };
}
/** One answer under a fault. @param {import('./faults.mjs').Fault} fault */
async function under(fault, start = 1000, end = 200_000) {
  set({ plan: () => fault });
  const response = await get(start, end);
  return { response, headers: response.headers, ...(await received(response)) };
}

test('without faults: ranges, tags and a log', async () => {
  set({});
  const response = await get(1000, 2000);
  assert.deepEqual([response.status, response.headers.get('content-range'), response.headers.get('content-length')], [206, `bytes 1000-1999/${SIZE}`, '1000']);
  assert.ok(body.subarray(1000, 2000).equals((await received(response)).bytes));
  const etag = response.headers.get('etag') ?? '';
  assert.match(etag, /^"\w{32}"$/);
  assert.equal((await get(0, 10, { 'If-Range': etag })).status, 206);
  assert.equal((await get(0, 10, { 'If-Range': '"other"' })).status, 200);
  assert.equal((await get(SIZE, SIZE + 10)).status, 416);
  const head = await fetch(server.url, { method: 'HEAD' });
  assert.deepEqual([head.status, head.headers.get('content-length')], [200, String(SIZE)]);
  assert.equal((await fetch(server.url, { method: 'OPTIONS' })).status, 405);
  await server.file.settled();
  const { n, method, path, range, ifRange, status, fault, from, sent, whole } = server.file.log[0];
  assert.deepEqual(
    { n, method, path, range, ifRange, status, fault, from, sent, whole },
    { n: 0, method: 'GET', path: '/model.gguf', range: { start: 1000, end: 2000 }, ifRange: null, status: 206, fault: null, from: 1000, sent: 1000, whole: true },
  );
  assert.deepEqual(server.file.log.map(({ status }) => status), [206, 206, 200, 416, 200, 405]);
});

test('answers that break: the bytes before the break arrive, and no more', async () => {
  for (const kind of /** @type {const} */ (['drop', 'short'])) {
    for (const after of [0, 1, 150_000]) {
      const { response, headers, bytes, broke } = await under({ kind, after });
      assert.deepEqual([response.status, headers.get('content-length'), bytes.length, broke], [206, '199000', after, true], `${kind} after ${after}`);
      assert.ok(body.subarray(1000, 1000 + after).equals(bytes));
      assert.deepEqual([server.file.log[0].sent, server.file.log[0].whole], [after, false]);
    }
  }
  set({ plan: () => ({ kind: 'refuse' }) });
  await assert.rejects(get(0, 10));
  assert.equal(server.file.log[0].status, 0);
});

test('silence lasts until the client leaves', async () => {
  set({ plan: () => ({ kind: 'stall', after: 500 }) });
  const controller = new AbortController();
  const response = await fetch(server.url, { signal: controller.signal, headers: { Range: 'bytes=0-9999' } });
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
  assert.equal((await reader.read()).value?.length, 500);
  const next = reader.read();
  const soon = new Promise((resolve) => setTimeout(resolve, 300, 'silent'));
  assert.equal(await Promise.race([next, soon]), 'silent');
  controller.abort();
  await assert.rejects(next);
  await server.file.settled();
  assert.deepEqual([server.file.log[0].sent, server.file.log[0].whole], [500, false]);
});

test('answers that lie', async () => {
  const cut = await under({ kind: 'cut', after: 700 });
  assert.deepEqual([cut.bytes.length, cut.broke, cut.headers.get('content-range')], [700, false, `bytes 1000-199999/${SIZE}`]);
  const part = await under({ kind: 'part', after: 700 });
  assert.deepEqual([part.bytes.length, part.broke, part.headers.get('content-range')], [700, false, `bytes 1000-1699/${SIZE}`]);
  const long = await under({ kind: 'long', extra: 9 });
  assert.deepEqual([long.bytes.length, long.headers.get('content-range')], [199_009, `bytes 1000-199999/${SIZE}`]);
  const shifted = await under({ kind: 'shifted', by: 50 });
  assert.equal(shifted.headers.get('content-range'), `bytes 1050-200049/${SIZE}`);
  assert.ok(body.subarray(1050, 200_050).equals(shifted.bytes));
  assert.deepEqual([(await under({ kind: 'unranged' })).headers.get('content-range')], [null]);
  const whole = await under({ kind: 'whole' });
  assert.deepEqual([whole.response.status, whole.bytes.length, whole.headers.get('content-range')], [200, SIZE, null]);
  const zipped = await under({ kind: 'gzip' });
  assert.deepEqual([zipped.headers.get('content-encoding'), zipped.bytes.length], ['gzip', 199_000]);
  const unmeasured = await under({ kind: 'unmeasured' });
  assert.deepEqual([unmeasured.headers.get('content-length'), unmeasured.bytes.length], [null, 199_000]);
  const page = await under({ kind: 'page' });
  assert.deepEqual([page.response.status, page.headers.get('content-type')], [200, 'text/html']);
});

test('refusals', async () => {
  const { response, headers } = await under({ kind: 'unsatisfiable' });
  assert.deepEqual([response.status, headers.get('content-range')], [416, `bytes */${SIZE}`]);
  const busy = await under({ kind: 'status', status: 429, retryAfter: 7 });
  assert.deepEqual([busy.response.status, busy.headers.get('retry-after')], [429, '7']);
  const down = await under({ kind: 'status', status: 503 });
  assert.deepEqual([down.response.status, down.headers.get('retry-after')], [503, null]);
});

test('one bit of one byte is flipped, so many times', async () => {
  set({ flips: [{ at: 70_000, times: 2 }] });
  for (const wrong of [true, true, false]) {
    const { bytes } = await received(await get(60_000, 160_000));
    const differ = bytes.reduce((n, byte, i) => n + (byte === body[60_000 + i] ? 0 : 1), 0);
    assert.equal(differ, wrong ? 1 : 0);
    assert.equal(bytes[10_000] === body[70_000], !wrong);
  }
  assert.ok(body.equals(noise(SIZE, 1)), 'the file itself is as it was');
});

test('the file changes after so many bytes, with its tag', async () => {
  const { file, url, close } = await serveFaulty({ body, changes: [{ after: 100_000, body: other }] });
  const first = await get(0, 100_000, {}, url);
  const tag = first.headers.get('etag') ?? '';
  assert.ok(body.subarray(0, 100_000).equals((await received(first)).bytes));
  const second = await get(100_000, 200_000, { 'If-Range': tag }, url);
  assert.equal(second.status, 200);
  assert.notEqual(second.headers.get('etag'), tag);
  assert.ok(other.equals((await received(second)).bytes));
  await file.settled();
  assert.deepEqual(file.log.map(({ version }) => version), [0, 1]);
  assert.deepEqual(tally(file.log), { covered: SIZE + 5, again: 0, broken: 0, wholes: 1 });
  await close();
});

test('tags: weak ones match no If-Range, and there may be none', async () => {
  set({ etag: 'weak' });
  const etag = (await get(0, 10)).headers.get('etag') ?? '';
  assert.match(etag, /^W\/"/);
  assert.equal((await get(0, 10, { 'If-Range': etag })).status, 200);
  set({ etag: 'none' });
  assert.equal((await get(0, 10)).headers.get('etag'), null);
});

test('a server without ranges, or without lengths', async () => {
  set({ ranges: false });
  const plain = await get(0, 10);
  assert.deepEqual([plain.status, plain.headers.get('accept-ranges'), (await received(plain)).bytes.length], [200, null, SIZE]);
  set({ measured: false });
  const endless = await get(0, 10);
  assert.deepEqual([endless.status, endless.headers.get('content-length'), endless.headers.get('content-range')], [206, null, `bytes 0-9/${SIZE}`]);
});

test('which headers other origins may read', async () => {
  set({ cors: 'all' });
  assert.match((await get(0, 10)).headers.get('access-control-expose-headers') ?? '', /Content-Range, ETag, Retry-After/);
  set({ cors: 'none' });
  const { headers } = await get(0, 10);
  assert.deepEqual([headers.get('access-control-allow-origin'), headers.get('access-control-expose-headers')], ['*', null]);
  set({ cors: 'off' });
  assert.equal((await get(0, 10)).headers.get('access-control-allow-origin'), null);
});

test('addresses that expire: after so many answers, or after a while', async () => {
  set({ redirect: { answers: 2 } });
  const { url } = await get(0, 10);
  assert.match(url, /\/signed\/\w+\/model\.gguf$/);
  assert.deepEqual([(await get(0, 10, {}, url)).status, (await get(0, 10, {}, url)).status], [206, 403]);
  const again = await get(0, 10);
  assert.equal(again.status, 206);
  assert.notEqual(again.url, url);
  assert.deepEqual(server.file.log.map(({ fault }) => fault), ['redirect', null, null, 'expired', 'redirect', null]);
  set({ redirect: { ms: 100 } });
  const brief = (await get(0, 10)).url;
  await new Promise((resolve) => setTimeout(resolve, 150));
  assert.equal((await get(0, 10, {}, brief)).status, 403);
});

test('speed: of one answer, or of all together', async () => {
  let began = performance.now();
  await under({ kind: 'slow', bytesPerSecond: 100_000 }, 0, 30_000);
  assert.ok(performance.now() - began > 250);
  set({ bytesPerSecond: 1e6 });
  began = performance.now();
  await Promise.all([0, 1, 2].map(async (i) => received(await get(i * 1e5, (i + 1) * 1e5))));
  const ms = performance.now() - began;
  assert.ok(ms > 250 && ms < 600, `${ms} ms for 0.3 MB`);
});

test('the line is held, and released', async () => {
  set({});
  server.file.hold(100_000);
  const answer = get(0, SIZE).then(received);
  await new Promise((resolve) => setTimeout(resolve, 200));
  const { sent } = server.file.log[0];
  assert.ok(sent >= 100_000 && sent < 200_000, `${sent}`);
  server.file.release();
  assert.ok(body.equals((await answer).bytes));
});

test('what was sent more than once is told', async () => {
  set({ plan: ({ n }) => (n === 0 ? { kind: 'drop', after: 40_000 } : null) });
  await received(await get(0, 100_000));
  await received(await get(30_000, 100_000));
  await received(await get(200_000, SIZE));
  await server.file.settled();
  assert.deepEqual(tally(server.file.log), { covered: 200_000, again: 10_000, broken: 1, wholes: 0 });
});

test('the same seed: the same faults, in whichever order requests come', async () => {
  const kinds = /** @type {const} */ (['drop', 'short', 'cut', 'part', 'whole', 'unsatisfiable', 'status', 'slow', 'refuse']);
  const run = async (/** @type {number} */ seed, /** @type {boolean} */ backwards) => {
    const { file, url, close } = await serveFaulty({ body, plan: seeded(seed, { rate: 0.5, kinds: [...kinds] }) });
    const starts = Array.from({ length: 30 }, (_, i) => i * 10_000);
    for (const start of backwards ? starts.toReversed() : starts) {
      for (let attempt = 0; attempt < 2; attempt++) await get(start, start + 10_000, {}, url).then(received, () => null);
    }
    await close();
    return file.log.map(({ range, fault, status, sent }) => `${String(range?.start).padStart(6)} ${fault} ${status} ${sent}`).toSorted();
  };
  const first = await run(7, false);
  assert.deepEqual(await run(7, true), first);
  assert.notDeepEqual(await run(8, false), first);
  const faults = new Set(first.map((line) => line.trim().split(' ')[1]));
  assert.ok(faults.has('null') && faults.size >= 8, [...faults].join(' '));
});

test('draws are even, and noise is noise', () => {
  const draws = Array.from({ length: 10_000 }, (_, i) => chance(3, i));
  for (let tenth = 0; tenth < 10; tenth++) {
    const n = draws.filter((draw) => Math.floor(draw * 10) === tenth).length;
    assert.ok(n > 850 && n < 1150, `${n} of 10000 in tenth ${tenth}`);
  }
  assert.equal(new Set(draws).size > 9_990, true);
  const counts = new Uint32Array(256);
  for (const byte of body) counts[byte]++;
  assert.ok(Math.min(...counts) > SIZE / 256 / 1.3 && Math.max(...counts) < (SIZE / 256) * 1.3);
  assert.notEqual(createHash('md5').update(noise(1000, 1)).digest('hex'), createHash('md5').update(noise(1000, 2)).digest('hex'));
});

test('a faulty file at a path of the site', async () => {
  const site = await startServer();
  const file = new FaultyFile({ body });
  site.route('/faulty/', (request, response) => file.handle(request, response));
  const response = await get(5, 10, {}, `${site.url}faulty/model.gguf`);
  assert.deepEqual([response.status, response.headers.get('content-range')], [206, `bytes 5-9/${SIZE}`]);
  assert.equal(site.requests.at(-1)?.pathname, '/faulty/model.gguf');
  assert.equal((await fetch(site.url)).status, 200);
  await site.close();
});
