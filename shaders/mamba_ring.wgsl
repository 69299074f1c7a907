// Moves the inputs of a pass's last columns into the conv ring.

fn remember(first: u32, threads: u32) {
    for (var channel = first; channel < d_xbc(); channel += threads) {
        for (var k = 0u; k < min(op.d_conv - 1u, run.n); k++) {
            let token = run.n - 1u - k;
            ring[((run.pos + token) % op.d_conv) * d_xbc() + channel] = p[token * op.p_stride + d_inner() + channel];
        }
    }
}
