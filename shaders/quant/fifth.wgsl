// The fifth bits of Q5_0 and Q5_1: bit i of a block's word belongs to weight i of its 32.

const HI: u32 = 4u;

fn chunk_lo(c: u32) -> u32 {
    return c * 8u;
}

/// Weights `4 i ..+4`: a nibble of each byte of `v` (from bit `shift`) and one bit each of `qh`.
fn five(v: u32, shift: u32, qh: u32, i: u32) -> vec4<f32> {
    let high = (vec4(qh >> (4u * i)) >> vec4<u32>(0u, 1u, 2u, 3u)) & vec4(1u);
    return vec4<f32>(bits(v, shift, 15u) | (high << vec4(4u)));
}

fn fives(v: vec4<u32>, qh: u32) -> array<vec4<f32>, 8> {
    return array<vec4<f32>, 8>(
        five(v.x, 0u, qh, 0u), five(v.y, 0u, qh, 1u), five(v.z, 0u, qh, 2u), five(v.w, 0u, qh, 3u),
        five(v.x, 4u, qh, 4u), five(v.y, 4u, qh, 5u), five(v.z, 4u, qh, 6u), five(v.w, 4u, qh, 7u));
}
