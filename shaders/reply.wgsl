// A reply whose tokens the device chooses, as far as it has come. The last dispatch of every token calls `advance`.

struct Run {
    n: u32,
    pos: u32,
    row0: u32,
    pad: u32,
}

const NEXT_RUN: u32 = 16u; // from the body's Run to the head's: 256 bytes

@group(0) @binding(0) var<storage, read_write> runs: array<Run>; // what all other kernels have as their uniform
@group(0) @binding(1) var<storage, read_write> ids: array<u32>;  // of the next pass
@group(0) @binding(2) var<storage, read_write> tape: Tape;
@group(0) @binding(3) var<storage, read> choice: Choice;

/// Appends a token and prepares the pass that feeds it; after a stop id that pass has no tokens, and so does nothing.
fn advance(id: u32, logit: f32, broken: u32) {
    tape.ids[tape.made % TAPE] = id;
    tape.logits[tape.made % TAPE] = logit;
    tape.made += 1u;
    tape.broken |= broken;
    var n = select(0u, 1u, broken == 0u);
    for (var i = 0u; i < choice.n_stop; i++) {
        n = select(n, 0u, choice.stop[i] == id);
    }
    ids[0] = id;
    let next = Run(n, runs[0].pos + runs[0].n, 0u, 0u);
    runs[0] = next;
    runs[NEXT_RUN] = next;
}
