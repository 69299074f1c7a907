// Keys and values as they are: [token, n_head_kv * d_head], a quad is four elements.

fn quad_of(v: vec4<u32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(v);
}

fn packed(v: vec4<f32>) -> vec4<u32> {
    return bitcast<vec4<u32>>(v);
}

fn key_quad(token: u32, quad: u32) -> vec4<f32> {
    return quad_of(keys[token * kv_width() + quad]);
}

fn value_quad(token: u32, quad: u32) -> vec4<f32> {
    return quad_of(values[token * kv_width() + quad]);
}

alias Packed = vec4<u32>;
