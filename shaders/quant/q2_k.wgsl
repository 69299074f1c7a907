// Q2_K. Planes: x 2-bit quants (64 bytes a block of 256), y 16 bytes of scale | min << 4, z d and dmin (two f16).
// Weight 128 n + 32 j + l is bits 2j.. of byte 32 n + l; every 16 weights have a scale. weight = d * sc * q - dmin * m.
//
// A chunk takes two of the four shifts of 16 bytes.

const HI: u32 = 8u;

fn chunk_lo(c: u32) -> u32 {
    // c % 8 = 4 n + 2 h + s: half h of the 32 bytes of n, shifts 4 s and 4 s + 2.
    return (c >> 3u) * 64u + ((c >> 2u) & 1u) * 32u + (c & 1u) * 16u + ((c >> 1u) & 1u) * 4u;
}

fn chunk(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> Chunk {
    let block = row * (n_chunks >> 3u) + (c >> 3u);
    let n = (c >> 2u) & 1u;
    let h = (c >> 1u) & 1u;
    let s = c & 1u;
    let v = w[planes.x + block * 4u + n * 2u + h];
    let sc0 = byte_at(planes.y, block * 16u + n * 8u + s * 4u + h);
    let sc1 = byte_at(planes.y, block * 16u + n * 8u + s * 4u + 2u + h);
    let d = half_at(planes.z, block * 2u);
    let dmin = half_at(planes.z, block * 2u + 1u);
    let lo = s * 4u;
    let hi = lo + 2u;
    var r: Chunk;
    r.q = array<vec4<f32>, 8>(
        vec4<f32>(bits(v.x, lo, 3u)), vec4<f32>(bits(v.y, lo, 3u)), vec4<f32>(bits(v.z, lo, 3u)), vec4<f32>(bits(v.w, lo, 3u)),
        vec4<f32>(bits(v.x, hi, 3u)), vec4<f32>(bits(v.y, hi, 3u)), vec4<f32>(bits(v.z, hi, 3u)), vec4<f32>(bits(v.w, hi, 3u)));
    r.a = d * vec2<f32>(f32(sc0 & 15u), f32(sc1 & 15u));
    r.b = -dmin * vec2<f32>(f32(sc0 >> 4u), f32(sc1 >> 4u));
    return r;
}
