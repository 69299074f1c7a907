//! What the host costs a token loop that runs on the device.

use serde::Serialize;

use crate::{
    Result,
    backend::{Choice, Want, gpu::Gpu},
    generate::{Host, Sequence},
};

/// The loop with its tokens read back, against the same work with nothing read.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Loop {
    /// Tokens of each submit.
    pub tokens_per_submit: u32,
    /// Time a token, over the time a token of the same dispatches in the same submits without any read back.
    pub loop_ratio: f64,
    /// Of a token: encoding it, submitting it and asking for the read back. A native software driver also runs it then.
    pub host_ms_per_token: f64,
    /// Of a token: encoding it.
    pub encode_ms_per_token: f64,
}

/// The shortest: what a machine does besides can only add to it.
fn least(times: &[f64]) -> f64 {
    times.iter().copied().fold(f64::INFINITY, f64::min)
}

/// Submits of a measurement.
const SUBMITS: u32 = 3;

/// Measures both, in turns. The sequence is empty afterwards.
///
/// # Errors
/// [`crate::Error::ContextFull`] if `prompt` and three submits do not fit, what the device says.
pub async fn token_loop<H: Host>(host: &H, sequence: &mut Sequence<Gpu>, n: u32, prompt: u32, repeats: u32) -> Result<Loop> {
    let (mut read, mut unread, mut at_host) = (Vec::new(), Vec::new(), Vec::new());
    let mut encode = Vec::new();
    // One run more than counts: the first compiles.
    for run in 0..=repeats.max(1) * 2 {
        // Another prompt each time, so that the state starts from zero.
        let ids: Vec<u32> = (0..prompt).map(|i| (run * 31 + i * 7) % sequence.n_vocab() as u32).collect();
        sequence.resume(&ids)?;
        sequence.begin_reply(&Choice::GREEDY).await?;
        sequence.prefill(host, &ids, Want::Chosen(1)).await?;
        let mut made = Vec::with_capacity(((SUBMITS + 1) * n) as usize);
        sequence.fetch(&mut made).await?;
        let start = host.now_ms();
        if run % 2 == 0 {
            let (mut queued, mut host_ms, mut encode_ms) = (0, 0.0, 0.0);
            while queued < SUBMITS || sequence.queued() > 0 {
                while queued < SUBMITS && sequence.queued() < sequence.depth() {
                    let before = host.now_ms();
                    sequence.queue((1 + queued * n) as usize - made.len(), n).await?;
                    host_ms += host.now_ms() - before;
                    encode_ms += sequence.model().backend.encode_ms();
                    queued += 1;
                }
                sequence.fetch(&mut made).await?;
            }
            if run > 0 {
                read.push(host.now_ms() - start);
                at_host.push(host_ms);
                encode.push(encode_ms);
            }
        } else {
            let (model, state) = sequence.lend();
            model.backend.decode_unread(state, prompt, n, SUBMITS).await?;
            unread.push(host.now_ms() - start);
        }
    }
    Ok(Loop {
        tokens_per_submit: n,
        loop_ratio: least(&read) / least(&unread),
        host_ms_per_token: least(&at_host) / f64::from(SUBMITS * n),
        encode_ms_per_token: least(&encode) / f64::from(SUBMITS * n),
    })
}
