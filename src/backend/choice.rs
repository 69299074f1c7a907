//! How a device chooses the tokens of a reply by itself, and what it tells of each.

/// Most likely alternatives reported for one token.
pub const MOST_LIKELY: usize = 20;

/// The rules of one reply. Their meaning is [`crate::generate::Options`]'s; [`crate::generate::Sampler`] is the specification.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    /// The largest logit, lowest id among equals, whatever else is said here: what [`super::Want::Token`] gives.
    pub greedy: bool,
    /// 0 takes the likeliest of what penalties leave.
    pub temperature: f32,
    /// 0 keeps all.
    pub top_k: usize,
    /// 1 keeps all.
    pub top_p: f32,
    /// 0 keeps all.
    pub min_p: f32,
    /// 1 is off.
    pub repetition_penalty: f32,
    /// Tokens that the repetition penalty looks back on.
    pub repetition_last_n: usize,
    /// Subtracted for each time the reply has the token.
    pub frequency_penalty: f32,
    /// Subtracted once if the reply has the token.
    pub presence_penalty: f32,
    /// Seed of the draws.
    pub seed: u64,
    /// Ids that end the reply.
    pub stop: &'a [u32],
    /// Ids that are never chosen.
    pub never: &'a [u32],
    /// Size of the vocabulary: all ids are below it. The greedy choice does not look at it.
    pub n_vocab: u32,
    /// The tokens before the reply.
    pub prompt: &'a [u32],
    /// Tell of each token how likely it and its alternatives were.
    pub likely: bool,
}

impl Choice<'_> {
    /// The likeliest token, for as long as one is asked for.
    pub const GREEDY: Choice<'static> = Choice {
        greedy: true,
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repetition_penalty: 1.0,
        repetition_last_n: 0,
        frequency_penalty: 0.0,
        presence_penalty: 0.0,
        seed: 0,
        stop: &[],
        never: &[],
        n_vocab: 0,
        prompt: &[],
        likely: false,
    };

    /// Whether any logit depends on the tokens before it.
    pub fn has_penalty(&self) -> bool {
        !self.greedy && (self.repetition_penalty != 1.0 || self.frequency_penalty != 0.0 || self.presence_penalty != 0.0)
    }
}

/// A token of a reply.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Made {
    /// Its id.
    pub id: u32,
    /// If [`Choice::likely`].
    pub likely: Option<Likely>,
}

/// A token's place in the distribution that the model gave, before penalties, temperature and filters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likely {
    /// The token's own logit.
    pub logit: f32,
    /// `ln sum exp` of all logits.
    pub log_sum: f64,
    /// `(logit, id)` of the likeliest tokens, best first, lowest id first among equals.
    pub best: [(f32, u32); MOST_LIKELY],
    /// How many `best` holds: fewer than its length only in a smaller vocabulary.
    pub n_best: usize,
}

impl Likely {
    /// Of token `id`, from finite logits `[n_vocab]`.
    pub fn new(logits: &[f32], id: u32) -> Likely {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|&l| f64::from(l - max).exp()).sum();
        let (mut best, mut n_best) = ([(0.0, 0); MOST_LIKELY], 0);
        for (candidate, &logit) in (0u32..).zip(logits) {
            // Strictly greater: among equals the lowest id stays in front.
            let at = best[..n_best].iter().position(|&(l, _)| logit > l).unwrap_or(n_best);
            if at < MOST_LIKELY {
                n_best = MOST_LIKELY.min(n_best + 1);
                best[at..n_best].rotate_right(1);
                best[at] = (logit, candidate);
            }
        }
        Likely {
            logit: logits[id as usize],
            log_sum: f64::from(max) + sum.ln(),
            best,
            n_best,
        }
    }
}
