// Appends the pass's keys and values to the cache: one thread a quad of k and the same quad of v.

@group(0) @binding(1) var<storage, read_write> keys: array<Packed>;   // [capacity, n_head_kv * d_head]
@group(0) @binding(2) var<storage, read_write> values: array<Packed>; // [capacity, n_head_kv * d_head]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= kv_width() || id.y >= run.n {
        return;
    }
    let src = id.y * op.qkv_stride + op.n_head * op.d_head + id.x;
    let dst = (run.pos + id.y) * kv_width() + id.x;
    keys[dst] = packed(qkv[src]);
    values[dst] = packed(qkv[src + kv_width()]);
}
