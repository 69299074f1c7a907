//! One conversation with a model: requests in, streamed replies out.

use std::rc::Rc;

use super::{
    FinishReason, Host, Options, Reply, Sampler, Sequence, StopTexts, Timings, TokenLogprob, Usage,
    options::invalid,
    reply::rate,
    tokens::{Pace, Tokens},
};
use crate::{
    Error, Result,
    backend::{Backend, KvType},
    model::Model,
    text::{ChatRequest, ChatTemplate, Detokenizer, Tokenizer},
};

/// A model, its text side and the one live sequence that requests continue where they can.
pub struct Session<B: Backend> {
    sequence: Sequence<B>,
    tokenizer: Rc<Tokenizer>,
    template: Option<ChatTemplate>,
    sampler: Sampler,
    pace: Pace,
}

impl<B: Backend> Session<B> {
    /// A session whose conversations hold up to `n_ctx` tokens.
    ///
    /// # Errors
    /// [`Error::BadKey`] if the vocabulary's size is not the model's; as [`Sequence::new`].
    pub fn new(
        model: Model<B>,
        tokenizer: impl Into<Rc<Tokenizer>>,
        template: Option<ChatTemplate>,
        n_ctx: u32,
        kv: KvType,
    ) -> Result<Self> {
        let tokenizer = tokenizer.into();
        let sequence = Sequence::new(model, n_ctx, kv)?;
        if tokenizer.n_vocab() != sequence.n_vocab() {
            return Err(Error::BadKey {
                key: "tokenizer.ggml.tokens".into(),
                found: format!("{} tokens", tokenizer.n_vocab()),
                expected: format!("{}, as many as token_embd.weight has rows", sequence.n_vocab()),
            });
        }
        let unused = (0..tokenizer.n_vocab() as u32)
            .filter(|&id| tokenizer.is_unused(id))
            .collect();
        Ok(Self {
            sequence,
            tokenizer,
            template,
            sampler: Sampler::new(unused),
            pace: Pace::default(),
        })
    }

    /// The model.
    pub fn model(&self) -> &Model<B> {
        self.sequence.model()
    }

    /// The text side.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The chat template, if the file has one.
    pub fn template(&self) -> Option<&ChatTemplate> {
        self.template.as_ref()
    }

    /// The live sequence: what it holds and how much fits.
    pub fn sequence(&self) -> &Sequence<B> {
        &self.sequence
    }

    /// The live sequence, for whoever measures it.
    pub fn sequence_mut(&mut self) -> &mut Sequence<B> {
        &mut self.sequence
    }

    /// Makes a GPU run this many tokens (1 to 16) in every submit; `None`, the default, lets it find what suits the device.
    pub fn set_tokens_per_submit(&mut self, n: Option<u32>) {
        self.pace.fixed = n;
    }

