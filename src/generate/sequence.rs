//! A live sequence: a model, a state, and the exact ids that the state has consumed.
//!
//! A hybrid's state cannot be rolled back: the recurrent layers have folded every token in. So the only question about a new
//! prompt is whether the consumed ids are its beginning. If they are, the rest is fed on top; if not, the state starts from zero.

use super::{Host, options::invalid};
use crate::{
    Error, Result,
    backend::{Backend, Choice, KvType, Made, Pass, Want},
    model::Model,
};

/// One sequence of up to `n_ctx` tokens on a model.
pub struct Sequence<B: Backend> {
    model: Model<B>,
    state: B::State,
    /// What the state has consumed, if `exact`.
    consumed: Vec<u32>,
    /// False from the start of a pass until it has succeeded: a pass that fails half way leaves nobody knows what.
    exact: bool,
    n_ctx: usize,
    kv: KvType,
    logits: Vec<f32>,
    /// Passes queued on the device and not fetched. What they feed is not in `consumed` yet.
    queued: usize,
    /// The token that the device chose last: the next thing it feeds.
    chosen: Option<u32>,
    /// Tokens that the state held when it was last marked.
    marked: usize,
}

impl<B: Backend> Sequence<B> {
    /// An empty sequence.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for a context of no tokens, or what the backend says when the state does not fit.
    pub fn new(mut model: Model<B>, n_ctx: u32, kv: KvType) -> Result<Self> {
        if n_ctx == 0 {
            return Err(invalid("a context of 0 tokens holds nothing, it must be at least 1"));
        }
        let state = model.new_state(n_ctx, kv)?;
        Ok(Self {
            model,
            state,
            consumed: Vec::new(),
            exact: true,
            n_ctx: n_ctx as usize,
            kv,
            logits: Vec::new(),
            queued: 0,
            chosen: None,
            marked: 0,
        })
    }

    /// The model.
    pub fn model(&self) -> &Model<B> {
        &self.model
    }

    /// The model and the state, to be used by others: whatever they leave, the next prompt starts from zero.
    pub fn lend(&mut self) -> (&mut Model<B>, &mut B::State) {
        self.exact = false;
        (&mut self.model, &mut self.state)
    }

    /// The ids that the state holds; none if a failed pass has spoilt it.
    pub fn consumed(&self) -> &[u32] {
        if self.exact { &self.consumed } else { &[] }
    }

    /// Most tokens in the sequence.
    pub fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    /// Type of keys and values.
    pub fn kv(&self) -> KvType {
        self.kv
    }

    /// Size of the vocabulary, and of a row of logits.
    pub fn n_vocab(&self) -> usize {
        self.model.hparams.n_vocab as usize
    }

    /// Most tokens in one [`Sequence::feed`].
    pub fn n_ubatch(&self) -> usize {
        self.model.backend.n_ubatch() as usize
    }

    /// What the last [`Sequence::feed`] that wanted logits left; scratch for the sampler.
    pub fn logits(&mut self) -> &mut Vec<f32> {
        &mut self.logits
    }

    /// Checks a prompt against vocabulary and context.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] if it is empty or has ids outside the vocabulary, [`Error::ContextFull`] if it is too long.
    pub fn check(&self, prompt: &[u32]) -> Result<()> {
        if prompt.is_empty() {
            return Err(invalid("the prompt has no tokens, it must have at least one"));
        }
        if let Some(id) = prompt.iter().find(|&&id| id as usize >= self.n_vocab()) {
            return Err(invalid(format!(
                "token {id} is outside the vocabulary of {} tokens",
                self.n_vocab()
            )));
        }
        if prompt.len() > self.n_ctx {
            return Err(Error::ContextFull {
                needed: prompt.len(),
                n_ctx: self.n_ctx,
            });
        }
        Ok(())
    }

    /// Prepares for a prompt: keeps the state if it holds the beginning of it, else zeroes the state. Returns how many tokens of
    /// the prompt need not be fed again. That is never all of them, since the logits come from feeding the last.
    pub fn resume(&mut self, prompt: &[u32]) -> Result<usize> {
        if self.exact && self.consumed.len() < prompt.len() && prompt.starts_with(&self.consumed) {
            return Ok(self.consumed.len());
        }
        self.exact = false;
        self.queued = 0;
        self.model.reset(&mut self.state)?;
        self.consumed.clear();
        self.exact = true;
        Ok(0)
    }

