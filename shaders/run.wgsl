// What changes from pass to pass; everything else is recorded once, in a step's own uniform `op` (binding 8).

struct Run {
    n: u32,    // tokens of this pass; none after the end of a reply: then nothing may change
    pos: u32,  // tokens that the state held before it
    row0: u32, // row of x that the first token reads (the head skips rows)
    pad: u32,
}

@group(0) @binding(9) var<uniform> run: Run;
