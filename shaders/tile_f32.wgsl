// matmul's tiles in f32: 12 KiB, and 1 KiB for the sums of squares.

const SCALE: f32 = 1.0; // of what comes out

var<workgroup> wt: array<vec4<f32>, 512>; // [128 rows, 4 quads]
var<workgroup> xt: array<vec4<f32>, 256>; // [64 tokens, 4 quads]
var<workgroup> sums: array<f32, 256>;     // of squares of x: [64 tokens, 4 quads]

/// Quads are swizzled by the row: 8 neighbours' loads of one column fall into 8 different banks.
fn at(row: u32, quad: u32) -> u32 {
    return row * 4u + (quad ^ ((row >> 1u) & 3u));
}

fn w_at(row: u32, quad: u32) -> vec4<f32> {
    return wt[at(row, quad)];
}

fn x_at(token: u32, quad: u32) -> vec4<f32> {
    return xt[at(token, quad)];
}

/// A run of 16 weights, a q + b.
fn put_w(row: u32, a: f32, b: f32, q0: vec4<f32>, q1: vec4<f32>, q2: vec4<f32>, q3: vec4<f32>) {
    wt[at(row, 0u)] = a * q0 + b;
    wt[at(row, 1u)] = a * q1 + b;
    wt[at(row, 2u)] = a * q2 + b;
    wt[at(row, 3u)] = a * q3 + b;
}

fn put_x(token: u32, quad: u32, v: vec4<f32>) {
    xt[at(token, quad)] = v;
}
