// Shared by the kernels that draw a token: penalties (sample_max), weights (sample_bins), which tokens are kept (sample_cut), the draw
// (sample_draw). A weight is exp((logit - max) / temperature); those below e^-32 are 0, never drawn.
//
// Tokens are ranked by key, lowest id first among equals. Weights fall into bins, the likeliest in bin 0. All sums are of integers, in
// units of 2^-41: no order of addition, and so no device, makes a difference.

struct Sample {
    n_vocab: u32,
    n_part: u32, // blocks of the vocabulary
}

struct Part {
    best: f32,
    id: u32,     // NO_TOKEN: nothing may be chosen
    broken: u32, // logits that are not finite
    pad: u32,
}

struct Work {
    n_list: atomic<u32>,
    pad: array<u32, 3>,
    parts: array<Part, 256>,
    sums: array<vec2<u32>, 256>,    // of each block's weights that are kept whatever the cuts
    bins: array<atomic<u32>, 2048>, // [BINS, (tokens, limbs of their weight)]
    list: array<u32>,               // tokens in the bins that the cuts go through, in any order
}

const BLOCK: u32 = 4096u;
const BINS: u32 = 512u;
const NO_TOKEN: u32 = 0xffffffffu;
const NEVER: u32 = 0x80000000u; // in a token's count: it is not to be chosen

@group(0) @binding(8) var<uniform> op: Sample;

/// Larger for larger values. 0 is no value's.
fn key_of(v: f32) -> u32 {
    let bits = bitcast<u32>(v);
    return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}

fn value_of(key: u32) -> f32 {
    return bitcast<f32>(select(~key, key & 0x7fffffffu, key >= 0x80000000u));
}

/// Eight to a factor of two.
fn bin_of(weight_bits: u32) -> u32 {
    return min(0x3f8u - min(weight_bits >> 20u, 0x3f8u), BINS - 1u);
}

/// The likelier, the lowest id among equals.
fn better(a: Part, b: Part) -> Part {
    var r = a;
    if b.id != NO_TOKEN && (a.id == NO_TOKEN || b.best > a.best || (b.best == a.best && b.id < a.id)) {
        r = b;
    }
    r.broken = a.broken + b.broken;
    return r;
}
