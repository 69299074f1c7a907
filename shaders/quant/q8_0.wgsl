// Q8_0. Planes: x signed bytes (32 a block), y d (f16). weight = d * q.

const HI: u32 = 4u;

fn chunk_lo(c: u32) -> u32 {
    return c * 8u;
}

fn signed(v: u32) -> vec4<f32> {
    return vec4<f32>(bitcast<vec4<i32>>(vec4(v) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4(24u));
}

fn chunk(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> Chunk {
    let block = row * n_chunks + c;
    let lo = w[planes.x + block * 2u];
    let hi = w[planes.x + block * 2u + 1u];
    var r: Chunk;
    r.q = array<vec4<f32>, 8>(
        signed(lo.x), signed(lo.y), signed(lo.z), signed(lo.w), signed(hi.x), signed(hi.y), signed(hi.z), signed(hi.w));
    r.a = vec2(half_at(planes.y, block));
    r.b = vec2(0.0);
    return r;
}
