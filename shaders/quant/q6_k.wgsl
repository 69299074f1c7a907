// Q6_K. Planes: x low nibbles (128 bytes a block of 256), y upper bit pairs (64 bytes), z 16 signed scales, w d (f16).
// Weights 128 n + {0, 32, 64, 96} + l: nibbles of bytes 64 n + l (low), 64 n + 32 + l (low), 64 n + l (high), 64 n + 32 + l (high)
// and bits 0, 2, 4, 6 of byte 32 n + l of the pairs. weight = d * sc * (q - 32), sc per 16 weights.

const HI: u32 = 16u;

/// Chunk c % 8 = 4 n + 2 g + h: half h of the 32 bytes g of n; its high nibbles are 64 weights on.
fn chunk_lo(c: u32) -> u32 {
    return (c >> 3u) * 64u + ((c >> 2u) & 1u) * 32u + ((c >> 1u) & 1u) * 8u + (c & 1u) * 4u;
}

fn six(v: u32, shift: u32, qh: u32, pair: u32) -> vec4<f32> {
    return vec4<f32>(bits(v, shift, 15u) | (bits(qh, pair, 3u) << vec4(4u)));
}

fn scale(plane: u32, i: u32) -> f32 {
    return f32(bitcast<i32>(byte_at(plane, i) << 24u) >> 24u);
}

fn chunk(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> Chunk {
    let block = row * (n_chunks >> 3u) + (c >> 3u);
    let n = (c >> 2u) & 1u;
    let g = (c >> 1u) & 1u;
    let h = c & 1u;
    let v = w[planes.x + block * 8u + (c & 7u)];
    let qh = w[planes.y + block * 4u + n * 2u + h];
    let d = half_at(planes.w, block);
    let lo = g * 2u;
    let hi = lo + 4u;
    var r: Chunk;
    r.q = array<vec4<f32>, 8>(
        six(v.x, 0u, qh.x, lo), six(v.y, 0u, qh.y, lo), six(v.z, 0u, qh.z, lo), six(v.w, 0u, qh.w, lo),
        six(v.x, 4u, qh.x, hi), six(v.y, 4u, qh.y, hi), six(v.z, 4u, qh.z, hi), six(v.w, 4u, qh.w, hi));
    let first = block * 16u + n * 8u + g * 2u + h;
    r.a = d * vec2<f32>(scale(planes.z, first), scale(planes.z, first + 4u));
    r.b = -32.0 * r.a;
    return r;
}
