// The likeliest tokens of a block of 4096 logits: each thread holds 16 of them, and each round takes the best that is left.

@group(0) @binding(0) var<storage, read> logits: array<f32>;         // [n_vocab]
@group(0) @binding(1) var<storage, read_write> parts: array<Places>; // [n_part]

const OWN: u32 = 16u;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    if run.n == 0u {
        return;
    }
    var own: array<f32, OWN>;
    var left = 0u; // a bit for each that was not taken
    for (var k = 0u; k < OWN; k++) {
        let id = wid.x * 4096u + k * 256u + local;
        if id < op.n_vocab {
            own[k] = logits[id];
            left |= 1u << k;
        }
    }
    var top = 0.0;
    for (var round = 0u; round < MOST_LIKELY; round++) {
        var r = Place(0.0, NO_TOKEN);
        for (var k = 0u; k < OWN; k++) {
            if (left & (1u << k)) != 0u {
                r = before(r, Place(own[k], wid.x * 4096u + k * 256u + local));
            }
        }
        r = best_of(local, r);
        if r.id % 256u == local && r.id != NO_TOKEN {
            left &= ~(1u << ((r.id / 256u) % OWN));
        }
        if local == 0u {
            parts[wid.x].best[round] = r;
        }
        top = select(top, r.logit, round == 0u);
    }
    var sum = 0.0;
    for (var k = 0u; k < OWN; k++) {
        if wid.x * 4096u + k * 256u + local < op.n_vocab {
            sum += exp(max(own[k] - top, -80.0));
        }
    }
    sum = total(local, sum);
    if local == 0u {
        parts[wid.x].top = top;
        parts[wid.x].sum = sum;
    }
}
