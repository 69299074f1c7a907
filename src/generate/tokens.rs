//! The tokens of a reply, one after another, wherever they are chosen.
//!
//! Most backends give logits, and the [`Sampler`] picks. A GPU chooses by itself, several tokens a submit, and the next submit is
//! queued before the last one is read. Both give the same tokens.

use super::{Host, Options, Sampler, Sequence};
use crate::{
    Error, Result,
    backend::{Backend, Likely, Made, Want},
};

/// Most tokens of a reply that one submit makes.
pub const TOKENS_PER_SUBMIT: u32 = 16;
/// What a submit should take: long enough that the host is never waited for, short enough for a stop button and for the eye.
const AIM_MS: f64 = 75.0;

/// How many tokens the device makes in one submit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Set by a caller who wants the same number every time.
    pub(super) fixed: Option<u32>,
    n: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { fixed: None, n: 1 }
    }
}

impl Pace {
    fn n(&self) -> u32 {
        self.fixed.unwrap_or(self.n).clamp(1, TOKENS_PER_SUBMIT)
    }

    /// Learns from `n` tokens that took `ms` together. Grows by doubling: the first measurements are of a device that is still cold.
    fn learn(&mut self, n: u32, ms: f64) {
        if n > 0 && ms > 0.0 {
            let fits = (AIM_MS * f64::from(n) / ms) as u32;
            self.n = fits.clamp(1, (self.n * 2).min(TOKENS_PER_SUBMIT));
        }
    }
}

/// The tokens of one reply.
pub(super) struct Tokens<'a, B: Backend> {
    sequence: &'a mut Sequence<B>,
    sampler: &'a mut Sampler,
    pace: &'a mut Pace,
    /// What of the prompt is still to be fed.
    prompt: &'a [u32],
    /// Ids that end the reply.
    stop: &'a [u32],
    want: Want,
    /// Report how likely each token was.
    likely: bool,
    /// The reply may end in the middle of what the device has made.
    undo: bool,
    /// Most tokens of the reply.
    most: usize,
    /// Tokens passed on.
    n_passed: usize,
    /// The last of them.
    last: u32,
    /// Tokens asked of the device.
    n_asked: usize,
    /// Passes after the prompt's.
    submits: usize,
    /// Fetched from it; those from `next` on are not passed on yet.
    made: Vec<Made>,
    next: usize,
    /// What ends the reply once those are passed on.
    failed: Option<Error>,
    /// When the last pass was fetched.
    fetched_ms: f64,
    /// Logits before the sampler changes them.
    raw: Vec<f32>,
}

impl<'a, B: Backend> Tokens<'a, B> {
    /// Begins the reply to `prompt`, of which the state holds `cached` tokens. `seed` and `options` are those that the sampler has begun with.
    pub(super) async fn begin(
        sequence: &'a mut Sequence<B>,
        sampler: &'a mut Sampler,
        pace: &'a mut Pace,
        options: &Options,
        prompt: &'a [u32],
        cached: usize,
        stop: &'a [u32],
    ) -> Result<Self> {
        let on_device = sequence
            .begin_reply(&sampler.choice(sequence.n_vocab(), stop, prompt))
            .await?;
        let want = match (on_device, options.is_greedy()) {
            (true, _) => Want::Chosen(1),
            (false, true) => Want::Token,
            (false, false) => Want::Logits,
        };
        // The last token is never fed.
        let room = sequence.n_ctx() - prompt.len() + 1;
        Ok(Self {
            want,
            likely: options.logprobs.is_some(),
            undo: !options.stop.is_empty(),
            most: options.max_tokens.unwrap_or(usize::MAX).min(room),
            n_passed: 0,
            last: 0,
            n_asked: 0,
            submits: 0,
            made: Vec::with_capacity(TOKENS_PER_SUBMIT as usize),
            next: 0,
            failed: None,
            fetched_ms: 0.0,
            raw: Vec::new(),
            prompt: &prompt[cached..],
            sequence,
            sampler,
            pace,
            stop,
        })
    }

