// The last token that a cut keeps, among those of the list: by its rank, or by the weight of all up to it. A rank is (inverted key, id),
// smaller is likelier; its 32 + 24 bits are found in digits of eight.

var<workgroup> digits: array<atomic<u32>, 1024>; // [digit, (tokens, limbs)]
var<workgroup> reached: atomic<u32>;
var<workgroup> alone: u32; // whether that digit has one token
var<workgroup> last_key: array<u32, 2>; // of top-k and of top-p
var<workgroup> last_id: array<u32, 2>;
var<workgroup> left_n: u32;
var<workgroup> left_w: vec2<u32>;

const BY_RANK: u32 = 0u;
const BY_WEIGHT: u32 = 1u;

fn within(cut: u32, key: u32, id: u32) -> bool {
    return key < last_key[cut] || (key == last_key[cut] && id <= last_id[cut]);
}

/// Whether a token of the list takes part in finding this cut.
fn is_member(cut: u32, value: vec2<u32>, id: u32) -> bool {
    let bin = bin_of(value.y);
    if cut == BY_RANK {
        return bin == k_bin;
    }
    return p_cuts(bin) && (bin != k_bin || within(BY_RANK, ~value.x, id));
}

fn add_limbs(at: u32, weight: f32) {
    let parts = limbs(weight);
    atomicAdd(&digits[at], parts.x);
    atomicAdd(&digits[at + 1u], parts.y);
    atomicAdd(&digits[at + 2u], parts.z);
}

fn sum_of(at: u32) -> vec2<u32> {
    return joined(vec3(atomicLoad(&digits[at]), atomicLoad(&digits[at + 1u]), atomicLoad(&digits[at + 2u])));
}

fn clear_digits(local: u32) {
    workgroupBarrier();
    for (var i = local; i < 1024u; i += 256u) {
        atomicStore(&digits[i], 0u);
    }
    if local == 0u {
        atomicStore(&reached, NO_TOKEN);
    }
    workgroupBarrier();
}

/// The digit of a level, if those before are key's and id's own; else something larger. Digits that were not found are 0 in key and id.
fn digit_of(rank: u32, token: u32, key: u32, id: u32, level: u32) -> u32 {
    if level < 4u {
        return (rank ^ key) >> (24u - 8u * level);
    }
    return select(NO_TOKEN, (token ^ id) >> (48u - 8u * level), rank == key);
}

/// Of the list's first `n`; what is to be reached stands in left_n or left_w.
fn find_last(local: u32, cut: u32, n: u32) {
    var key = 0u;
    var id = 0u;
    var level = 0u;
    loop {
        clear_digits(local);
        for (var i = local; i < n; i += 256u) {
            let other = work.list[i];
            let value = values[other];
            let digit = digit_of(~value.x, other, key, id, level);
            if digit < 256u && is_member(cut, value, other) {
                atomicAdd(&digits[digit * 4u], 1u);
                if cut == BY_WEIGHT {
                    add_limbs(digit * 4u + 1u, bitcast<f32>(value.y));
                }
            }
        }
        workgroupBarrier();
        let tokens = atomicLoad(&digits[local * 4u]);
        scan_n[local] = tokens;
        scan_w[local] = sum_of(local * 4u + 1u);
        scan(local);
        if tokens > 0u && select(scan_n[local] >= left_n, at_least(scan_w[local], left_w), cut == BY_WEIGHT) {
            atomicMin(&reached, local);
        }
        workgroupBarrier();
        let digit = atomicLoad(&reached);
        if level < 4u {
            key |= digit << (24u - 8u * level);
        } else {
            id |= digit << (48u - 8u * level);
        }
        if local == digit {
            alone = tokens;
        }
        if local == 0u && digit > 0u {
            left_n -= scan_n[digit - 1u];
            left_w = minus(left_w, scan_w[digit - 1u]);
        }
        // The digits that are left are those of the one token left. After seven levels there is but one.
        if workgroupUniformLoad(&alone) == 1u || level == 6u {
            break;
        }
        level++;
    }
    for (var i = local; i < n; i += 256u) {
        let other = work.list[i];
        let value = values[other];
        if digit_of(~value.x, other, key, id, level) == 0u && is_member(cut, value, other) {
            last_key[cut] = ~value.x;
            last_id[cut] = other;
        }
    }
    workgroupBarrier();
}
