// F32. Plane x: 4 bytes a weight.

const HI: u32 = 4u;

fn chunk_lo(c: u32) -> u32 {
    return c * 8u;
}

fn chunk(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> Chunk {
    let i = planes.x + (row * n_chunks + c) * 8u;
    var r: Chunk;
    r.q = array<vec4<f32>, 8>(
        bitcast<vec4<f32>>(w[i]), bitcast<vec4<f32>>(w[i + 1u]), bitcast<vec4<f32>>(w[i + 2u]), bitcast<vec4<f32>>(w[i + 3u]),
        bitcast<vec4<f32>>(w[i + 4u]), bitcast<vec4<f32>>(w[i + 5u]), bitcast<vec4<f32>>(w[i + 6u]), bitcast<vec4<f32>>(w[i + 7u]));
    r.a = vec2(1.0);
    r.b = vec2(0.0);
    return r;
}
