// The likeliest tokens, best first: up to 20 of each block of 4096 logits (likely_parts), then of all (likely_join).

const MOST_LIKELY: u32 = 20u;
const NO_TOKEN: u32 = 0xffffffffu;

struct Sample {
    n_vocab: u32,
    n_part: u32, // blocks of the vocabulary
}

struct Place {
    logit: f32,
    id: u32, // NO_TOKEN: there is none
}

/// Of a block, and then of all logits.
struct Places {
    top: f32,
    sum: f32, // of exp(logit - top)
    best: array<Place, MOST_LIKELY>,
}

@group(0) @binding(8) var<uniform> op: Sample;

var<workgroup> found: array<Place, 256>;
var<workgroup> few: array<Place, 16>;
var<workgroup> sums: array<f32, 256>;

fn before(a: Place, b: Place) -> Place {
    if b.id != NO_TOKEN && (a.id == NO_TOKEN || b.logit > a.logit || (b.logit == a.logit && b.id < a.id)) {
        return b;
    }
    return a;
}

/// The best of all threads' own.
fn best_of(local: u32, own: Place) -> Place {
    found[local] = own;
    workgroupBarrier();
    if local < 16u {
        var r = found[local * 16u];
        for (var i = 1u; i < 16u; i++) {
            r = before(r, found[local * 16u + i]);
        }
        few[local] = r;
    }
    workgroupBarrier();
    var r = few[0];
    for (var i = 1u; i < 16u; i++) {
        r = before(r, few[i]);
    }
    workgroupBarrier();
    return r;
}

fn total(local: u32, own: f32) -> f32 {
    sums[local] = own;
    for (var half = 128u; half > 0u; half >>= 1u) {
        workgroupBarrier();
        if local < half {
            sums[local] += sums[local + half];
        }
    }
    workgroupBarrier();
    return sums[0];
}
