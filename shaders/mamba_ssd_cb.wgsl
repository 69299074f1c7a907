// C_i . B_j of a chunk and group: one workgroup a tile of 32 x 32, of which the one above the diagonal is left out.

@group(0) @binding(3) var<storage, read_write> chunks: array<f32>;

// [N, tokens / 4], a column more than needed so that neighbours in N fall into different banks.
var<workgroup> c_tile: array<vec4<f32>, 288>;
var<workgroup> b_tile: array<vec4<f32>, 288>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let group = wid.x / 3u;
    let tile = wid.x % 3u;
    let i0 = select(0u, 32u, tile > 0u);
    let j0 = select(0u, 32u, tile > 1u);
    let first = wid.y * CHUNK;
    let iq = local >> 3u;
    let jq = local & 7u;
    var s0 = vec4(0.0);
    var s1 = vec4(0.0);
    var s2 = vec4(0.0);
    var s3 = vec4(0.0);
    for (var n0 = 0u; n0 < D_STATE; n0 += 32u) {
        for (var e = local; e < 256u; e += 64u) {
            let n = e & 31u;
            let quad = e >> 5u;
            let i = first + i0 + quad * 4u;
            let j = first + j0 + quad * 4u;
            c_tile[n * 9u + quad] = vec4(
                bc_at(i, 1u, group, n0 + n),
                bc_at(i + 1u, 1u, group, n0 + n),
                bc_at(i + 2u, 1u, group, n0 + n),
                bc_at(i + 3u, 1u, group, n0 + n),
            );
            b_tile[n * 9u + quad] = vec4(
                bc_at(j, 0u, group, n0 + n),
                bc_at(j + 1u, 0u, group, n0 + n),
                bc_at(j + 2u, 0u, group, n0 + n),
                bc_at(j + 3u, 0u, group, n0 + n),
            );
        }
        workgroupBarrier();
        for (var n = 0u; n < 32u; n++) {
            let c = c_tile[n * 9u + iq];
            let b = b_tile[n * 9u + jq];
            s0 += c.x * b;
            s1 += c.y * b;
            s2 += c.z * b;
            s3 += c.w * b;
        }
        workgroupBarrier();
    }
    let at = ((wid.y * op.n_group + group) * CHUNK + i0 + iq * 4u) * CHUNK + j0 + jq * 4u;
    let sums = array(s0, s1, s2, s3);
    for (var i = 0u; i < 4u; i++) {
        for (var j = 0u; j < 4u; j++) {
            chunks[at + i * CHUNK + j] = sums[i][j];
        }
    }
}
