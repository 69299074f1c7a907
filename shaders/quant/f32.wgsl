// F32. Plane x: 4 bytes a weight.

fn quads(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> array<vec4<f32>, 8> {
    let i = planes.x + (row * n_chunks + c) * 8u;
    return array<vec4<f32>, 8>(
        bitcast<vec4<f32>>(w[i]), bitcast<vec4<f32>>(w[i + 1u]), bitcast<vec4<f32>>(w[i + 2u]), bitcast<vec4<f32>>(w[i + 3u]),
        bitcast<vec4<f32>>(w[i + 4u]), bitcast<vec4<f32>>(w[i + 5u]), bitcast<vec4<f32>>(w[i + 6u]), bitcast<vec4<f32>>(w[i + 7u]));
}
