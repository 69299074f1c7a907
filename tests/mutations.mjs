// What tests/mutation.mjs breaks, and which test must notice.
//
// `from` is a whole Rust expression, or any text of a shader, that occurs once in `file`; `to` has the same type. A mutant that
// needs more than one change lists them in `edits`.

/** Where composed shaders pass through `mutated_shader`. */
export const hook = {
  file: "src/backend/gpu/pipelines.rs",
  from: "out.push_str(piece)",
  to: "out.push_str(&crate::mutated_shader(piece))",
};

/** The tests: cargo's name of the target, the test in it, and the words that it fails with. */
export const tests = {
  quant: { target: "gguf_quant", filter: "every_type_bit_for_bit", says: /differ, first \[/ },
};

const K = "src/gguf/quant/k.rs";
const SIMPLE = "src/gguf/quant/simple.rs";

const formats = [
  {
    name: "32 elements: nibbles as neighbours",
    file: SIMPLE,
    from: "if i < 16 { qs[i] & 0x0f } else { qs[i - 16] >> 4 }",
    to: "if i % 2 == 0 { qs[i / 2] & 0x0f } else { qs[i / 2] >> 4 }",
  },
  { name: "32 elements: fifth bits backwards", file: SIMPLE, from: "u32::from_le_bytes(qh)", to: "u32::from_be_bytes(qh)" },
  { name: "q4_0: offset", file: SIMPLE, from: "nibble(&self.qs, i) as i32 - 8", to: "nibble(&self.qs, i) as i32 - 7" },
  { name: "q4_1: m subtracted", file: SIMPLE, after: "impl BlockQ4_1", from: "d * q as f32 + m", to: "d * q as f32 - m" },
  { name: "q5_0: fifth bit forgotten", file: SIMPLE, from: "(nibble(&self.qs, i) | fifth_bit(self.qh, i) << 4) as i32", to: "nibble(&self.qs, i) as i32" },
  { name: "q5_1: d and m swapped", file: SIMPLE, after: "impl BlockQ5_1", from: "d * q as f32 + m", to: "m * q as f32 + d" },
  { name: "q8_0: unsigned", file: SIMPLE, after: "impl BlockQ8_0", from: "d * q as f32", to: "d * q as u8 as f32" },
  { name: "q2_k: scale and min swapped", file: K, from: "self.scales[i / 16] & 0x0f", to: "self.scales[i / 16] >> 4" },
  { name: "q2_k: min added", file: K, after: "impl BlockQ2K", from: "(d * scale as f32) * q as f32 - dmin * min as f32", to: "(d * scale as f32) * q as f32 + dmin * min as f32" },
  { name: "q3_k: high bit not inverted", file: K, from: "kept == 1", to: "kept == 0" },
  { name: "q3_k: scale of the next sub-block", file: K, from: "self.scale(i / 16)", to: "self.scale((i / 16 + 1) % 16)" },
  { name: "q4_k: scales 4..8 without their top bits", file: K, from: "scales[j + 4] & 0x0f | scales[j - 4] >> 6 << 4", to: "scales[j + 4] & 0x0f" },
  { name: "q4_k: sub-blocks of 16", file: K, after: "impl BlockQ4K", from: "i / 32", to: "i / 16 % 8" },
  { name: "q4_k, q5_k: nibble order", file: K, from: "4 * (i % 64 / 32)", to: "4 - 4 * (i % 64 / 32)" },
  { name: "q5_k: fifth bit of another sub-block", file: K, from: "self.qh[i % 32] >> (i / 32) & 1", to: "self.qh[i % 32] >> (7 - i / 32) & 1" },
  { name: "q6_k: halves in another order", file: K, from: "4 * (i % 128 / 64)", to: "4 * (i % 64 / 32)" },
  { name: "q6_k: offset", file: K, from: "(low | high << 4) as i32 - 32", to: "(low | high << 4) as i32 - 31" },
  { name: "q2_k, q3_k, q6_k: pairs of bits backwards", file: K, from: "2 * (i % 128 / 32)", to: "6 - 2 * (i % 128 / 32)" },
  { name: "f16: subnormals flushed", file: "src/gguf/quant.rs", from: "f16::from_le_bytes(bytes).to_f32()", to: "if bytes[1] & 0x7c == 0 { 0.0 } else { f16::from_le_bytes(bytes).to_f32() }" },
];

export const mutants = [...formats.map((mutant) => ({ test: "quant", ...mutant }))];
