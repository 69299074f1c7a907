// A static server for development and for the browser tests, with faults that a test can switch on.
//
// Sends what a host of the page should send: cross-origin isolation, right media types, ETag, byte ranges. As a program
// (`node tests/browser/server.mjs`) it serves `www/` at http://127.0.0.1:8080 (`PORT`, `HOST`).
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import http from 'node:http';
import path from 'node:path';
import { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';

const SITE = fileURLToPath(new URL('../../www', import.meta.url));

/** @type {Record<string, string>} */
const MEDIA_TYPES = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.ico': 'image/x-icon',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json',
  '.mjs': 'text/javascript; charset=utf-8',
  '.png': 'image/png',
  '.svg': 'image/svg+xml',
  '.ts': 'text/plain; charset=utf-8',
  '.wasm': 'application/wasm',
  '.webmanifest': 'application/manifest+json',
};

const ISOLATION = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'X-Content-Type-Options': 'nosniff',
};

/**
 * How the answer to one path is spoilt.
 * @typedef {object} Fault
 * @property {number} [status] answer with this status and no file
 * @property {string | Uint8Array} [body] send this instead of the file (200, unless `status` says otherwise)
 * @property {number} [truncateAt] announce the full length, send this many bytes, cut the connection
 * @property {number} [bytesPerSecond] send the body no faster than this
 * @property {boolean} [noRange] ignore `Range` and do not announce ranges
 * @property {boolean} [noLength] leave out Content-Length (chunked encoding)
 * @property {Record<string, string | null>} [headers] set, or with null leave out, response headers
 * @property {number} [times] spoil this many answers only (default: all)
 */

/**
 * @typedef {object} Served
 * @property {string} method
 * @property {string} pathname
 * @property {string | undefined} range
 */

/** @typedef {(request: http.IncomingMessage, response: http.ServerResponse) => Promise<void>} Handler */

/**
 * @typedef {object} Server
 * @property {string} url origin with a trailing slash
 * @property {number} port
 * @property {Served[]} requests every request so far
 * @property {(pathname: string, fault: Fault | null) => void} fault spoil a path, or with null mend it
 * @property {(prefix: string, handler: Handler) => void} route leave all paths that begin so to somebody else
 * @property {() => Promise<void>} close stop listening and cut open connections
 */

/**
 * @param {object} [options]
 * @param {number} [options.port] 0 (the default) takes a free one
 * @param {string} [options.host]
 * @param {Record<string, string>} [options.mounts] URL prefix -> folder, beside `/` -> www/; the longest prefix wins
 * @param {boolean} [options.isolation] false: like a host that sends none of the headers that isolate a page
 * @returns {Promise<Server>}
 */
