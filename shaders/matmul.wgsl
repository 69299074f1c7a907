// Many tokens: a workgroup makes 64 rows (32 with GLU: each matrix gives half of the tile) x TOKENS. A chunk of 64 rows of W is
// decoded once for all of them and goes through workgroup memory in its two runs of 16 columns: 8 KiB with 64 tokens, so that several
// workgroups share a core. A thread owns rows r, r + 8, .. r + 56; the tile piece says which tokens.

var<workgroup> wt: array<vec4<f32>, 256>; // [64 rows, 4 quads]

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
