// Q5_0. Planes: x nibbles (16 bytes a block of 32), y fifth bits (4 bytes), z d (f16). weight = d * (q - 16).

fn chunk(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> Chunk {
    let block = row * n_chunks + c;
    let d = half_at(planes.z, block);
    var r: Chunk;
    r.q = fives(w[planes.x + block], word(planes.y, block));
    r.a = vec2(d);
    r.b = vec2(-16.0 * d);
    return r;
}
