// Appends the pass's keys and values to the cache in 8 bits: one thread a block of 32 of k (x even) or v.

@group(0) @binding(1) var<storage, read_write> keys: array<Packed>;   // [capacity, a row of kv/q8_0.wgsl]
@group(0) @binding(2) var<storage, read_write> values: array<Packed>; // [capacity, a row of kv/q8_0.wgsl]

/// Of the block; zero where it would be too small to divide by.
fn scale_of(largest: f32) -> f32 {
    return select(0.0, largest / 127.0, largest >= 1e-30);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let block = id.x / 2u;
    if block * 8u >= kv_width() || id.y >= run.n {
        return;
    }
    let value = id.x % 2u == 1u;
    let src = id.y * op.qkv_stride + (op.n_head * op.d_head) + select(0u, kv_width(), value) + block * 8u;
    let quads = min(8u, kv_width() - block * 8u); // the last block may be short
    var largest = 0.0;
    for (var i = 0u; i < quads; i++) {
        let v = abs(qkv[src + i]);
        largest = max(largest, max(max(v.x, v.y), max(v.z, v.w)));
    }
    let scale = scale_of(largest);
    let steps = select(0.0, 127.0 / largest, scale > 0.0);
    let dst = (run.pos + id.y) * kv_row() + block * BLOCK;
    if value {
        values[dst] = bitcast<u32>(scale);
    } else {
        keys[dst] = bitcast<u32>(scale);
    }
    for (var i = 0u; i < quads; i++) {
        let q = bitcast<vec4<u32>>(vec4<i32>(clamp(round(qkv[src + i] * steps), vec4(-127.0), vec4(127.0)))) & vec4(255u);
        let word = q.x | (q.y << 8u) | (q.z << 16u) | (q.w << 24u);
        if value {
            values[dst + 1u + i] = word;
        } else {
            keys[dst + 1u + i] = word;
        }
    }
}
