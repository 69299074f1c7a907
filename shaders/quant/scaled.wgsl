// Blocks of 32 with one f16: weight = d * (q - OFFSET).

fn affine(h: Head, c: u32) -> vec4<f32> {
    return vec4(h.d.xx, -OFFSET * h.d.xx);
}
