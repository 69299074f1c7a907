//! From logits to the next token of a reply: which kernels, and what they are told.

use super::{
    Gpu,
    decode::TAPE,
    kernels::Kernel,
    step::{Bind, Grid, Step},
    uniforms,
};
use crate::{
    Error, Result,
    backend::{Choice, Likely, MOST_LIKELY},
};
use bytemuck::Zeroable;

/// Logits of a workgroup (BLOCK of sample.wgsl, 16 x 256 of argmax.wgsl).
const BLOCK: u32 = 4096;
/// Most of them (`parts` of sample.wgsl).
const MOST_PARTS: u32 = 256;
/// Bytes of `Work` of sample.wgsl before its list.
pub(super) const WORK_HEAD: u64 = 16 + MOST_PARTS as u64 * 24 + 2048 * 4;
/// A flag of a token's count: it is not to be chosen (NEVER of sample.wgsl).
const NEVER: u32 = 1 << 31;
/// No end of the window (NO_END of choice.wgsl).
const NO_END: u32 = u32::MAX;

/// Temperatures below are as good as this one: of two logits that differ, the lesser has no weight.
const COLDEST: f32 = 1e-35;

/// Bytes of a `Places`.
const PLACES: u64 = size_of::<uniforms::Places>() as u64;

fn steps(n_vocab: u32, list: &[(Kernel, &[Bind], bool)]) -> Vec<Step> {
    let op = uniforms::Sample {
        n_vocab,
        n_part: n_vocab.div_ceil(BLOCK),
    };
    let step = |&(kernel, binds, all): &(Kernel, &[Bind], bool)| Step {
        kernel,
        binds: binds.to_vec(),
        params: bytemuck::bytes_of(&op).to_vec(),
        grid: Grid::Fixed(if all { op.n_part } else { 1 }, 1),
    };
    list.iter().map(step).collect()
}

/// The steps that take the largest logit.
pub(super) fn greedy(n_vocab: u32) -> Vec<Step> {
    use Bind::{Best, Choice, Ids, Logits, Runs, Tape};
    steps(
        n_vocab,
        &[
            (Kernel::Argmax, &[Logits, Best], true),
            (Kernel::Greedy, &[Runs, Ids, Tape, Choice, Best], false),
        ],
    )
}

/// The steps that draw; the likeliest of what penalties leave needs only the first and the last.
pub(super) fn sample(n_vocab: u32) -> Vec<Step> {
    use Bind::{Choice, Counts, Ids, Logits, Runs, Tape, Weighed, Work};
    steps(
        n_vocab,
        &[
            (Kernel::SampleMax, &[Logits, Choice, Counts, Weighed, Work], true),
            (Kernel::SampleBins, &[Choice, Weighed, Work], true),
            (Kernel::SampleCut, &[Choice, Weighed, Work], true),
            (
                Kernel::SampleDraw,
                &[Runs, Ids, Tape, Choice, Counts, Weighed, Work, Logits],
                false,
            ),
        ],
    )
}

/// The steps that find the likeliest tokens; before those that choose one.
pub(super) fn likely(n_vocab: u32) -> Vec<Step> {
    use Bind::{Logits, PlaceParts, Places, Tape};
    steps(
        n_vocab,
        &[
            (Kernel::LikelyParts, &[Logits, PlaceParts], true),
            (Kernel::LikelyJoin, &[Tape, PlaceParts, Places], false),
        ],
    )
}

/// What the kernels are told of a reply; `None` if they cannot do it.
pub(super) fn params(choice: &Choice<'_>, n_ctx: u32) -> Option<uniforms::Choice> {
    let mut p = uniforms::Choice::zeroed();
    p.stop.get_mut(..choice.stop.len())?.copy_from_slice(choice.stop);
    p.n_stop = choice.stop.len() as u32;
    p.penalties = u32::from(choice.has_penalty());
    p.temperature = match choice.temperature {
        0.0 => 0.0,
        t => t.max(COLDEST),
    };
    p.top_k = u32::try_from(choice.top_k).unwrap_or(0); // as many as that keep all
    p.top_p = choice.top_p.max(1e-30); // no subnormal
    p.min_p = choice.min_p;
    p.repetition = choice.repetition_penalty;
    p.frequency = choice.frequency_penalty;
    p.presence = choice.presence_penalty;
    p.last_n = window(choice, n_ctx).map_or(NO_END, |n| n as u32);
    p.n_prompt = choice.prompt.len() as u32;
    p.seed_lo = choice.seed as u32;
    p.seed_hi = (choice.seed >> 32) as u32;
    p.likely = u32::from(choice.likely);
    Some(p)
}

/// Tokens that the repetition penalty looks back on, if a reply can be longer than that.
fn window(choice: &Choice<'_>, n_ctx: u32) -> Option<usize> {
    Some(choice.repetition_last_n).filter(|&n| n <= n_ctx as usize)
}

