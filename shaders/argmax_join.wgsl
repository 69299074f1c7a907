// The greedy token, second stage: the best of the workgroups.

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

@group(0) @binding(0) var<storage, read> best: array<Best>;          // [n_part]
@group(0) @binding(1) var<storage, read_write> result: vec4<u32>;    // (id, logits that are not finite, 0, 0)
@group(0) @binding(8) var<uniform> op: Argmax;

@compute @workgroup_size(1)
fn main() {
    var r = best[0];
    for (var i = 1u; i < op.n_part; i++) {
        let b = best[i];
        let broken = r.broken + b.broken;
        if b.value > r.value { // the lower ids come first
            r = b;
        }
        r.broken = broken;
    }
    result = vec4<u32>(r.id, r.broken, 0u, 0u);
}
