// What every format in this folder gives for a chunk, 32 weights of a row, and where in the row they stand.
//
// A chunk is what one 16-byte load of the main plane holds, so a format may put its two runs of 16 apart:
// elements `4 chunk_lo(c) ..+16` and `4 (chunk_lo(c) + HI) ..+16`. Each run is affine, weight = a * q + b, and what a and b are
// made of is shared by the HEAD chunks of a block: `head` loads it, `affine` gives (a, a, b, b) of a chunk's two runs.
// The quants come as bytes, four in each of eight words (`words`, then one of the pieces that make floats of them: bytes,
// signed, masked), or as floats (`quads`).
// Blocks are split into planes when they are uploaded (weights.rs); `planes` holds where each starts, in 16-byte quads.

@group(0) @binding(0) var<storage, read> w: array<vec4<u32>>;

struct Head {
    d: vec2<f32>,
    s: vec4<u32>, // packed scales, as the format has them
}

struct Words {
    lo: vec4<u32>, // run 0
    hi: vec4<u32>, // run 1
}

struct Chunk {
    q: array<vec4<f32>, 8>, // run 0 in 0..4, run 1 in 4..8
    a: vec2<f32>,           // of each run
    b: vec2<f32>,
}

fn chunk(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> Chunk {
    let s = affine(head(planes, row, n_chunks, c), c);
    return Chunk(quads(planes, row, n_chunks, c), s.xy, s.zw);
}

fn word(plane: u32, i: u32) -> u32 {
    return w[plane + (i >> 2u)][i & 3u];
}

fn half_at(plane: u32, i: u32) -> f32 {
    return f16_to_f32((word(plane, i >> 1u) >> ((i & 1u) * 16u)) & 0xffffu);
}

/// The two halves of a word.
fn halves(v: u32) -> vec2<f32> {
    return f16x4_to_f32(vec4<u32>(v & 0xffffu, v >> 16u, 0u, 0u)).xy;
}

fn low_nibbles(v: vec4<u32>) -> vec4<u32> {
    return v & vec4(0x0f0f0f0fu);
}

fn high_nibbles(v: vec4<u32>) -> vec4<u32> {
    return (v >> vec4(4u)) & vec4(0x0f0f0f0fu);
}

/// Bits `shift` and up of every byte, as many as `mask` has.
fn fields(v: vec4<u32>, shift: u32, mask: u32) -> vec4<u32> {
    return (v >> vec4(shift)) & vec4(mask * 0x01010101u);
}
