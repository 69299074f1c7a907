// Mamba-2 for many tokens, first half: conv and SiLU of xBC; dt and exp(dt A) of each head. One thread a value.

@group(0) @binding(2) var<storage, read> ring: array<f32>;        // [d_conv, I + 2GN]
@group(0) @binding(3) var<storage, read_write> mixed: array<f32>; // [n, xBC': I + 2GN | dt: H | decay: H]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let channel = id.x;
    let token = id.y;
    let out = token * op.mixed_stride;
    if channel >= d_xbc() {
        let head = channel - d_xbc();
        if head < op.n_head {
            let dt = dt_of(token, head);
            mixed[out + channel] = dt;
            mixed[out + channel + op.n_head] = decay_of(dt, head);
        }
        return;
    }
    var sum = vectors[op.conv_b + channel];
    for (var j = 0u; j < op.d_conv; j++) {
        // Tap j sees position pos + token - (d_conv - 1) + j.
        let ago = op.d_conv - 1u - j;
        var v: f32;
        if ago <= token {
            v = p[(token - ago) * op.p_stride + d_inner() + channel];
        } else {
            v = ring[((run.pos + token + j + 1u) % op.d_conv) * d_xbc() + channel];
        }
        sum += vectors[op.conv_w + channel * op.d_conv + j] * v;
    }
    mixed[out + channel] = silu(sum);
}
