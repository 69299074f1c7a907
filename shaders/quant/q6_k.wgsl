// Q6_K. Planes: x low nibbles (128 bytes a block of 256), y upper bit pairs (64 bytes), z 16 signed scales, w d (f16).
// Weights 128 n + {0, 32, 64, 96} + l: nibbles of bytes 64 n + l (low), 64 n + 32 + l (low), 64 n + l (high), 64 n + 32 + l (high)
// and bits 0, 2, 4, 6 of byte 32 n + l of the pairs. weight = d * sc * (q - 32), sc per 16 weights.

const HI: u32 = 16u;
const HEAD: u32 = 8u;

/// Chunk c % 8 = 4 n + 2 g + h: half h of the 32 bytes g of n; its high nibbles are 64 weights on.
fn chunk_lo(c: u32) -> u32 {
    return (c >> 3u) * 64u + ((c >> 2u) & 1u) * 32u + ((c >> 1u) & 1u) * 8u + (c & 1u) * 4u;
}

fn head(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> Head {
    let block = row * (n_chunks >> 3u) + (c >> 3u);
    return Head(vec2(half_at(planes.w, block), 0.0), w[planes.z + block]);
}

fn affine(h: Head, c: u32) -> vec4<f32> {
    // Scales 8 n + 2 g + h and four on: the same byte of two words.
    let two = select(h.s.xy, h.s.zw, (c & 4u) != 0u);
    let scale = bitcast<vec2<i32>>(two << vec2(24u - 8u * (c & 3u))) >> vec2(24u);
    let a = h.d.x * vec2<f32>(scale);
    return vec4(a, -32.0 * a);
}

fn words(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> Words {
    let block = row * (n_chunks >> 3u) + (c >> 3u);
    let v = w[planes.x + block * 8u + (c & 7u)];
    let qh = w[planes.y + block * 4u + ((c >> 1u) & 2u) + (c & 1u)];
    let lo = c & 2u;
    let hi = lo + 4u;
    return Words(low_nibbles(v) | (fields(qh, lo, 3u) << vec4(4u)), high_nibbles(v) | (fields(qh, hi, 3u) << vec4(4u)));
}
