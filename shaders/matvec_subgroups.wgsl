// One token, with subgroups: a subgroup walks eight rows of W together and adds them up by itself, without workgroup memory or
// barriers. It may have any size from 4 to 128; a workgroup of 64 has TILES tiles for its subgroups. That neighbours in a workgroup
// are neighbours in a subgroup is what every device does, but WGSL does not promise it: the check at load would tell.

override TILES: u32; // a power of two
const STEP: u32 = min(HEAD, 2u);

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) size: vec3<u32>, @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_size) subgroup_size: u32, @builtin(subgroup_invocation_id) lane: u32) {
    let lanes = min(subgroup_size, 64u);
    let subgroups = 64u / lanes;
    let subgroup = subgroupBroadcastFirst(local) / lanes;
    // With as many lanes as a row has steps, half of them would be idle: one chunk a step then.
    let step = select(STEP, 1u, lanes * STEP > N_CHUNKS);
    for (var t = 0u; t < TILES; t += subgroups) {
        let live = t + subgroup < TILES;
        let tile = (wid.y * size.x + wid.x) * TILES + t + subgroup;
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
        for (var first = select(N_CHUNKS, lane * step, live); first < N_CHUNKS; first += lanes * step) {
            let h0 = head_of(s0, first);
            let h1 = head_of(s1, first);
            let h2 = head_of(s2, first);
            let h3 = head_of(s3, first);
            let h4 = head_of(s4, first);
            let h5 = head_of(s5, first);
            let h6 = head_of(s6, first);
            let h7 = head_of(s7, first);
            for (var c = first; c < first + step; c++) {
                let in = bring(c, &sq);
                acc0 += vec4(dot_chunk(s0, h0, c, in), dot_chunk(s1, h1, c, in), dot_chunk(s2, h2, c, in), dot_chunk(s3, h3, c, in));
                acc1 += vec4(dot_chunk(s4, h4, c, in), dot_chunk(s5, h5, c, in), dot_chunk(s6, h6, c, in), dot_chunk(s7, h7, c, in));
            }
        }
        acc0 = subgroupAdd(acc0);
        acc1 = subgroupAdd(acc1);
        let inv = inv_rms(subgroupAdd(sq));
        // Eight columns, stored by lanes 0 to 7, or by fewer in turns.
        for (var i = lane; i < 8u; i += lanes) {
            if live {
                store_column(tile, i, inv, select(acc0, acc1, i >= 4u)[i & 3u], acc1[i & 3u]);
            }
        }
    }
}
