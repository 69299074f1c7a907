// The greedy token, second stage, where the device goes on by itself.

@group(0) @binding(4) var<storage, read> best: array<Best>; // [n_part]

@compute @workgroup_size(1)
fn main() {
    if runs[NEXT_RUN].n == 0u {
        return;
    }
    let r = best_of_all();
    advance(min(r.id, op.n_vocab - 1u), r.value, r.broken);
}
