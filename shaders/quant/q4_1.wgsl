// Q4_1. Planes: x nibbles (16 bytes a block of 32; low nibbles are weights 0..16), y d and m (two f16). weight = d * q + m.

const HI: u32 = 4u;

fn chunk_lo(c: u32) -> u32 {
    return c * 8u;
}

fn chunk(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> Chunk {
    let block = row * n_chunks + c;
    let v = w[planes.x + block];
    let lo = nibbles(v, 0u);
    let hi = nibbles(v, 4u);
    var r: Chunk;
    r.q = array<vec4<f32>, 8>(lo[0], lo[1], lo[2], lo[3], hi[0], hi[1], hi[2], hi[3]);
    r.a = vec2(half_at(planes.y, block * 2u));
    r.b = vec2(half_at(planes.y, block * 2u + 1u));
    return r;
}
