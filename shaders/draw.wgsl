// The draw itself: the exact cuts, then the token at which the running sum of the kept weights, in ascending order of id, passes the number
// drawn. Its block is found first.

var<workgroup> drawn: u32;          // in units of 2^-24
var<workgroup> before: vec2<u32>;   // weight of the blocks before
var<workgroup> token: u32;

/// A token's weight, 0 if it is not kept.
fn kept(id: u32) -> f32 {
    if id >= op.n_vocab || values[id].y == 0u {
        return 0.0;
    }
    let weight = bitcast<f32>(values[id].y);
    let bin = bin_of(values[id].y);
    let rank = ~values[id].x;
    let open = (bin == k_bin || p_cuts(bin)) && (bin != k_bin || within(BY_RANK, rank, id)) && (choice.top_p >= 1.0 || within(BY_WEIGHT, rank, id));
    return select(0.0, weight, weight >= choice.min_p && (bin < first_cut() || open));
}

/// The thread at which the running sum scan_w reaches `aim`, which is above 0.
fn passing(local: u32, own: vec2<u32>, aim: vec2<u32>) -> u32 {
    if local == 0u {
        atomicStore(&reached, NO_TOKEN);
    }
    workgroupBarrier();
    if at_least(scan_w[local], aim) && !is_zero(own) {
        atomicMin(&reached, local);
    }
    workgroupBarrier();
    let thread = atomicLoad(&reached);
    workgroupBarrier();
    return thread;
}

/// The least sum above `number` * 2^-24 of the total.
fn above(total: vec2<u32>, number: u32) -> vec2<u32> {
    let sum = scaled_up(total, number, 24u);
    // A product that is whole was not rounded up.
    let whole = ((total.x * number) & 0xffffffu) == 0u;
    return select(sum, plus(sum, vec2(1u, 0u)), whole);
}

fn draw(local: u32) {
    let n = atomicLoad(&work.n_list);
    if local < 2u {
        last_key[local] = NO_TOKEN;
        last_id[local] = NO_TOKEN;
    }
    find_cuts(local);
    var total = k_before;
    if workgroupUniformLoad(&k_bin) < BINS {
        if local == 0u {
            left_n = k_rank;
        }
        find_last(local, BY_RANK, n);
        clear_digits(local);
        for (var i = local; i < n; i += 256u) {
            let id = work.list[i];
            if bin_of(values[id].y) == k_bin && within(BY_RANK, ~values[id].x, id) {
                add_limbs(0u, bitcast<f32>(values[id].y));
            }
        }
        workgroupBarrier();
        total = plus(total, sum_of(0u));
    }
    if choice.top_p < 1.0 {
        if local == 0u {
            left_w = minus(p_target(total), p_before);
        }
        find_last(local, BY_WEIGHT, n);
    }
    // Each block's weight: what is certain, and what is kept of the list.
    clear_digits(local);
    for (var i = local; i < n; i += 256u) {
        let weight = kept(work.list[i]);
        if weight > 0.0 {
            add_limbs(work.list[i] / BLOCK * 4u, weight);
        }
    }
    workgroupBarrier();
    var own = vec2(0u);
    if local < op.n_part {
        own = plus(work.sums[local], sum_of(local * 4u));
    }
    scan_w[local] = own;
    scan(local);
    // To be passed, not only reached.
    let aim = above(scan_w[255], drawn);
    let block = passing(local, own, aim);
    if local == block {
        before = scanned_before(local);
    }
    let rest = minus(aim, workgroupUniformLoad(&before));
    // In it each thread has 16 tokens.
    let first = block * BLOCK + local * (BLOCK / 256u);
    own = vec2(0u);
    for (var id = first; id < first + BLOCK / 256u; id++) {
        own = plus(own, wide(kept(id)));
    }
    scan_w[local] = own;
    scan(local);
    if passing(local, own, rest) == local {
        var sum = scanned_before(local);
        for (var id = first; id < first + BLOCK / 256u && token == NO_TOKEN; id++) {
            sum = plus(sum, wide(kept(id)));
            if at_least(sum, rest) {
                token = id;
            }
        }
    }
    workgroupBarrier();
}
