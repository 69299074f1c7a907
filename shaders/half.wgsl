// f16 <-> f32 in integer arithmetic: most scales of a K-quant are f16 subnormals, and WGSL lets unpack2x16float flush
// those to zero.

fn f16_to_f32(h: u32) -> f32 {
    return f16x4_to_f32(vec4<u32>(h, 0u, 0u, 0u)).x;
}

/// The low 16 bits of each lane.
fn f16x4_to_f32(h: vec4<u32>) -> vec4<f32> {
    let sign = (h & vec4(0x8000u)) << vec4(16u);
    let exponent = (h >> vec4(10u)) & vec4(31u);
    let mantissa = h & vec4(0x3ffu);
    let normal = bitcast<vec4<f32>>(sign | ((exponent + vec4(112u)) << vec4(23u)) | (mantissa << vec4(13u)));
    let subnormal = bitcast<vec4<f32>>(sign | bitcast<vec4<u32>>(vec4<f32>(mantissa) * 0x1p-24f));
    let special = bitcast<vec4<f32>>(sign | vec4(0x7f800000u) | (mantissa << vec4(13u)));
    return select(select(normal, special, exponent == vec4(31u)), subnormal, exponent == vec4(0u));
}

/// Rounds to nearest even; what is too large becomes infinity.
fn f32_to_f16(v: f32) -> u32 {
    let bits = bitcast<u32>(v);
    let sign = (bits >> 16u) & 0x8000u;
    let magnitude = bits & 0x7fffffffu;
    if magnitude > 0x7f800000u {
        return sign | 0x7e00u;
    }
    if magnitude >= 0x47800000u { // 2^16
        return sign | 0x7c00u;
    }
    if magnitude < 0x38800000u { // 2^-14: the sum's last place is 2^-24, so the addition rounds
        return sign | (bitcast<u32>(bitcast<f32>(magnitude) + 0.5) - 0x3f000000u);
    }
    return sign | ((magnitude + 0xfffu + ((magnitude >> 13u) & 1u) - 0x38000000u) >> 13u);
}
