// Shared by the attention kernels. Lengths are in quads (four elements).

struct Attention {
    n_head: u32,
    n_head_kv: u32,
    d_head: u32,     // quads of a head
    qkv_stride: u32, // quads
    y_stride: u32,   // quads
    scale: f32,
    head_kv0: u32,   // first key/value head of the step
}

/// Keys of a span, a workgroup's share of a single token's context: longer in a long one, so that there are at most 64 to join.
fn span() -> u32 {
    return max(256u, (run.pos + 4096u) / 4096u * 64u);
}

fn kv_width() -> u32 {
    return op.n_head_kv * op.d_head;
}

@group(0) @binding(0) var<storage, read> qkv: array<vec4<f32>>; // [n, q | k | v]
@group(0) @binding(8) var<uniform> op: Attention;
