// Q5_0. Plane z: d (f16). weight = d * (q - 16).

const OFFSET: f32 = 16.0;

fn head(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> Head {
    return Head(vec2(half_at(planes.z, row * n_chunks + c), 0.0), vec4<u32>());
}
