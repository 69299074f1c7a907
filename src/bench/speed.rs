//! How fast a model runs on a GPU, and which share of the memory's speed that is.

use serde::Serialize;

use super::{Loop, Work, pace, work::median};
use crate::{
    Result,
    backend::gpu::{Gpu, OpTime, Traffic},
    generate::{Host, Sequence, Timer},
};

/// What came of it. Rates are medians.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Tokens of the prompt.
    pub prompt: u32,
    /// Tokens written after it.
    pub tokens: u32,
    /// Times both were repeated.
    pub repeats: u32,
    /// Tokens of a prompt a second.
    pub prefill_tps: f64,
    /// Tokens written a second.
    pub decode_tps: f64,
    /// Dispatches of one token.
    pub dispatches_per_token: u32,
    /// Submits of one token.
    pub submits_per_token: f64,
    /// What the host costs.
    #[serde(flatten)]
    pub token_loop: Loop,
    /// What one token moves, in the middle of those written.
    pub bytes_per_token: Traffic,
    /// Gigabytes a second, read and written, of a plain copy on this device.
    pub copy_gbps: f64,
    /// `bytes_per_token * decode_tps / copy_gbps`.
    pub share_of_copy: f64,
    /// Where the time of a token goes, the longest first.
    pub ops: Vec<OpTime>,
}

/// Runs the work. The sequence is empty afterwards.
///
/// # Errors
/// [`crate::Error::ContextFull`] if the work does not fit, what the device says, [`crate::Error::Aborted`] if the host cancels.
pub async fn speed<H: Host>(host: &H, sequence: &mut Sequence<Gpu>, work: Work) -> Result<Report> {
    let Work { prompt, tokens, repeats } = work;
    let (prompt, tokens, repeats) = (prompt.max(1), tokens.max(2), repeats.max(1));
    let n_vocab = sequence.n_vocab() as u32;
    // Any ids do: the kernels' time does not depend on them.
    let ids = |run: u32| -> Vec<u32> { (0..prompt).map(|i| (run * 7919 + i * 104_729) % n_vocab).collect() };
    let (mut prefill, mut decode, mut submits) = (Vec::new(), Vec::new(), Vec::new());
    let mut timer = Timer::default();
    // One run more than counts: the first compiles, and learns how many tokens a submit may have.
    for run in 0..=repeats {
        let t = timer.run(host, sequence, &ids(run), tokens as usize).await?;
        if run > 0 {
            let more = (t.tokens - 1) as f64;
            prefill.push(prompt as f64 / t.prefill_ms * 1e3);
            decode.push(more / t.decode_ms * 1e3);
            submits.push(t.submits as f64 / more);
        }
    }
    let (prefill_tps, decode_tps) = (median(prefill), median(decode));
    let pos = prompt + tokens / 2;
    // Three submits have to fit as well.
    let room = (sequence.n_ctx() as u32).saturating_sub(prompt);
    let token_loop = pace::token_loop(host, sequence, (room / 3).clamp(1, 16), prompt, repeats).await?;
    let (model, state) = sequence.lend();
    let gpu = &mut model.backend;
    let cost = gpu.cost(state, pos).unwrap_or_default();
    let (dispatches_per_token, bytes_per_token) = (cost.dispatches, cost.bytes);
    let now = || host.now_ms();
    let copy = gpu.copy_bandwidth(&now).await?;
    let ops = gpu.profile(state, pos, &now).await?;
    Ok(Report {
        prompt,
        tokens,
        repeats,
        prefill_tps,
        decode_tps,
        dispatches_per_token,
        submits_per_token: median(submits),
        token_loop,
        bytes_per_token,
        copy_gbps: copy / 1e9,
        share_of_copy: bytes_per_token.total() as f64 * decode_tps / copy,
        ops,
    })
}
