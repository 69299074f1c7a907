// Q5_1. Plane z: d and m (two f16). weight = d * q + m.

fn head(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> Head {
    return Head(halves(word(planes.z, row * n_chunks + c)), vec4<u32>());
}
