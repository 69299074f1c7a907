// Random weights in the forms that the two engines want, and the plain product that both are judged by.

/** @typedef {Uint8Array<ArrayBuffer>} Bytes */

/** xorshift32. @param {number} seed @returns {() => number} 32 random bits */
export function random(seed) {
  let state = seed | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

/** @param {number} length a multiple of 4 @param {() => number} next */
function randomBytes(length, next) {
  const words = new Uint32Array(length / 4);
  for (let i = 0; i < words.length; i++) words[i] = next();
  return new Uint8Array(words.buffer);
}

/** @param {number} bits */
function halfToFloat(bits) {
  const exponent = (bits >> 10) & 31;
  const mantissa = bits & 1023;
  return (bits & 0x8000 ? -1 : 1) * (exponent ? (1 + mantissa / 1024) * 2 ** (exponent - 15) : mantissa * 2 ** -24);
}

/**
 * A matrix [n, k] as blocks of a GGUF file.
 * @typedef {object} Blocks
 * @property {'Q4_0' | 'Q4_K'} type
 * @property {number} blockBytes
 * @property {Bytes} bytes
 * @property {(row: number) => Float32Array} row decoded
 */

/** @param {number} n @param {number} k @param {() => number} next @returns {Blocks} */
export function q4_0(n, k, next) {
  const blocks = k / 32;
  const bytes = new Uint8Array(n * blocks * 18);
  const nibbles = randomBytes(n * blocks * 16, next);
  const view = new DataView(bytes.buffer);
  for (let b = 0; b < n * blocks; b++) {
    view.setUint16(b * 18, 0x1c00 | (next() & 1023), true); // 2^-8 to 2^-7
    bytes.set(nibbles.subarray(b * 16, b * 16 + 16), b * 18 + 2);
  }
  const row = (/** @type {number} */ r) => {
    const out = new Float32Array(k);
    for (let b = 0; b < blocks; b++) {
      const at = (r * blocks + b) * 18;
      const d = halfToFloat(view.getUint16(at, true));
      for (let i = 0; i < 16; i++) {
        out[b * 32 + i] = d * ((bytes[at + 2 + i] & 15) - 8);
        out[b * 32 + 16 + i] = d * ((bytes[at + 2 + i] >> 4) - 8);
      }
    }
    return out;
  };
  return { type: 'Q4_0', blockBytes: 18, bytes, row };
}

/** The same numbers as `MatMulNBits` stores them: a byte holds two neighbours. @param {Blocks} blocks a Q4_0 matrix */
export function nBits({ bytes }) {
  const count = bytes.length / 18;
  const quants = new Uint8Array(count * 16);
  const scales = new Float32Array(count);
  const view = new DataView(bytes.buffer);
  for (let b = 0; b < count; b++) {
    scales[b] = halfToFloat(view.getUint16(b * 18, true));
    for (let i = 0; i < 8; i++) {
      const [even, odd] = [bytes[b * 18 + 2 + 2 * i], bytes[b * 18 + 3 + 2 * i]];
      quants[b * 16 + i] = (even & 15) | ((odd & 15) << 4);
      quants[b * 16 + 8 + i] = (even >> 4) | (odd & 0xf0);
    }
  }
  return { quants, scales: new Uint8Array(scales.buffer) };
}

/** @param {number} n @param {number} k @param {() => number} next @returns {Blocks} */
export function q4_k(n, k, next) {
  const blocks = k / 256;
  const bytes = randomBytes(n * blocks * 144, next);
  const view = new DataView(bytes.buffer);
  for (let b = 0; b < n * blocks; b++) {
    // d and dmin on both sides of f16's smallest normal number, as in real files.
    view.setUint16(b * 144, 0x0200 + (next() & 1023), true);
    view.setUint16(b * 144 + 2, 0x0200 + (next() & 1023), true);
  }
  const row = (/** @type {number} */ r) => {
    const out = new Float32Array(k);
    for (let b = 0; b < blocks; b++) {
      const at = (r * blocks + b) * 144;
      const [d, dmin] = [halfToFloat(view.getUint16(at, true)), halfToFloat(view.getUint16(at + 2, true))];
      const packed = bytes.subarray(at + 4, at + 16);
      for (let s = 0; s < 8; s++) {
        const scale = s < 4 ? packed[s] & 63 : (packed[s + 4] & 15) | ((packed[s - 4] >> 6) << 4);
        const min = s < 4 ? packed[s + 4] & 63 : (packed[s + 4] >> 4) | ((packed[s] >> 6) << 4);
        for (let i = 0; i < 32; i++) {
          const byte = bytes[at + 16 + (s >> 1) * 32 + i];
          out[b * 256 + s * 32 + i] = d * scale * (s & 1 ? byte >> 4 : byte & 15) - dmin * min;
        }
      }
    }
    return out;
  };
  return { type: 'Q4_K', blockBytes: 144, bytes, row };
}

/**
 * Fields of all blocks, one plane after another, as the engine keeps them on the device.
 * @param {Blocks} blocks @param {{ weightBytes: number, planes: [start: number, length: number, at: number][] }} layout
 */
export function split({ bytes, blockBytes }, { weightBytes, planes }) {
  const out = new Uint8Array(weightBytes);
  for (const [start, length, at] of planes) {
    if (length === blockBytes) {
      out.set(bytes, at);
      continue;
    }
    for (let b = 0; b * blockBytes < bytes.length; b++) {
      const from = b * blockBytes + start;
      for (let i = 0; i < length; i++) out[at + b * length + i] = bytes[from + i];
    }
  }
  return out;
}

/**
 * Error power over signal power of some rows of y = x W', summed in f64.
 * @param {Blocks} blocks @param {Float32Array} x [tokens, k] @param {Float32Array} y [tokens, n] @param {number} k @param {number} n
 */
export function error(blocks, x, y, k, n) {
  const tokens = x.length / k;
  let [wrong, right] = [0, 0];
  for (let i = 0; i < 32; i++) {
    const row = Math.round(((n - 1) * i) / 31);
    const w = blocks.row(row);
    for (let t = 0; t < tokens; t += t + 8 < tokens ? 7 : 1) {
      let sum = 0;
      for (let j = 0; j < k; j++) sum += w[j] * x[t * k + j];
      wrong += (y[t * n + row] - sum) ** 2;
      right += sum ** 2;
    }
  }
  return wrong / right;
}
