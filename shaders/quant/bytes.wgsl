// Unsigned bytes as floats. The word was masked before: a byte is one field then, which most GPUs convert in one instruction.

fn floats(v: u32) -> vec4<f32> {
    return vec4<f32>((vec4(v) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4(255u));
}
