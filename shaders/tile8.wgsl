// 8 tokens a workgroup: a thread has 8 rows of one token.

const TOKENS: u32 = 8u;

var<workgroup> xt: array<vec4<f32>, 64>; // [8 tokens, 8 quads], swizzled like wt
var<private> c0: vec4<f32>;              // rows r, r + 8, .. r + 24
var<private> c1: vec4<f32>;              // rows r + 32, .. r + 56
var<private> squares: f32;

/// Each thread brings one quad of one token.
fn load_tokens(local: u32, first: u32, lo: u32) {
    let i = local & 7u;
    let quad = lo + (i & 3u) + select(0u, HI, i >= 4u);
    let v = x[token_row(first + (local >> 3u)) + quad];
    squares += dot(v, v);
    xt[at(local >> 3u, i)] = weighed(v, quad);
}

fn multiply(r: u32, t: u32) {
    for (var k = 0u; k < 8u; k++) {
        let b = xt[at(t, k)];
        c0 += b * mat4x4<f32>(wt[at(r, k)], wt[at(r + 8u, k)], wt[at(r + 16u, k)], wt[at(r + 24u, k)]);
        c1 += b * mat4x4<f32>(wt[at(r + 32u, k)], wt[at(r + 40u, k)], wt[at(r + 48u, k)], wt[at(r + 56u, k)]);
    }
}

fn publish_squares(local: u32) {
    xt[local].x = squares;
}

fn finish(tile: u32, first: u32, r: u32, t: u32) {
    var sum = 0.0;
    for (var i = 0u; i < 8u; i++) {
        sum += xt[t * 8u + i].x;
    }
    store_tile(tile, r, first + t, inv_rms(sum), c0, c1);
}
