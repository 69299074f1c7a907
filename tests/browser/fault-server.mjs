// A server of one file on which things go wrong: it drops connections, stalls, asks for patience, lies about ranges, changes the file, ..
//
// What goes wrong with a request is a plan: a function of the request, or one that faults.mjs makes from a number. Every request is logged with
// what became of it, so that a test can tell how often a byte was sent. `FaultyFile` is the file, for any server's route; `serveFaulty` a server
// with nothing else on it, of another origin than the page's.
import { createHash } from 'node:crypto';
import { createReadStream, statSync } from 'node:fs';
import http from 'node:http';
import { gzipSync } from 'node:zlib';

/** Bytes written at once; also how exactly bytes are counted that a client did not wait for. */
const PIECE = 64 << 10;
/** A reset may throw away bytes that are still on their way: what a fault sends before it breaks gets so many milliseconds to arrive. */
const ARRIVAL_MS = 40;

/**
 * @typedef {import('./faults.mjs').Fault} Fault
 * @typedef {import('./faults.mjs').Asked} Asked
 *
 * @typedef {object} Entry of the log
 * @property {number} n
 * @property {string} method
 * @property {string} path
 * @property {{start: number, end: number} | null} range that was asked for; null: none
 * @property {string | null} ifRange
 * @property {Record<string, string | string[] | undefined>} headers the request's
 * @property {number} version of the file
 * @property {number} status 0 until there is one, and where the connection was reset before
 * @property {string | null} fault its kind; 'redirect' and 'expired' are no plan's
 * @property {number} from the first byte that was sent
 * @property {number} sent bytes of the file that were handed to the network; the client need not have seen the last ones
 * @property {boolean} whole all of the answer was sent, and nothing was wrong with it
 * @property {number} at milliseconds of `performance.now()`
 * @property {number | null} ended null: not yet
 *
 * @typedef {object} Options
 * @property {Uint8Array | string} body bytes, or the name of a file
 * @property {(asked: Asked) => Fault | null} [plan]
 * @property {'strong' | 'weak' | 'none'} [etag]
 * @property {'all' | 'none' | 'off'} [cors] which headers another origin may read: all, only those it always may; off: not even the body
 * @property {boolean} [ranges] false: every answer is the whole file
 * @property {boolean} [measured] false: no answer has a Content-Length
 * @property {{answers?: number, ms?: number, to?: string}} [redirect] 302 to an address that serves so many answers, or for so long, and then
 *   says 403; `to`: of this origin, which the same file must be served at
 * @property {number} [bytesPerSecond] of all connections together
 * @property {{at: number, times: number}[]} [flips] a bit of the byte at this place is flipped so many times that it is sent
 * @property {{after: number, body: Uint8Array}[]} [changes] what the file becomes once so many bytes of its last version were sent
 */

/** One file, and what goes wrong with it. */
export class FaultyFile {
  /** @type {Entry[]} */
  log = [];
  /** How often the file changed. */
  version = 0;
  /** @type {Options} may be changed at any time */
  options;
  /** Bytes of each version that were sent. */
  #sent = [0];
  /** @type {{size: number, etag: string, read: (start: number, end: number) => AsyncIterable<Buffer> | Iterable<Buffer>}} */
  #body;
  /** @type {Map<string, {answers: number, ms: number}>} */
  #addresses = new Map();
  /** Until when the throttled line is busy. */
  #busy = 0;
  /** Bytes that may still be sent until `release`. */
  #allowed = Infinity;
  #released = deferred();
  /** @type {Set<() => void>} ends each stall */
  #stalls = new Set();

  /** @param {Options} options */
  constructor(options) {
    this.options = { ...options };
    this.#body = bodyOf(options.body);
  }

  get size() {
    return this.#body.size;
  }

  get etag() {
    const { etag = 'strong' } = this.options;
    return etag === 'none' ? null : etag === 'weak' ? `W/${this.#body.etag}` : this.#body.etag;
  }

  /** Bytes sent so far, of all versions. */
  get sent() {
    return this.#sent.reduce((sum, sent) => sum + sent, 0);
  }

  /** The file becomes another one. Answers under way go on with the old one, as they do from an open file. @param {Uint8Array} body */
  change(body) {
    this.#body = bodyOf(body);
    this.#sent.push(0);
    this.version++;
  }

