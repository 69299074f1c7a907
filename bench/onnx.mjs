// A tiny ONNX model in protobuf's wire format: some `MatMulNBits` nodes on one input, each with weights of its own.
// Field numbers are those of onnx.proto; only what such a model needs is written.

/** @typedef {Uint8Array<ArrayBuffer>} Bytes */

/** @param {number} value @returns {number[]} */
function varint(value) {
  const bytes = [];
  for (; value >= 128; value = Math.floor(value / 128)) bytes.push((value % 128) + 128);
  return [...bytes, value];
}

/** @param {number} field @param {number} value */
const int = (field, value) => Uint8Array.from([...varint(field * 8), ...varint(value)]);

/** @param {number} field @param {string | Bytes | Bytes[]} value a message is its fields */
function bytes(field, value) {
  const content = typeof value === 'string' ? new TextEncoder().encode(value) : Array.isArray(value) ? join(value) : value;
  return join([Uint8Array.from([...varint(field * 8 + 2), ...varint(content.length)]), content]);
}

/** @param {Bytes[]} parts */
function join(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

const FLOAT = 1;
const UINT8 = 2;

/** @param {string} name @param {number} type @param {number[]} dims @param {Bytes} data */
const tensor = (name, type, dims, data) => [...dims.map((d) => int(1, d)), int(2, type), bytes(8, name), bytes(9, data)];

/** @param {string} name @param {number[]} dims */
const value = (name, dims) => [
  bytes(1, name),
  bytes(2, [bytes(1, [int(1, FLOAT), bytes(2, dims.map((d) => bytes(1, [int(1, d)])))])]),
];

/** @param {string} name @param {number} i */
const attribute = (name, i) => [bytes(1, name), int(3, i), int(20, 2)];

/**
 * y0 = x W0', y1 = x W1', ..: 4 bits a weight in blocks of 32, f32 scales, zero points left at 8, accumulation in f32.
 * @param {{ k: number, n: number, tokens: number, weights: { quants: Bytes, scales: Bytes }[] }} options quants: [n, k / 32, 16],
 *   scales: [n, k / 32] as bytes
 * @returns {Bytes}
 */
export function matMulNBits({ k, n, tokens, weights }) {
  const blocks = k / 32;
  const nodes = weights.map((_, i) =>
    bytes(1, [
      ...[`x`, `b${i}`, `s${i}`].map((name) => bytes(1, name)),
      bytes(2, `y${i}`),
      bytes(3, `product${i}`),
      bytes(4, 'MatMulNBits'),
      ...Object.entries({ K: k, N: n, bits: 4, block_size: 32, accuracy_level: 1 }).map(([name, v]) => bytes(5, attribute(name, v))),
      bytes(7, 'com.microsoft'),
    ]),
  );
  const initializers = weights.flatMap(({ quants, scales }, i) => [
    bytes(5, tensor(`b${i}`, UINT8, [n, blocks, 16], quants)),
    bytes(5, tensor(`s${i}`, FLOAT, [n * blocks], scales)),
  ]);
  const graph = [
    ...nodes,
    bytes(2, 'products'),
    ...initializers,
    bytes(11, value('x', [tokens, k])),
    ...weights.map((_, i) => bytes(12, value(`y${i}`, [tokens, n]))),
  ];
  return join([
    int(1, 10),
    bytes(7, graph),
    bytes(8, [bytes(1, ''), int(2, 21)]),
    bytes(8, [bytes(1, 'com.microsoft'), int(2, 1)]),
  ]);
}
