// Q3_K. Planes: x 2-bit quants (64 bytes a block of 256), y third bits (32 bytes), z 16 scales of 6 bits (12 bytes), w d (f16).
// Bit 4 n + j of byte l of the third bits belongs to weight 128 n + 32 j + l. weight = d * (sc - 32) * (q - 4).

fn head(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> Head {
    let block = row * (n_chunks >> 3u) + (c >> 3u);
    let i = block * 3u;
    return Head(
        vec2(half_at(planes.w, block), 0.0),
        vec4<u32>(word(planes.z, i), word(planes.z, i + 1u), word(planes.z, i + 2u), 0u));
}

fn affine(h: Head, c: u32) -> vec4<f32> {
    // Scales i = 8 n + 4 s + h and i + 2: low 4 bits are nibble n of byte 4 s + h, high 2 bits are pair 2 n + s of byte 8 + h.
    let n = (c >> 2u) & 1u;
    let s = c & 1u;
    let byte = (c & 2u) * 4u;
    let low = select(h.s.x, h.s.y, s == 1u) >> (byte + 4u * n);
    let high = h.s.z >> (byte + 4u * n + 2u * s);
    let scale = (vec2<u32>(low, low >> 16u) & vec2(15u)) | ((vec2<u32>(high, high >> 16u) & vec2(3u)) << vec2(4u));
    let a = h.d.x * (vec2<f32>(scale) - vec2(32.0));
    return vec4(a, -4.0 * a);
}

fn words(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> Words {
    let v = pairs(planes.x, row, n_chunks, c);
    let m = w[planes.y + (row * (n_chunks >> 3u) + (c >> 3u)) * 2u + ((c >> 1u) & 1u)];
    let shift = (c & 1u) * 4u;
    let bit = (c & 4u) + (c & 1u) * 2u;
    return Words(
        fields(v, shift, 3u) | (fields(m, bit, 1u) << vec4(2u)), fields(v, shift + 2u, 3u) | (fields(m, bit + 1u, 1u) << vec4(2u)));
}