  /** Sends so many bytes more, up to a piece, and then none until `release`. @param {number} bytes */
  hold(bytes) {
    this.#allowed = bytes;
  }

  release() {
    this.#allowed = Infinity;
    this.#released.resolve(undefined);
    this.#released = deferred();
  }

  /** Resolves when no answer is under way. */
  async settled() {
    while (this.log.some(({ ended }) => ended === null)) await sleep(5);
  }

  /** Ends what stalls. */
  close() {
    this.release();
    for (const end of this.#stalls) end();
  }

  /** Answers one request. @param {http.IncomingMessage} request @param {http.ServerResponse} response */
  async handle(request, response) {
    const { pathname } = new URL(request.url ?? '/', 'http://localhost');
    /** @type {Entry} */
    const entry = {
      n: this.log.length,
      method: request.method ?? '',
      path: pathname,
      range: parseRange(request.headers.range, this.size),
      ifRange: /** @type {string | undefined} */ (request.headers['if-range']) ?? null,
      headers: request.headers,
      version: this.version,
      status: 0,
      fault: null,
      from: 0,
      sent: 0,
      whole: false,
      at: performance.now(),
      ended: null,
    };
    this.log.push(entry);
    response.once('close', () => (entry.ended = performance.now()));
    try {
      await this.#answer(entry, request, response);
    } catch (error) {
      response.destroy();
      throw error;
    }
  }

  /** @param {Entry} entry @param {http.IncomingMessage} request @param {http.ServerResponse} response */
  async #answer(entry, request, response) {
    const { cors = 'all', ranges = true, measured = true, redirect } = this.options;
    if (cors !== 'off') response.setHeader('Access-Control-Allow-Origin', '*');
    if (cors === 'all') response.setHeader('Access-Control-Expose-Headers', 'Accept-Ranges, Content-Encoding, Content-Range, ETag, Retry-After');
    response.setHeader('Cross-Origin-Resource-Policy', 'cross-origin');
    response.setHeader('Cache-Control', 'no-cache');
    const say = (/** @type {number} */ status, /** @type {Record<string, string>} */ headers = {}) => {
      entry.status = status;
      response.writeHead(status, headers).end(request.method === 'HEAD' ? '' : http.STATUS_CODES[status]);
    };
    // A preflight is answered so that it fails: no model needs one.
    if (request.method !== 'GET' && request.method !== 'HEAD') return say(405, { Allow: 'GET, HEAD' });

    if (redirect) {
      const signed = /^\/signed\/(\w+)\//.exec(entry.path)?.[1];
      if (!signed) {
        const token = createHash('sha256').update(`${this.#addresses.size}`).digest('hex').slice(0, 16);
        this.#addresses.set(token, { answers: redirect.answers ?? Infinity, ms: performance.now() + (redirect.ms ?? Infinity) });
        entry.fault = 'redirect';
        return say(302, { Location: `${redirect.to ?? ''}/signed/${token}${entry.path}` });
      }
      const address = this.#addresses.get(signed);
      if (!address || address.answers-- <= 0 || performance.now() > address.ms) {
        entry.fault = 'expired';
        return say(403);
      }
    }

    const body = this.#body;
    const { size } = body;
    // A range counts only for the version that If-Range names; that must be a strong tag.
    const usable = ranges && (entry.ifRange === null || (entry.ifRange === this.etag && !entry.ifRange.startsWith('W/')));
    const range = usable ? entry.range : null;
    if (range && range.start >= range.end) return say(416, { 'Content-Range': `bytes */${size}` });
    let { start, end } = range ?? { start: 0, end: size };
    const attempt = this.log.filter((other) => other !== entry && other.version === entry.version && other.method === 'GET' && (other.range?.start ?? 0) === start && other.fault !== 'redirect').length;
    const fault = this.options.plan?.({ n: entry.n, path: entry.path, start, end, size, version: this.version, attempt }) ?? null;
    entry.fault = fault?.kind ?? null;

    let status = range ? 206 : 200;
    let told = range && { start, end };
    let length = end - start;
    switch (fault?.kind) {
      case 'refuse':
        return void request.socket.resetAndDestroy();
      case 'unsatisfiable':
        return say(416, { 'Content-Range': `bytes */${size}` });
      case 'status':
        return say(fault.status, fault.retryAfter === undefined ? {} : { 'Retry-After': String(fault.retryAfter) });
      case 'page':
        entry.status = 200;
        return void response.writeHead(200, { 'Content-Type': 'text/html' }).end('<!doctype html><title>Welcome to our Wi-Fi</title>');
      case 'whole':
        [start, end, status, told, length] = [0, size, 200, null, size];
        break;
      case 'cut':
        length = fault.after;
        end = start + length;
        break;
      case 'part':
        length = fault.after;
        end = start + length;
        if (told) told = { start, end };
        break;
      case 'long':
        end = Math.min(size, end + (fault.extra));
        length = end - start;
        break;
      case 'shifted': {
        const by = Math.min(fault.by, size - end);
        [start, end] = [start + by, end + by];
        if (told) told = { start, end };
        break;
      }
      case 'unranged':
        told = null;
        break;
    }
    entry.status = status;
    entry.from = start;
    if (this.etag) response.setHeader('ETag', this.etag);
    if (ranges) response.setHeader('Accept-Ranges', 'bytes');
    if (told) response.setHeader('Content-Range', `bytes ${told.start}-${told.end - 1}/${size}`);
    response.setHeader('Content-Type', 'application/octet-stream');
    if (fault?.kind === 'gzip') {
      const packed = gzipSync(await gather(body.read(start, end)));
      entry.sent = end - start;
      response.writeHead(status, { 'Content-Encoding': 'gzip', 'Content-Length': packed.length }).end(request.method === 'HEAD' ? '' : packed);
      return;
    }
    if (measured && fault?.kind !== 'unmeasured') response.setHeader('Content-Length', length);
    response.writeHead(status);
    if (request.method === 'HEAD') return void response.end();
    response.flushHeaders();

    const breaks = fault?.kind === 'drop' || fault?.kind === 'short' || fault?.kind === 'stall' ? fault : null;
    const arrived = await this.#send(entry, response, body, start, breaks ? start + breaks.after : end, fault);
    if (!arrived) return;
    if (!breaks) {
      response.end();
      await closed(response);
      // Whether the client saw the end is not known; that it did not leave before is.
      entry.whole = response.writableFinished && (!fault || ['slow', 'unmeasured', 'whole', 'part'].includes(fault.kind));
      return;
    }
    await sleep(ARRIVAL_MS);
    if (breaks.kind === 'drop') request.socket.resetAndDestroy();
    else if (breaks.kind === 'short') response.destroy();
    else {
      await Promise.race([closed(response), new Promise((resolve) => this.#stalls.add(() => resolve(undefined)))]);
      response.destroy();
    }
  }

  /**
   * Bytes of the body, flipped, throttled and counted. False if the client left.
   *
   * @param {Entry} entry @param {http.ServerResponse} response @param {{read: (start: number, end: number) => AsyncIterable<Buffer> | Iterable<Buffer>}} body
   * @param {number} start @param {number} end @param {Fault | null} fault
   */
  async #send(entry, response, body, start, end, fault) {
    if (end <= start) return !response.destroyed;
    let at = start;
    for await (const chunk of body.read(start, end)) {
      for (const piece of slices(chunk, fault?.kind === 'slow' ? 4096 : PIECE)) {
        while (this.#allowed <= 0 && !response.destroyed) await Promise.race([this.#released.promise, closed(response)]);
        this.#allowed -= piece.length;
        if (fault?.kind === 'slow') await sleep((1000 * piece.length) / fault.bytesPerSecond);
        await this.#turn(piece.length);
        if (response.destroyed) return false;
        if (!response.write(this.#flipped(piece, at))) await drained(response);
        at += piece.length;
        entry.sent += piece.length;
        this.#count(entry.version, piece.length);
      }
    }
    return !response.destroyed;
  }

  /** Waits until the line, which all connections share, has room. @param {number} bytes */
  async #turn(bytes) {
    const { bytesPerSecond } = this.options;
    if (!bytesPerSecond) return;
    const now = performance.now();
    this.#busy = Math.max(this.#busy, now) + (1000 * bytes) / bytesPerSecond;
    // Timers are too coarse for every piece.
    if (this.#busy - now > 4) await sleep(this.#busy - now);
  }

  /** @param {Buffer} piece @param {number} at where in the file it begins */
  #flipped(piece, at) {
    let sent = piece;
    for (const flip of this.options.flips ?? []) {
      if (flip.times <= 0 || flip.at < at || flip.at >= at + piece.length) continue;
      flip.times--;
      sent = Buffer.from(sent);
      sent[flip.at - at] ^= 1 << (flip.at & 7);
    }
    return sent;
  }

  /** @param {number} version @param {number} bytes */
  #count(version, bytes) {
    this.#sent[version] += bytes;
    const next = this.options.changes?.[this.version];
    if (next && version === this.version && this.#sent[version] >= next.after) this.change(next.body);
  }
}

/**
 * What the log says about one version of the file: bytes that some answer sent, and those that were sent more than once. Answers of 200 to a range
 * are left out of the second: they cannot begin where they should.
 *
 * @param {Entry[]} log
 * @param {number} [version]
 */
export function tally(log, version = Math.max(0, ...log.map((entry) => entry.version))) {
  const sent = log.filter((entry) => entry.version === version && entry.method === 'GET' && entry.sent > 0);
  const ranged = sent.filter(({ status }) => status === 206);
  const total = (/** @type {Entry[]} */ list) => list.reduce((sum, entry) => sum + entry.sent, 0);
  return {
    covered: union(sent),
    again: total(ranged) - union(ranged),
    /** Answers that broke half-way, by whichever side. */
    broken: sent.filter(({ whole }) => !whole).length,
    wholes: sent.filter(({ status }) => status === 200).length,
  };
}

/** Bytes that lie in at least one of these answers. @param {Entry[]} entries */
function union(entries) {
  let bytes = 0;
  let reached = 0;
  for (const { from, sent } of entries.toSorted((a, b) => a.from - b.from)) {
    bytes += Math.max(0, from + sent - Math.max(reached, from));
    reached = Math.max(reached, from + sent);
  }
  return bytes;
}

/**
 * A server with a faulty file at every path.
 *
 * @param {Options | FaultyFile} what a file may be served in several places
 */
export async function serveFaulty(what) {
  const file = what instanceof FaultyFile ? what : new FaultyFile(what);
  const server = http.createServer((request, response) => void file.handle(request, response).catch((error) => console.error(error)));
  await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(undefined)));
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  return {
    origin: `http://127.0.0.1:${port}`,
    url: `http://127.0.0.1:${port}/model.gguf`,
    file,
    close: () =>
      new Promise((/** @type {(nothing: void) => void} */ resolve) => {
        file.close();
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** @param {Uint8Array | string} body bytes, or a file */
function bodyOf(body) {
  if (typeof body === 'string') {
    const { size, mtimeMs } = statSync(body);
    return {
      size,
      etag: `"${size.toString(16)}-${Math.trunc(mtimeMs).toString(16)}"`,
      read: (/** @type {number} */ start, /** @type {number} */ end) => createReadStream(body, { start, end: end - 1, highWaterMark: 4 * PIECE }),
    };
  }
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  return {
    size: bytes.length,
    etag: `"${createHash('sha256').update(bytes).digest('hex').slice(0, 32)}"`,
    read: (/** @type {number} */ start, /** @type {number} */ end) => [bytes.subarray(start, end)],
  };
}

/** One range `bytes=a-b` or `bytes=a-`, half-open; null for anything else. @param {string | undefined} header @param {number} size */
function parseRange(header, size) {
  const match = /^bytes=(\d+)-(\d*)$/.exec(header ?? '');
  return match && { start: Number(match[1]), end: match[2] ? Math.min(size, Number(match[2]) + 1) : size };
}

/** @param {Buffer} bytes @param {number} size */
function* slices(bytes, size) {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

/** @param {AsyncIterable<Buffer> | Iterable<Buffer>} pieces */
async function gather(pieces) {
  const list = [];
  for await (const piece of pieces) list.push(piece);
  return Buffer.concat(list);
}

/** @param {number} ms */
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** @param {http.ServerResponse} response @returns {Promise<void>} */
const closed = (response) => new Promise((resolve) => (response.destroyed ? resolve() : response.once('close', () => resolve())));

/** Waits until there is room for more, or the client has gone. @param {http.ServerResponse} response @returns {Promise<void>} */
const drained = (response) =>
  new Promise((resolve) => {
    const done = () => {
      response.off('drain', done).off('close', done);
      resolve();
    };
    response.once('drain', done).once('close', done);
  });

function deferred() {
  /** @type {(value: unknown) => void} */
  let resolve = () => {};
  const promise = new Promise((done) => (resolve = done));
  return { promise, resolve };
}
