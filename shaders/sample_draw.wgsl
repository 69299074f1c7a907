// Last stage of a draw, one workgroup. The number drawn for token i of the reply is uniform(seed, i), see generate/rng.rs.

@group(0) @binding(4) var<storage, read_write> counts: array<vec2<u32>>; // [n_vocab, (in the window, in the reply) | the window's ids]
@group(0) @binding(5) var<storage, read> values: array<vec2<u32>>;       // [n_vocab, (key or 0, weight)]
@group(0) @binding(6) var<storage, read_write> work: Work;
@group(0) @binding(7) var<storage, read> logits: array<f32>;             // [n_vocab]

var<workgroup> found: array<Part, 256>;
var<workgroup> live: u32;

fn stir(v: vec4<u32>) -> vec4<u32> {
    var r = v;
    r.x += r.y * r.w;
    r.y += r.z * r.x;
    r.z += r.x * r.y;
    r.w += r.y * r.z;
    return r;
}

/// Its upper 24 bits.
fn uniform_number(counter: u32) -> u32 {
    let v = stir(vec4(choice.seed_lo, choice.seed_hi, counter, 0u) * 1664525u + 1013904223u);
    return stir(v ^ (v >> vec4(16u))).x >> 8u;
}

fn remember(id: u32) {
    counts[id].y += 1u;
    if choice.last_n == 0u {
        return;
    }
    counts[id].x += 1u;
    if choice.last_n != NO_END {
        let i = choice.n_prompt + tape.made;
        let slot = op.n_vocab + i % choice.last_n;
        if i >= choice.last_n {
            counts[counts[slot].x].x -= 1u;
        }
        counts[slot].x = id;
    }
}

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) local: u32) {
    if local == 0u {
        live = runs[NEXT_RUN].n;
        token = NO_TOKEN;
        drawn = uniform_number(tape.made);
    }
    if workgroupUniformLoad(&live) == 0u {
        return;
    }
    var r = Part(0.0, NO_TOKEN, 0u, 0u);
    if local < op.n_part {
        r = work.parts[local];
    }
    found[local] = r;
    for (var half = 128u; half > 0u; half >>= 1u) {
        workgroupBarrier();
        if local < half {
            found[local] = better(found[local], found[local + half]);
        }
    }
    workgroupBarrier();
    if choice.temperature > 0.0 {
        draw(local);
    }
    if local == 0u {
        let best = found[0];
        let id = min(select(token, best.id, choice.temperature == 0.0), op.n_vocab - 1u);
        let broken = best.broken + select(0u, 1u, best.id == NO_TOKEN);
        if choice.penalties != 0u && broken == 0u {
            remember(id);
        }
        advance(id, logits[id], broken);
    }
}
