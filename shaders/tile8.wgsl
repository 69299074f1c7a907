// 8 tokens a workgroup: a thread has 8 rows of one token.

const TOKENS: u32 = 8u;

var<workgroup> xt: array<vec4<f32>, 32>; // [8 tokens, 4 quads], swizzled like wt
var<private> c0: vec4<f32>;              // rows r, r + 8, .. r + 24
var<private> c1: vec4<f32>;              // rows r + 32, .. r + 56
var<private> squares: f32;

/// Four quads of each token, from `quad` on: half of the threads bring one quad each.
fn load_tokens(local: u32, first: u32, quad: u32) {
    if local < 32u {
        let i = local & 3u;
        let v = x[token_row(first + (local >> 2u)) + quad + i];
        squares += dot(v, v);
        xt[at(local >> 2u, i)] = weighed(v, quad + i);
    }
}

fn multiply(r: u32, t: u32) {
    for (var k = 0u; k < 4u; k++) {
        let b = xt[at(t, k)];
        c0 += b * mat4x4<f32>(wt[at(r, k)], wt[at(r + 8u, k)], wt[at(r + 16u, k)], wt[at(r + 24u, k)]);
        c1 += b * mat4x4<f32>(wt[at(r + 32u, k)], wt[at(r + 40u, k)], wt[at(r + 48u, k)], wt[at(r + 56u, k)]);
    }
}

fn publish_squares(local: u32) {
    if local < 32u {
        xt[local].x = squares;
    }
}

fn finish(tile: u32, first: u32, r: u32, t: u32) {
    let sum = xt[t * 4u].x + xt[t * 4u + 1u].x + xt[t * 4u + 2u].x + xt[t * 4u + 3u].x;
    store_tile(tile, r, first + t, inv_rms(sum), c0, c1);
}
