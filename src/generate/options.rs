//! What a caller may ask of a reply, and the checks on it.

use crate::{Error, Result};

/// How to choose the tokens of a reply and when to end it. The default is greedy and runs until the model stops.
///
/// Names and meaning are OpenAI's where it has one (`max_tokens`, `temperature`, `top_p`, `frequency_penalty`, `presence_penalty`,
/// `seed`, `stop`, `top_logprobs`), else those that open-source servers agree on (`top_k`, `min_p`, `repetition_penalty`).
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Most tokens in the reply, at least 1. `None`: as many as the context holds.
    pub max_tokens: Option<usize>,
    /// Divides the logits, `0..`. 0 takes the likeliest token every time (greedy): Granite's makers advise it.
    pub temperature: f32,
    /// Keeps the likeliest tokens that together reach this probability, `(0, 1]`. 1 keeps all.
    pub top_p: f32,
    /// Keeps this many of the likeliest tokens. 0 keeps all.
    pub top_k: usize,
    /// Keeps tokens at least this likely relative to the likeliest one, `[0, 1]`. 0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens seen in the last [`Options::repetition_last_n`], `> 0`. 1 is off.
    pub repetition_penalty: f32,
    /// How many of the latest tokens of prompt and reply the repetition penalty looks at.
    pub repetition_last_n: usize,
    /// Subtracted from a token's logit for each time the reply has it already, `[-2, 2]`.
    pub frequency_penalty: f32,
    /// Subtracted once from the logit of every token that the reply has already, `[-2, 2]`.
    pub presence_penalty: f32,
    /// Seed of the draws; the same seed gives the same reply to the same prompt. `None`: the host picks one.
    pub seed: Option<u64>,
    /// The reply ends before the first of these texts. None may be empty.
    pub stop: Vec<String>,
    /// Report the log probability of every token, and of this many of the likeliest in its place (`0..=20`). `None`: report none.
    pub logprobs: Option<usize>,
    /// Go on after the model's own end of reply, for scoring and benchmarks.
    pub ignore_eos: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_tokens: None,
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            repetition_last_n: usize::MAX,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            seed: None,
            stop: Vec::new(),
            logprobs: None,
            ignore_eos: false,
        }
    }
}

impl Options {
    /// # Errors
    /// [`Error::InvalidRequest`] that names the field, what it holds and what it may hold.
    pub fn check(&self) -> Result<()> {
        // NaN fails every comparison, so each test says what is right rather than what is wrong.
        let fields = [
            (
                "temperature",
                self.temperature,
                (0.0..f32::INFINITY).contains(&self.temperature),
                "a number from 0 up",
            ),
            (
                "top_p",
                self.top_p,
                self.top_p > 0.0 && self.top_p <= 1.0,
                "above 0 and at most 1",
            ),
            ("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "from 0 to 1"),
            (
                "repetition_penalty",
                self.repetition_penalty,
                self.repetition_penalty > 0.0 && self.repetition_penalty < f32::INFINITY,
                "a number above 0",
            ),
            (
                "frequency_penalty",
                self.frequency_penalty,
                (-2.0..=2.0).contains(&self.frequency_penalty),
                "from -2 to 2",
            ),
            (
                "presence_penalty",
                self.presence_penalty,
                (-2.0..=2.0).contains(&self.presence_penalty),
                "from -2 to 2",
            ),
        ];
        for (name, found, ok, expected) in fields {
            if !ok {
                return Err(invalid(format!("{name} is {found}, it must be {expected}")));
            }
        }
        if self.max_tokens == Some(0) {
            return Err(invalid("max_tokens is 0, it must be at least 1"));
        }
        if self.stop.iter().any(String::is_empty) {
            return Err(invalid(
                "stop holds an empty text, every stop text must have at least one character",
            ));
        }
        if let Some(n @ 21..) = self.logprobs {
            return Err(invalid(format!("top_logprobs is {n}, it must be from 0 to 20")));
        }
        Ok(())
    }

    /// Whether a device's own argmax decides: no draw, no penalty and no logits to look at.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0 && !self.has_penalty() && self.logprobs.is_none()
    }

    /// Whether any logit depends on the tokens before it.
    pub(super) fn has_penalty(&self) -> bool {
        self.repetition_penalty != 1.0 || self.frequency_penalty != 0.0 || self.presence_penalty != 0.0
    }
}

pub(super) fn invalid(what: impl Into<String>) -> Error {
    Error::InvalidRequest { what: what.into() }
}