export async function startServer({ port = 0, host = '127.0.0.1', mounts = {}, isolation = true } = {}) {
  const folders = Object.entries({ '/': SITE, ...mounts }).sort(([a], [b]) => b.length - a.length);
  /** @type {Map<string, Fault>} */
  const faults = new Map();
  /** @type {Map<string, Handler>} */
  const routes = new Map();
  /** @type {Served[]} */
  const requests = [];
  const server = http.createServer((request, response) => {
    answer(request, response, { folders, faults, routes, requests, isolation }).catch((error) => {
      if (response.headersSent) response.destroy();
      else response.writeHead(error instanceof URIError ? 400 : 500).end(`${error}\n`);
    });
  });
  await new Promise((resolve, reject) => server.once('error', reject).listen(port, host, () => resolve(undefined)));
  const bound = /** @type {import('node:net').AddressInfo} */ (server.address()).port;
  return {
    url: `http://${host}:${bound}/`,
    port: bound,
    requests,
    fault: (pathname, fault) => void (fault ? faults.set(pathname, { ...fault }) : faults.delete(pathname)),
    route: (prefix, handler) => void routes.set(prefix, handler),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/**
 * @param {http.IncomingMessage} request
 * @param {http.ServerResponse} response
 * @param {{folders: [string, string][], faults: Map<string, Fault>, routes: Map<string, Handler>, requests: Served[], isolation: boolean}} site
 */
async function answer(request, response, { folders, faults, routes, requests, isolation }) {
  const pathname = decodeURIComponent(new URL(request.url ?? '/', 'http://localhost').pathname);
  requests.push({ method: request.method ?? '', pathname, range: request.headers.range });
  const fault = takeFault(faults, pathname);
  for (const [name, value] of Object.entries({ ...(isolation ? ISOLATION : {}), 'Cache-Control': 'no-cache' })) response.setHeader(name, value);
  for (const [prefix, handler] of routes) if (pathname.startsWith(prefix)) return handler(request, response);

  if (request.method !== 'GET' && request.method !== 'HEAD') return void response.writeHead(405, { Allow: 'GET, HEAD' }).end();
  if (fault.status !== undefined && fault.body === undefined) return void response.writeHead(fault.status).end(http.STATUS_CODES[fault.status]);

  const source = fault.body === undefined ? await findFile(pathname, folders) : bodySource(pathname, fault.body);
  if (!source) return void response.writeHead(404, { 'Content-Type': 'text/plain' }).end('Not found\n');

  response.setHeader('Content-Type', MEDIA_TYPES[path.extname(source.name)] ?? 'application/octet-stream');
  response.setHeader('ETag', source.etag);
  if (!fault.noRange) response.setHeader('Accept-Ranges', 'bytes');
  if (request.headers['if-none-match'] === source.etag) return void response.writeHead(304).end();

  const wanted = fault.noRange ? null : parseRange(request.headers, source);
  if (wanted === 'unsatisfiable') return void response.writeHead(416, { 'Content-Range': `bytes */${source.size}` }).end();
  const { start, end } = wanted ?? { start: 0, end: source.size };
  if (wanted) response.setHeader('Content-Range', `bytes ${start}-${end - 1}/${source.size}`);
  if (!fault.noLength) response.setHeader('Content-Length', end - start);
  for (const [name, value] of Object.entries(fault.headers ?? {})) {
    if (value === null) response.removeHeader(name);
    else response.setHeader(name, value);
  }
  response.writeHead(fault.status ?? (wanted ? 206 : 200));
  if (request.method === 'HEAD' || start === end) return void response.end();
  await send(response, source, start, end, fault);
}

/**
 * @param {Map<string, Fault>} faults
 * @param {string} pathname
 * @returns {Fault}
 */
function takeFault(faults, pathname) {
  const fault = faults.get(pathname);
  if (fault?.times !== undefined && --fault.times <= 0) faults.delete(pathname);
  return fault ?? {};
}

/** @typedef {{ name: string, size: number, etag: string, read: (start: number, end: number) => Readable }} Source */

/**
 * @param {string} pathname
 * @param {[string, string][]} folders
 * @returns {Promise<Source | null>}
 */
async function findFile(pathname, folders) {
  const [prefix, folder] = folders.find(([start]) => pathname.startsWith(start)) ?? ['', ''];
  let name = path.join(folder, pathname.slice(prefix.length));
  // `..` and its encoded forms end up here after decoding: nothing outside the mounted folder is served.
  if (pathname.includes('\0') || !(name + path.sep).startsWith(path.join(folder, path.sep))) return null;
  let info = await stat(name).catch(() => null);
  if (info?.isDirectory()) {
    name = path.join(name, 'index.html');
    info = await stat(name).catch(() => null);
  }
  if (!info?.isFile()) return null;
  const etag = `"${info.size.toString(16)}-${Math.trunc(info.mtimeMs).toString(16)}"`;
  return { name, size: info.size, etag, read: (start, end) => createReadStream(name, { start, end: end - 1 }) };
}

/**
 * @param {string} pathname
 * @param {string | Uint8Array} body
 * @returns {Source}
 */
function bodySource(pathname, body) {
  const bytes = Buffer.from(body);
  return { name: pathname, size: bytes.length, etag: `"body-${bytes.length}"`, read: (start, end) => Readable.from([bytes.subarray(start, end)]) };
}

/**
 * One `bytes=` range as a half-open interval; null where the whole file is the right answer.
 * @param {http.IncomingHttpHeaders} headers
 * @param {Source} source
 * @returns {{ start: number, end: number } | 'unsatisfiable' | null}
 */
function parseRange({ range, 'if-range': ifRange }, { size, etag }) {
  const match = /^bytes=(\d*)-(\d*)$/.exec(range ?? '');
  if (!match || (!match[1] && !match[2]) || (ifRange && ifRange !== etag)) return null;
  const [first, last] = [match[1], match[2]];
  const start = first ? Number(first) : Math.max(0, size - Number(last));
  const end = first && last ? Math.min(size, Number(last) + 1) : size;
  return start < end ? { start, end } : 'unsatisfiable';
}

/**
 * @param {http.ServerResponse} response
 * @param {Source} source
 * @param {number} start
 * @param {number} end
 * @param {Fault} fault
 */
async function send(response, source, start, end, { truncateAt, bytesPerSecond }) {
  const cut = Math.min(end, truncateAt ?? end);
  if (cut > start) {
    for await (const chunk of source.read(start, cut)) {
      for (const piece of bytesPerSecond ? slices(chunk, Math.ceil(bytesPerSecond / 20)) : [chunk]) {
        if (response.destroyed) return;
        if (!response.write(piece)) await drained(response);
        if (bytesPerSecond) await new Promise((resolve) => setTimeout(resolve, (1000 * piece.length) / bytesPerSecond));
      }
    }
  }
  if (cut === end) return void response.end();
  // Let what was written reach the client first: a reset may throw away bytes that are still on their way.
  await new Promise((resolve) => setTimeout(resolve, 100));
  response.destroy();
}

/** Waits until there is room for more, or the client has gone. @param {http.ServerResponse} response @returns {Promise<void>} */
const drained = (response) =>
  new Promise((resolve) => {
    const done = () => {
      response.off('drain', done).off('close', done);
      resolve();
    };
    response.once('drain', done).once('close', done);
  });

/**
 * @param {Buffer} bytes
 * @param {number} size
 */
function* slices(bytes, size) {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const server = await startServer({ port: Number(process.env.PORT ?? 8080), host: process.env.HOST ?? '127.0.0.1' });
  console.log(`Outcrop is at ${server.url} (Ctrl+C stops it)`);
}
