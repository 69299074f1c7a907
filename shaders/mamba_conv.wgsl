// Mamba-2 for many tokens, first half: conv and SiLU of xBC; dt and exp(dt A) of each head. One thread a channel or head of four
// tokens: it keeps a window of four columns, so each column is loaded once and not once for each tap.

@group(0) @binding(2) var<storage, read> ring: array<f32>;        // [d_conv, I + 2GN]
@group(0) @binding(3) var<storage, read_write> mixed: array<f32>; // [n, xBC': I + 2GN | dt: H | decay: H]

/// Input of a channel `ahead - d_conv` tokens after the pass's first.
fn column(ahead: u32, channel: u32) -> f32 {
    if ahead < op.d_conv {
        return ring[(run.pos + ahead) % op.d_conv * d_xbc() + channel];
    }
    return p[min(ahead - op.d_conv, run.n - 1u) * op.p_stride + d_inner() + channel];
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let channel = id.x;
    let first = id.y * 4u;
    let count = min(4u, run.n - first);
    if channel >= d_xbc() {
        let head = channel - d_xbc();
        if head < op.n_head {
            for (var k = 0u; k < count; k++) {
                let dt = dt_of(first + k, head);
                let out = (first + k) * op.mixed_stride + channel;
                mixed[out] = dt;
                mixed[out + op.n_head] = decay_of(dt, head);
            }
        }
        return;
    }
    // Tap j of the first token sees the column `first + j + 1`, its last one the token itself.
    var sum = vec4(vectors[op.conv_b + channel]);
    var window = vec4(
        0.0,
        column(first + 1u, channel),
        column(first + 2u, channel),
        column(first + 3u, channel),
    );
    for (var j = 0u; j < op.d_conv; j++) {
        window = vec4(window.yzw, column(first + j + 4u, channel));
        sum += vectors[op.conv_w + channel * op.d_conv + j] * window;
    }
    for (var k = 0u; k < count; k++) {
        mixed[(first + k) * op.mixed_stride + channel] = silu(sum[k]);
    }
}
