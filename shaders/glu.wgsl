// h = silu(h) * up, for the rare gate and up that cannot share a dispatch (other types, other buffers).

struct Glu {
    n_ff: u32,
    h_stride: u32,
    up_stride: u32,
}

@group(0) @binding(0) var<storage, read_write> h: array<f32>; // [n, h_stride]
@group(0) @binding(1) var<storage, read> up: array<f32>;      // [n, up_stride]
@group(0) @binding(8) var<uniform> op: Glu;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= op.n_ff || id.y >= run.n {
        return;
    }
    let i = id.y * op.h_stride + id.x;
    h[i] = silu(h[i]) * up[id.y * op.up_stride + id.x];
}
