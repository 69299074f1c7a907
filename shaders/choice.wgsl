// How a reply's tokens are chosen; written when it begins.

struct Choice {
    n_stop: u32,
    stop: array<u32, 28>, // ids that end the reply
    penalties: u32,       // whether there are any
    temperature: f32,     // 0: the likeliest of what penalties leave
    top_k: u32,           // 0: all
    top_p: f32,
    min_p: f32,
    repetition: f32,
    frequency: f32,
    presence: f32,
    last_n: u32,          // tokens that the repetition penalty looks back on; NO_END: all
    n_prompt: u32,
    seed_lo: u32,
    seed_hi: u32,
    likely: u32,          // whether each token's place in the distribution is wanted
}

const NO_END: u32 = 0xffffffffu;
