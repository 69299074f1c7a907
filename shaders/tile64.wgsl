// 64 tokens a workgroup: a thread has 8 rows x 8 tokens (t, t + 8, ..) in registers.

const TOKENS: u32 = 64u;

var<workgroup> xt: array<vec4<f32>, 512>; // [64 tokens, 8 quads], swizzled like wt
var<private> c00: mat4x4<f32>;            // columns: tokens t, t + 8, ..; rows r, r + 8, .. r + 24
var<private> c01: mat4x4<f32>;            // the other four tokens
var<private> c10: mat4x4<f32>;            // the other four rows
var<private> c11: mat4x4<f32>;
var<private> squares: f32;

/// Each thread brings one token.
fn load_tokens(local: u32, first: u32, lo: u32) {
    let row = token_row(first + local);
    for (var i = 0u; i < 4u; i++) {
        let v = x[row + lo + i];
        let u = x[row + lo + HI + i];
        squares += dot(v, v) + dot(u, u);
        xt[at(local, i)] = weighed(v, lo + i);
        xt[at(local, i + 4u)] = weighed(u, lo + HI + i);
    }
}

fn multiply(r: u32, t: u32) {
    for (var k = 0u; k < 8u; k++) {
        let a0 = transpose(mat4x4<f32>(wt[at(r, k)], wt[at(r + 8u, k)], wt[at(r + 16u, k)], wt[at(r + 24u, k)]));
        let a1 = transpose(mat4x4<f32>(wt[at(r + 32u, k)], wt[at(r + 40u, k)], wt[at(r + 48u, k)], wt[at(r + 56u, k)]));
        let b0 = mat4x4<f32>(xt[at(t, k)], xt[at(t + 8u, k)], xt[at(t + 16u, k)], xt[at(t + 24u, k)]);
        c00 += a0 * b0;
        c10 += a1 * b0;
        let b1 = mat4x4<f32>(xt[at(t + 32u, k)], xt[at(t + 40u, k)], xt[at(t + 48u, k)], xt[at(t + 56u, k)]);
        c01 += a0 * b1;
        c11 += a1 * b1;
    }
}

fn publish_squares(local: u32) {
    xt[local].x = squares;
}

fn finish(tile: u32, first: u32, r: u32, t: u32) {
    store_tile(tile, r, first + t, inv_rms(xt[t].x), c00[0], c10[0]);
    store_tile(tile, r, first + t + 8u, inv_rms(xt[t + 8u].x), c00[1], c10[1]);
    store_tile(tile, r, first + t + 16u, inv_rms(xt[t + 16u].x), c00[2], c10[2]);
    store_tile(tile, r, first + t + 24u, inv_rms(xt[t + 24u].x), c00[3], c10[3]);
    store_tile(tile, r, first + t + 32u, inv_rms(xt[t + 32u].x), c01[0], c11[0]);
    store_tile(tile, r, first + t + 40u, inv_rms(xt[t + 40u].x), c01[1], c11[1]);
    store_tile(tile, r, first + t + 48u, inv_rms(xt[t + 48u].x), c01[2], c11[2]);
    store_tile(tile, r, first + t + 56u, inv_rms(xt[t + 56u].x), c01[3], c11[3]);
}