    /// The next token. There must be one: the last was no stop id, and not the last of [`Tokens::most`].
    ///
    /// # Errors
    /// [`Error::Aborted`] if the host cancels: what the device had made by then was passed on. [`Error::NonFiniteLogits`] and the
    /// backend's.
    pub(super) async fn next<H: Host>(&mut self, host: &H) -> Result<Made> {
        let made = match self.want {
            Want::Chosen(_) => self.next_of_device(host).await?,
            _ => self.next_of_logits(host).await?,
        };
        self.n_passed += 1;
        self.last = made.id;
        Ok(made)
    }

    /// Whether the reply has all the tokens that it may have.
    pub(super) fn is_full(&self) -> bool {
        self.n_passed >= self.most
    }

    /// Passes after the prompt's.
    pub(super) fn submits(&self) -> usize {
        self.submits
    }

    /// Tokens that the state holds.
    pub(super) fn n_fed(&self) -> usize {
        self.sequence.n_fed()
    }

    async fn next_of_logits<H: Host>(&mut self, host: &H) -> Result<Made> {
        let token = match self.n_passed {
            0 => self.sequence.prefill(host, self.prompt, self.want).await?,
            _ => {
                self.submits += 1;
                self.sequence.step(host, &[self.last], self.want).await?
            }
        };
        if let Some(id) = token {
            return Ok(Made { id, likely: None });
        }
        let logits = self.sequence.logits();
        if self.likely {
            self.raw.clone_from(logits);
        }
        let id = self.sampler.pick(logits)?;
        let likely = self.likely.then(|| Likely::new(&self.raw, id));
        Ok(Made { id, likely })
    }

    async fn next_of_device<H: Host>(&mut self, host: &H) -> Result<Made> {
        if self.n_asked == 0 {
            self.sequence.prefill(host, self.prompt, self.want).await?;
            self.n_asked = 1;
            self.fetched_ms = host.now_ms();
        }
        while self.next == self.made.len() {
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            self.fill(host).await?;
        }
        self.next += 1;
        Ok(self.made[self.next - 1])
    }

    /// Queues as much as may be queued, and fetches the oldest.
    async fn fill<H: Host>(&mut self, host: &H) -> Result<()> {
        host.breathe().await;
        // After a cancel the rest is fetched and passed on: the state has consumed it.
        let go_on = !host.cancelled();
        while go_on && self.n_asked < self.most && self.sequence.queued() < self.depth() {
            let n = (self.pace.n() as usize).min(self.most - self.n_asked) as u32;
            if self.undo && n > 1 {
                self.sequence.mark()?;
            }
            // The state holds the prompt and all fetched tokens but the last one.
            self.sequence.queue(self.n_asked - self.n_passed.max(1), n).await?;
            self.n_asked += n as usize;
            self.submits += 1;
        }
        if self.sequence.queued() == 0 {
            return Err(Error::Aborted);
        }
        self.made.clear();
        self.next = 0;
        self.failed = self.sequence.fetch(&mut self.made).await.err();
        let now = host.now_ms();
        if self.n_passed > 0 {
            self.pace.learn(self.made.len() as u32, now - self.fetched_ms);
        }
        self.fetched_ms = now;
        Ok(())
    }

    /// Passes in flight: one is read while the next runs. A stop text may come anywhere in what was made; to be able to go back to a mark, it
    /// must be the latest.
    fn depth(&self) -> usize {
        if self.undo { 1 } else { self.sequence.depth() }
    }

    /// Ends the reply after the token passed on last. What the state has consumed beyond it is undone.
    pub(super) fn end(self) -> Result<()> {
        if self.next < self.made.len() {
            return self.sequence.rewind();
        }
        if self.n_passed > 0 && self.stop.contains(&self.last) {
            self.sequence.end_queue();
        }
        Ok(())
    }
}
