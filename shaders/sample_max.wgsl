// First stage of a draw: penalties, and the largest logit of each block of 4096.
// Infinity and NaN are found by their bits: a compiler with fast-math may believe that they do not exist.

@group(0) @binding(0) var<storage, read> logits: array<f32>;              // [n_vocab]
@group(0) @binding(1) var<storage, read> choice: Choice;
@group(0) @binding(2) var<storage, read> counts: array<vec2<u32>>;        // [n_vocab, (in the window, in the reply) | ..]
@group(0) @binding(3) var<storage, read_write> values: array<vec2<u32>>;  // [n_vocab, (key or 0, weight)]
@group(0) @binding(4) var<storage, read_write> work: Work;

const LARGEST: f32 = 3.4028234e38;

var<workgroup> found: array<Part, 256>;

/// An absurd penalty saturates: neither quotient nor product may overflow.
fn penalised(logit: f32, count: vec2<u32>) -> f32 {
    var l = logit;
    if (count.x & ~NEVER) > 0u {
        let r = choice.repetition;
        if logit > 0.0 {
            l = select(logit / max(r, logit / LARGEST), LARGEST, r < 1.0 && logit >= LARGEST * r);
        } else {
            l = select(logit * min(r, LARGEST / max(-logit, 1.0)), -LARGEST, r > 1.0 && -logit >= LARGEST / r);
        }
    }
    if count.y > 0u {
        l -= f32(count.y) * choice.frequency + choice.presence;
    }
    return clamp(l, -LARGEST, LARGEST);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    if run.n == 0u {
        return;
    }
    if wid.x == 0u {
        for (var i = local; i < BINS * 4u; i += 256u) {
            atomicStore(&work.bins[i], 0u);
        }
        if local == 0u {
            atomicStore(&work.n_list, 0u);
        }
    }
    var r = Part(0.0, NO_TOKEN, 0u, 0u);
    for (var k = 0u; k < BLOCK / 256u; k++) {
        let id = wid.x * BLOCK + k * 256u + local;
        if id < op.n_vocab {
            var v = logits[id];
            let broken = select(0u, 1u, (bitcast<u32>(v) & 0x7f800000u) == 0x7f800000u);
            let count = counts[id];
            if choice.penalties != 0u {
                v = penalised(v, count);
            }
            let never = count.x >= NEVER;
            values[id] = vec2(select(key_of(v), 0u, never), 0u);
            r = better(r, Part(v, select(id, NO_TOKEN, never), broken, 0u));
        }
    }
    found[local] = r;
    for (var half = 128u; half > 0u; half >>= 1u) {
        workgroupBarrier();
        if local < half {
            found[local] = better(found[local], found[local + half]);
        }
    }
    if local == 0u {
        work.parts[wid.x] = found[0];
    }
}
