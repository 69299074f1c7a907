// Q8_0. Planes: x signed bytes (32 a block), y d (f16). weight = d * q.

const OFFSET: f32 = 0.0;

fn head(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> Head {
    return Head(vec2(half_at(planes.y, row * n_chunks + c), 0.0), vec4<u32>());
}

fn words(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> Words {
    let i = planes.x + (row * n_chunks + c) * 2u;
    return Words(w[i], w[i + 1u]);
}