    /// Feeds the next tokens, at most [`Sequence::n_ubatch`] of them. Returns the greedy token if that is wanted.
    ///
    /// # Errors
    /// [`Error::ContextFull`] if they do not fit (the state stays as it was), or the backend's error.
    pub async fn feed(&mut self, ids: &[u32], want: Want) -> Result<Option<u32>> {
        let pos = self.consumed().len();
        if pos + ids.len() > self.n_ctx {
            return Err(Error::ContextFull {
                needed: pos + ids.len(),
                n_ctx: self.n_ctx,
            });
        }
        let pass = Pass {
            ids,
            pos: pos as u32,
            want,
        };
        self.exact = false;
        let token = self.model.forward(&mut self.state, &pass, &mut self.logits).await?;
        self.consumed.extend_from_slice(ids);
        if let Want::Chosen(_) = want {
            (self.queued, self.chosen) = (1, None);
            return Ok(None); // exact again when it is fetched
        }
        self.exact = true;
        Ok(token)
    }

    /// The logits after every one of `ids`, from an empty state: `[ids.len(), n_vocab]`, row-major. The state holds `ids` afterwards.
    ///
    /// # Errors
    /// As [`Sequence::check`]; [`Error::OutOfMemory`] if the result does not fit, [`Error::NonFiniteLogits`] if it has a NaN or
    /// infinity, [`Error::Aborted`] if the host cancels.
    pub async fn score<H: Host>(&mut self, host: &H, ids: &[u32]) -> Result<Vec<f32>> {
        self.check(ids)?;
        self.exact = false; // starts from zero even if the state would do: a score must not depend on what came before
        self.resume(ids)?;
        let n = ids.len() * self.n_vocab();
        let mut all = Vec::new();
        all.try_reserve_exact(n).map_err(|_| Error::OutOfMemory {
            what: "the logits of every position",
            bytes: n as u64 * 4,
        })?;
        for batch in ids.chunks(self.n_ubatch()) {
            self.step(host, batch, Want::AllLogits).await?;
            if !super::sampler::all_finite(&self.logits) {
                return Err(Error::NonFiniteLogits);
            }
            all.extend_from_slice(&self.logits);
        }
        Ok(all)
    }

    /// The `n` likeliest tokens in a row after `prompt`, whatever they are: ends of text do not end it.
    ///
    /// # Errors
    /// As [`Sequence::check`], [`Error::ContextFull`] if prompt and continuation do not fit, [`Error::Aborted`].
    pub async fn greedy<H: Host>(&mut self, host: &H, prompt: &[u32], n: usize) -> Result<Vec<u32>> {
        self.check(prompt)?;
        let needed = prompt.len() + n.saturating_sub(1);
        if needed > self.n_ctx {
            return Err(Error::ContextFull {
                needed,
                n_ctx: self.n_ctx,
            });
        }
        let mut out = Vec::with_capacity(n);
        if n == 0 {
            return Ok(out);
        }
        let cached = self.resume(prompt)?;
        if self.begin_reply(&Choice::GREEDY).await? {
            self.prefill(host, &prompt[cached..], Want::Chosen(1)).await?;
            self.go_on(host, &mut out, n).await?;
            return Ok(out);
        }
        let mut next = self.prefill(host, &prompt[cached..], Want::Token).await?;
        while let Some(id) = next {
            out.push(id);
            if out.len() == n {
                break;
            }
            next = self.step(host, &[id], Want::Token).await?;
        }
        Ok(out)
    }

    /// The rest of `n` tokens that the device chooses, 16 a submit.
    async fn go_on<H: Host>(&mut self, host: &H, out: &mut Vec<u32>, n: usize) -> Result<()> {
        let (mut asked, mut made) = (1, Vec::new());
        while out.len() < n {
            host.breathe().await;
            if host.cancelled() {
                return Err(Error::Aborted);
            }
            while asked < n && self.queued < self.depth() {
                let more = (n - asked).min(16);
                self.queue(asked - out.len().max(1), more as u32).await?;
                asked += more;
            }
            self.fetch(&mut made).await?;
            out.extend(made.drain(..).map(|token| token.id));
        }
        Ok(())
    }

