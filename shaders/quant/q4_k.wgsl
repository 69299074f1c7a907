// Q4_K. One plane, nine quads a block of 256: {d, dmin | 12 bytes of scales}, then 128 bytes of nibbles.
// weight = d * sc * q - dmin * m, sc and m per 32 weights.

fn chunk(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> Chunk {
    let at = planes.x + (row * (n_chunks >> 3u) + (c >> 3u)) * 9u;
    let head = w[at];
    let v = w[at + 1u + (c & 7u)];
    let d = f16x4_to_f32(vec4<u32>(head.x & 0xffffu, head.x >> 16u, 0u, 0u));
    let s = scales(head, (c >> 1u) & 3u);
    let lo = nibbles(v, 0u);
    let hi = nibbles(v, 4u);
    var r: Chunk;
    r.q = array<vec4<f32>, 8>(lo[0], lo[1], lo[2], lo[3], hi[0], hi[1], hi[2], hi[3]);
    r.a = d.x * s.xy;
    r.b = -d.y * s.zw;
    return r;
}
