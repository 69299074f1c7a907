// The quants of a format that has bytes, as floats.

fn quads(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> array<vec4<f32>, 8> {
    let v = words(planes, row, n_chunks, c);
    return array<vec4<f32>, 8>(
        floats(v.lo.x), floats(v.lo.y), floats(v.lo.z), floats(v.lo.w), floats(v.hi.x), floats(v.hi.y), floats(v.hi.z), floats(v.hi.w));
}
