//! Logits -> the next token.
//!
//! In this order, as Hugging Face's `generate` does it: repetition penalty, frequency and presence penalty, temperature, top-k,
//! top-p, min-p, draw. Each filter sees the distribution that the one before it left, renormalised. Tokens of equal logits rank by
//! id, lowest first.
//!
//! The draw of the reply's token `i` inverts the cumulative sum of the kept tokens' weights, in ascending order of id, at
//! [`uniform`]`(seed, i)`. Everything but `exp` is exactly defined, so a reply repeats on the same build; builds whose `exp` rounds
//! differently may part after many tokens.

use std::cmp::Ordering;

use super::{options::Options, rng::uniform};
use crate::{Error, Result, backend::Choice};

/// Picks tokens for one reply at a time. Its buffers live as long as the model: picking allocates nothing.
#[derive(Debug, Default)]
pub struct Sampler {
    /// Ids that are never picked, each below the vocabulary's size.
    never: Vec<u32>,
    options: Options,
    seed: u64,
    /// Prompt and reply so far; only kept up when a penalty needs it.
    history: Vec<u32>,
    /// Length of the prompt within `history`.
    n_prompt: usize,
    /// How often each token is among the last `repetition_last_n`. `[n_vocab]` or empty.
    in_window: Vec<u32>,
    /// How often each token is in the reply. `[n_vocab]` or empty.
    in_reply: Vec<u32>,
    /// Tokens picked so far: the counter of the draws.
    n_picked: u32,
    candidates: Vec<Candidate>,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    logit: f32,
    /// `exp((logit - max) / temperature)`, in `[0, 1]`.
    weight: f32,
    id: u32,
}

impl Sampler {
    /// A sampler that never picks the ids in `never` (tokens that the file marks as unused).
    pub fn new(never: Vec<u32>) -> Self {
        Self {
            never,
            ..Self::default()
        }
    }

    /// Starts a reply to `prompt`, whose ids are all below `n_vocab`. `seed` is the one to draw with, whatever `options.seed` says.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] if the options make no sense.
    pub fn begin(&mut self, options: &Options, seed: u64, n_vocab: usize, prompt: &[u32]) -> Result<()> {
        options.check()?;
        self.options.clone_from(options);
        self.seed = seed;
        self.n_picked = 0;
        self.history.clear();
        self.in_window.clear();
        self.in_reply.clear();
        self.n_prompt = 0;
        if options.has_penalty() {
            self.in_window.resize(n_vocab, 0);
            self.in_reply.resize(n_vocab, 0);
            for &id in prompt {
                self.record(id);
            }
            self.n_prompt = prompt.len();
            self.in_reply.fill(0);
        }
        Ok(())
    }

