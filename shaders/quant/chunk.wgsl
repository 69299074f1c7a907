// What every format in this folder gives: `chunk`, 32 weights of a row, and where in the row they stand.
//
// A chunk is what one 16-byte load of the main plane holds, so a format may put its two runs of 16 apart:
// elements `4 chunk_lo(c) ..+16` and `4 (chunk_lo(c) + HI) ..+16`. Each run is affine: weight = a * q + b.
// Blocks are split into planes when they are uploaded (weights.rs); `planes` holds where each starts, in 16-byte quads.

@group(0) @binding(0) var<storage, read> w: array<vec4<u32>>;

struct Chunk {
    q: array<vec4<f32>, 8>, // run 0 in 0..4, run 1 in 4..8
    a: vec2<f32>,           // of each run
    b: vec2<f32>,
}

fn word(plane: u32, i: u32) -> u32 {
    return w[plane + (i >> 2u)][i & 3u];
}

fn half_at(plane: u32, i: u32) -> f32 {
    return f16_to_f32((word(plane, i >> 1u) >> ((i & 1u) * 16u)) & 0xffffu);
}

fn byte_at(plane: u32, i: u32) -> u32 {
    return (word(plane, i >> 2u) >> ((i & 3u) * 8u)) & 0xffu;
}

const BYTES = vec4<u32>(0u, 8u, 16u, 24u);

/// `mask` bits of each byte, from bit `shift` up.
fn bits(v: u32, shift: u32, mask: u32) -> vec4<u32> {
    return (vec4(v) >> (BYTES + vec4(shift))) & vec4(mask);
}

fn nibbles(v: vec4<u32>, shift: u32) -> array<vec4<f32>, 4> {
    return array<vec4<f32>, 4>(
        vec4<f32>(bits(v.x, shift, 15u)), vec4<f32>(bits(v.y, shift, 15u)),
        vec4<f32>(bits(v.z, shift, 15u)), vec4<f32>(bits(v.w, shift, 15u)));
}
