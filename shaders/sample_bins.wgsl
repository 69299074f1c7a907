// Second stage of a draw: each token's weight, and how many tokens of what weight are in each bin.

@group(0) @binding(0) var<storage, read> choice: Choice;
@group(0) @binding(1) var<storage, read_write> values: array<vec2<u32>>; // [n_vocab, (key or 0, weight)]
@group(0) @binding(2) var<storage, read_write> work: Work;

var<workgroup> bins: array<atomic<u32>, 2048>;
var<workgroup> tops: array<f32, 256>;

/// exp(-x) for x in 0..32, to a few units in the last place; WGSL's own may be off by 2 x of them.
fn exp_neg(x: f32) -> f32 {
    let n = floor(x * 1.44269504 + 0.5);
    let r = (n * 0.693145752 - x) + n * 1.42860677e-6;
    let p = 1.0 + r * (1.0 + r * (0.5 + r * (0.166666667 + r * (0.0416666667 + r * (0.00833333333 + r * 0.00138888889)))));
    return min(p * bitcast<f32>((127u - u32(n)) << 23u), 1.0);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    if run.n == 0u || choice.temperature == 0.0 {
        return;
    }
    var top = -3.4028234e38;
    for (var i = local; i < op.n_part; i += 256u) {
        if work.parts[i].id != NO_TOKEN {
            top = max(top, work.parts[i].best);
        }
    }
    tops[local] = top;
    for (var half = 128u; half > 0u; half >>= 1u) {
        workgroupBarrier();
        if local < half {
            tops[local] = max(tops[local], tops[local + half]);
        }
    }
    workgroupBarrier();
    top = tops[0];
    for (var k = 0u; k < BLOCK / 256u; k++) {
        let id = wid.x * BLOCK + k * 256u + local;
        if id >= op.n_vocab || values[id].x == 0u {
            continue;
        }
        // In 64ths, so that the difference of the largest numbers is one too.
        let below = top * 0.015625 - value_of(values[id].x) * 0.015625;
        if below < choice.temperature * 0.5 {
            let weight = exp_neg(below / choice.temperature * 64.0);
            let bits = bitcast<u32>(weight);
            let bin = bin_of(bits) * 4u;
            let parts = limbs(weight);
            values[id].y = bits;
            atomicAdd(&bins[bin], 1u);
            if parts.x > 0u {
                atomicAdd(&bins[bin + 1u], parts.x);
            }
            if parts.y > 0u {
                atomicAdd(&bins[bin + 2u], parts.y);
            }
            if parts.z > 0u {
                atomicAdd(&bins[bin + 3u], parts.z);
            }
        }
    }
    workgroupBarrier();
    for (var i = local; i < BINS * 4u; i += 256u) {
        let n = atomicLoad(&bins[i]);
        if n > 0u {
            atomicAdd(&work.bins[i], n);
        }
    }
}
