// Third stage of a draw: for each block the weight of the tokens that are kept for certain; and a list of those that may be.

@group(0) @binding(0) var<storage, read> choice: Choice;
@group(0) @binding(1) var<storage, read> values: array<vec2<u32>>; // [n_vocab, (key or 0, weight)]
@group(0) @binding(2) var<storage, read_write> work: Work;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    if run.n == 0u || choice.temperature == 0.0 {
        return;
    }
    find_cuts(local);
    let first = first_cut();
    var sum = vec2(0u);
    for (var k = 0u; k < BLOCK / 256u; k++) {
        let id = wid.x * BLOCK + k * 256u + local;
        if id >= op.n_vocab || values[id].y == 0u {
            continue;
        }
        let weight = bitcast<f32>(values[id].y);
        let bin = bin_of(values[id].y);
        if bin < first {
            if weight >= choice.min_p {
                sum = plus(sum, wide(weight));
            }
        } else if bin == k_bin || p_cuts(bin) {
            work.list[atomicAdd(&work.n_list, 1u)] = id;
        }
    }
    scan_w[local] = sum;
    for (var half = 128u; half > 0u; half >>= 1u) {
        workgroupBarrier();
        if local < half {
            scan_w[local] = plus(scan_w[local], scan_w[local + half]);
        }
    }
    if local == 0u {
        work.sums[wid.x] = scan_w[0];
    }
}
