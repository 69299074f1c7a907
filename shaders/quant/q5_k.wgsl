// Q5_K. One plane, eleven quads a block of 256: {d, dmin | 12 bytes of scales}, 32 bytes of fifth bits, 128 bytes of nibbles.
// Bit s of byte l of the fifth bits belongs to weight 32 s + l. weight = d * sc * q - dmin * m, sc and m per 32 weights.

fn block_at(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> u32 {
    return planes.x + (row * (n_chunks >> 3u) + (c >> 3u)) * 11u;
}

fn words(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> Words {
    let at = block_at(planes, row, n_chunks, c);
    let qh = w[at + 1u + (c & 1u)];
    let v = w[at + 3u + (c & 7u)];
    let s = (c & 6u); // the low nibbles' sub-block
    return Words(low_nibbles(v) | (fields(qh, s, 1u) << vec4(4u)), high_nibbles(v) | (fields(qh, s + 1u, 1u) << vec4(4u)));
}
