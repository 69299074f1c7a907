// Many tokens: a workgroup makes 128 rows (64 with GLU: each matrix gives half of the tile) x 64 tokens, a thread 8 x 8 of them in
// registers. A chunk of 128 rows of W is decoded once for all tokens, a row by a thread, and goes through workgroup memory in its two
// runs of 16 columns; x beside it: 12 KiB, so that several workgroups share a core.

const ROWS: u32 = 128u; // and threads
const TOKENS: u32 = 64u;

struct Accumulators {
    c00: mat4x4<f32>, // columns: tokens t, t + 8, ..; rows r, r + 16, .. r + 48
    c01: mat4x4<f32>, // the other four tokens
    c10: mat4x4<f32>, // the other four rows
    c11: mat4x4<f32>,
}

var<private> acc: Accumulators;

/// A thread's 8 rows, r + 16 i, and 8 tokens, t + 8 j: 32 neighbours have 8 r and 4 t, which is the least that they can load.
fn row_of(local: u32) -> u32 {
    return (local & 7u) | ((local >> 2u) & 8u);
}

fn token_of(local: u32) -> u32 {
    return ((local >> 3u) & 3u) | ((local >> 4u) & 4u);
}

fn multiply(r: u32, t: u32) {
    for (var k = 0u; k < 4u; k++) {
        let a0 = transpose(mat4x4<f32>(w_at(r, k), w_at(r + 16u, k), w_at(r + 32u, k), w_at(r + 48u, k)));
        let a1 = transpose(mat4x4<f32>(w_at(r + 64u, k), w_at(r + 80u, k), w_at(r + 96u, k), w_at(r + 112u, k)));
        let b0 = mat4x4<f32>(x_at(t, k), x_at(t + 8u, k), x_at(t + 16u, k), x_at(t + 24u, k));
        acc.c00 += a0 * b0;
        acc.c10 += a1 * b0;
        let b1 = mat4x4<f32>(x_at(t + 32u, k), x_at(t + 40u, k), x_at(t + 48u, k), x_at(t + 56u, k));
        acc.c01 += a0 * b1;
        acc.c11 += a1 * b1;
    }
}

/// Rows r, r + 16, .. of a token: `lo` the first four, `hi` the others. Loops, because this is not the hot part but was most of the code.
fn store_tile(tile: u32, r: u32, token: u32, inv: f32, lo: vec4<f32>, hi: vec4<f32>) {
    if token >= run.n {
        return;
    }
    if GLU {
        for (var i = 0u; i < 4u; i++) {
            store(token, tile * (ROWS / 2u) + r + 16u * i, silu(inv * lo[i]) * (inv * hi[i]));
        }
    } else {
        for (var i = 0u; i < 8u; i++) {
            store(token, tile * ROWS + r + 16u * i, inv * select(lo[i & 3u], hi[i & 3u], i >= 4u));
        }
    }
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

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let tile = wid.x;
    let last = op.n_rows - 1u;
    var src: Source;
    if GLU {
        src = Source(op.planes[local / (ROWS / 2u)], min(tile * (ROWS / 2u) + local % (ROWS / 2u), last));
    } else {
        src = source(min(tile * ROWS + local, last));
    }
    let r = row_of(local);
    let t = token_of(local);
    // x: four neighbours bring the four quads of a token, and those of another.
    let first = wid.y * TOKENS;
    let token = local >> 2u;
    let quad = local & 3u;
    let x0 = token_row(first + token) + quad;
    let x1 = token_row(first + token + 32u) + quad;
    var squares = vec2(0.0);
    for (var c = 0u; c < N_CHUNKS; c++) {
        let lo = chunk_lo(c);
        let hi = lo + HI;
        let k = chunk(src.planes, src.row, N_CHUNKS, c);
        // Both runs' x at once: one wait for memory a chunk.
        let v0 = x[x0 + lo];
        let v1 = x[x1 + lo];
        let v2 = x[x0 + hi];
        let v3 = x[x1 + hi];
        squares += vec2(dot(v0, v0) + dot(v2, v2), dot(v1, v1) + dot(v3, v3));
        put_w(local, k.a.x, k.b.x, k.q[0], k.q[1], k.q[2], k.q[3]);
        put_x(token, quad, weighed(v0, lo + quad));
        put_x(token + 32u, quad, weighed(v1, lo + quad));
        workgroupBarrier();
        multiply(r, t);
        workgroupBarrier();
        put_w(local, k.a.y, k.b.y, k.q[4], k.q[5], k.q[6], k.q[7]);
        put_x(token, quad, weighed(v2, hi + quad));
        put_x(token + 32u, quad, weighed(v3, hi + quad));
        workgroupBarrier();
        multiply(r, t);
        workgroupBarrier();
    }
    sums[local] = squares.x;
    sums[local + 128u] = squares.y;
    workgroupBarrier();
    // Copies: indexing the accumulators themselves by a variable would move them out of registers.
    let c = acc;
    var rows_lo = array<vec4<f32>, 8>(c.c00[0], c.c00[1], c.c00[2], c.c00[3], c.c01[0], c.c01[1], c.c01[2], c.c01[3]);
    var rows_hi = array<vec4<f32>, 8>(c.c10[0], c.c10[1], c.c10[2], c.c10[3], c.c11[0], c.c11[1], c.c11[2], c.c11[3]);
    for (var j = 0u; j < 8u; j++) {
        let token = t + 8u * j;
        let quads = token * 4u;
        let inv = SCALE * inv_rms((sums[quads] + sums[quads + 1u]) + (sums[quads + 2u] + sums[quads + 3u]));
        store_tile(tile, r, first + token, inv, rows_lo[j], rows_hi[j]);
    }
}