    /// Feeds a prompt, or what the state lacks of it, in batches; `want` is for its last token. Whatever happens, what the state
    /// holds afterwards is in [`Sequence::consumed`].
    ///
    /// # Errors
    /// As [`Sequence::step`].
    pub async fn prefill<H: Host>(&mut self, host: &H, ids: &[u32], want: Want) -> Result<Option<u32>> {
        let n_ubatch = self.n_ubatch();
        let (body, tail) = ids.split_at((ids.len().max(1) - 1) / n_ubatch * n_ubatch);
        for batch in body.chunks(n_ubatch) {
            self.step(host, batch, Want::Nothing).await?;
        }
        self.step(host, tail, want).await
    }

    /// [`Sequence::feed`], after the host had its turn.
    ///
    /// # Errors
    /// [`Error::Aborted`] if the host cancels: nothing was fed. As [`Sequence::feed`].
    pub async fn step<H: Host>(&mut self, host: &H, ids: &[u32], want: Want) -> Result<Option<u32>> {
        host.breathe().await;
        match host.cancelled() {
            true => Err(Error::Aborted),
            false => self.feed(ids, want).await,
        }
    }

    /// How many tokens the state holds, also where the last pass has not come back.
    pub(super) fn n_fed(&self) -> usize {
        self.consumed.len()
    }

    /// Begins a reply whose tokens the device chooses; `false` if it cannot. The prompt's last pass then wants [`Want::Chosen`].
    ///
    /// # Errors
    /// The backend's.
    pub async fn begin_reply(&mut self, choice: &Choice<'_>) -> Result<bool> {
        self.model.backend.begin_reply(&mut self.state, choice).await
    }

    /// Passes that may be queued at a time.
    pub fn depth(&self) -> usize {
        self.model.backend.depth()
    }

    /// Passes that were queued and not fetched.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Queues a pass of `n` tokens `ahead` tokens after those that are in [`Sequence::n_fed`]: the first feeds the token chosen last.
    ///
    /// # Errors
    /// [`Error::ContextFull`], or the backend's.
    pub async fn queue(&mut self, ahead: usize, n: u32) -> Result<()> {
        let pos = self.consumed.len() + ahead;
        let needed = pos + n as usize;
        if needed > self.n_ctx {
            return Err(Error::ContextFull {
                needed,
                n_ctx: self.n_ctx,
            });
        }
        let pass = Pass {
            ids: &[],
            pos: pos as u32,
            want: Want::Chosen(n),
        };
        self.exact = false;
        self.model.forward(&mut self.state, &pass, &mut self.logits).await?;
        self.queued += 1;
        Ok(())
    }

    /// Waits for the oldest queued pass and appends its tokens to `made`.
    ///
    /// # Errors
    /// As [`Backend::fetch`]; tokens before the first invalid number are in `made`.
    pub async fn fetch(&mut self, made: &mut Vec<Made>) -> Result<()> {
        let first = made.len();
        self.queued -= 1;
        let fetched = self.model.backend.fetch(made).await;
        for token in &made[first..] {
            self.consumed.extend(self.chosen.replace(token.id));
        }
        self.exact = fetched.is_ok() && self.queued == 0;
        fetched
    }

    /// Forgets what is queued: the reply ended with a stop id, so the device feeds nothing more.
    pub(super) fn end_queue(&mut self) {
        self.queued = 0;
        self.exact = true;
    }

    /// Marks the state, to be able to go back to it. Nothing may be queued.
    ///
    /// # Errors
    /// The backend's.
    pub(super) fn mark(&mut self) -> Result<()> {
        debug_assert!(self.queued == 0);
        self.marked = self.consumed.len();
        self.model.backend.mark(&mut self.state)
    }

    /// Goes back to the mark.
    ///
    /// # Errors
    /// The backend's; the state is spoilt then.
    pub(super) fn rewind(&mut self) -> Result<()> {
        self.exact = false;
        self.model.backend.rewind(&mut self.state)?;
        self.consumed.truncate(self.marked);
        self.exact = true;
        Ok(())
    }
}
