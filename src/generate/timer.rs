//! Times a sequence as a reply runs on it, without text.

use super::{
    Host, Options, Sampler, Sequence,
    tokens::{Pace, Tokens},
};
use crate::{Result, backend::Backend};

/// Runs replies of a fixed length one after another; what one learns of the device's pace, the next begins with.
pub struct Timer {
    sampler: Sampler,
    pace: Pace,
}

/// How long one took.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// From the prompt's ids to the first token, milliseconds.
    pub prefill_ms: f64,
    /// From there to the last token, milliseconds.
    pub decode_ms: f64,
    /// Tokens written.
    pub tokens: usize,
    /// Submits that made all but the first; as many as tokens where the device does not choose them.
    pub submits: usize,
}

impl Default for Timer {
    fn default() -> Self {
        Timer {
            sampler: Sampler::new(Vec::new()),
            pace: Pace::default(),
        }
    }
}

impl Timer {
    /// Reads `prompt` and writes `n` greedy tokens, whatever they are. The sequence starts from zero unless it holds the prompt's beginning.
    ///
    /// # Errors
    /// As [`Sequence::check`]; [`crate::Error::ContextFull`], [`crate::Error::Aborted`], the backend's.
    pub async fn run<B: Backend, H: Host>(
        &mut self,
        host: &H,
        sequence: &mut Sequence<B>,
        prompt: &[u32],
        n: usize,
    ) -> Result<Timing> {
        sequence.check(prompt)?;
        let options = Options {
            max_tokens: Some(n.max(1)),
            ..Options::default()
        };
        let cached = sequence.resume(prompt)?;
        self.sampler.begin(&options, 0, sequence.n_vocab(), prompt)?;
        let mut tokens = Tokens::begin(sequence, &mut self.sampler, &mut self.pace, &options, prompt, cached, &[]).await?;
        let start = host.now_ms();
        tokens.next(host).await?;
        let first = host.now_ms();
        let mut written = 1;
        while !tokens.is_full() {
            tokens.next(host).await?;
            written += 1;
        }
        let end = host.now_ms();
        let submits = tokens.submits();
        tokens.end()?;
        Ok(Timing {
            prefill_ms: first - start,
            decode_ms: end - first,
            tokens: written,
            submits,
        })
    }
}
