// Keys and values in 8 bits: [token, blocks of 32 of n_head_kv * d_head], a block is its f32 scale and eight words of four.

alias Packed = u32;

const BLOCK: u32 = 9u; // words

fn kv_row() -> u32 {
    return (kv_width() + 7u) / 8u * BLOCK;
}

fn widen(word: u32) -> vec4<f32> {
    return vec4<f32>(bitcast<vec4<i32>>(vec4(word) << vec4(24u, 16u, 8u, 0u)) >> vec4(24u));
}

fn key_quad(token: u32, quad: u32) -> vec4<f32> {
    let block = token * kv_row() + quad / 8u * BLOCK;
    return bitcast<f32>(keys[block]) * widen(keys[block + 1u + quad % 8u]);
}

fn value_quad(token: u32, quad: u32) -> vec4<f32> {
    let block = token * kv_row() + quad / 8u * BLOCK;
    return bitcast<f32>(values[block]) * widen(values[block + 1u + quad % 8u]);
}
