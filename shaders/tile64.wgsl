// 64 tokens a workgroup: a thread has 8 rows x 8 tokens (t, t + 8, ..) in registers.

const TOKENS: u32 = 64u;

var<workgroup> xt: array<vec4<f32>, 256>; // [64 tokens, 4 quads], swizzled like wt
var<private> c00: mat4x4<f32>;            // columns: tokens t, t + 8, ..; rows r, r + 8, .. r + 24
var<private> c01: mat4x4<f32>;            // the other four tokens
var<private> c10: mat4x4<f32>;            // the other four rows
var<private> c11: mat4x4<f32>;
var<private> squares: f32;

/// Four quads of each token, from `quad` on: a thread brings one token.
fn load_tokens(local: u32, first: u32, quad: u32) {
    let row = token_row(first + local);
    for (var i = 0u; i < 4u; i++) {
        let v = x[row + quad + i];
        squares += dot(v, v);
        xt[at(local, i)] = weighed(v, quad + i);
    }
}

fn multiply(r: u32, t: u32) {
    for (var k = 0u; k < 4u; k++) {
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
    // Copies: indexing the accumulators themselves by a variable would move them out of registers.
    var lo = array<vec4<f32>, 8>(c00[0], c00[1], c00[2], c00[3], c01[0], c01[1], c01[2], c01[3]);
    var hi = array<vec4<f32>, 8>(c10[0], c10[1], c10[2], c10[3], c11[0], c11[1], c11[2], c11[3]);
    for (var j = 0u; j < 8u; j++) {
        let token = t + 8u * j;
        store_tile(tile, r, first + token, inv_rms(xt[token].x), lo[j], hi[j]);
    }
}
