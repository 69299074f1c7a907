// Many tokens on an adapter that computes on the CPU: a workgroup makes 64 rows (32 with GLU: each matrix gives half of the tile) x 64
// tokens. A chunk of 64 rows of W is decoded once for all of them and goes through workgroup memory in its two runs of 16 columns. A
// thread owns rows r, r + 8, .. r + 56 and tokens t, t + 8, ... There is no workgroup memory to save, and larger tiles or none at all
// are slower there (docs/performance.md).

const TOKENS: u32 = 64u;

var<workgroup> wt: array<vec4<f32>, 256>; // [64 rows, 4 quads]
var<workgroup> xt: array<vec4<f32>, 256>; // [64 tokens, 4 quads], swizzled like wt
var<private> c00: mat4x4<f32>;            // columns: tokens t, t + 8, ..; rows r, r + 8, .. r + 24
var<private> c01: mat4x4<f32>;            // the other four tokens
var<private> c10: mat4x4<f32>;            // the other four rows
var<private> c11: mat4x4<f32>;
var<private> squares: f32;

/// Quads are swizzled by the row: 8 neighbours' loads of one column fall into 8 different banks.
fn at(row: u32, quad: u32) -> u32 {
    return row * 4u + (quad ^ ((row >> 1u) & 3u));
}

/// Rows r, r + 8, .. of a token: `lo` the first four, `hi` the others. Loops, because this is not the hot part but was most of the code.
fn store_tile(tile: u32, r: u32, token: u32, inv: f32, lo: vec4<f32>, hi: vec4<f32>) {
    if token >= run.n {
        return;
    }
    if GLU {
        for (var i = 0u; i < 4u; i++) {
            store(token, tile * 32u + r + 8u * i, silu(inv * lo[i]) * (inv * hi[i]));
        }
    } else {
        for (var i = 0u; i < 8u; i++) {
            store(token, tile * 64u + r + 8u * i, inv * select(lo[i & 3u], hi[i & 3u], i >= 4u));
        }
    }
}

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

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let tile = wid.x;
    let last = op.n_rows - 1u;
    var src: Source;
    if GLU {
        src = Source(op.planes[local >> 5u], min(tile * 32u + (local & 31u), last));
    } else {
        src = source(min(tile * 64u + local, last));
    }
    let first = wid.y * TOKENS;
    for (var c = 0u; c < N_CHUNKS; c++) {
        let k = chunk(src.planes, src.row, N_CHUNKS, c);
        let lo = chunk_lo(c);
        wt[at(local, 0u)] = k.a.x * k.q[0] + k.b.x;
        wt[at(local, 1u)] = k.a.x * k.q[1] + k.b.x;
        wt[at(local, 2u)] = k.a.x * k.q[2] + k.b.x;
        wt[at(local, 3u)] = k.a.x * k.q[3] + k.b.x;
        load_tokens(local, first, lo);
        workgroupBarrier();
        multiply(local & 7u, local >> 3u);
        workgroupBarrier();
        wt[at(local, 0u)] = k.a.y * k.q[4] + k.b.y;
        wt[at(local, 1u)] = k.a.y * k.q[5] + k.b.y;
        wt[at(local, 2u)] = k.a.y * k.q[6] + k.b.y;
        wt[at(local, 3u)] = k.a.y * k.q[7] + k.b.y;
        load_tokens(local, first, lo + HI);
        workgroupBarrier();
        multiply(local & 7u, local >> 3u);
        workgroupBarrier();
    }
    publish_squares(local);
    workgroupBarrier();
    finish(tile, first, local & 7u, local >> 3u);
}

/// A quad of x, times gamma.
fn weighed(v: vec4<f32>, quad: u32) -> vec4<f32> {
    if NORM {
        return v * gamma[op.gamma + quad];
    }
    return v;
}

/// First quad of a token's row; the last token again where there are no more.
fn token_row(token: u32) -> u32 {
    return (run.row0 + min(token, run.n - 1u)) * op.x_stride;
}
