// Q2_K. Planes: x 2-bit quants (64 bytes a block of 256), y 16 bytes of scale | min << 4, z d and dmin (two f16).
// weight = d * sc * q - dmin * m.

fn head(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> Head {
    let block = row * (n_chunks >> 3u) + (c >> 3u);
    return Head(halves(word(planes.z, block)), w[planes.y + block]);
}

fn affine(h: Head, c: u32) -> vec4<f32> {
    // Bytes 8 n + 4 s + h and two on.
    let two = select(h.s.xy, h.s.zw, (c & 4u) != 0u);
    let four = select(two.x, two.y, (c & 1u) != 0u) >> ((c & 2u) * 4u);
    let packed = vec2<u32>(four, four >> 16u) & vec2(255u);
    return vec4(h.d.xx, -h.d.yy) * vec4<f32>(vec4<u32>(packed & vec2(15u), packed >> vec2(4u)));
}

fn words(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> Words {
    let v = pairs(planes.x, row, n_chunks, c);
    let shift = (c & 1u) * 4u;
    return Words(fields(v, shift, 3u), fields(v, shift + 2u, 3u));
}
