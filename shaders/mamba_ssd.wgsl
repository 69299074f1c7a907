// Shared by the chunked form of the Mamba-2 recurrence (state space duality): 64 tokens at a time as small matrix products.
//
//   y_i = sum_{j <= i} L_ij (C_i . B_j) dt_j x_j  +  F_i C_i . S     L_ij = decay_{j+1} .. decay_i,  F_i = decay_first .. decay_i
//   S'  = F_last S + sum_j L_last,j dt_j B_j x_j
//
// C_i . B_j is the same for every head of a group and is made once (mamba_ssd_cb); then each chunk's own part of the state
// (mamba_ssd_state), the states before each chunk in token order (mamba_ssd_pass), and the output (mamba_ssd_out).
//
// Decays are *multiplied up*, never taken as exp of a difference of running sums: after one large dt such a difference has lost its
// digits, and a product of factors <= 1 cannot overflow. It is what the recurrence itself multiplies.

const CHUNK: u32 = 64u;

@group(0) @binding(2) var<storage, read> mixed: array<f32>; // [n, xBC': I + 2GN | dt: H | decay: H]

// `chunks` of the kernels: [chunk, G, i, j] C_i . B_j | [chunk, H] F_last | [chunk, H, N, P] the chunk's part, then the state before it.

fn n_chunk() -> u32 {
    return (run.n + CHUNK - 1u) / CHUNK;
}

fn ends_at(chunk: u32) -> u32 {
    return n_chunk() * op.n_group * CHUNK * CHUNK + chunk * op.n_head;
}

fn state_at(chunk: u32, head: u32) -> u32 {
    return ends_at(n_chunk()) + (chunk * op.n_head + head) * D_STATE * op.d_head;
}

fn group_of(head: u32) -> u32 {
    return head / (op.n_head / op.n_group);
}

fn decay_at(token: u32, head: u32) -> f32 {
    return mixed[token * op.mixed_stride + d_xbc() + op.n_head + head];
}

fn dt_at(token: u32, head: u32) -> f32 {
    return mixed[token * op.mixed_stride + d_xbc() + head];
}

/// Column n of B or C (`which` 0 or 1) of a token, zero past the end of the pass or of the state.
fn bc_at(token: u32, which: u32, group: u32, n: u32) -> f32 {
    if token >= run.n || n >= D_STATE {
        return 0.0;
    }
    return mixed[token * op.mixed_stride + d_inner() + (which * op.n_group + group) * D_STATE + n];
}

/// Four channels of a head's x, zero past the end of the pass or of the head.
fn x_at(token: u32, head: u32, channel: u32) -> vec4<f32> {
    if token >= run.n || channel >= op.d_head {
        return vec4(0.0);
    }
    let at = token * op.mixed_stride + head * op.d_head + channel;
    let left = op.d_head - channel;
    if left >= 4u {
        return vec4(mixed[at], mixed[at + 1u], mixed[at + 2u], mixed[at + 3u]);
    }
    // What the quad reads past its head belongs to somebody else.
    return vec4(mixed[at], mixed[at + min(1u, left - 1u)], mixed[at + min(2u, left - 1u)], 0.0)
        * vec4<f32>(vec4(0u, 1u, 2u, 3u) < vec4(left));
}
