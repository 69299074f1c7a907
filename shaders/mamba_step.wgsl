// Mamba-2 for one token: conv, SiLU, softplus, state update, + D x, gate. One workgroup = 32 channels of a head; four threads
// share a channel's N state columns. The state is [H, N, P], P fastest: 32 threads touch 128 bytes in a row.
// The conv of B and C is done again by every workgroup of the group (2N channels, a few taps: cheaper than a dispatch).

@group(0) @binding(2) var<storage, read_write> ring: array<f32>;  // [d_conv, I + 2GN]
@group(0) @binding(3) var<storage, read_write> state: array<f32>; // [H, N, P]
@group(0) @binding(4) var<storage, read_write> y: array<f32>;     // [1, I], gated, not normed

const COLUMNS: u32 = (D_STATE + 3u) / 4u; // of a thread

var<workgroup> bc: array<f32, 2u * D_STATE>;
var<workgroup> xs: array<f32, 32>;
var<workgroup> part: array<f32, 128>; // [4, 32]

fn conv(channel: u32) -> f32 {
    let taps = op.conv_w + channel * op.d_conv;
    var sum = vectors[op.conv_b + channel] + vectors[taps + op.d_conv - 1u] * p[d_inner() + channel];
    for (var j = 0u; j + 1u < op.d_conv; j++) {
        sum += vectors[taps + j] * ring[((run.pos + j + 1u) % op.d_conv) * d_xbc() + channel];
    }
    return silu(sum);
}

fn remember(channel: u32) {
    if op.d_conv > 1u {
        ring[(run.pos % op.d_conv) * d_xbc() + channel] = p[d_inner() + channel];
    }
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    if run.n == 0u {
        return;
    }
    let head = wid.x;
    let lane = local & 31u;
    let quarter = local >> 5u;
    let channel = wid.y * 32u + lane; // of the head
    let live = channel < op.d_head;
    let inner = head * op.d_head + channel;

    let heads_of_group = op.n_head / op.n_group;
    let group = head / heads_of_group;
    let owner = head % heads_of_group == 0u && wid.y == 0u;
    for (var i = local; i < 2u * D_STATE; i += 128u) {
        // B of all groups, then C of all groups.
        let c = d_inner() + select(op.n_group * D_STATE + i - D_STATE, i, i < D_STATE) + group * D_STATE;
        bc[i] = conv(c);
        if owner {
            remember(c);
        }
    }
    if quarter == 0u && live {
        xs[lane] = conv(inner);
        remember(inner);
    }
    workgroupBarrier();

    let dt = dt_of(0u, head);
    let decay = decay_of(dt, head);
    let dx = dt * xs[lane];
    var sum = 0.0;
    if live {
        for (var i = 0u; i < COLUMNS; i++) {
            let n = quarter * COLUMNS + i;
            if n < D_STATE {
                let at = (head * D_STATE + n) * op.d_head + channel;
                let s = decay * state[at] + dx * bc[n];
                state[at] = s;
                sum += s * bc[D_STATE + n];
            }
        }
    }
    part[local] = sum;
    workgroupBarrier();

    if quarter == 0u && live {
        let v = (part[lane] + part[32u + lane]) + (part[64u + lane] + part[96u + lane]) + vectors[op.d + head] * xs[lane];
        y[inner] = v * silu(p[inner]);
    }
}
