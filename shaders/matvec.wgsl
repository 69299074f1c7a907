// One token: LANES lanes walk eight rows of W together, two neighbouring chunks at a step where those share their scales, so that
// x is loaded once for eight rows and scales once for two chunks. A workgroup has 64 / LANES such groups; each gives eight columns
// of y (four with GLU).

const STEP: u32 = min(HEAD, 2u);
const X_IS_SHARED: bool = false;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) size: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first_tile = (wid.y * size.x + wid.x) * (64u / LANES);
    let tile = first_tile + local / LANES;
    let s0 = tile_row(tile, 0u);
    let s1 = tile_row(tile, 1u);
    let s2 = tile_row(tile, 2u);
    let s3 = tile_row(tile, 3u);
    let s4 = tile_row(tile, 4u);
    let s5 = tile_row(tile, 5u);
    let s6 = tile_row(tile, 6u);
    let s7 = tile_row(tile, 7u);
    var acc0 = vec4(0.0);
    var acc1 = vec4(0.0);
    var sq = 0.0;
    for (var first = local % LANES * STEP; first < N_CHUNKS; first += LANES * STEP) {
        let h0 = head_of(s0, first);
        let h1 = head_of(s1, first);
        let h2 = head_of(s2, first);
        let h3 = head_of(s3, first);
        let h4 = head_of(s4, first);
        let h5 = head_of(s5, first);
        let h6 = head_of(s6, first);
        let h7 = head_of(s7, first);
        for (var c = first; c < first + STEP; c++) {
            let in = bring(c, &sq);
            acc0 += vec4(dot_chunk(s0, h0, c, in), dot_chunk(s1, h1, c, in), dot_chunk(s2, h2, c, in), dot_chunk(s3, h3, c, in));
            acc1 += vec4(dot_chunk(s4, h4, c, in), dot_chunk(s5, h5, c, in), dot_chunk(s6, h6, c, in), dot_chunk(s7, h7, c, in));
        }
    }
    join(first_tile, local, acc0, acc1, sq);
}
