// The server that the other tests trust: ranges, ETags, isolation headers and each fault.
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { startServer } from './server.mjs';

const BODY = '0123456789';
/** @type {import('./server.mjs').Server} */
let server;
/** @type {string} */
let folder;
/** @type {string} */
let url;

before(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'outcrop-server-'));
  await writeFile(path.join(folder, 'file.bin'), BODY);
  server = await startServer({ mounts: { '/t/': folder } });
  url = `${server.url}t/file.bin`;
});
after(async () => {
  await server.close();
  await rm(folder, { recursive: true });
});

test('a file, with the headers a page needs', async () => {
  const response = await fetch(url);
  assert.equal(await response.text(), BODY);
  assert.equal(response.headers.get('content-length'), '10');
  assert.equal(response.headers.get('accept-ranges'), 'bytes');
  assert.equal(response.headers.get('cross-origin-opener-policy'), 'same-origin');
  assert.equal(response.headers.get('cross-origin-embedder-policy'), 'require-corp');
  assert.equal((await fetch(url, { headers: { 'If-None-Match': response.headers.get('etag') ?? '' } })).status, 304);
});

for (const [range, status, body, content] of [
  ['bytes=0-3', 206, '0123', 'bytes 0-3/10'],
  ['bytes=4-', 206, '456789', 'bytes 4-9/10'],
  ['bytes=-2', 206, '89', 'bytes 8-9/10'],
  ['bytes=8-99', 206, '89', 'bytes 8-9/10'],
  ['bytes=10-', 416, '', 'bytes */10'],
  ['bytes=0-1,4-5', 200, BODY, null],
  ['lines=0-1', 200, BODY, null],
]) {
  test(`range ${range}`, async () => {
    const response = await fetch(url, { headers: { Range: String(range) } });
    assert.deepEqual([response.status, await response.text(), response.headers.get('content-range')], [status, body, content]);
  });
}

test('a range of a file that changed is the whole file', async () => {
  const response = await fetch(url, { headers: { Range: 'bytes=0-3', 'If-Range': '"other"' } });
  assert.equal(response.status, 200);
});

test('nothing outside the mounted folders', async () => {
  for (const hidden of ['t/none.bin', 't/..%2f..%2fetc/passwd', 'models/%2e%2e/Cargo.toml', 't/%00']) {
    assert.equal((await fetch(server.url + hidden)).status, 404, hidden);
  }
  assert.equal((await fetch(`${server.url}%E0%A4%A`)).status, 400);
  assert.equal((await fetch(url, { method: 'POST' })).status, 405);
});

test('faults', async () => {
  server.fault('/t/file.bin', { status: 503, times: 1 });
  assert.equal((await fetch(url)).status, 503);
  assert.equal((await fetch(url)).status, 200);

  server.fault('/t/file.bin', { truncateAt: 4 });
  const torn = await fetch(url);
  assert.equal(torn.headers.get('content-length'), '10');
  await assert.rejects(torn.text());

  server.fault('/t/file.bin', { bytesPerSecond: 50 });
  const began = performance.now();
  assert.equal(await (await fetch(url)).text(), BODY);
  assert.ok(performance.now() - began > 150);

  server.fault('/t/file.bin', { noRange: true, noLength: true, body: 'other' });
  const plain = await fetch(url, { headers: { Range: 'bytes=0-1' } });
  assert.deepEqual([plain.status, plain.headers.get('content-length'), await plain.text()], [200, null, 'other']);

  server.fault('/t/file.bin', null);
  assert.equal(await (await fetch(url)).text(), BODY);
});
