// What goes wrong with answers, as a plan that a number makes: pure functions, the same on every machine. fault-server.mjs carries plans out.

/**
 * What goes wrong with one answer; `after`: bytes of it until then.
 *
 *   refuse         the connection is reset before the headers
 *   drop           it is reset
 *   short          the answer ends, although more was announced
 *   stall          silence until the client leaves
 *   cut            fewer bytes than asked for, with a Content-Length that says so, under the Content-Range of all of them: a lie
 *   part           fewer bytes under their own Content-Range, which HTTP allows
 *   long           more bytes than asked for
 *   shifted        other bytes than asked for, under their own Content-Range
 *   unranged       206 without Content-Range
 *   whole          200 and the whole file, whatever was asked for
 *   unsatisfiable  416
 *   status         this one, and perhaps Retry-After: seconds or a date
 *   gzip           Content-Encoding: gzip
 *   page           200 and a page of HTML, as captive portals answer
 *   unmeasured     no Content-Length
 *   slow           so many bytes a second
 *
 * @typedef {{kind: 'refuse' | 'unranged' | 'whole' | 'unsatisfiable' | 'gzip' | 'page' | 'unmeasured'}
 *   | {kind: 'drop' | 'short' | 'stall' | 'cut' | 'part', after: number}
 *   | {kind: 'long', extra: number}
 *   | {kind: 'shifted', by: number}
 *   | {kind: 'status', status: number, retryAfter?: number | string}
 *   | {kind: 'slow', bytesPerSecond: number}} Fault
 *
 * @typedef {object} Asked a request for bytes, before it is answered
 * @property {number} n how many came before it
 * @property {string} path
 * @property {number} start first byte
 * @property {number} end behind the last byte
 * @property {number} size of the file
 * @property {number} version of the file: how often it changed
 * @property {number} attempt how many asked for bytes from `start` on before, of this version
 */

/** A number in [0, 1) that these alone decide. @param {...number} keys */
export function chance(...keys) {
  let state = 0x2545f491;
  for (const key of keys) {
    state = Math.imul(state ^ (key | 0) ^ Math.floor(key / 2 ** 32), 0x01000193) + 0x9e3779b9;
    // Keys that differ little must give numbers that differ much.
    state = Math.imul(state ^ (state >>> 15), 0x735a2d97);
    state = Math.imul(state ^ (state >>> 13), 0x297a2d39);
    state ^= state >>> 16;
  }
  return (state >>> 0) / 2 ** 32;
}

/** So many bytes that look like noise, the same for the same seed. @param {number} length @param {number} seed */
export function noise(length, seed) {
  const words = new Uint32Array(Math.ceil(length / 4));
  let state = Math.imul(seed + 1, 0x9e3779b1) | 1;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  return Buffer.from(words.buffer, 0, length);
}

/**
 * A plan from a number. What happens to a request depends on the seed, where it begins and how often that was asked for, not on the order in which
 * requests come: those under way together arrive in any.
 *
 * @param {number} seed
 * @param {object} options
 * @param {number} options.rate share of requests that something happens to
 * @param {Fault['kind'][]} options.kinds
 * @param {number} [options.most] how often in a row something may happen to the same byte
 * @returns {(asked: Asked) => Fault | null}
 */
export function seeded(seed, { rate, kinds, most = 2 }) {
  return ({ start, end, version, attempt }) => {
    const draw = (/** @type {number} */ what) => chance(seed, version, start, attempt, what);
    if (attempt >= most || draw(0) >= rate) return null;
    const kind = kinds[Math.floor(draw(1) * kinds.length)];
    const after = Math.floor(draw(2) * (end - start));
    switch (kind) {
      case 'drop':
      case 'short':
      case 'stall':
        return { kind, after };
      case 'cut':
      case 'part':
        return { kind, after: Math.max(1, after) };
      case 'status':
        return draw(3) < 0.5
          ? { kind, status: 429, retryAfter: 1 + Math.floor(draw(4) * 3) }
          : { kind, status: [500, 502, 503, 504][Math.floor(draw(4) * 4)] };
      case 'slow':
        return { kind, bytesPerSecond: 256e3 + draw(3) * 2e6 };
      case 'long':
        return { kind, extra: 1 + Math.floor(draw(3) * 1000) };
      case 'shifted':
        return { kind, by: 1 + Math.floor(draw(3) * 1000) };
      default:
        return /** @type {Fault} */ ({ kind });
    }
  };
}
