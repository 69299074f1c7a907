// One token, for adapters that compute on the CPU: a thread walks four rows of W by itself. There is no sum to join and no workgroup memory,
// which would be memory like any other; what counts there is how many loads the compiler sees, so x is loaded once for four rows
// and a block's scales once for all of its chunks.

/// Row `i` of a thread's four. The last row again where there are no more: nothing is stored for it.
fn thread_row(thread: u32, i: u32) -> Source {
    let last = op.n_rows - 1u;
    if GLU {
        return Source(op.planes[i >> 1u], min(thread * 2u + (i & 1u), last));
    }
    return source(min(thread * 4u + i, last));
}

/// Sums of runs side by side: the CPU has vectors of threads, not of one thread's components, so only their number counts.
fn dot_placed(s: Source, h: Head, c: u32, in: Input) -> f32 {
    let q = quads(s.planes, s.row, N_CHUNKS, c);
    let lo = (q[0] * in.v[0] + q[1] * in.v[1]) + (q[2] * in.v[2] + q[3] * in.v[3]);
    let hi = (q[4] * in.v[4] + q[5] * in.v[5]) + (q[6] * in.v[6] + q[7] * in.v[7]);
    let k = affine(h, c);
    return dot(k.x * lo + k.y * hi, vec4(1.0)) + dot(k.zw, in.sums);
}

fn placed(in: Input) -> Input {
    let v = in.v;
    return Input(
        array<vec4<f32>, 8>(
            v[0] * PLACE, v[1] * PLACE, v[2] * PLACE, v[3] * PLACE, v[4] * PLACE, v[5] * PLACE, v[6] * PLACE, v[7] * PLACE),
        in.sums);
}

@compute @workgroup_size(16)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) size: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let thread = (wid.y * size.x + wid.x) * 16u + local;
    let s0 = thread_row(thread, 0u);
    let s1 = thread_row(thread, 1u);
    let s2 = thread_row(thread, 2u);
    let s3 = thread_row(thread, 3u);
    var acc = vec4(0.0);
    var sq = 0.0;
    for (var first = 0u; first < N_CHUNKS; first += HEAD) {
        let h0 = head_of(s0, first);
        let h1 = head_of(s1, first);
        let h2 = head_of(s2, first);
        let h3 = head_of(s3, first);
        for (var c = first; c < first + HEAD; c++) {
            let in = placed(bring(c, &sq));
            acc += vec4(dot_placed(s0, h0, c, in), dot_placed(s1, h1, c, in), dot_placed(s2, h2, c, in), dot_placed(s3, h3, c, in));
        }
    }
    acc *= inv_rms(sq);
    if GLU {
        store(0u, thread * 2u, silu(acc.x) * acc.z);
        store(0u, thread * 2u + 1u, silu(acc.y) * acc.w);
    } else {
        store(0u, thread * 4u, acc.x);
        store(0u, thread * 4u + 1u, acc.y);
        store(0u, thread * 4u + 2u, acc.z);
        store(0u, thread * 4u + 3u, acc.w);
    }
}