/// `[n_vocab, (in the window, in the reply) | the window's ids, 0]` as sample_draw.wgsl keeps it, before the first token.
fn counts(choice: &Choice<'_>, n_vocab: usize, n_ctx: u32) -> Vec<[u32; 2]> {
    let window = window(choice, n_ctx).filter(|_| choice.has_penalty());
    let mut counts = vec![[0, 0]; n_vocab + window.unwrap_or(0)];
    if choice.has_penalty() {
        let first = choice.prompt.len() - window.unwrap_or(usize::MAX).min(choice.prompt.len());
        for (i, &id) in choice.prompt.iter().enumerate().skip(first) {
            counts[id as usize][0] += 1;
            if let Some(n) = window {
                counts[n_vocab + i % n][0] = id;
            }
        }
    }
    for &id in choice.never.iter().filter(|&&id| (id as usize) < n_vocab) {
        counts[id as usize][0] |= NEVER;
    }
    counts
}

/// The buffers that only draws need.
pub(super) struct Sampling {
    /// `[n_vocab | window, (u32, u32)]`.
    pub(super) counts: wgpu::Buffer,
    /// `[n_vocab, (key, weight)]`.
    pub(super) values: wgpu::Buffer,
    /// `Work` of sample.wgsl.
    pub(super) work: wgpu::Buffer,
    /// `[n_part]` of `Places` of likely.wgsl.
    pub(super) place_parts: wgpu::Buffer,
    /// The same for each token on the tape.
    pub(super) places: wgpu::Buffer,
    /// The tokens that `counts` says are never chosen, if it says nothing else.
    plain: Option<Vec<u32>>,
}

impl Gpu {
    /// Whether tokens of such a vocabulary can be drawn on the device.
    pub(super) fn can_sample(&self, n_vocab: u32) -> bool {
        n_vocab.div_ceil(BLOCK) <= MOST_PARTS && n_vocab as u64 * 16 <= self.tables.max_binding
    }

    /// Makes the buffers of draws, and fills in what depends on the prompt. `true` if buffers are new.
    pub(super) fn begin_sampling(&mut self, choice: &Choice<'_>, n_vocab: u32, n_ctx: u32) -> Result<bool> {
        let plain = !choice.has_penalty();
        if let Some(s) = &self.reply.sampling
            && plain
            && s.plain.as_deref() == Some(choice.never)
        {
            return Ok(false);
        }
        let counts = counts(choice, n_vocab as usize, n_ctx);
        let bytes = bytemuck::cast_slice(&counts);
        let fits = |s: &Sampling| s.counts.size() >= bytes.len() as u64;
        let new = !self.reply.sampling.as_ref().is_some_and(fits);
        if new {
            self.reply.sampling = Some(Sampling {
                counts: self.storage("counts", bytes.len() as u64)?,
                values: self.storage("values", n_vocab as u64 * 8)?,
                work: self.storage("work", WORK_HEAD + n_vocab as u64 * 4)?,
                place_parts: self.storage("places", n_vocab.div_ceil(BLOCK) as u64 * PLACES)?,
                places: self.storage("places", TAPE as u64 * PLACES)?,
                plain: None,
            });
        }
        let Some(s) = &mut self.reply.sampling else {
            return Err(Error::Gpu {
                what: "no buffers to sample in".into(),
            });
        };
        self.queue.write_buffer(&s.counts, 0, bytes);
        s.plain = plain.then(|| choice.never.to_vec());
        Ok(new)
    }
}

/// What the kernels tell of a token's place.
pub(super) fn likeliest(places: &uniforms::Places, logit: f32, n_vocab: u32) -> Likely {
    Likely {
        logit,
        log_sum: f64::from(places.top) + f64::from(places.sum).ln(),
        best: places.best.map(|[bits, id]| (f32::from_bits(bits), id)),
        n_best: MOST_LIKELY.min(n_vocab as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the choice adds to a token's dispatches; with 214 before it (tests/plan.rs: 216 with the greedy one), at most 220.
    #[test]
    fn a_choice_is_few_dispatches() {
        let lists = [greedy(100_352), sample(100_352), likely(100_352)];
        assert_eq!(lists.each_ref().map(Vec::len), [2, 4, 2]);
        for step in lists.iter().flatten() {
            assert!(
                step.binds.len() <= 8 && step.binds.len() == step.kernel.storage().len(),
                "{step:?}"
            );
        }
    }

    /// The window holds the prompt's end, and what falls out of it is where the kernel looks for it.
    #[test]
    fn counts_are_those_of_the_prompt() {
        let choice = Choice {
            greedy: false,
            repetition_penalty: 1.1,
            repetition_last_n: 3,
            prompt: &[4, 4, 2, 4, 1],
            never: &[0, 2, 9],
            n_vocab: 6,
            ..Choice::GREEDY
        };
        let made = counts(&choice, 6, 100);
        let windows: Vec<u32> = made.iter().map(|c| c[0] & !NEVER).collect();
        assert_eq!(windows[..6], [0, 1, 1, 0, 1, 0]);
        assert_eq!(windows[6..], [4, 1, 2], "token i at i % 3");
        let never: Vec<bool> = made.iter().map(|c| c[0] & NEVER != 0).collect();
        assert_eq!(never[..6], [true, false, true, false, false, false]);
        assert!(made[..6].iter().all(|c| c[1] == 0));
    }
}
