// Q3_K. Planes: x 2-bit quants (64 bytes a block of 256), y third bits (32 bytes), z 16 scales of 6 bits (12 bytes), w d (f16).
// Weight 128 n + 32 j + l is bits 2j.. of byte 32 n + l, and bit 4 n + j of byte l of the third bits.
// weight = d * (sc - 32) * (q - 4).
//
// A chunk takes two of the four shifts of 16 bytes.

const HI: u32 = 8u;

fn chunk_lo(c: u32) -> u32 {
    // c % 8 = 4 n + 2 h + s: half h of the 32 bytes of n, shifts 4 s and 4 s + 2.
    return (c >> 3u) * 64u + ((c >> 2u) & 1u) * 32u + (c & 1u) * 16u + ((c >> 1u) & 1u) * 4u;
}

/// Scale `i`: low 4 bits in bytes 0..8 (nibble i / 8), high 2 bits in bytes 8..12 (pair i / 4).
fn scale(plane: u32, block: u32, i: u32) -> f32 {
    let low = (byte_at(plane, block * 12u + (i & 7u)) >> ((i >> 3u) * 4u)) & 15u;
    let high = (byte_at(plane, block * 12u + 8u + (i & 3u)) >> ((i >> 2u) * 2u)) & 3u;
    return f32(low | (high << 4u)) - 32.0;
}

fn three(v: u32, shift: u32, mask: u32, bit: u32) -> vec4<f32> {
    return vec4<f32>(bits(v, shift, 3u) | (bits(mask, bit, 1u) << vec4(2u)));
}

fn chunk(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> Chunk {
    let block = row * (n_chunks >> 3u) + (c >> 3u);
    let n = (c >> 2u) & 1u;
    let h = (c >> 1u) & 1u;
    let s = c & 1u;
    let v = w[planes.x + block * 4u + n * 2u + h];
    let m = w[planes.y + block * 2u + h];
    let d = half_at(planes.w, block);
    let lo = s * 4u;
    let hi = lo + 2u;
    let bit_lo = n * 4u + s * 2u;
    let bit_hi = bit_lo + 1u;
    var r: Chunk;
    r.q = array<vec4<f32>, 8>(
        three(v.x, lo, m.x, bit_lo), three(v.y, lo, m.y, bit_lo), three(v.z, lo, m.z, bit_lo), three(v.w, lo, m.w, bit_lo),
        three(v.x, hi, m.x, bit_hi), three(v.y, hi, m.y, bit_hi), three(v.z, hi, m.z, bit_hi), three(v.w, hi, m.w, bit_hi));
    let first = n * 8u + s * 4u + h;
    r.a = d * vec2<f32>(scale(planes.z, block, first), scale(planes.z, block, first + 2u));
    r.b = -4.0 * r.a;
    return r;
}
