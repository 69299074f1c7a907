// What tests/mutation.mjs breaks, and which test must notice.
//
// `from` is a whole Rust expression, or any text of a shader, that occurs once in `file`; `to` has the same type. A mutant that
// needs more than one change lists them in `edits`.

/** Where composed shaders pass through `mutated_shader`. */
export const hook = {
  file: "src/backend/gpu/kernels.rs",
  from: "out.push_str(piece)",
  to: "out.push_str(&crate::mutated_shader(piece))",
};

/** The tests: cargo's name of the target, the test in it, and the words that it fails with. */
export const tests = {
  quant: { target: "gguf_quant", filter: "every_type_bit_for_bit", says: /differ, first \[/ },
  rows: { target: "gguf_quant", filter: "simd_rows_bit_for_bit", says: /differ, first \[/ },
  reference: { target: "golden_small", filter: "reference", says: /max abs/ },
  cpu: { target: "golden_small", filter: "cpu", says: /max abs/ },
  tiles: { target: "lib", filter: "backend::cpu::tiles::tests::every_byte_has_a_place_and_comes_back", says: /row \d/ },
  int8: { target: "lib", filter: "backend::cpu::int8::tests::products_are_exact_and_the_same_in_every_build", says: /, not / },
  greedy: { target: "golden_small", filter: "lowest_of_equals_on_every_backend", says: /greedy token of/ },
  gpu: { target: "golden_small", filter: "gpu", says: /max abs|greedy token/ },
  batch: { target: "golden_small", filter: "gpu_batch", says: /max abs|greedy token/ },
  long: { target: "golden_small", filter: "gpu_long", says: /max abs|greedy token/ },
  mamba: { target: "ops", filter: "mamba::mamba_layers", says: /NMSE \S+, bound/ },
  chunks: { target: "ops", filter: "mamba::mamba_chunks", says: /NMSE \S+, bound/ },
  forms: { target: "ops", filter: "products::forms_of_batches", says: /NMSE \S+, bound/ },
  products_of_one: { target: "ops", filter: "products::one_token_in_every_form", says: /NMSE \S+, bound/ },
  attention: { target: "ops", filter: "attention::attention_layers", says: /NMSE \S+, bound/ },
  formats: { target: "formats", filter: "gpu", says: /NMSE \S+, allowed/ },
  forms_of_one: { target: "formats", filter: "one_token_in_every_form", says: /NMSE \S+, allowed/ },
  draws: { target: "gpu_sampler", filter: "draws_over_blocks_are_the_cpus", says: / from an edge|left == right|\(device\.logit|e-?\d+: Likely/ },
  replies: { target: "gpu_reply", filter: "a_stop_id_ends_all_submits", says: /stop at/ },
  crossing: { target: "gpu_reply", filter: "a_submit_crosses_spans_and_the_caches_growth", says: /token \d+/ },
  broken: { target: "gpu_reply", filter: "numbers_that_are_none_end_the_reply", says: /assertion/ },
  steps: { target: "golden_small", filter: "large_time_steps_on_gpu", says: /max abs/ },
  exponential: { target: "lib", filter: "backend::cpu::simd::math::tests::exponentials_of_all_floats", says: /\de-\d|left/ },
  sigmoids: { target: "lib", filter: "backend::cpu::simd::math::tests::silu_and_softplus_of_all_floats", says: /\de-?\d|left/ },
  odd_servers: { target: "download", filter: "servers::what_cannot_be_used_is_refused_in_words", says: /panicked/ },
  changing_file: { target: "download", filter: "faults::a_file_that_changes_is_begun_again_and_never_mixed", says: /panicked/ },
  flipped_byte: { target: "download", filter: "faults::a_flipped_byte_is_caught_by_a_digest", says: /seed/ },
  bad_chunks: { target: "download", filter: "resume::chunks_that_went_bad_come_again_alone", says: /panicked/ },
  chunk_memory: { target: "download", filter: "servers::eight_chunks_are_in_memory_at_most_and_copies_of_three", says: /panicked/ },
  asked_room: { target: "download", filter: "faults::room_is_asked_for_before_the_first_byte", says: /panicked/ },
  one_stream: { target: "download", filter: "servers::a_server_without_ranges_sends_one_stream", says: /panicked/ },
  busy_server: { target: "download", filter: "faults::a_busy_servers_word_is_kept", says: /nothing is asked meanwhile/ },
  softplus: { target: "golden_small", filter: "softplus_is_right_everywhere", says: /softplus\(/ },
  hostile_norms: { target: "ops", filter: "hostile::rms_norm", says: /, not / },
  hostile_scores: { target: "ops", filter: "hostile::attention_of_extreme_scores", says: /, not |scores of|left: / },
  hostile_tokens: { target: "ops", filter: "hostile::caches_keep_what_is_no_number", says: /was lost/ },
  hostile_states: { target: "ops", filter: "hostile::state_update", says: /, not / },
  shares: { target: "pool", filter: "each_share_runs_once", says: /rounds of|the pool hangs/ },
  long_shares: { target: "pool", filter: "the_caller_sleeps_through_a_long_share_and_is_woken", says: /left: 1|the pool hangs/ },
  sleepers: { target: "pool", filter: "helpers_help_also_after_they_slept", says: /right: 3/ },
  panics: { target: "pool", filter: "a_panic_is_passed_on_once_all_are_done_and_the_pool_goes_on", says: /it must panic|were left alone|left: / },
  dropped: { target: "pool", filter: "dropping_ends_the_helpers", says: /the pool hangs|right: 3/ },
  cuts: { target: "lib", filter: "backend::cpu::share::tests::parts_cover_everything_once", says: /part \d+ of|left: |is_multiple_of/ },
  parts: { target: "lib", filter: "backend::cpu::share::tests::parts_lie_within_their_slice", says: /left: \[Some|precondition/ },
  repooled: { target: "threads", filter: "another_pool_in_the_middle", says: /8 bits: |out of range|outside of its slice/ },
  unless_asked: { target: "lib", filter: "backend::cpu::tests::activations_are_rounded_unless_it_is_asked_otherwise", says: /left: |with_activations/ },
  memory: { target: "memory", filter: "passes", says: /memory allocation of \d+ bytes failed|no room was made/ },
  declared: { target: "memory", filter: "declaring_a_model", says: /memory allocation of \d+ bytes failed/ },
  token_memory: { target: "memory", filter: "a_token_allocates_nothing", says: /tokens took memory/ },
  bench_rates: { target: "bench_cpu", filter: "rates_are_of_all_tokens_but_the_first", says: /left: / },
  bench_ops: { target: "bench_cpu", filter: "ops_bytes_and_products_of_a_token", says: /left: |assertion/ },
  bench_stops: { target: "bench_cpu", filter: "a_measurement_stops_wherever_it_is", says: /breaths: Ok/ },
  split_parts: { target: "gguf_split", filter: "parts_of_the_python_package", says: /left: |Result::unwrap/ },
  split_bits: { target: "gguf_split", filter: "any_cut_gives_the_same_bits", says: /other logits|left: |Result::unwrap|come in order|out of range for slice/ },
  split_order: { target: "gguf_split", filter: "tensors_may_lie_anywhere", says: /assertion failed|Result::unwrap|come in order|out of range for slice/ },
  split_refused: { target: "gguf_split_hostile", filter: "what_does_not_belong_together_is_refused", says: /: loaded|: [a-z_]+ / },
  split_merged: { target: "gguf_split", filter: "a_merged_file_is_a_whole_one", says: /SplitFile/ },
  split_alone: { target: "gguf_split_hostile", filter: "a_part_is_no_model", says: /left: "bad_/ },
  split_early: { target: "gguf_split_hostile", filter: "parts_that_stop_early", says: /unwrap_err|left: / },
  split_changed: { target: "gguf_split_hostile", filter: "what_comes_must_be_what_was_read_ahead", says: /unwrap_err|left: |index out of bounds/ },
  split_told: { target: "gguf_split", filter: "the_backend_is_told_of_all_parts", says: /left: / },
  split_files: { target: "gguf_split", filter: "files_beside_each_other", says: /Result::unwrap|left: / },
  median: { target: "lib", filter: "bench::work::tests::the_middle_one", says: /left: / },
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

const MODEL = "src/model/granite_hybrid.rs";
const model = [
  { name: "embedding_scale", from: "self.embedding_scale", to: "1.0" },
  { name: "residual_scale after a Mamba mixer", after: "b.mamba_mix(proj, mix, mixed);", from: "self.residual_scale", to: "1.0" },
  { name: "residual_scale after attention", after: "b.attend(proj, attend, mixed);", from: "self.residual_scale", to: "1.0" },
  { name: "residual_scale after the feed-forward", after: "b.swiglu(", from: "self.residual_scale", to: "1.0" },
  { name: "logit_scale", from: "self.logit_scale", to: "1.0" },
  { name: "attention_scale as everybody else's", from: "hp.attention_scale", to: "1.0 / (hp.n_embd_head as f32).sqrt()" },
  {
    name: "gate and up swapped",
    edits: [
      { after: "b.swiglu(", from: "layer.ffn_gate", to: "layer.ffn_up" },
      { after: "b.swiglu(", from: "layer.ffn_up", to: "layer.ffn_gate" },
    ],
  },
  { name: "the mixer's norm before the feed-forward", after: "b.swiglu(", from: "layer.ffn_norm", to: "layer.attn_norm" },
];

const REFERENCE = "src/backend/cpu/reference.rs";
const reference = [
  { name: "embed: no scale", from: "*v *= scale", to: "()" },
  { name: "rms_norm: sum for mean", from: "dot(x, x) / x.len() as f64", to: "dot(x, x)" },
  { name: "rms_norm: no gamma", from: "x[i] * scale * gamma[i]", to: "x[i] * scale" },
  { name: "silu: sigmoid upside down", from: "(-v).exp()", to: "v.exp()" },
  { name: "silu_mul: silu of the other", from: "silu(*y) * x", to: "*y * silu(*x)" },
  { name: "softplus: no branch", test: "softplus", from: "v > 20.0", to: "false" },
  { name: "softplus: branch too low", test: "softplus", from: "v > 20.0", to: "v > 5.0" },
  { name: "softplus: ln for ln_1p", test: "softplus", from: "v.exp().ln_1p()", to: "v.exp().ln()" },
  { name: "conv: taps backwards", from: "w[j] as f64", to: "w[d_conv - 1 - j] as f64" },
  { name: "conv: no newest tap", after: "let w = &taps.w[k * d_conv..(k + 1) * d_conv];", from: "0..d_conv", to: "0..d_conv - 1" },
  { name: "conv: no bias", from: "sum + taps.b[k] as f64", to: "sum" },
  { name: "conv: no silu", from: "silu((sum + taps.b[k] as f64) as f32)", to: "(sum + taps.b[k] as f64) as f32" },
  { name: "conv: saved columns stay", from: "saved.copy_within((n_saved - kept) * width.., 0)", to: "()" },
  { name: "conv: new columns not saved", from: "column.copy_from_slice(&rows[(n + i - n_saved) * stride + first..][..width])", to: "()" },
  { name: "ssm: decay without dt", from: "(dt * a).exp()", to: "a.exp()" },
  { name: "ssm: input without dt", from: "dt * x[p] * b[n]", to: "x[p] * b[n]" },
  { name: "ssm: nothing remembered", from: "decay * s[n]", to: "0.0" },
  { name: "ssm: B for C", from: "s[n] as f64 * c[n] as f64", to: "s[n] as f64 * b[n] as f64" },
  { name: "ssm: no D", from: "d as f64 * x[p] as f64", to: "0.0" },
  { name: "attention: no scale", from: "scale * dot(q, row) as f32", to: "dot(q, row) as f32" },
  { name: "attention: not normalised", from: "scores[i] as f64 / total", to: "scores[i] as f64" },
];

const MIXERS = "src/backend/cpu/mixers.rs";
const backend = [
  { name: "dt: no bias", from: "dt + dt_bias[head]", to: "dt" },
  { name: "dt: no softplus", from: "K::softplus(dt + dt_bias[head])", to: "dt + dt_bias[head]" },
  { name: "group of a Mamba head", from: "head / (h / n_group)", to: "head % n_group" },
  { name: "B and C from each other's place", from: "&b[g * d_state..][..d_state]", to: "&c[g * d_state..][..d_state]" },
  { name: "norm over all groups at once", from: "d_inner / n_group", to: "d_inner" },
  {
    name: "norm before the gate",
    edits: [
      {
        from: "K::silu_mul(gated, out)",
        to: `{
          let len = d_inner / n_group;
          for g in (0..d_inner).step_by(len) {
            let mut normed = vec![0.0; len];
            K::rms_norm(&out[g..][..len], &gamma[g..][..len], m.norm.eps, &mut normed);
            for i in 0..len { gated[g + i] = reference::silu(gated[g + i]) * normed[i]; }
          }
        }`,
      },
      {
        from: "K::rms_norm(&gated[g..][..group], &gamma[g..][..group], m.norm.eps, &mut out[g..][..group])",
        to: "out[g..][..group].copy_from_slice(&gated[g..][..group])",
      },
    ],
  },
  { name: "no gate", from: "K::silu_mul(gated, out)", to: "gated.copy_from_slice(out)" },
  { name: "key and value heads of a query head", from: "head / (n_head / a.n_head_kv as usize)", to: "head % a.n_head_kv as usize" },
  { name: "values for keys", from: "keys.push(&kv[..kv_len])", to: "keys.push(&kv[kv_len..])" },
  { name: "a token sees the whole batch", from: "seen - (n - 1 - t)", to: "seen" },
];

const PRODUCTS = "src/backend/cpu/products.rs";
const products = [
  { name: "logits multiplied", from: "*y = v / by", to: "*y = v * by" },
  { name: "a product added as it is", from: "*y += scale * v", to: "*y += v" },
];

const ROWS = "src/backend/cpu/rows.rs";
const rows = [
  { name: "simd q4_k: nibble order", after: "fn q4_k(", from: "q.and(0xf)", to: "q.shift_right(4)" },
  { name: "simd q4_k: min added", test: "rows", after: "F32x4::splat(m)", from: "q * d - m", to: "q * d + m" },
  { name: "simd q6_k: high bits of another quarter", from: "h.shift_right(2).and(3).shift_left(4)", to: "h.shift_right(4).and(3).shift_left(4)" },
  { name: "simd q6_k: scale of another sub-block", from: "sc[is + 2 * k]", to: "sc[2 * is + k]" },
  { name: "simd q8_0: one half twice", after: "fn q8_0(", from: "2 + half", to: "2" },
  { name: "simd q4_0: one half twice", after: "fn q4_0(", from: "q.shift_right(4).minus(8)", to: "q.and(0xf).minus(8)" },
  { name: "simd f16: no sign", test: "rows", from: "(h & 0x8000) << 16", to: "0" },
];

const KERNELS = "src/backend/cpu/kernels.rs";
const kernels = [
  { name: "simd dot: one sum of four lost", test: "attention", after: "pub fn dot(", from: "(acc[2] + acc[3])", to: "acc[2]" },
  {
    name: "simd dot: what is left over after sixteens",
    test: "attention",
    from: "((acc[0] + acc[1]) + (acc[2] + acc[3])).sum() + tail",
    to: "((acc[0] + acc[1]) + (acc[2] + acc[3])).sum()",
  },
  { name: "simd dots: half the columns", from: "(acc[t][0] + acc[t][1]).sum()", to: "acc[t][0].sum()" },
  { name: "simd conv: no bias", from: "(sum + b).silu()", to: "sum.silu()" },
  { name: "simd conv: any taps, no bias", test: "mamba", from: "simd::silu(sum + taps.b[k])", to: "simd::silu(sum)" },
  { name: "simd ssm: no D", after: "fn update_rows<", from: "sums[r].sum() + rest + d * x[r]", to: "sums[r].sum() + rest" },
  { name: "simd ssm: no decay", from: "decays * F32x4::load(&rows[r][i..])", to: "F32x4::load(&rows[r][i..])" },
  { name: "simd ssm: an odd d_state", test: "mamba", from: "sums[r].sum() + rest + d * x[r]", to: "sums[r].sum() + d * x[r]" },
  { name: "simd attention: not normalised", from: "score * inv", to: "score" },
  { name: "simd rms_norm: squares that overflow", test: "hostile_norms", from: "!mean.is_finite()", to: "false" },
  { name: "simd attention: no score is below 0", test: "hostile_scores", after: "let mut max = ", from: "f32::NEG_INFINITY", to: "0.0f32" },
  { name: "simd attention: scores left over after fours", test: "hostile_scores", from: "simd::exp(*s - max)", to: "*s" },
  { name: "simd ssm: the last rows after fours", test: "hostile_states", from: "update_rows(s, &[x[p]], dt, decay, b, c, d)[0]", to: "update_rows(s, &[x[p]], dt, decay, b, c, d)[0] + x[p]" },
  { name: "q8_0 keys: what is no number becomes 0", test: "hostile_tokens", file: "src/backend/cpu/kv.rs", from: "block.iter().any(|x| x.is_nan())", to: "false" },
  { name: "simd rms_norm: no gamma", from: "x * scale * gamma", to: "x * scale" },
  { name: "simd silu_mul: silu of the other", from: "F32x4::load(y).silu() * F32x4::load(x)", to: "F32x4::load(y) * F32x4::load(x).silu()" },
];

const MATH = "src/backend/cpu/simd/math.rs";
const math = [
  { name: "simd exp: one term less", test: "exponential", from: "s(REST[4])", to: "s(0.0)" },
  { name: "simd exp: ln 2 in one piece", test: "exponential", from: "n * s(LN_2_LOW)", to: "s(0.0)" },
  { name: "simd softplus: wrong below 0", test: "sigmoids", from: "x.max(0.0) as f64", to: "x as f64" },
];

const INT8 = "src/backend/cpu/int8/";
const K_QUANTS = "blocks256.rs";
const BLOCKS32 = "blocks32.rs";
const TILES = "src/backend/cpu/tiles.rs";
const int8 = [
  { name: "int8: mins 4..8 without their top bits", file: K_QUANTS, from: "h[i] >> 4 | (m[i] >> 2) & 0x30", to: "h[i] >> 4" },
  { name: "int8: min added", file: K_QUANTS, from: "R::sub_scaled(acc[t][v], offset, R::mul(dmin, dx))", to: "R::add_scaled(acc[t][v], offset, R::mul(dmin, dx))" },
  { name: "int8: high nibbles are the low ones", file: "kernels.rs", from: "if NIBBLE == 0 { bytes } else { R::shr::<4>(bytes) }", to: "bytes" },
  { name: "int8: the last token of four twice", file: "kernels.rs", from: "first + t + k", to: "first + t + k.min(T.max(2) - 2)" },
  { name: "int8 q4_k: one token's nibbles in one sum", file: K_QUANTS, from: "R::dot(pairs[1][v], nibbles::<R, 1>(bytes), x[1])", to: "R::dot(pairs[0][v], nibbles::<R, 1>(bytes), x[1])" },
  { name: "int8 q4_k: activations of the other sub-block", file: K_QUANTS, from: "8 * j + 2 * i + g", to: "8 * (j ^ 1) + 2 * i + g" },
  { name: "int8 q5_k: fifth bit forgotten", file: K_QUANTS, from: "R::or(low, fifth::<R, J>(&tile.qh[4 * i + g], v))", to: "low" },
  { name: "int8 q6_k: no offset", file: K_QUANTS, from: "R::int(-32)", to: "R::int(0)" },
  { name: "int8 q6_k: the last quarter's bits backwards", file: K_QUANTS, from: "R::or(R::shr::<2>(R::or(R::shr::<2>(a), b)), c)", to: "R::or(R::shr::<2>(R::or(R::shr::<2>(c), b)), a)" },
  { name: "int8 q6_k: scale of another quarter", file: K_QUANTS, from: "tile.scales[4 * h + quarter]", to: "tile.scales[4 * h + 3 - quarter]" },
  { name: "int8 q6_k: offset of the wrong sixteen", file: K_QUANTS, after: "tile.scales.iter().zip(", from: "xs[t].sums16", to: "{ let mut sums = xs[t].sums16; sums.reverse(); sums }" },
  { name: "int8 q8_0: unsigned", file: BLOCKS32, from: "R::dot_signed(dot, w[1], R::four::<1>(x))", to: "R::dot_signed(dot, R::and(w[1], 0x7f), R::four::<1>(x))" },
  { name: "int8 q4_0: nibbles swapped", file: BLOCKS32, from: "[&x[0][NIBBLE]; T]", to: "[&x[0][1 - NIBBLE]; T]" },
].map((mutant) => ({ ...mutant, file: INT8 + mutant.file }));
const tiles = [
  { name: "tiles: the last quarter's bits one place off", file: TILES, test: "tiles", from: "q[3][i] >> (2 * quarter)", to: "q[3][i] >> quarter" },
  { name: "tiles: a quarter comes back with its neighbour's high bits", file: TILES, test: "tiles", from: "(q1 >> 4 & 3) << 2", to: "(q0 >> 4 & 3) << 2" },
];

const POOL = "src/backend/cpu/pool.rs";
const pool = [
  { name: "a share that was taken back is not run", test: "shares", from: "slot.turn(POSTED, IDLE) && outcome.is_ok()", to: "slot.turn(POSTED, IDLE) && false" },
  { name: "the caller runs its own share twice", test: "shares", from: "catch_unwind(AssertUnwindSafe(|| f(i)))", to: "catch_unwind(AssertUnwindSafe(|| f(0)))" },
  { name: "a helper runs its neighbour's share", test: "panics", from: "catch_unwind(AssertUnwindSafe(|| job(i)))", to: "catch_unwind(AssertUnwindSafe(|| job(i - 1)))" },
  { name: "nobody is waited for", test: "long_shares", from: "slots.iter().for_each(|slot| self.wait_for(slot))", to: "()" },
  { name: "the caller is not woken", test: "long_shares", from: "caller.iter().for_each(Thread::unpark)", to: "()" },
  { name: "sleepers are not woken", test: "sleepers", from: "self.state.swap(state, Ordering::AcqRel) == ASLEEP", to: "self.state.swap(state, Ordering::AcqRel) == FAILED" },
  { name: "a helper's panic is kept to itself", test: "panics", from: "Err(payload)", after: "Some(payload) if outcome.is_ok() => ", to: "Ok(())" },
  { name: "a caller's panic leaves the others alone", test: "panics", from: "catch_unwind(AssertUnwindSafe(|| f(0)))", to: "{ f(0); Ok(()) }" },
  { name: "helpers are not told to end", test: "dropped", from: "slot.post(QUIT)", to: "()" },
];

const SHARE = "src/backend/cpu/share.rs";
const share = [
  { name: "a part ends where it starts", from: "len * (i + 1) / n", to: "len * i / n" },
  { name: "the last group is no shorter", from: "(groups.end * unit).min(len)", to: "groups.end * unit" },
  { name: "groups are cut", from: "part(len.div_ceil(unit), i, n)", to: "{ let whole = part(len, i, n); whole.start / unit..whole.end / unit }" },
  { name: "parts may lie outside", test: "parts", from: "start <= self.len && len <= self.len - start", to: "true || start <= self.len" },
];

const CPU = "src/backend/cpu/mod.rs";
const requests = [
  { name: "f32 unless asked otherwise", test: "unless_asked", from: "Some(Activations::default())", to: "Some(Activations::F32)" },
  { name: "any name will do", test: "unless_asked", after: "Some(_) => ", from: "None", to: "Some(Activations::Int8)" },
  { name: "activations upside down", test: "unless_asked", from: "activations == Activations::Int8", to: "activations != Activations::Int8" },
  { name: "no room for logits", test: "memory", from: 'room(&mut self.logits, n_rows as u64 * self.most_rows as u64, "logits")?', to: "()" },
  { name: "no room for the mixers", test: "memory", from: 'room(&mut self.work, work, "activations")?', to: "()" },
  { name: "one row of scratch for all threads", test: "repooled", from: "self.most_cols as u64 * self.pool.n_threads() as u64", to: "self.most_cols as u64" },
  { name: "room for one more token each time", test: "token_memory", file: MIXERS, from: "seen.next_power_of_two() + self.most_cols", to: "seen + 16 * self.most_cols" },
  { name: "a vector that aborts", test: "declared", file: "src/backend/cpu/matrix.rs", from: "room(&mut v, len, what)?", to: "()" },
];

const BENCH = "src/bench/cpu.rs";
const bench = [
  { name: "the first token is timed twice", test: "bench_rates", from: "(t.tokens - 1) as f64", to: "t.tokens as f64" },
  { name: "the run that does not count counts", test: "bench_rates", from: "f64::from(prompt) / t.prefill_ms * 1e3", to: "f64::from(run) / t.prefill_ms * 1e3" },
  { name: "passes that are timed are counted", from: "kind.times += 1", to: "kind.times += 2" },
  { name: "a state is read and not written", from: "8 * self.n * u64::from(self.shape.ssm_len + self.shape.conv_len)", to: "4 * self.n * u64::from(self.shape.ssm_len + self.shape.conv_len)" },
  { name: "keys without values", from: "u64::from(self.shape.kv_len) * 2 * self.shape.kv_type.bits() / 8", to: "u64::from(self.shape.kv_len) * self.shape.kv_type.bits() / 8" },
  { name: "all of a batch see nothing of it", from: "self.pos + self.n.div_ceil(2)", to: "self.pos" },
  { name: "products of one token", from: "(bytes, macs * self.n)", to: "(bytes, macs)" },
  { name: "a row's bytes for all rows", from: "bytes + rows * row", to: "bytes + row" },
  { name: "the share of a copy of bits", from: "bytes as f64 * report.decode_tps / report.copy_gbps / 1e9", to: "8.0 * bytes as f64 * report.decode_tps / report.copy_gbps / 1e9" },
  { name: "a measurement of ops that cannot be stopped", test: "bench_stops", from: "host.cancelled()", to: "false" },
  { name: "a median of two is the larger", test: "median", file: "src/bench/work.rs", from: "(values[n / 2 - 1] + values[n / 2]) / 2.0", to: "values[n / 2]" },
];

const SPLIT = "src/gguf/split.rs";
const LOADER = "src/model/loader.rs";
const RECEIVER = "src/generate/receiver.rs";
const split = [
  { name: "a merged file is in two parts", test: "split_merged", from: "metadata.opt_u16(COUNT)?", to: "metadata.opt_u16(COUNT)?.map(|n| n.max(2))" },
  { name: "a part beyond the last", from: "no >= count", to: "no > count" },
  { name: "any number of files", after: "Some(split) => split,", from: "usize::from(split.count) != n_files", to: "false" },
  { name: "parts in any order", from: "usize::from(found.no) != i", to: "false" },
  { name: "a part of more parts", from: "found.count != count", to: "false" },
  { name: "a part of more tensors", from: "found.n_tensors != split.n_tensors", to: "false" },
  { name: "a part of another architecture", from: "found != arch", to: "false" },
  { name: "the first part is not looked at", from: "self.check_part(0, split, &self)?", to: "()" },
  { name: "tensors are not counted", from: "n_tensors as u64 != u64::from(split.n_tensors)", to: "false" },
  { name: "a tensor in two parts", from: "a.name == b.name", to: "false" },
  { name: "all tensors in the first part", test: "split_parts", from: "super::TensorInfo { part: no, ..t }", to: "t" },
  { name: "parts that need nothing", test: "split_bits", from: "part.end()", to: "0" },
  { name: "tensors by name as they were", test: "split_parts", from: "self.by_name = order", to: "()" },
  { name: "a part is a model", test: "split_alone", from: "usize::from(split.count) != self.ends.len()", to: "false" },
  { name: "tensors by offset, whatever the part", test: "split_bits", file: LOADER, from: "(t.part, t.offset)", to: "(0, t.offset)" },
  { name: "tensors in the order of the table", test: "split_order", file: LOADER, from: "(t.part, t.offset)", to: "(t.part, 0)" },
  { name: "the bytes of any part", test: "split_bits", file: LOADER, after: "while let Some(target) = ", from: "t.part == self.part", to: "true" },
  { name: "a part ends early", test: "split_early", file: LOADER, after: "match self.targets.get(self.next) {", from: "t.part == self.part", to: "false" },
  { name: "a part goes on where the last one ended", test: "split_bits", file: LOADER, after: "self.data = first", from: "self.seen = 0", to: "()" },
  {
    name: "only the first part's weights are expected",
    test: "split_told",
    file: LOADER,
    from: "gguf.tensors.iter().fold(0, |bytes: u64, t| bytes.saturating_add(t.size))",
    to: "gguf.tensors.iter().filter(|t| t.part == 0).fold(0, |bytes: u64, t| bytes.saturating_add(t.size))",
  },
  { name: "another header than was read ahead", test: "split_changed", file: RECEIVER, from: "body.tables[self.part] == gguf.tensors", to: "true" },
  { name: "a part after the last", test: "split_changed", file: RECEIVER, from: "part == self.n_parts", to: "false" },
  { name: "the first part again and again", test: "split_files", file: "src/generate/native.rs", from: "loader.end_part()?", to: "()" },
  { name: "files by the wrong number", test: "split_files", file: "src/source/file.rs", from: "(0..count)", to: "(1..count)" },
];

const shader = (name) => `shaders/${name}.wgsl`;
const shaders = [
  { name: "silu: sigmoid upside down", file: "math", from: "min(-v, 80.0)", to: "min(v, 80.0)" },
  { name: "softplus: wrong below 0", file: "math", from: "max(v, 0.0)", to: "v" },
  {
    name: "softplus: overflows",
    test: "steps",
    file: "math",
    from: "let e = exp(-min(abs(v), 80.0));",
    to: "if v > -1.0e9 { return log(1.0 + exp(v)); } let e = exp(-min(abs(v), 80.0));",
  },
  { name: "decay without dt", file: "mamba", from: "dt * vectors[op.a + head]", to: "vectors[op.a + head]" },
  { name: "dt: no bias", file: "mamba", from: " + vectors[op.dt_bias + head]", to: "" },
  { name: "step: taps backwards", file: "mamba_step", from: "vectors[taps + j]", to: "vectors[taps + op.d_conv - 2u - j]" },
  { name: "step: ring off by one", file: "mamba_step", from: "run.pos + j + 1u", to: "run.pos + j" },
  { name: "step: B and C columns not saved", file: "mamba_step", from: "if owner {", to: "if owner && run.pos > 1000u {" },
  { name: "step: group of a head", file: "mamba_step", from: "head / heads_of_group;", to: "head % op.n_group;" },
  { name: "step: no D", file: "mamba_step", from: " + vectors[op.d + head] * xs[lane]", to: "" },
  { name: "step: no gate", file: "mamba_step", from: "v * silu(p[inner])", to: "v" },
  { name: "step: B for C", file: "mamba_step", from: "s * bc[D_STATE + n]", to: "s * bc[n]" },
  { name: "conv: taps backwards", file: "mamba_conv", from: "op.conv_w + channel * op.d_conv + j", to: "op.conv_w + (channel + 1u) * op.d_conv - 1u - j" },
  { name: "conv: ring off by one", file: "mamba_conv", from: "(run.pos + ahead) % op.d_conv", to: "(run.pos + ahead + 1u) % op.d_conv" },
  { name: "conv: no bias", file: "mamba_conv", from: "vec4(vectors[op.conv_b + channel])", to: "vec4(0.0)" },
  { name: "conv: no silu", file: "mamba_conv", from: "= silu(sum[k])", to: "= sum[k]" },
  { name: "scan: group of a head", file: "mamba_scan", from: "head / (op.n_head / op.n_group)", to: "head % op.n_group" },
  { name: "scan: first columns saved for last", file: "mamba_ring", from: "run.n - 1u - k", to: "k" },
  { name: "scan: state not saved", file: "mamba_scan", from: "state[at + i * op.d_head] = s[i]", to: "s[i] = 0.0" },
  { name: "scan: no D", file: "mamba_scan", from: "d * mixed[token * op.mixed_stride + inner]", to: "0.0" },
  { name: "scan: no gate", file: "mamba_scan", from: "v * silu(p[token * op.p_stride + inner])", to: "v" },
  { name: "ssd: group of a head", test: "chunks", file: "mamba_ssd", from: "head / (op.n_head / op.n_group)", to: "head % op.n_group" },
  { name: "ssd: B for C", test: "chunks", file: "mamba_ssd_cb", from: "bc_at(i + 1u, 1u,", to: "bc_at(i + 1u, 0u," },
  { name: "ssd: a token decays what it brings", test: "chunks", file: "mamba_ssd_out", from: "select(1.0, decay[i], i > k)", to: "decay[i]" },
  { name: "ssd: chunks begin from nothing", test: "chunks", file: "mamba_ssd_pass", from: "chunks[at] = s;", to: "chunks[at] = 0.0;" },
  { name: "ssd: states do not decay over a chunk", test: "chunks", file: "mamba_ssd_pass", from: "chunks[ends_at(chunk) + i / each] * s", to: "s" },
  { name: "ssd: decay since the chunk's first token", test: "chunks", file: "mamba_ssd_out", from: "since[i] * bc_at", to: "bc_at" },
  { name: "group_norm: gamma of the first group", file: "group_norm", from: "op.gamma + wid.x * op.n_cols + i", to: "op.gamma + i" },
  { name: "group_norm: sum for mean", file: "group_norm", from: "sum / f32(op.n_cols)", to: "sum" },
  { name: "residual scale", file: "product", from: "y[i] += op.scale * value", to: "y[i] += value" },
  { name: "logit scale", file: "product", from: "y[i] = op.scale * value", to: "y[i] = value" },
  { name: "norm: sum for mean", file: "product", from: "squares / f32(N_CHUNKS * 32u)", to: "squares" },
  { name: "k from the rows of v", file: "product", from: "Source(op.planes[1], row - op.seg_end.x)", to: "Source(op.planes[2], row - op.seg_end.x)" },
  { name: "matvec: no gamma on a quad", file: "rows8", from: "in.v[2] * gamma[g + 2u]", to: "in.v[2]" },
  { name: "matvec: gate and up swapped", test: "products_of_one", file: "rows8", from: "silu(inv * sum) * (inv * up)", to: "silu(inv * up) * (inv * sum)" },
  { name: "matvec: an eighth of the lanes forgotten", test: "forms_of_one", file: "join", from: "i < end; i++", to: "i + 1u < end; i++" },
  { name: "matvec: squares of one group for all", test: "forms_of_one", file: "join", from: "total(row, 0u, 8u).y, X_IS_SHARED", to: "y.y, X_IS_SHARED" },
  { name: "matvec subgroups: four rows not added up", test: "forms_of_one", file: "matvec_subgroups", from: "acc1 = subgroupAdd(acc1)", to: "acc1 = acc1 + vec4(0.0)" },
  { name: "matvec packed: sum of the other run", test: "forms_of_one", file: "matvec_packed", from: "dot(k.zw, scale.yz)", to: "dot(k.zw, scale.zy)" },
  { name: "matvec packed: no scale of x", test: "forms_of_one", file: "matvec_packed", from: "scale.x * dot(", to: "dot(" },
  { name: "matvec serial: gate and up swapped", file: "matvec_serial", from: "silu(acc.x) * acc.z", to: "silu(acc.z) * acc.x" },
  { name: "matvec serial: minimum of the other run", file: "matvec_serial", from: "dot(k.zw, in.sums)", to: "dot(k.zw, in.sums.yx)" },
  { name: "matvec serial: a byte in another's place", file: "quant/masked", from: "0x1p-16", to: "0x1p-15" },
  { name: "matvec: minimum of the other run", test: "forms_of_one", file: "rows8", from: "vec4(lo, hi, in.sums)", to: "vec4(lo, hi, in.sums.yx)" },
  { name: "matmul: gate and up swapped", test: "forms", file: "matmul", from: "silu(inv * lo[i]) * (inv * hi[i])", to: "silu(inv * hi[i]) * (inv * lo[i])" },
  { name: "matmul: no gamma", test: "forms", file: "matmul", from: "v * gamma[op.gamma + quad]", to: "v" },
  { name: "matmul: minimum of the other run", test: "forms", file: "matmul", from: "put_w(local, k.a.y, k.b.y,", to: "put_w(local, k.a.y, k.b.x," },
  { name: "matmul: f16 weights not scaled back", test: "forms", file: "tile_f16", from: "0x1p-9f", to: "0x1p-8f" },
  { name: "serial: no gamma", test: "batch", file: "serial", from: "v * gamma[op.gamma + quad]", to: "v" },
  { name: "matmul: one row twice", test: "forms", file: "matmul", from: "w_at(r + 80u, k)", to: "w_at(r + 64u, k)" },
  { name: "matmul: one token's sum of squares for another's", test: "forms", file: "matmul", from: "let quads = token * 4u;", to: "let quads = t * 4u;" },
  { name: "serial: one token's sum of squares for another's", test: "batch", file: "serial", from: "inv_rms(xt[token].x)", to: "inv_rms(xt[t].x)" },
  { name: "serial: one row twice", test: "batch", file: "serial", from: "wt[at(r + 40u, k)]", to: "wt[at(r + 32u, k)]" },
  { name: "few: the second four tokens' x for the first's", file: "few", from: "let rows1 = rows_of(first + 4u);", to: "let rows1 = rows_of(first);" },
  { name: "few: sums of two tokens swapped", test: "forms", file: "few_lanes", from: "part[128u + local] = f.sums[2];", to: "part[128u + local] = f.sums[3];" },
  { name: "few_serial: gate and up swapped", file: "few_serial", from: "silu(y.x) * y.z", to: "silu(y.z) * y.x" },
  { name: "attend: no scale", file: "attend", from: "s *= op.scale", to: "s *= 1.0" },
  { name: "attend: sees the batch's later tokens", file: "attend", from: "select(run.pos + token + 1u,", to: "select(run.pos + run.n," },
  { name: "attend: every head asks the first keys", file: "attend", from: "key_quad(base + local, head_kv * op.d_head + i)", to: "key_quad(base + local, i)" },
  { name: "attend: not normalised", file: "attend", from: "acc / total[h]", to: "acc" },
  { name: "attend: old values keep their weight", test: "long", file: "attend", from: "acc1 *= shrink.y", to: "acc1 *= 1.0" },
  { name: "attend_batch: sees the batch's later tokens", test: "attention", file: "attend_softmax", from: "vec4(key) <= sees", to: "vec4(key) < vec4(run.pos + run.n)" },
  { name: "attend_batch: one group's heads for another's", test: "attention", file: "attend_batch", from: "head0 + rows[r] % packed_heads", to: "head0 + rows[r] / tokens" },
  { name: "attend_batch: old values keep their weight", test: "long", file: "attend_batch", from: "acc1 *= shrink.y", to: "acc1 *= 1.0" },
  { name: "attend_batch: a head apart reads the first keys", test: "attention", file: "attend_batch", from: "op.head_kv0 + wid.x", to: "wid.x" },
  { name: "attend_join: spans weigh the same", test: "long", file: "attend_join", from: "exp(max(tail.x - top, -80.0))", to: "1.0" },
  { name: "kv: keys for values", file: "kv_append", from: "packed(qkv[src + kv_width()])", to: "packed(qkv[src])" },
  { name: "kv: every pass from the start", file: "kv_append", from: "(run.pos + id.y) * kv_width()", to: "id.y * kv_width()" },
  { name: "kv q8_0: unsigned", test: "attention", file: "kv/q8_0", from: ">> vec4(24u)", to: ">> vec4(25u)" },
  { name: "kv q8_0: the first block's scale", test: "attention", file: "kv_append_q8_0", from: "let dst = (run.pos + id.y) * kv_row() + block * BLOCK", to: "let dst = (run.pos + id.y) * kv_row()" },
  { name: "embed: no scale on a quad", file: "embed", from: "op.scale * (k.a.y * k.q[5] + k.b.y)", to: "k.a.y * k.q[5] + k.b.y" },
  { name: "argmax: the lowest logit", file: "best", from: "b.value > a.value ||", to: "b.value < a.value ||" },
  { name: "argmax: the highest of equals", test: "greedy", file: "best", from: "b.id < a.id", to: "b.id > a.id" },
  { name: "argmax_join: only the first", test: "greedy", file: "best", from: "i < op.n_part", to: "i < 1u" },
  ...[
    { name: "draw: how often is forgotten", file: "sample_max", from: "f32(count.y) * choice.frequency", to: "choice.frequency" },
    { name: "draw: presence for everyone", file: "sample_max", from: "if count.y > 0u {", to: "if true {" },
    { name: "draw: repeated logits below 0 raised", file: "sample_max", from: "logit * min(r, LARGEST", to: "logit * min(1.0 / r, LARGEST" },
    { name: "draw: what must never come, comes", file: "sample_max", from: "select(key_of(v), 0u, never)", to: "key_of(v)" },
    { name: "draw: exp without its square", file: "sample_bins", from: "r * (0.5 + r", to: "r * (0.0 + r" },
    { name: "draw: temperature upside down", file: "sample_bins", from: "exp_neg(below / choice.temperature * 64.0)", to: "exp_neg(below * choice.temperature * 64.0)" },
    { name: "draw: min-p keeps all", file: "sample_cut", from: "if weight >= choice.min_p {", to: "if true {" },
    { name: "draw: min-p keeps all that is listed", file: "draw", from: "weight >= choice.min_p && (", to: "(" },
    { name: "draw: top-k keeps its whole bin", file: "draw", from: "(bin != k_bin || within(BY_RANK, rank, id))", to: "true" },
    { name: "draw: top-p keeps its whole bin", file: "draw", from: "(choice.top_p >= 1.0 || within(BY_WEIGHT, rank, id))", to: "true" },
    { name: "draw: the bin of the k-th token weighs nothing", file: "draw", from: "total = plus(total, sum_of(0u));", to: "total = plus(total, vec2(0u));" },
    { name: "draw: the first block always", file: "draw", from: "let first = block * BLOCK", to: "let first = 0u * BLOCK" },
    { name: "draw: rank counted from the bins before", file: "cuts", from: "k_rank = k - select(n - tokens.x, n, second);", to: "k_rank = k - (n - tokens.x);" },
    { name: "draw: top-p of the whole", file: "cuts", from: "let lo = p_target(k_before);", to: "let lo = p_target(scan_w[255]);" },
    { name: "draw: the window never forgets", file: "sample_draw", from: "counts[counts[slot].x].x -= 1u;", to: "counts[counts[slot].x].x -= 0u;" },
    { name: "draw: one number for all tokens", file: "sample_draw", from: "uniform_number(tape.made)", to: "uniform_number(0u)" },
    { name: "likely: one token again and again", file: "likely_parts", from: "left &= ~(1u << ((r.id / 256u) % OWN));", to: "left &= ~0u;" },
    { name: "likely: a block's first again and again", file: "likely_join", from: "first++;", to: "first += 0u;" },
    { name: "likely: blocks' sums are of different tops", file: "likely_join", from: "exp(max(parts[local].top - top, -80.0))", to: "1.0" },
    { name: "reply: stop ids do not end it", test: "replies", file: "reply", from: "n = select(n, 0u, choice.stop[i] == id);", to: "n = select(n, n, choice.stop[i] == id);" },
    { name: "reply: goes on from no number", test: "broken", file: "reply", from: "select(0u, 1u, broken == 0u)", to: "1u" },
    { name: "reply: positions stand still", test: "crossing", file: "reply", from: "runs[0].pos + runs[0].n", to: "runs[0].pos" },
  ].map((mutant) => ({ test: "draws", ...mutant })),
  { name: "f16: subnormals flushed", file: "half", from: "vec4<f32>(mantissa) * 0x1p-24f", to: "vec4<f32>(mantissa) * 0.0" },
  { name: "bytes of a word backwards", file: "quant/bytes", from: "vec4<u32>(0u, 8u, 16u, 24u)", to: "vec4<u32>(24u, 16u, 8u, 0u)" },
  { name: "q4_k, q5_k: scales 4..8 without their top bits", file: "quant/k_scales", from: " | (((y >> vec2(6u)) & vec2(3u)) << vec2(4u))", to: "" },
  { name: "q4_k: nibble order", file: "quant/q4_k", from: "Words(low_nibbles(v), high_nibbles(v))", to: "Words(high_nibbles(v), low_nibbles(v))" },
  { name: "q4_k: min added", file: "quant/k_scales", from: "-h.d.yy", to: "h.d.yy" },
  { name: "q6_k: high bits of another quarter", file: "quant/q6_k", from: "let hi = lo + 4u", to: "let hi = lo + 2u" },
  { name: "q6_k: scales unsigned", file: "quant/q6_k", from: "bitcast<vec2<i32>>(two << vec2(24u - 8u * (c & 3u))) >> vec2(24u)", to: "bitcast<vec2<i32>>((two >> vec2(8u * (c & 3u))) & vec2(255u))" },
  { name: "q8_0: bytes backwards", test: "batch", file: "quant/signed", from: "vec4<u32>(24u, 16u, 8u, 0u)", to: "vec4<u32>(0u, 8u, 16u, 24u)" },
  { name: "q4_0: offset", test: "batch", file: "quant/q4_0", from: "OFFSET: f32 = 8.0", to: "OFFSET: f32 = 7.0" },
  { name: "q5_k: fifth bit worth 8", test: "batch", file: "quant/q5_k", from: "fields(qh, s, 1u) << vec4(4u)", to: "fields(qh, s, 1u) << vec4(3u)" },
  ...[
    { name: "q2_k: scale and min swapped", file: "quant/q2_k", from: "vec4<u32>(packed & vec2(15u), packed >> vec2(4u))", to: "vec4<u32>(packed >> vec2(4u), packed & vec2(15u))" },
    { name: "q2_k: scales of the other half", file: "quant/q2_k", from: ">> ((c & 2u) * 4u)", to: ">> ((2u - (c & 2u)) * 4u)" },
    { name: "q3_k: high bits of scales forgotten", file: "quant/q3_k", from: " | ((vec2<u32>(high, high >> 16u) & vec2(3u)) << vec2(4u))", to: "" },
    { name: "q3_k: third bit of another shift", file: "quant/q3_k", from: "fields(m, bit + 1u, 1u)", to: "fields(m, bit, 1u)" },
    { name: "q4_1: m for d", file: "quant/q4_1", from: "halves(word(planes.y, row * n_chunks + c))", to: "halves(word(planes.y, row * n_chunks + c)).yy" },
    { name: "q5_0, q5_1: fifth bits of the first half twice", file: "quant/fifth", from: "vec4<u32>(16u, 20u, 24u, 28u)", to: "vec4<u32>(16u, 4u, 24u, 28u)" },
    { name: "q5_0: offset", file: "quant/q5_0", from: "OFFSET: f32 = 16.0", to: "OFFSET: f32 = 15.0" },
    { name: "q5_1: d for m", file: "quant/q5_1", from: "halves(word(planes.z, row * n_chunks + c))", to: "halves(word(planes.z, row * n_chunks + c)).xx" },
    { name: "bf16: halves swapped", file: "quant/bf16", from: "low << 16u, low & 0xffff0000u", to: "low & 0xffff0000u, low << 16u" },
    { name: "f16: halves swapped", file: "quant/f16", from: "low & 0xffffu, low >> 16u", to: "low >> 16u, low & 0xffffu" },
    { name: "f32: a quad twice", file: "quant/f32", from: "w[i + 6u]", to: "w[i + 5u]" },
    { name: "glu: silu of the other", file: "glu", from: "silu(h[i]) * up[id.y * op.up_stride + id.x]", to: "h[i] * silu(up[id.y * op.up_stride + id.x])" },
    { name: "kv f16: halves swapped when written", file: "kv/f16", from: "f32_to_f16(v.x) | (f32_to_f16(v.y) << 16u)", to: "f32_to_f16(v.y) | (f32_to_f16(v.x) << 16u)" },
    { name: "f32_to_f16: exponent off by one", file: "half", from: "0x38000000u) >> 13u", to: "0x38800000u) >> 13u" },
  ].map((mutant) => ({ test: "formats", ...mutant })),
];

const DOWNLOAD = "src/source/download/";
const downloads = [
  { name: "download: other bytes than were asked for", file: "answer.rs", test: "odd_servers", from: "range.start != asked.start || range.end > asked.end || range.is_empty()", to: "range.is_empty()" },
  { name: "download: a compressed answer", file: "answer.rs", test: "odd_servers", from: '!encoding.trim().eq_ignore_ascii_case("identity")', to: "false" },
  { name: "download: every version is the same", file: "mirrors.rs", test: "changing_file", from: 'known.trim_start_matches("W/") == found.trim_start_matches("W/")', to: "true" },
  { name: "download: what another file left stays", file: "run.rs", test: "changing_file", from: "matches!(e, Error::FileChanged { .. })", to: "false" },
  { name: "download: any digest will do", file: "storing.rs", test: "flipped_byte", from: "published != sha256", to: "false" },
  { name: "download: stored chunks are not looked at", file: "run.rs", test: "bad_chunks", from: "expected.is_none_or(|(expected, _)| expected == hash)", to: "true" },
  { name: "download: copies of all chunks at once", file: "storing.rs", test: "chunk_memory", from: "!state.accepted || self.puts.len() >= MOST_PUTS", to: "!state.accepted" },
  { name: "download: there is always room", file: "state.rs", test: "asked_room", from: "length.map(|length| length.saturating_sub(self.resumed))", to: "length.map(|_| 0)" },
  { name: "download: a stream begins again and is taken again", file: "state.rs", test: "one_stream", from: "filled.saturating_sub(offset).min(range.len())", to: "0" },
  { name: "download: nobody waits for a busy server", file: "transfer.rs", test: "busy_server", from: "now >= until", to: "true" },
  { name: "download: everybody asks a server without ranges", file: "run.rs", test: "one_stream", from: "state.wholes > 0 && !state.has_ranges", to: "false" },
].map((mutant) => ({ ...mutant, file: DOWNLOAD + mutant.file }));

export const mutants = [
  ...formats.map((mutant) => ({ test: "quant", ...mutant })),
  ...model.map((mutant) => ({ test: "reference", file: MODEL, ...mutant })),
  ...reference.map((mutant) => ({ test: "reference", file: REFERENCE, ...mutant })),
  ...backend.map((mutant) => ({ test: "reference", file: MIXERS, ...mutant })),
  ...products.map((mutant) => ({ test: "reference", file: PRODUCTS, ...mutant })),
  ...rows.map((mutant) => ({ test: "cpu", file: ROWS, ...mutant })),
  ...math.map((mutant) => ({ test: "exponential", file: MATH, ...mutant })),
  ...kernels.map((mutant) => ({ test: "cpu", file: KERNELS, ...mutant })),
  ...int8.map((mutant) => ({ test: "int8", ...mutant })),
  ...tiles,
  ...pool.map((mutant) => ({ file: POOL, ...mutant })),
  ...share.map((mutant) => ({ test: "cuts", file: SHARE, ...mutant })),
  ...requests.map((mutant) => ({ file: CPU, ...mutant })),
  ...bench.map((mutant) => ({ test: "bench_ops", file: BENCH, ...mutant })),
  ...downloads,
  ...split.map((mutant) => ({ test: "split_refused", file: SPLIT, ...mutant })),
  ...shaders.map((mutant) => ({ test: "gpu", ...mutant, name: `gpu ${mutant.name}`, file: shader(mutant.file) })),
];
