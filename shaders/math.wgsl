// Functions that must not overflow on the way: a compiler with fast-math may treat infinity as undefined.

fn silu(v: f32) -> f32 {
    return v / (1.0 + exp(min(-v, 80.0)));
}

/// ln(1 + e^v) = max(v, 0) + ln(1 + e^-|v|). The logarithm is 2 atanh(s), s = e / (2 + e) <= 1/3, by its series: WGSL's own
/// `log` is only good to 2^-21 near 1, which would be most of a small dt. Above 20 the second term is below f32's last place.
fn softplus(v: f32) -> f32 {
    let e = exp(-min(abs(v), 80.0));
    let s = e / (2.0 + e);
    let q = s * s;
    let series = 1.0 + q * (1.0 / 3.0 + q * (0.2 + q * (1.0 / 7.0 + q * (1.0 / 9.0 + q * (1.0 / 11.0 + q * (1.0 / 13.0))))));
    return max(v, 0.0) + 2.0 * s * series;
}
