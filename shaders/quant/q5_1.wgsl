// Q5_1. Planes: x nibbles (16 bytes a block of 32), y fifth bits (4 bytes), z d and m (two f16). weight = d * q + m.

fn chunk(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> Chunk {
    let block = row * n_chunks + c;
    var r: Chunk;
    r.q = fives(w[planes.x + block], word(planes.y, block));
    r.a = vec2(half_at(planes.z, block * 2u));
    r.b = vec2(half_at(planes.z, block * 2u + 1u));
    return r;
}
