// The 12 bytes of scales of Q4_K and Q5_K: eight 6-bit scales and eight 6-bit minima, in words 1..4 of a block's first quad.
// Sub-blocks 0..4 keep theirs in the low 6 bits of bytes 0..4 and 4..8; the others have 4 bits in bytes 8..12 (scale low,
// min high) and 2 bits on top of bytes 0..4 (scale) and 4..8 (min).

const HI: u32 = 8u;
const HEAD: u32 = 8u;

/// Chunk c % 8 = 2 j + v: half v of the 32 bytes whose low nibbles are sub-block 2 j and high nibbles 2 j + 1.
fn chunk_lo(c: u32) -> u32 {
    return (c >> 3u) * 64u + ((c >> 1u) & 3u) * 16u + (c & 1u) * 4u;
}

fn head(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> Head {
    let v = w[block_at(planes, row, n_chunks, c)];
    return Head(halves(v.x), v);
}

fn affine(h: Head, c: u32) -> vec4<f32> {
    let j = (c >> 1u) & 3u;
    let shift = vec2<u32>(0u, 8u) + vec2((j & 1u) * 16u);
    let y = vec2(h.s.y) >> shift;
    let z = vec2(h.s.z) >> shift;
    let low = vec2(h.s.w) >> shift;
    let first = vec4<u32>(y & vec2(63u), z & vec2(63u));
    let rest = vec4<u32>(
        (low & vec2(15u)) | (((y >> vec2(6u)) & vec2(3u)) << vec2(4u)),
        ((low >> vec2(4u)) & vec2(15u)) | (((z >> vec2(6u)) & vec2(3u)) << vec2(4u)));
    return vec4(h.d.xx, -h.d.yy) * vec4<f32>(select(rest, first, j < 2u));
}
