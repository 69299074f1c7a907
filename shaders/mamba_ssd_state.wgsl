// What a chunk adds to the state by its end, sum_j (decay_{j+1} .. decay_last) dt_j B_j x_j, and its whole decay. One workgroup has
// 64 state columns of up to QUADS * 4 channels of a head; a thread 8 x 4 of them.

@group(0) @binding(3) var<storage, read_write> chunks: array<f32>;

const THREADS: u32 = 8u * QUADS;

var<workgroup> b_tile: array<vec4<f32>, 256>;        // [16 tokens, 64 columns]
var<workgroup> x_tile: array<vec4<f32>, 16u * QUADS>; // [16 tokens, channels], weighted
var<workgroup> decay: array<f32, CHUNK>;
var<workgroup> weight: array<f32, CHUNK>; // of a token at the end of the chunk

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let slices = (op.d_head + 4u * QUADS - 1u) / (4u * QUADS);
    let tiles = (D_STATE + 63u) / 64u;
    let head = wid.x / (slices * tiles);
    let n0 = (wid.x / slices) % tiles * 64u;
    let p0 = wid.x % slices * 4u * QUADS;
    let group = group_of(head);
    let first = wid.y * CHUNK;
    let count = min(CHUNK, run.n - first);

    for (var j = local; j < CHUNK; j += THREADS) {
        decay[j] = 1.0;
        if j < count {
            decay[j] = decay_at(first + j, head);
        }
    }
    workgroupBarrier();
    for (var j = local; j < CHUNK; j += THREADS) {
        var after = 1.0;
        for (var k = j + 1u; k < count; k++) {
            after *= decay[k];
        }
        weight[j] = 0.0;
        if j < count {
            weight[j] = after * dt_at(first + j, head);
        }
        if j == 0u && n0 == 0u && p0 == 0u {
            chunks[ends_at(wid.y) + head] = after * decay[0];
        }
    }
    workgroupBarrier();

    let octet = local / QUADS;
    let quad = local % QUADS;
    var s0 = vec4(0.0);
    var s1 = vec4(0.0);
    var s2 = vec4(0.0);
    var s3 = vec4(0.0);
    var s4 = vec4(0.0);
    var s5 = vec4(0.0);
    var s6 = vec4(0.0);
    var s7 = vec4(0.0);
    for (var j0 = 0u; j0 < count; j0 += 16u) {
        for (var e = local; e < 256u; e += THREADS) {
            let token = first + j0 + e / 16u;
            let n = n0 + e % 16u * 4u;
            b_tile[e] = vec4(
                bc_at(token, 0u, group, n),
                bc_at(token, 0u, group, n + 1u),
                bc_at(token, 0u, group, n + 2u),
                bc_at(token, 0u, group, n + 3u),
            );
        }
        for (var e = local; e < 16u * QUADS; e += THREADS) {
            let j = j0 + e / QUADS;
            x_tile[e] = weight[j] * x_at(first + j, head, p0 + e % QUADS * 4u);
        }
        workgroupBarrier();
        for (var j = 0u; j < 16u; j++) {
            let lo = b_tile[j * 16u + octet * 2u];
            let hi = b_tile[j * 16u + octet * 2u + 1u];
            let x = x_tile[j * QUADS + quad];
            s0 += lo.x * x;
            s1 += lo.y * x;
            s2 += lo.z * x;
            s3 += lo.w * x;
            s4 += hi.x * x;
            s5 += hi.y * x;
            s6 += hi.z * x;
            s7 += hi.w * x;
        }
        workgroupBarrier();
    }
    let sums = array(s0, s1, s2, s3, s4, s5, s6, s7);
    let p = p0 + quad * 4u;
    for (var i = 0u; i < 8u; i++) {
        let n = n0 + octet * 8u + i;
        for (var k = 0u; k < 4u; k++) {
            if n < D_STATE && p + k < op.d_head {
                chunks[state_at(wid.y, head) + n * op.d_head + p + k] = sums[i][k];
            }
        }
    }
}
