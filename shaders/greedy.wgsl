// The greedy token, second stage, where the device goes on by itself: the best of argmax's workgroups.

struct Argmax {
    n_vocab: u32,
    n_part: u32,
}

struct Best {
    value: f32,
    id: u32,
    broken: u32,
    pad: u32,
}

@group(0) @binding(4) var<storage, read> best: array<Best>; // [n_part]
@group(0) @binding(8) var<uniform> op: Argmax;

@compute @workgroup_size(1)
fn main() {
    if runs[NEXT_RUN].n == 0u {
        return;
    }
    var r = best[0];
    for (var i = 1u; i < op.n_part; i++) {
        let b = best[i];
        let broken = r.broken + b.broken;
        if b.value > r.value { // the lower ids come first
            r = b;
        }
        r.broken = broken;
    }
    advance(min(r.id, op.n_vocab - 1u), r.value, r.broken);
}
