// The greedy token in two stages: the best of each 4096 logits (argmax), then the best of those (argmax_join, greedy).

struct Argmax {
    n_vocab: u32,
    n_part: u32, // workgroups of the first stage
}

struct Best {
    value: f32,
    id: u32,
    broken: u32, // logits that are not finite
    pad: u32,
}

@group(0) @binding(8) var<uniform> op: Argmax;

/// The larger, the lowest id among equals.
fn better(a: Best, b: Best) -> Best {
    var r = a;
    if b.value > a.value || (b.value == a.value && b.id < a.id) {
        r = b;
    }
    r.broken = a.broken + b.broken;
    return r;
}

/// The best of the first stage's.
fn best_of_all() -> Best {
    var r = best[0];
    for (var i = 1u; i < op.n_part; i++) {
        r = better(r, best[i]);
    }
    return r;
}
