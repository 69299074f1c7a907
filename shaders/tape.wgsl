// What has come of a reply; read back once a submit.

const TAPE: u32 = 64u; // latest tokens that the tape holds

struct Tape {
    made: u32,   // tokens of the reply
    broken: u32, // a logit was not finite: the last token means nothing
    pad: vec2<u32>,
    ids: array<u32, TAPE>,    // token i at i % TAPE
    logits: array<f32, TAPE>, // of these, before penalties
}
