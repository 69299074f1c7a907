// 2 to 16 tokens: a matvec with 8 columns. LANES threads walk the chunks of four rows of W together; a chunk is decoded into registers
// (and weighed with gamma) once for 8 tokens, and a quad of x is loaded once for four rows. With GLU two of the rows are the other
// matrix's. How many threads there are and how their sums are joined is the other piece's.

const TOKENS: u32 = 8u;

/// A chunk of a row, decoded.
fn decode(s: Source, c: u32, g: array<vec4<f32>, 8>) -> array<vec4<f32>, 8> {
    let k = chunk(s.planes, s.row, N_CHUNKS, c);
    return array<vec4<f32>, 8>(
        (k.a.x * k.q[0] + k.b.x) * g[0], (k.a.x * k.q[1] + k.b.x) * g[1],
        (k.a.x * k.q[2] + k.b.x) * g[2], (k.a.x * k.q[3] + k.b.x) * g[3],
        (k.a.y * k.q[4] + k.b.y) * g[4], (k.a.y * k.q[5] + k.b.y) * g[5],
        (k.a.y * k.q[6] + k.b.y) * g[6], (k.a.y * k.q[7] + k.b.y) * g[7]);
}

/// gamma of a chunk, or ones.
fn gammas(lo: u32, hi: u32) -> array<vec4<f32>, 8> {
    if NORM {
        let l = op.gamma + lo;
        let h = op.gamma + hi;
        return array<vec4<f32>, 8>(
            gamma[l], gamma[l + 1u], gamma[l + 2u], gamma[l + 3u], gamma[h], gamma[h + 1u], gamma[h + 2u], gamma[h + 3u]);
    }
    let one = vec4(1.0);
    return array<vec4<f32>, 8>(one, one, one, one, one, one, one, one);
}

/// Results of four tokens: a column has a token's four rows.
struct Four {
    sums: mat4x4<f32>,
    squares: vec4<f32>,
}

/// A quad of four tokens (columns of `v`) times the same quad of four rows.
fn quad(f: Four, v: mat4x4<f32>, w0: vec4<f32>, w1: vec4<f32>, w2: vec4<f32>, w3: vec4<f32>) -> Four {
    var r = f;
    r.sums += transpose(mat4x4<f32>(w0, w1, w2, w3)) * v;
    if NORM {
        r.squares += vec4(dot(v[0], v[0]), dot(v[1], v[1]), dot(v[2], v[2]), dot(v[3], v[3]));
    }
    return r;
}

/// Quad `q` of four tokens' x.
fn at(rows: vec4<u32>, q: u32) -> mat4x4<f32> {
    return mat4x4<f32>(x[rows.x + q], x[rows.y + q], x[rows.z + q], x[rows.w + q]);
}

fn four_tokens(f: Four, rows: vec4<u32>, lo: u32, hi: u32,
        w0: array<vec4<f32>, 8>, w1: array<vec4<f32>, 8>, w2: array<vec4<f32>, 8>, w3: array<vec4<f32>, 8>) -> Four {
    var r = quad(f, at(rows, lo), w0[0], w1[0], w2[0], w3[0]);
    r = quad(r, at(rows, lo + 1u), w0[1], w1[1], w2[1], w3[1]);
    r = quad(r, at(rows, lo + 2u), w0[2], w1[2], w2[2], w3[2]);
    r = quad(r, at(rows, lo + 3u), w0[3], w1[3], w2[3], w3[3]);
    r = quad(r, at(rows, hi), w0[4], w1[4], w2[4], w3[4]);
    r = quad(r, at(rows, hi + 1u), w0[5], w1[5], w2[5], w3[5]);
    r = quad(r, at(rows, hi + 2u), w0[6], w1[6], w2[6], w3[6]);
    return quad(r, at(rows, hi + 3u), w0[7], w1[7], w2[7], w3[7]);
}

/// First quads of four tokens; the last token again where there are no more.
fn rows_of(first: u32) -> vec4<u32> {
    return (vec4(run.row0) + min(vec4(first) + vec4<u32>(0u, 1u, 2u, 3u), vec4(run.n - 1u))) * op.x_stride;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let lane = local % LANES;
    let tile = wid.x * (THREADS / LANES) + local / LANES;
    // The last row again where there are no more: nothing is stored for it.
    let last = op.n_rows - 1u;
    var s0: Source;
    var s1: Source;
    var s2: Source;
    var s3: Source;
    if GLU {
        s0 = Source(op.planes[0], min(tile * 2u, last));
        s1 = Source(op.planes[0], min(tile * 2u + 1u, last));
        s2 = Source(op.planes[1], s0.row);
        s3 = Source(op.planes[1], s1.row);
    } else {
        s0 = source(min(tile * 4u, last));
        s1 = source(min(tile * 4u + 1u, last));
        s2 = source(min(tile * 4u + 2u, last));
        s3 = source(min(tile * 4u + 3u, last));
    }
    let first = wid.y * TOKENS;
    let more = first + 4u < run.n;
    let rows0 = rows_of(first);
    let rows1 = rows_of(first + 4u);
    var f0: Four;
    var f1: Four;
    for (var c = lane; c < N_CHUNKS; c += LANES) {
        let lo = chunk_lo(c);
        let hi = lo + HI;
        let g = gammas(lo, hi);
        let w0 = decode(s0, c, g);
        let w1 = decode(s1, c, g);
        let w2 = decode(s2, c, g);
        let w3 = decode(s3, c, g);
        f0 = four_tokens(f0, rows0, lo, hi, w0, w1, w2, w3);
        if more {
            f1 = four_tokens(f1, rows1, lo, hi, w0, w1, w2, w3);
        }
    }
    finish(f0, first, tile, local);
    if more {
        finish(f1, first + 4u, tile, local);
    }
}
