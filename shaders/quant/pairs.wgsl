// Q2_K and Q3_K: weight 128 n + 32 j + l has bits 2 j.. of byte 32 n + l; every 16 weights have a scale.
//
// Chunk c % 8 = 4 n + 2 h + s takes two of the four shifts, 4 s and 4 s + 2, of half h of the 32 bytes of n.

const HI: u32 = 8u;
const HEAD: u32 = 8u;

fn chunk_lo(c: u32) -> u32 {
    return (c >> 3u) * 64u + ((c >> 2u) & 1u) * 32u + (c & 1u) * 16u + ((c >> 1u) & 1u) * 4u;
}

/// Quad 2 n + h of a block's four.
fn pairs(plane: u32, row: u32, n_chunks: u32, c: u32) -> vec4<u32> {
    return w[plane + (row * (n_chunks >> 3u) + (c >> 3u)) * 4u + ((c >> 1u) & 3u)];
}