    /// The same rules for a device, after [`Sampler::begin`].
    pub(super) fn choice<'a>(&'a self, n_vocab: usize, stop: &'a [u32], prompt: &'a [u32]) -> Choice<'a> {
        let options = &self.options;
        Choice {
            greedy: options.is_greedy(),
            temperature: options.temperature,
            top_k: options.top_k,
            top_p: options.top_p,
            min_p: options.min_p,
            repetition_penalty: options.repetition_penalty,
            repetition_last_n: options.repetition_last_n,
            frequency_penalty: options.frequency_penalty,
            presence_penalty: options.presence_penalty,
            seed: self.seed,
            stop,
            never: &self.never,
            n_vocab: n_vocab as u32,
            prompt,
            likely: options.logprobs.is_some(),
        }
    }

    /// Picks the next token of the reply and remembers it. `logits: [n_vocab]` is used as scratch.
    ///
    /// # Errors
    /// [`Error::NonFiniteLogits`] if any logit is NaN or infinite.
    pub fn pick(&mut self, logits: &mut [f32]) -> Result<u32> {
        if !all_finite(logits) {
            return Err(Error::NonFiniteLogits);
        }
        self.penalise(logits);
        for &id in &self.never {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
        let best = argmax(logits)
            .filter(|&id| logits[id as usize] > f32::NEG_INFINITY)
            .ok_or(Error::NonFiniteLogits)?;
        let id = match self.options.temperature == 0.0 {
            true => best,
            false => {
                self.filter(logits, logits[best as usize]);
                self.draw()
            }
        };
        self.n_picked = self.n_picked.wrapping_add(1);
        if self.options.has_penalty() {
            self.record(id);
        }
        Ok(id)
    }

    /// Appends a token to the history and to both counts; the window forgets the token that falls out of it.
    fn record(&mut self, id: u32) {
        self.history.push(id);
        self.in_window[id as usize] += 1;
        self.in_reply[id as usize] += 1;
        if let Some(out) = self
            .history
            .len()
            .checked_sub(self.options.repetition_last_n.saturating_add(1))
        {
            self.in_window[self.history[out] as usize] -= 1;
        }
    }

    fn penalise(&self, logits: &mut [f32]) {
        let Options {
            repetition_penalty,
            frequency_penalty,
            presence_penalty,
            ..
        } = self.options;
        for ((logit, &in_window), &in_reply) in logits.iter_mut().zip(&self.in_window).zip(&self.in_reply) {
            if in_window > 0 {
                let l = if *logit > 0.0 {
                    *logit / repetition_penalty
                } else {
                    *logit * repetition_penalty
                };
                *logit = l.clamp(f32::MIN, f32::MAX); // an absurd penalty saturates
            }
            if in_reply > 0 {
                *logit -= in_reply as f32 * frequency_penalty + presence_penalty;
            }
        }
    }

    /// Fills `candidates` with what temperature, top-k, top-p and min-p leave, in ascending order of id. At least one is left.
    fn filter(&mut self, logits: &[f32], max: f32) {
        let Options {
            temperature,
            top_k,
            top_p,
            min_p,
            ..
        } = self.options;
        let kept = &mut self.candidates;
        kept.clear();
        kept.extend(
            (0u32..)
                .zip(logits)
                .filter(|&(_, &logit)| logit > f32::NEG_INFINITY)
                .map(|(id, &logit)| Candidate { id, logit, weight: 0.0 }),
        );
        let mut by_id = true;
        if (1..kept.len()).contains(&top_k) {
            kept.select_nth_unstable_by(top_k - 1, rank);
            kept.truncate(top_k);
            by_id = false;
        }
        let mut total = 0.0;
        for c in kept.iter_mut() {
            // Of the difference: exp never overflows, and the likeliest weighs exactly 1 even at the smallest temperature.
            c.weight = ((c.logit - max) / temperature).exp();
            total += f64::from(c.weight);
        }
        // Top-p comes before min-p, but both keep the head of the ranking, so the order of the cuts does not matter as long as the
        // mass that top-p aims at is the whole one. min-p first leaves less to sort.
        if min_p > 0.0 {
            kept.retain(|c| c.weight >= min_p);
        }
        if top_p < 1.0 {
            keep_nucleus(kept, f64::from(top_p) * total);
            by_id = false;
        }
        if !by_id {
            kept.sort_unstable_by_key(|c| c.id);
        }
    }

    fn draw(&self) -> u32 {
        let total: f64 = self.candidates.iter().map(|c| f64::from(c.weight)).sum();
        let aim = f64::from(uniform(self.seed, self.n_picked)) * total;
        let mut sum = 0.0;
        for c in &self.candidates {
            sum += f64::from(c.weight);
            if sum > aim {
                return c.id;
            }
        }
        unreachable!("the number drawn is below 1 and the same sum reaches the total")
    }
}

/// Keeps the shortest head of the ranking whose weights reach `target`, or everything.
fn keep_nucleus(kept: &mut Vec<Candidate>, target: f64) {
    // A nucleus is mostly a few tokens out of 100k: sort pieces of the head until it is reached, never the tail.
    let (mut sorted, mut piece, mut sum) = (0, 64, 0.0);
    while sorted < kept.len() {
        let rest = &mut kept[sorted..];
        let n = piece.min(rest.len());
        if n < rest.len() {
            rest.select_nth_unstable_by(n - 1, rank);
        }
        rest[..n].sort_unstable_by(rank);
        for (i, c) in rest[..n].iter().enumerate() {
            sum += f64::from(c.weight);
            if sum >= target {
                kept.truncate(sorted + i + 1);
                return;
            }
        }
        sorted += n;
        piece *= 4;
    }
}

/// Likeliest first, lowest id first among equals. Logits are never NaN here.
fn rank(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

/// Index of the largest; the lowest among equals; `None` only for an empty slice.
pub(super) fn argmax(logits: &[f32]) -> Option<u32> {
    let mut best = (0u32, *logits.first()?);
    for (id, &logit) in (0u32..).zip(logits) {
        if logit > best.1 {
            best = (id, logit);
        }
    }
    Some(best.0)
}

/// Without a branch an element, so that it vectorises.
pub(super) fn all_finite(logits: &[f32]) -> bool {
    logits
        .chunks(1024)
        .all(|chunk| chunk.iter().fold(true, |ok, l| ok & l.is_finite()))
}
