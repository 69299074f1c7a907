// The states between chunks, in token order and f32: one thread an element of the state. Each chunk's own part is replaced by the
// state before it. Also moves the pass's last columns into the conv ring.

@group(0) @binding(3) var<storage, read_write> ring: array<f32>;   // [d_conv, I + 2GN]
@group(0) @binding(4) var<storage, read_write> state: array<f32>;  // [H, N, P]
@group(0) @binding(5) var<storage, read_write> chunks: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) size: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let threads = size.x * size.y * 64u;
    let i = (wid.y * size.x + wid.x) * 64u + local;
    remember(i, threads);

    let each = D_STATE * op.d_head; // of a head
    if i >= op.n_head * each {
        return;
    }
    var s = state[i];
    for (var chunk = 0u; chunk < n_chunk(); chunk++) {
        let at = state_at(chunk, 0u) + i;
        let own = chunks[at];
        chunks[at] = s;
        s = chunks[ends_at(chunk) + i / each] * s + own;
    }
    state[i] = s;
}
