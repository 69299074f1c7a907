// Blocks of 32 with two f16: weight = d * q + m.

fn affine(h: Head, c: u32) -> vec4<f32> {
    return h.d.xxyy;
}
