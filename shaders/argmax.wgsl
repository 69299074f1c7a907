// The greedy token, first stage: the best of 4096 logits a workgroup; the lowest id among equals.
// Infinity and NaN are found by their bits: a compiler with fast-math may believe that they do not exist.

@group(0) @binding(0) var<storage, read> logits: array<f32>;     // [n_vocab]
@group(0) @binding(1) var<storage, read_write> best: array<Best>; // [n_part]

var<workgroup> found: array<Best, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    if run.n == 0u {
        return;
    }
    var r = Best(-3.4e38, 0xffffffffu, 0u, 0u);
    for (var k = 0u; k < 16u; k++) {
        let id = wid.x * 4096u + k * 256u + local;
        if id < op.n_vocab {
            let v = logits[id];
            let broken = select(0u, 1u, (bitcast<u32>(v) & 0x7f800000u) == 0x7f800000u);
            r = better(r, Best(v, id, broken, 0u));
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
        best[wid.x] = found[0];
    }
}
