// The likeliest of all blocks, onto the place of the token that is chosen next: a thread a block, each round takes the best of their firsts.

@group(0) @binding(0) var<storage, read> tape: Tape;
@group(0) @binding(1) var<storage, read> parts: array<Places>;        // [n_part]
@group(0) @binding(2) var<storage, read_write> places: array<Places>; // [TAPE]

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) local: u32) {
    if run.n == 0u {
        return;
    }
    let at = tape.made % TAPE;
    let live = local < op.n_part;
    var first = 0u;
    var top = 0.0;
    for (var round = 0u; round < MOST_LIKELY; round++) {
        var r = Place(0.0, NO_TOKEN);
        if live && first < MOST_LIKELY {
            r = parts[local].best[first];
        }
        r = best_of(local, r);
        if r.id != NO_TOKEN && r.id / 4096u == local {
            first++;
        }
        if local == 0u {
            places[at].best[round] = r;
        }
        top = select(top, r.logit, round == 0u);
    }
    var sum = 0.0;
    if live {
        sum = parts[local].sum * exp(max(parts[local].top - top, -80.0));
    }
    sum = total(local, sum);
    if local == 0u {
        places[at].top = top;
        places[at].sum = sum;
    }
}
