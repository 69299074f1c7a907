// The greedy token, second stage: the best of the workgroups.

@group(0) @binding(0) var<storage, read> best: array<Best>;          // [n_part]
@group(0) @binding(1) var<storage, read_write> result: vec4<u32>;    // (id, logits that are not finite, 0, 0)

@compute @workgroup_size(1)
fn main() {
    let r = best_of_all();
    result = vec4<u32>(r.id, r.broken, 0u, 0u);
}
