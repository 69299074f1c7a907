//! Every op in plain loops: the specification that all other kernels are compared with.
//!
//! No SIMD, no cleverness. Sums run in f64, so that the reference is closer to exact arithmetic than anything it judges.
//! Formulas: Mamba-2 (Dao & Gu 2024) as `GraniteMoeHybrid` and ggml's `granite-hybrid` graph compute them.

#![expect(clippy::needless_range_loop, reason = "reads like the formula and the shader")]

use super::{
    Matrix,
    kernels::{Columns, Head, Kernels, Taps},
    products::Output,
};
use crate::{
    Error, Result,
    gguf::{GgmlType, quant},
};
use std::ops::Range;

/// The kernels of [`super::Reference`]: every default.
pub struct Plain;

impl Kernels for Plain {}

/// `out = scale * row`, a row of blocks of type `ty`.
pub fn embed(ty: GgmlType, row: &[u8], scale: f32, out: &mut [f32]) {
    quant::dequantize(ty, row, out);
    for v in out {
        *v *= scale;
    }
}

/// Rows `rows` of `W x[t]`, into `out`. `x: [n, n_cols]`; `row: [>= n_cols]` is scratch.
///
/// # Safety
/// While it runs, nobody else may have those rows of `out`.
pub unsafe fn matmul(w: &Matrix, x: &[f32], rows: Range<usize>, out: &Output, row: &mut [f32]) {
    let row = &mut row[..w.n_cols];
    for r in rows {
        quant::dequantize(w.ty, w.row(r), row);
        for (t, x) in x.chunks_exact(w.n_cols).enumerate() {
            // SAFETY: the same contract.
            unsafe { out.put(t, r, &[dot(row, x) as f32]) };
        }
    }
}

/// `sum_i a_i b_i`.
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| a as f64 * b as f64).sum()
}

/// `x += scale * y`.
pub fn add_scaled(x: &mut [f32], scale: f32, y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += scale * y;
    }
}

/// `y = x / sqrt(mean(x^2) + eps) * gamma`.
pub fn rms_norm(x: &[f32], gamma: &[f32], eps: f32, y: &mut [f32]) {
    let mean = dot(x, x) / x.len() as f64;
    let scale = (1.0 / (mean + eps as f64).sqrt()) as f32;
    for i in 0..x.len() {
        y[i] = x[i] * scale * gamma[i];
    }
}

/// `v * sigmoid(v)`.
pub fn silu(v: f32) -> f32 {
    v / (1.0 + (-v).exp())
}

/// `y = silu(y) * x`.
pub fn silu_mul(y: &mut [f32], x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = silu(*y) * x;
    }
}

/// `ln(1 + e^v)`; above 20 the identity, where the exponential would only lose digits and at last overflow.
pub fn softplus(v: f32) -> f32 {
    if v > 20.0 { v } else { v.exp().ln_1p() }
}

/// The causal depthwise convolution: `y = silu(sum_j w[j] * column_j + b)`, the last tap on the token itself.
///
/// `y: [tokens, channels]`, only those asked for.
pub fn conv_silu(columns: &Columns, tokens: Range<usize>, channels: Range<usize>, taps: Taps, y: &mut [f32]) {
    let d_conv = taps.w.len() / columns.width;
    for t in tokens.clone() {
        for k in channels.clone() {
            let w = &taps.w[k * d_conv..(k + 1) * d_conv];
            let mut sum = 0f64;
            for j in 0..d_conv {
                sum += w[j] as f64 * columns.seen(t, j)[k] as f64;
            }
            y[(t - tokens.start) * channels.len() + k - channels.start] = silu((sum + taps.b[k] as f64) as f32);
        }
    }
}

/// The saved columns after `n` tokens: `saved` moves on, the newest last.
pub fn save_columns(saved: &mut [f32], rows: &[f32], stride: usize, first: usize, width: usize, n: usize) {
    let n_saved = saved.len() / width;
    let kept = n_saved.saturating_sub(n);
    saved.copy_within((n_saved - kept) * width.., 0);
    for (i, column) in saved.chunks_exact_mut(width).enumerate().skip(kept) {
        column.copy_from_slice(&rows[(n + i - n_saved) * stride + first..][..width]);
    }
}

/// One token of one head: `S = exp(dt a) S + (dt x) outer b`, `y = S c + d x`.
///
/// - `s: [P, N]`, updated in place   - `x, y: [P]`   - `b, c: [N]`   - `dt` after softplus, `a` negative
#[allow(clippy::too_many_arguments, reason = "the formula's letters")]
pub fn ssm_update(s: &mut [f32], x: &[f32], dt: f32, a: f32, b: &[f32], c: &[f32], d: f32, y: &mut [f32]) {
    let decay = (dt * a).exp();
    for (p, s) in s.chunks_exact_mut(b.len()).enumerate() {
        let mut sum = 0f64;
        for n in 0..b.len() {
            s[n] = decay * s[n] + dt * x[p] * b[n];
            sum += s[n] as f64 * c[n] as f64;
        }
        y[p] = (sum + d as f64 * x[p] as f64) as f32;
    }
}

/// One query head of one token over the `n` tokens seen so far: `y = softmax(scale * q . k_i) v_i`.
///
/// - `q, y: [d_head]`   - `work: [>= n + d_head]`, scratch
pub fn attend_head(q: &[f32], k: Head, v: Head, n: usize, scale: f32, work: &mut [f32], y: &mut [f32]) {
    let (scores, row) = work.split_at_mut(n);
    let row = &mut row[..q.len()];
    let mut max = f32::NEG_INFINITY;
    for i in 0..n {
        k.kv.read(i * k.stride + k.first, row);
        scores[i] = scale * dot(q, row) as f32;
        max = max.max(scores[i]);
    }
    let mut total = 0f64;
    for s in scores.iter_mut() {
        *s = (*s - max).exp();
        total += *s as f64;
    }
    y.fill(0.0);
    for i in 0..n {
        v.kv.read(i * v.stride + v.first, row);
        add_scaled(y, (scores[i] as f64 / total) as f32, row);
    }
}

/// Index of the largest logit, the lowest among equals.
pub fn argmax(logits: &[f32]) -> Result<u32> {
    let mut best = 0;
    for (i, &l) in logits.iter().enumerate() {
        if !l.is_finite() {
            return Err(Error::NonFiniteLogits);
        }
        if l > logits[best] {
            best = i;
        }
    }
    Ok(best as u32)
}
