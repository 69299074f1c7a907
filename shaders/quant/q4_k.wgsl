// Q4_K. One plane, nine quads a block of 256: {d, dmin | 12 bytes of scales}, then 128 bytes of nibbles.
// weight = d * sc * q - dmin * m, sc and m per 32 weights.

fn block_at(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> u32 {
    return planes.x + (row * (n_chunks >> 3u) + (c >> 3u)) * 9u;
}

fn words(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> Words {
    let v = w[block_at(planes, row, n_chunks, c) + 1u + (c & 7u)];
    return Words(low_nibbles(v), high_nibbles(v));
}