    /// Renders the conversation with the model's own template and makes the next reply. See [`Session::generate`].
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] if the model has no chat template; what the template rejects; as [`Session::generate`].
    pub async fn chat<H: Host>(
        &mut self,
        host: &H,
        request: &ChatRequest,
        options: &Options,
        on_text: &mut dyn FnMut(&str),
    ) -> Result<Reply> {
        let template = self
            .template
            .as_ref()
            .ok_or_else(|| invalid("this model has no chat template, so it cannot hold a chat"))?;
        let prompt = template.render(&self.tokenizer, request)?;
        self.generate(host, &prompt.ids, options, on_text).await
    }

    /// Makes a reply to a prompt of ids, and calls `on_text` with each piece of text as soon as it is certain: whole characters, no
    /// control tokens, nothing of a stop text.
    ///
    /// The state is continued if what it has consumed is the beginning of `prompt`. A cancelled request returns what there is, with
    /// [`FinishReason::Abort`]; no more than the passes under way are waited for, and what they make belongs to the reply.
    ///
    /// # Errors
    /// As [`Options::check`] and [`Sequence::check`]; [`Error::NonFiniteLogits`]; the backend's. Text that was streamed before an
    /// error stands; the next request works from what the state then holds, or from zero.
    pub async fn generate<H: Host>(
        &mut self,
        host: &H,
        prompt: &[u32],
        options: &Options,
        on_text: &mut dyn FnMut(&str),
    ) -> Result<Reply> {
        let start = host.now_ms();
        self.sequence.check(prompt)?;
        let seed = options.seed.unwrap_or_else(|| host.seed());
        self.sampler.begin(options, seed, self.sequence.n_vocab(), prompt)?;
        let stop_ids = if options.ignore_eos { &[] } else { self.tokenizer.stop_ids() };

        let mut writer = Writer {
            detokenizer: Detokenizer::new(&self.tokenizer),
            stop: StopTexts::new(&options.stop),
            on_text,
            text: String::new(),
            shown: 0,
            stopped: false,
        };
        let mut ids = Vec::new();
        let mut logprobs = options.logprobs.map(|_| Vec::new());
        let cached = self.sequence.resume(prompt)?;

        let (sequence, sampler, pace) = (&mut self.sequence, &mut self.sampler, &mut self.pace);
        let mut tokens = Tokens::begin(sequence, sampler, pace, options, prompt, cached, stop_ids).await?;
        let prefill_start = host.now_ms();
        let mut next = tokens.next(host).await;
        let first_token = host.now_ms();
        let mut last_token = first_token;
        let n_prefilled = tokens.n_fed() - cached;
        let finish_reason = loop {
            let made = match next {
                Err(Error::Aborted) => break FinishReason::Abort,
                next => next?,
            };
            last_token = host.now_ms();
            ids.push(made.id);
            if let (Some(list), Some(n_top), Some(likely)) = (&mut logprobs, options.logprobs, &made.likely) {
                list.push(TokenLogprob::new(&self.tokenizer, likely, made.id, n_top));
            }
            if stop_ids.contains(&made.id) || writer.push(made.id) {
                break FinishReason::Stop;
            }
            if tokens.is_full() {
                break FinishReason::Length;
            }
            next = tokens.next(host).await;
        };
        tokens.end()?;
        let text = writer.finish();

        Ok(Reply {
            text,
            finish_reason,
            usage: Usage {
                prompt_tokens: prompt.len(),
                completion_tokens: ids.len(),
                total_tokens: prompt.len() + ids.len(),
                cached_tokens: cached,
            },
            timings: Timings {
                time_to_first_token_ms: first_token - start,
                prefill_ms: first_token - prefill_start,
                decode_ms: last_token - first_token,
                total_ms: host.now_ms() - start,
                prefill_tokens_per_second: rate(n_prefilled, first_token - prefill_start),
                decode_tokens_per_second: rate(ids.len().saturating_sub(1), last_token - first_token),
            },
            ids,
            logprobs,
        })
    }

    /// The logits after every one of `ids`: `[ids.len(), n_vocab]`, row-major. See [`Sequence::score`].
    ///
    /// # Errors
    /// As [`Sequence::score`].
    pub async fn score<H: Host>(&mut self, host: &H, ids: &[u32]) -> Result<Vec<f32>> {
        self.sequence.score(host, ids).await
    }
}

/// Ids to text, held back where a stop text may be coming, and on to the caller.
struct Writer<'a> {
    detokenizer: Detokenizer<'a>,
    stop: StopTexts,
    on_text: &'a mut dyn FnMut(&str),
    /// All text that is certain.
    text: String,
    /// How much of it the caller has, in bytes.
    shown: usize,
    /// A stop text has come: whatever follows is not shown.
    stopped: bool,
}

impl Writer<'_> {
    /// Takes a token. `true` if it completed a stop text.
    fn push(&mut self, id: u32) -> bool {
        let text = self.detokenizer.push(id);
        self.take(&text);
        self.stopped
    }

    /// Shows what was held back, unless a stop text ended the reply. All that was shown.
    fn finish(mut self) -> String {
        if !self.stopped {
            let tail = self.detokenizer.finish();
            self.take(&tail);
            self.stop.finish(&mut self.text);
            self.show();
        }
        self.text
    }

    fn take(&mut self, text: &str) {
        self.stopped = self.stop.push(text, &mut self.text);
        self.show();
    }

    fn show(&mut self) {
        if self.shown < self.text.len() {
            (self.on_text)(&self.text[self.shown..]);
            self.shown = self.text.len();
        }
    }
}
