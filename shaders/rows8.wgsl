// Eight rows of W at a time, four of each matrix with GLU: what the mat-vec forms for GPUs share. Rows come as tiles of eight.

struct Input {
    v: array<vec4<f32>, 8>,
    sums: vec2<f32>, // of each run
}

/// Row `i` of a tile's eight. The last row again where there are no more: nothing is stored for it.
fn tile_row(tile: u32, i: u32) -> Source {
    let last = op.n_rows - 1u;
    if GLU {
        return Source(op.planes[i >> 2u], min(tile * 4u + (i & 3u), last));
    }
    return source(min(tile * 8u + i, last));
}

fn head_of(s: Source, c: u32) -> Head {
    return head(s.planes, s.row, N_CHUNKS, c);
}

fn sum16(v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>) -> f32 {
    return dot((v0 + v1) + (v2 + v3), vec4(1.0));
}

/// A chunk of x, times gamma; its squares are added up.
fn bring(c: u32, sq: ptr<function, f32>) -> Input {
    let lo = chunk_lo(c);
    let hi = lo + HI;
    let x0 = run.row0 * op.x_stride;
    var in: Input;
    in.v = array<vec4<f32>, 8>(
        x[x0 + lo], x[x0 + lo + 1u], x[x0 + lo + 2u], x[x0 + lo + 3u], x[x0 + hi], x[x0 + hi + 1u], x[x0 + hi + 2u], x[x0 + hi + 3u]);
    if NORM {
        *sq += sum16(in.v[0] * in.v[0], in.v[1] * in.v[1], in.v[2] * in.v[2], in.v[3] * in.v[3])
            + sum16(in.v[4] * in.v[4], in.v[5] * in.v[5], in.v[6] * in.v[6], in.v[7] * in.v[7]);
        let g = op.gamma + lo;
        let h = op.gamma + hi;
        in.v = array<vec4<f32>, 8>(
            in.v[0] * gamma[g], in.v[1] * gamma[g + 1u], in.v[2] * gamma[g + 2u], in.v[3] * gamma[g + 3u],
            in.v[4] * gamma[h], in.v[5] * gamma[h + 1u], in.v[6] * gamma[h + 2u], in.v[7] * gamma[h + 3u]);
    }
    in.sums = vec2(sum16(in.v[0], in.v[1], in.v[2], in.v[3]), sum16(in.v[4], in.v[5], in.v[6], in.v[7]));
    return in;
}

fn dot_chunk(s: Source, h: Head, c: u32, in: Input) -> f32 {
    let q = quads(s.planes, s.row, N_CHUNKS, c);
    let k = affine(h, c);
    let lo = dot(q[0], in.v[0]) + dot(q[1], in.v[1]) + dot(q[2], in.v[2]) + dot(q[3], in.v[3]);
    let hi = dot(q[4], in.v[4]) + dot(q[5], in.v[5]) + dot(q[6], in.v[6]) + dot(q[7], in.v[7]);
    return dot(k, vec4(lo, hi, in.sums));
}

/// Column `i` of a tile from the sums of its rows.
fn store_column(tile: u32, i: u32, inv: f32, sum: f32, up: f32) {
    if GLU {
        if i < 4u {
            store(0u, tile * 4u + i, silu(inv * sum) * (inv * up));
        }
    } else {
        store(0u, tile * 8u + i, inv * sum);
    }
}
