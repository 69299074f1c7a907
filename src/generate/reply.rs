//! What a request comes back with.

use serde::Serialize;

use crate::{backend::Likely, text::Tokenizer};

/// Why a reply ended. Serialises as OpenAI's `finish_reason`, plus `"abort"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// The model ended it, or a stop text came.
    Stop,
    /// `max_tokens` are made or the context is full.
    Length,
    /// The caller stopped it.
    Abort,
}

/// Token counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens made, the end of the reply included.
    pub completion_tokens: usize,
    /// Both together.
    pub total_tokens: usize,
    /// Tokens of the prompt that the state held already.
    pub cached_tokens: usize,
}

/// Where the time went. Rates are 0 where there was nothing to time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Timings {
    /// From the request to the first token.
    pub time_to_first_token_ms: f64,
    /// Feeding the prompt.
    pub prefill_ms: f64,
    /// From the first token to the last.
    pub decode_ms: f64,
    /// The whole request.
    pub total_ms: f64,
    /// Tokens of the prompt that were fed, over `prefill_ms`.
    pub prefill_tokens_per_second: f64,
    /// Tokens made after the first, over `decode_ms`.
    pub decode_tokens_per_second: f64,
}

/// Tokens per second; 0 if there are none or no time passed.
pub(super) fn rate(tokens: usize, ms: f64) -> f64 {
    if tokens > 0 && ms > 0.0 {
        tokens as f64 * 1e3 / ms
    } else {
        0.0
    }
}

/// A reply, complete or as far as it came.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reply {
    /// What was streamed, in one piece.
    pub text: String,
    /// Every token made, also the one that ended it.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Token counts.
    pub usage: Usage,
    /// Where the time went.
    pub timings: Timings,
    /// One for each of `ids`, if the options asked for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Vec<TokenLogprob>>,
}

/// A token, its natural log probability before penalties, temperature and filters, and the likeliest tokens in its place.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokenLogprob {
    /// The token that was made.
    #[serde(flatten)]
    pub token: Logprob,
    /// The likeliest, best first.
    pub top_logprobs: Vec<Logprob>,
}

/// One entry of OpenAI's `logprobs.content`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Logprob {
    /// Its text; U+FFFD where it is only a part of a character.
    pub token: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

impl TokenLogprob {
    /// Of token `id` and the `n_top` likeliest.
    pub(super) fn new(tokenizer: &Tokenizer, likely: &Likely, id: u32, n_top: usize) -> Self {
        let logprob = |(logit, id): (f32, u32)| {
            let bytes = tokenizer.piece_bytes(id).to_vec();
            Logprob {
                token: String::from_utf8_lossy(&bytes).into_owned(),
                bytes,
                logprob: (f64::from(logit) - likely.log_sum) as f32,
            }
        };
        let best = &likely.best[..n_top.min(likely.n_best)];
        Self {
            token: logprob((likely.logit, id)),
            top_logprobs: best.iter().copied().map(logprob).collect(),
        }
    }
}
