//! [`Options`] out of a chat request in OpenAI's JSON.

use serde::Deserialize;

use super::{Options, options::invalid};
use crate::Result;

/// The fields that say how to answer. Those that say what to answer are [`crate::text::ChatRequest`]'s. `null` is as good as absent.
#[derive(Deserialize)]
struct Parameters {
    max_tokens: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<usize>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    seed: Option<i64>,
    stop: Option<Stop>,
    logprobs: Option<bool>,
    top_logprobs: Option<usize>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Stop {
    One(String),
    Many(Vec<String>),
}

impl Options {
    /// Reads the options of a request; fields that it does not know are left to others.
    ///
    /// # Errors
    /// [`crate::Error::InvalidRequest`] if a field is of the wrong kind, or as [`Options::check`].
    pub fn from_json(json: &str) -> Result<Self> {
        let p: Parameters = serde_json::from_str(json).map_err(|e| invalid(format!("the request cannot be read: {e}")))?;
        let usual = Options::default();
        let options = Options {
            max_tokens: p.max_tokens,
            temperature: p.temperature.unwrap_or(usual.temperature),
            top_p: p.top_p.unwrap_or(usual.top_p),
            top_k: p.top_k.unwrap_or(usual.top_k),
            min_p: p.min_p.unwrap_or(usual.min_p),
            repetition_penalty: p.repetition_penalty.unwrap_or(usual.repetition_penalty),
            frequency_penalty: p.frequency_penalty.unwrap_or(usual.frequency_penalty),
            presence_penalty: p.presence_penalty.unwrap_or(usual.presence_penalty),
            seed: p.seed.map(i64::cast_unsigned), // OpenAI allows negative ones
            stop: match p.stop {
                None => Vec::new(),
                Some(Stop::One(text)) => vec![text],
                Some(Stop::Many(texts)) => texts,
            },
            logprobs: p.logprobs.unwrap_or(false).then(|| p.top_logprobs.unwrap_or(0)),
            ..usual
        };
        options.check()?;
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_and_null_mean_the_default() {
        for json in [
            r#"{"messages": [{"role": "user", "content": "hi"}]}"#,
            r#"{"max_tokens": null, "temperature": null, "seed": null, "stop": null, "logprobs": null}"#,
        ] {
            assert_eq!(Options::from_json(json).unwrap(), Options::default(), "{json}");
        }
    }

    #[test]
    fn every_field_arrives() {
        let json = r#"{"max_tokens": 5, "temperature": 0.5, "top_p": 0.25, "top_k": 7, "min_p": 0.125, "repetition_penalty": 1.5,
                       "frequency_penalty": -1, "presence_penalty": 2, "seed": 42, "stop": "x", "logprobs": true, "top_logprobs": 3}"#;
        let expected = Options {
            max_tokens: Some(5),
            temperature: 0.5,
            top_p: 0.25,
            top_k: 7,
            min_p: 0.125,
            repetition_penalty: 1.5,
            frequency_penalty: -1.0,
            presence_penalty: 2.0,
            seed: Some(42),
            stop: vec!["x".into()],
            logprobs: Some(3),
            ..Options::default()
        };
        assert_eq!(Options::from_json(json).unwrap(), expected);
        let two = Options::from_json(r#"{"stop": ["a", "b"], "seed": -1}"#).unwrap();
        assert_eq!((two.stop, two.seed), (vec!["a".to_owned(), "b".to_owned()], Some(u64::MAX)));
    }

    #[test]
    fn nonsense_is_refused() {
        for json in [
            r#"{"max_tokens": -1}"#,
            r#"{"max_tokens": 0}"#,
            r#"{"max_tokens": 1.5}"#,
            r#"{"temperature": "hot"}"#,
            r#"{"temperature": -1}"#,
            r#"{"top_p": 0}"#,
            r#"{"stop": [""]}"#,
            r#"{"stop": 3}"#,
            "[]",
            "",
        ] {
            let error = Options::from_json(json).unwrap_err();
            assert_eq!(error.code(), "invalid_request", "{json}: {error}");
        }
    }
}
