// Q5_K. One plane, eleven quads a block of 256: {d, dmin | 12 bytes of scales}, 32 bytes of fifth bits, 128 bytes of nibbles.
// Bit s of byte l of the fifth bits belongs to weight 32 s + l. weight = d * sc * q - dmin * m, sc and m per 32 weights.

fn five(v: u32, shift: u32, qh: u32, bit: u32) -> vec4<f32> {
    return vec4<f32>(bits(v, shift, 15u) | (bits(qh, bit, 1u) << vec4(4u)));
}

fn chunk(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> Chunk {
    let at = planes.x + (row * (n_chunks >> 3u) + (c >> 3u)) * 11u;
    let j = (c >> 1u) & 3u;
    let head = w[at];
    let qh = w[at + 1u + (c & 1u)];
    let v = w[at + 3u + (c & 7u)];
    let d = f16x4_to_f32(vec4<u32>(head.x & 0xffffu, head.x >> 16u, 0u, 0u));
    let s = scales(head, j);
    let lo = 2u * j;
    let hi = lo + 1u;
    var r: Chunk;
    r.q = array<vec4<f32>, 8>(
        five(v.x, 0u, qh.x, lo), five(v.y, 0u, qh.y, lo), five(v.z, 0u, qh.z, lo), five(v.w, 0u, qh.w, lo),
        five(v.x, 4u, qh.x, hi), five(v.y, 4u, qh.y, hi), five(v.z, 4u, qh.z, hi), five(v.w, 4u, qh.w, hi));
    r.a = d.x * s.xy;
    r.b = -d.y * s.zw;
    return r;
}
