// Many tokens: a workgroup makes 64 rows (32 with GLU: each matrix gives half of the tile) x TOKENS. A chunk of 64 rows of W
// is decoded once into workgroup memory for all of them. A thread owns rows r, r + 8, .. r + 56; the tile piece says which tokens.

var<workgroup> wt: array<vec4<f32>, 512>; // [64 rows, 8 quads], quads swizzled by the row so that 8 rows hit 8 banks

fn at(row: u32, quad: u32) -> u32 {
    return row * 8u + (quad ^ (row & 7u));
}

fn store_tile(tile: u32, r: u32, token: u32, inv: f32, lo: vec4<f32>, hi: vec4<f32>) {
    if token >= run.n {
        return;
    }
    if has(GLU) {
        let row = tile * 32u + r;
        let a = lo * inv;
        let b = hi * inv;
        store(token, row, silu(a.x) * b.x);
        store(token, row + 8u, silu(a.y) * b.y);
        store(token, row + 16u, silu(a.z) * b.z);
        store(token, row + 24u, silu(a.w) * b.w);
    } else {
        let row = tile * 64u + r;
        store(token, row, inv * lo.x);
        store(token, row + 8u, inv * lo.y);
        store(token, row + 16u, inv * lo.z);
        store(token, row + 24u, inv * lo.w);
        store(token, row + 32u, inv * hi.x);
        store(token, row + 40u, inv * hi.y);
        store(token, row + 48u, inv * hi.z);
        store(token, row + 56u, inv * hi.w);
    }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let tile = wid.x;
    let last = op.n_rows - 1u;
    var src: Source;
    if has(GLU) {
        src = Source(op.planes[local >> 5u], min(tile * 32u + (local & 31u), last));
    } else {
        src = source(min(tile * 64u + local, last));
    }
    let first = wid.y * TOKENS;
    for (var c = 0u; c < op.n_chunks; c++) {
        let k = chunk(src.planes, src.row, op.n_chunks, c);
        wt[at(local, 0u)] = k.a.x * k.q[0] + k.b.x;
        wt[at(local, 1u)] = k.a.x * k.q[1] + k.b.x;
        wt[at(local, 2u)] = k.a.x * k.q[2] + k.b.x;
        wt[at(local, 3u)] = k.a.x * k.q[3] + k.b.x;
        wt[at(local, 4u)] = k.a.y * k.q[4] + k.b.y;
        wt[at(local, 5u)] = k.a.y * k.q[5] + k.b.y;
        wt[at(local, 6u)] = k.a.y * k.q[6] + k.b.y;
        wt[at(local, 7u)] = k.a.y * k.q[7] + k.b.y;
        load_tokens(local, first, chunk_lo(c));
        workgroupBarrier();
        multiply(local & 7u, local >> 3u);
        workgroupBarrier();
    }
    publish_squares(local);
    workgroupBarrier();
    finish(tile, first, local & 7u, local >> 3u);
}

/// x of a token (quads `lo ..` or `lo + HI ..`), times gamma.
fn weighed(v: vec4<f32>, quad: u32) -> vec4<f32> {
    if has(NORM) {
        return v * gamma[op.gamma + quad];
    }
    return v;
}

/// First quad of a token's row; the last token again where there are no more.
fn token_row(token: u32) -> u32 {
    return (run.row0 + min(token, run.n - 1u)) * op.x_stride;
}
