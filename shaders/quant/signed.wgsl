// Signed bytes as floats.

fn floats(v: u32) -> vec4<f32> {
    return vec4<f32>(bitcast<vec4<i32>>(vec4(v) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4(24u));
}
