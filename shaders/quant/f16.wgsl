// F16. Plane x: 2 bytes a weight.

fn four(low: u32, high: u32) -> vec4<f32> {
    return f16x4_to_f32(vec4<u32>(low & 0xffffu, low >> 16u, high & 0xffffu, high >> 16u));
}

fn quads(planes: vec4<u32>, row: u32, n_chunks: u32, c: u32) -> array<vec4<f32>, 8> {
    let i = planes.x + (row * n_chunks + c) * 4u;
    let v0 = w[i];
    let v1 = w[i + 1u];
    let v2 = w[i + 2u];
    let v3 = w[i + 3u];
    return array<vec4<f32>, 8>(
        four(v0.x, v0.y), four(v0.z, v0.w), four(v1.x, v1.y), four(v1.z, v1.w),
        four(v2.x, v2.y), four(v2.z, v2.w), four(v3.x, v3.y), four(v3.z, v3.w));
}
