// Keys and values as packed halves: [token, n_head_kv * d_head], a quad is four elements in two words.

fn quad_of(v: vec2<u32>) -> vec4<f32> {
    return f16x4_to_f32(vec4<u32>(v.x & 0xffffu, v.x >> 16u, v.y & 0xffffu, v.y >> 16u));
}

fn packed(v: vec4<f32>) -> vec2<u32> {
    return vec2<u32>(f32_to_f16(v.x) | (f32_to_f16(v.y) << 16u), f32_to_f16(v.z) | (f32_to_f16(v.w) << 16u));
}

fn key_quad(token: u32, quad: u32) -> vec4<f32> {
    return quad_of(keys[token * kv_width() + quad]);
}

fn value_quad(token: u32, quad: u32) -> vec4<f32> {
    return quad_of(values[token * kv_width() + quad]);
}

alias Packed = vec2<u32>;
