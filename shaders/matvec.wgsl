// One token: 16 lanes walk the chunks of four rows of W together, so x is read once for the four.
// A workgroup has four such groups; 16 columns of y (8 with GLU: two rows of each matrix).

const LANES: u32 = 16u;
const GROUPS: u32 = 4u;

var<workgroup> part: array<f32, 256>;   // [GROUPS, LANES, 4 rows]
var<workgroup> squares: array<f32, 64>; // [GROUPS, LANES]

struct Input {
    v: array<vec4<f32>, 8>,
    sums: vec2<f32>, // of each run
}

fn dot_chunk(c: Chunk, in: Input) -> f32 {
    let lo = dot(c.q[0], in.v[0]) + dot(c.q[1], in.v[1]) + dot(c.q[2], in.v[2]) + dot(c.q[3], in.v[3]);
    let hi = dot(c.q[4], in.v[4]) + dot(c.q[5], in.v[5]) + dot(c.q[6], in.v[6]) + dot(c.q[7], in.v[7]);
    return dot(c.a, vec2(lo, hi)) + dot(c.b, in.sums);
}

fn sum16(v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>) -> f32 {
    return dot((v0 + v1) + (v2 + v3), vec4(1.0));
}

fn total(group: u32, row: u32) -> f32 {
    var sum = 0.0;
    for (var l = 0u; l < LANES; l++) {
        sum += part[(group * LANES + l) * 4u + row];
    }
    return sum;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) size: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    if run.n == 0u {
        return;
    }
    let group = local / LANES;
    let lane = local % LANES;
    let tile = (wid.y * size.x + wid.x) * GROUPS + group;
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

    let x0 = run.row0 * op.x_stride;
    var acc = vec4(0.0);
    var sq = 0.0;
    for (var c = lane; c < N_CHUNKS; c += LANES) {
        let lo = chunk_lo(c);
        let hi = lo + HI;
        var in: Input;
        in.v = array<vec4<f32>, 8>(
            x[x0 + lo], x[x0 + lo + 1u], x[x0 + lo + 2u], x[x0 + lo + 3u], x[x0 + hi], x[x0 + hi + 1u], x[x0 + hi + 2u], x[x0 + hi + 3u]);
        if NORM {
            sq += sum16(in.v[0] * in.v[0], in.v[1] * in.v[1], in.v[2] * in.v[2], in.v[3] * in.v[3])
                + sum16(in.v[4] * in.v[4], in.v[5] * in.v[5], in.v[6] * in.v[6], in.v[7] * in.v[7]);
            let g = op.gamma + lo;
            let h = op.gamma + hi;
            in.v = array<vec4<f32>, 8>(
                in.v[0] * gamma[g], in.v[1] * gamma[g + 1u], in.v[2] * gamma[g + 2u], in.v[3] * gamma[g + 3u],
                in.v[4] * gamma[h], in.v[5] * gamma[h + 1u], in.v[6] * gamma[h + 2u], in.v[7] * gamma[h + 3u]);
        }
        in.sums = vec2(sum16(in.v[0], in.v[1], in.v[2], in.v[3]), sum16(in.v[4], in.v[5], in.v[6], in.v[7]));
        acc += vec4(
            dot_chunk(chunk(s0.planes, s0.row, N_CHUNKS, c), in), dot_chunk(chunk(s1.planes, s1.row, N_CHUNKS, c), in),
            dot_chunk(chunk(s2.planes, s2.row, N_CHUNKS, c), in), dot_chunk(chunk(s3.planes, s3.row, N_CHUNKS, c), in));
    }
    part[local * 4u] = acc.x;
    part[local * 4u + 1u] = acc.y;
    part[local * 4u + 2u] = acc.z;
    part[local * 4u + 3u] = acc.w;
    squares[local] = sq;
    workgroupBarrier();

    if lane < 4u {
        var sum = 0.0;
        for (var l = 0u; l < LANES; l++) {
            sum += squares[group * LANES + l];
        }
        let inv = inv_rms(sum);
        if GLU {
            if lane < 2u {
                store(0u, tile * 2u + lane, silu(inv * total(group, lane)) * (inv * total(group, lane + 2u)));
            }
        } else {
            store(0u, tile * 4u + lane, inv * total(group, lane));
        }
    }
}
