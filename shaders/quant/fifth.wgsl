// Q5_0 and Q5_1. Planes: x nibbles (16 bytes a block of 32; low nibbles are weights 0..16), y fifth bits: bit i of a block's word
// belongs to weight i of its 32.

/// The lowest four bits of each, spread over the fifth bits of a word's bytes: the products fall on 28 different bits.
fn spread(bits: vec4<u32>) -> vec4<u32> {
    return (((bits & vec4(15u)) * 0x00204081u) & vec4(0x01010101u)) << vec4(4u);
}

fn words(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> Words {
    let block = row * n_chunks + c;
    let v = w[planes.x + block];
    let qh = vec4(word(planes.y, block));
    return Words(
        low_nibbles(v) | spread(qh >> vec4<u32>(0u, 4u, 8u, 12u)),
        high_nibbles(v) | spread(qh >> vec4<u32>(16u, 20u, 24u, 28u)));
}
