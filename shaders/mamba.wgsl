// Shared by the Mamba-2 kernels. I inner channels = n_head (H) x d_head (P), N = d_state, G = n_group.
//
// Conv state is a ring of d_conv columns: the input of token position t stands in slot t % d_conv. A decode step at t reads the
// d_conv - 1 slots before and writes slot t, which nobody reads in that step: so it needs no second dispatch.

struct Mamba {
    n_head: u32,
    d_head: u32,
    n_group: u32,
    d_conv: u32,
    p_stride: u32,
    y_stride: u32,
    mixed_stride: u32,
    conv_w: u32, // parameters: [I + 2GN, d_conv]
    conv_b: u32, // [I + 2GN]
    dt_bias: u32, // [H]
    a: u32,      // [H]
    d: u32,      // [H]
}

@group(0) @binding(0) var<storage, read> p: array<f32>;       // [n, z: I | xBC: I + 2GN | dt: H]
@group(0) @binding(1) var<storage, read> vectors: array<f32>; // the parameter arena
@group(0) @binding(8) var<uniform> op: Mamba;

fn d_inner() -> u32 {
    return op.n_head * op.d_head;
}

fn d_xbc() -> u32 {
    return d_inner() + 2u * op.n_group * D_STATE;
}

fn dt_of(token: u32, head: u32) -> f32 {
    return softplus(p[token * op.p_stride + d_inner() + d_xbc() + head] + vectors[op.dt_bias + head]);
}

/// exp(dt A), A < 0: kept off the end of the range, where fast-math may do anything.
fn decay_of(dt: f32, head: u32) -> f32 {
    return exp(max(dt * vectors[op.a + head], -87.0));
}
