// matmul's tiles in f16: 6 KiB, half of what f32 moves; sums stay f32. Weights are kept 2^9 times larger, so that those from 2^-23 to
// 127 are normal numbers of f16; they and x are cut off at f16's largest. Rounding costs 2^-12 of each factor.

const SCALE: f32 = 0x1p-9f; // of what comes out

var<workgroup> wt: array<vec4<f16>, 512>; // [128 rows, 4 quads]
var<workgroup> xt: array<vec4<f16>, 256>; // [64 tokens, 4 quads]
var<workgroup> sums: array<f32, 256>;     // of squares of x: [64 tokens, 4 quads]

/// Quads are swizzled by the row: 8 neighbours' loads of one column fall into 8 different banks.
fn at(row: u32, quad: u32) -> u32 {
    return row * 4u + (quad ^ ((row >> 2u) & 3u));
}

fn w_at(row: u32, quad: u32) -> vec4<f32> {
    return vec4<f32>(wt[at(row, quad)]);
}

fn x_at(token: u32, quad: u32) -> vec4<f32> {
    return vec4<f32>(xt[at(token, quad)]);
}

fn narrow(v: vec4<f32>) -> vec4<f16> {
    return vec4<f16>(clamp(v, vec4(-65504.0), vec4(65504.0)));
}

/// A run of 16 weights, a q + b.
fn put_w(row: u32, a: f32, b: f32, q0: vec4<f32>, q1: vec4<f32>, q2: vec4<f32>, q3: vec4<f32>) {
    let a9 = a * 512.0;
    let b9 = b * 512.0;
    wt[at(row, 0u)] = narrow(a9 * q0 + b9);
    wt[at(row, 1u)] = narrow(a9 * q1 + b9);
    wt[at(row, 2u)] = narrow(a9 * q2 + b9);
    wt[at(row, 3u)] = narrow(a9 * q3 + b9);
}

fn put_x(token: u32, quad: u32, v: vec4<f32>) {
    xt[at(token, quad)] = narrow(v);
}
