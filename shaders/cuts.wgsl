// The bins that top-k and top-p cut. Tokens of the bins before them are kept and those behind are not, but for min-p; what becomes of
// their own tokens is for sample_draw to find out.

var<workgroup> scan_n: array<u32, 256>;
var<workgroup> scan_w: array<vec2<u32>, 256>;
var<workgroup> k_bin: u32;           // holds the k-th token; BINS: top-k keeps all
var<workgroup> k_rank: u32;          // of the k-th token among those of its bin, from 1
var<workgroup> k_before: vec2<u32>;  // weight of the bins before
var<workgroup> k_through: vec2<u32>; // and with it
var<workgroup> p_lo: u32;            // top-p ends in one of these bins; BINS: it keeps all
var<workgroup> p_hi: u32;
var<workgroup> p_before: vec2<u32>;  // weight of the bins before p_lo

/// Running sums of scan_n and scan_w, in place: within runs of 16, then over the runs.
fn scan(local: u32) {
    workgroupBarrier();
    if local < 16u {
        for (var i = local * 16u + 1u; i < local * 16u + 16u; i++) {
            scan_n[i] += scan_n[i - 1u];
            scan_w[i] = plus(scan_w[i], scan_w[i - 1u]);
        }
    }
    workgroupBarrier();
    var n = scan_n[local];
    var w = scan_w[local];
    for (var i = 15u; i < (local & ~15u); i += 16u) {
        n += scan_n[i];
        w = plus(w, scan_w[i]);
    }
    workgroupBarrier();
    scan_n[local] = n;
    scan_w[local] = w;
    workgroupBarrier();
}

/// Weight of the threads before.
fn scanned_before(local: u32) -> vec2<u32> {
    return select(vec2(0u), scan_w[local - min(local, 1u)], local > 0u);
}

/// What top-p aims at, of a total weight.
fn p_target(total: vec2<u32>) -> vec2<u32> {
    let bits = bitcast<u32>(choice.top_p);
    let target_sum = scaled_up(total, (bits & 0x7fffffu) | 0x800000u, 150u - ((bits >> 23u) & 255u));
    return select(target_sum, vec2(1u, 0u), is_zero(target_sum));
}

fn bin_weight(bin: u32) -> vec2<u32> {
    let at = bin * 4u;
    return joined(vec3(atomicLoad(&work.bins[at + 1u]), atomicLoad(&work.bins[at + 2u]), atomicLoad(&work.bins[at + 3u])));
}

/// Whether a running sum reaches `aim` with what is added to `before`.
fn reaches(before: vec2<u32>, added: vec2<u32>, aim: vec2<u32>) -> bool {
    return !at_least(before, aim) && at_least(plus(before, added), aim);
}

fn find_cuts(local: u32) {
    if local == 0u {
        k_bin = BINS;
        p_lo = BINS;
        p_hi = BINS;
    }
    // Two bins a thread.
    let bin = 2u * local;
    let tokens = vec2(atomicLoad(&work.bins[bin * 4u]), atomicLoad(&work.bins[bin * 4u + 4u]));
    let w0 = bin_weight(bin);
    let w1 = bin_weight(bin + 1u);
    scan_n[local] = tokens.x + tokens.y;
    scan_w[local] = plus(w0, w1);
    scan(local);
    let n = scan_n[local] - tokens.y;
    let before = scanned_before(local);
    let between = plus(before, w0);
    if local == 0u {
        k_before = scan_w[255];
        k_through = scan_w[255];
    }
    workgroupBarrier();
    let k = choice.top_k;
    if k > 0u && k < scan_n[255] && k > n - tokens.x && k <= n + tokens.y {
        let second = k > n;
        k_bin = select(bin, bin + 1u, second);
        k_rank = k - select(n - tokens.x, n, second);
        k_before = select(before, between, second);
        k_through = select(between, plus(between, w1), second);
    }
    workgroupBarrier();
    if choice.top_p < 1.0 {
        // The total is known but for the tokens of k_bin.
        let lo = p_target(k_before);
        let hi = p_target(k_through);
        if reaches(before, w0, lo) {
            p_lo = bin;
            p_before = before;
        }
        if reaches(between, w1, lo) {
            p_lo = bin + 1u;
            p_before = between;
        }
        if reaches(before, w0, hi) {
            p_hi = bin;
        }
        if reaches(between, w1, hi) {
            p_hi = bin + 1u;
        }
    }
    workgroupBarrier();
}

/// The first bin that is cut.
fn first_cut() -> u32 {
    return min(p_lo, k_bin);
}

/// Whether top-p may end in this bin.
fn p_cuts(bin: u32) -> bool {
    return bin >= p_lo && bin <= p_hi && bin <= k_bin;
}
