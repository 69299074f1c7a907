// Q4_1. Planes: x nibbles (16 bytes a block of 32; low nibbles are weights 0..16), y d and m (two f16). weight = d * q + m.

fn head(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> Head {
    return Head(halves(word(planes.y, row * n_chunks + c)), vec4<u32>());
}

fn words(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> Words {
    let v = w[planes.x + row * n_chunks + c];
    return Words(low_nibbles(v), high_nibbles(v));
}
