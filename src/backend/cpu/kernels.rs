//! What a backend computes with: the list of hot ops, and their fast forms.

use super::{
    Kv, Matrix, int8,
    products::{Inputs, Output},
    reference,
    rows::dequantize_row,
    simd::{self, F32x4},
    tiles,
};
use crate::gguf::GgmlType;
use std::ops::Range;

/// The columns that a causal convolution looks at: those of the tokens before a pass, then those of its own.
pub struct Columns<'a> {
    /// `[d_conv - 1, width]`, oldest first.
    pub saved: &'a [f32],
    /// `[n, stride]`; a token's column starts at `first`.
    pub rows: &'a [f32],
    /// Length of a token's row.
    pub stride: usize,
    /// Where the column starts in it.
    pub first: usize,
    /// Channels.
    pub width: usize,
}

impl Columns<'_> {
    /// What tap `j` of token `t` sees: `[width]`. The last tap sees the token itself.
    #[inline(always)]
    pub fn seen(&self, t: usize, j: usize) -> &[f32] {
        let n_saved = self.saved.len() / self.width;
        match (t + j).checked_sub(n_saved) {
            None => &self.saved[(t + j) * self.width..][..self.width],
            Some(t) => &self.rows[t * self.stride + self.first..][..self.width],
        }
    }
}

/// Weights of a causal convolution.
#[derive(Clone, Copy)]
pub struct Taps<'a> {
    /// `[width, d_conv]`, the oldest first.
    pub w: &'a [f32],
    /// `[width]`.
    pub b: &'a [f32],
}

/// What a CPU backend computes with. Every method defaults to the specification in [`reference`], so the overrides below *are* the
/// list of what is accelerated.
pub trait Kernels {
    /// Whether `matmul` wants matrices of this type in [`tiles`].
    fn is_tiled(_ty: GgmlType) -> bool {
        false
    }
    /// Rows `rows` of `W x[t]`, into `out`. `rows` starts at a multiple of [`tiles::ROWS`], and ends at one or with the matrix;
    /// `row: [>= n_cols]` is scratch.
    ///
    /// # Safety
    /// While it runs, nobody else may have those rows of `out`.
    unsafe fn matmul(w: &Matrix, x: &Inputs, rows: Range<usize>, out: &Output, row: &mut [f32]) {
        // SAFETY: the same contract.
        unsafe { reference::matmul(w, x.rows(w.n_cols), rows, out, row) }
    }
    /// `y = x / sqrt(mean(x^2) + eps) * gamma`. All `[n_cols]`.
    fn rms_norm(x: &[f32], gamma: &[f32], eps: f32, y: &mut [f32]) {
        reference::rms_norm(x, gamma, eps, y);
    }
    /// The causal convolution and SiLU of some tokens and channels; see [`reference::conv_silu`].
    fn conv_silu(columns: &Columns, tokens: Range<usize>, channels: Range<usize>, taps: Taps, y: &mut [f32]) {
        reference::conv_silu(columns, tokens, channels, taps, y);
    }
    /// `ln(1 + e^v)`.
    fn softplus(v: f32) -> f32 {
        reference::softplus(v)
    }
    /// One token of one head's state update; see [`reference::ssm_update`]. `cold`: the state comes from memory, which changes the
    /// speed, not the result.
    #[allow(clippy::too_many_arguments, reason = "the formula's letters")]
    fn ssm_update(s: &mut [f32], x: &[f32], dt: f32, a: f32, b: &[f32], c: &[f32], d: f32, y: &mut [f32], _cold: bool) {
        reference::ssm_update(s, x, dt, a, b, c, d, y);
    }
    /// `y = silu(y) * x`.
    fn silu_mul(y: &mut [f32], x: &[f32]) {
        reference::silu_mul(y, x);
    }
    /// One head of one token; see [`reference::attend_head`].
    fn attend_head(q: &[f32], k: Head, v: Head, n: usize, scale: f32, work: &mut [f32], y: &mut [f32]) {
        reference::attend_head(q, k, v, n, scale, work, y);
    }
}

/// One head's keys or values: elements `first..first + d_head` of every row.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// Of all heads.
    pub kv: &'a Kv,
    /// Elements of a token's row.
    pub stride: usize,
    /// Of the head in it.
    pub first: usize,
}

/// The kernels of [`super::Cpu`]. `PORTABLE`: the integer ones in plain Rust, whatever the processor has.
pub struct Simd<const PORTABLE: bool = false>;

impl<const PORTABLE: bool> Kernels for Simd<PORTABLE> {
    fn is_tiled(ty: GgmlType) -> bool {
        tiles::is_tiled(ty)
    }

    unsafe fn matmul(w: &Matrix, x: &Inputs, rows: Range<usize>, out: &Output, row: &mut [f32]) {
        if w.tiled {
            // SAFETY: the same contract.
            return unsafe { int8::matmul::<PORTABLE>(w, x, rows, out) };
        }
        let (n_cols, row, x) = (w.n_cols, &mut row[..w.n_cols], x.rows(w.n_cols));
        for r in rows {
            dequantize_row(w.ty, w.row(r), row);
            let mut quads = x.chunks_exact(4 * n_cols);
            let mut t = 0;
            // SAFETY: one of our rows.
            let mut put = |dot: f32| unsafe {
                out.put(t, r, &[dot]);
                t += 1;
            };
            for four in &mut quads {
                dots::<4>(row, four).into_iter().for_each(&mut put);
            }
            for one in quads.remainder().chunks_exact(n_cols) {
                dots::<1>(row, one).into_iter().for_each(&mut put);
            }
        }
    }

    fn rms_norm(x: &[f32], gamma: &[f32], eps: f32, y: &mut [f32]) {
        let mean = dot(x, x) / x.len() as f32;
        if !mean.is_finite() {
            // Squares overflow from 1.8e19 on, which would make zeros of all: f64 holds them.
            return reference::rms_norm(x, gamma, eps, y);
        }
        let scale = 1.0 / (mean + eps).sqrt();
        for ((y, x), gamma) in y.iter_mut().zip(x).zip(gamma) {
            *y = x * scale * gamma;
        }
    }

    fn conv_silu(columns: &Columns, tokens: Range<usize>, channels: Range<usize>, taps: Taps, y: &mut [f32]) {
        let d_conv = taps.w.len() / columns.width;
        if d_conv != 4 {
            return conv_any(columns, tokens, channels, taps, y);
        }
        let n = channels.len();
        let quads = channels.start..channels.start + n / 4 * 4;
        for k in quads.clone().step_by(4) {
            let w: [F32x4; 4] = std::array::from_fn(|j| F32x4::from_array(std::array::from_fn(|c| taps.w[4 * (k + c) + j])));
            let b = F32x4::load(&taps.b[k..]);
            for t in tokens.clone() {
                let mut sum = w[0] * F32x4::load(&columns.seen(t, 0)[k..]);
                for (j, &w) in w.iter().enumerate().skip(1) {
                    sum = sum + w * F32x4::load(&columns.seen(t, j)[k..]);
                }
                (sum + b).silu().store(&mut y[(t - tokens.start) * n + k - channels.start..]);
            }
        }
        conv_rest(columns, tokens, quads.end..channels.end, channels, taps, y);
    }

    fn softplus(v: f32) -> f32 {
        simd::softplus(v)
    }

    fn ssm_update(s: &mut [f32], x: &[f32], dt: f32, a: f32, b: &[f32], c: &[f32], d: f32, y: &mut [f32], cold: bool) {
        let decay = simd::exp(dt * a);
        let n = b.len();
        // Four rows at once share what is loaded of b and c. But four places at once are more than memory fetches ahead for.
        let fours = if cold { 0 } else { s.len() / n / 4 };
        let (fours, ones) = s.split_at_mut(4 * n * fours);
        let mut p = 0;
        for s in fours.chunks_exact_mut(4 * n) {
            let x: &[f32; 4] = x[p..p + 4].try_into().expect("four");
            y[p..p + 4].copy_from_slice(&update_rows(s, x, dt, decay, b, c, d));
            p += 4;
        }
        for s in ones.chunks_exact_mut(n) {
            y[p] = update_rows(s, &[x[p]], dt, decay, b, c, d)[0];
            p += 1;
        }
    }

    fn silu_mul(y: &mut [f32], x: &[f32]) {
        let (fours, rest) = y.as_chunks_mut::<4>();
        let (xs, x_rest) = x.as_chunks::<4>();
        for (y, x) in fours.iter_mut().zip(xs) {
            (F32x4::load(y).silu() * F32x4::load(x)).store(y);
        }
        for (y, x) in rest.iter_mut().zip(x_rest) {
            *y = simd::silu(*y) * x;
        }
    }

    fn attend_head(q: &[f32], k: Head, v: Head, n: usize, scale: f32, work: &mut [f32], y: &mut [f32]) {
        let d = q.len();
        let (scores, row) = work.split_at_mut(n);
        let row = &mut row[..d];
        let mut max = f32::NEG_INFINITY;
        for (i, score) in scores.iter_mut().enumerate() {
            *score = scale * dot(q, k.kv.row(i * k.stride + k.first, row));
            max = max.max(*score);
        }
        let inv = (1.0 / exp_and_sum(scores, max)) as f32;
        y.fill(0.0);
        for (i, &score) in scores.iter().enumerate() {
            add_scaled(y, score * inv, v.kv.row(i * v.stride + v.first, row));
        }
    }
}

/// [`Kernels::conv_silu`] for any number of taps.
fn conv_any(columns: &Columns, tokens: Range<usize>, channels: Range<usize>, taps: Taps, y: &mut [f32]) {
    conv_rest(columns, tokens, channels.clone(), channels, taps, y);
}

/// Channels `some` of `channels`, one by one: the same sums in the same order as four at a time.
fn conv_rest(columns: &Columns, tokens: Range<usize>, some: Range<usize>, channels: Range<usize>, taps: Taps, y: &mut [f32]) {
    let d_conv = taps.w.len() / columns.width;
    for k in some {
        let w = &taps.w[k * d_conv..][..d_conv];
        for t in tokens.clone() {
            let mut sum = w[0] * columns.seen(t, 0)[k];
            for (j, &w) in w.iter().enumerate().skip(1) {
                sum += w * columns.seen(t, j)[k];
            }
            y[(t - tokens.start) * channels.len() + k - channels.start] = simd::silu(sum + taps.b[k]);
        }
    }
}

/// `R` rows of a state at once: what is loaded of b and c serves them all. `s: [R, N]`.
#[inline(always)]
fn update_rows<const R: usize>(s: &mut [f32], x: &[f32; R], dt: f32, decay: f32, b: &[f32], c: &[f32], d: f32) -> [f32; R] {
    let n = b.len();
    let mut rows = s.chunks_exact_mut(n);
    let rows: [&mut [f32]; R] = std::array::from_fn(|_| rows.next().expect("R rows"));
    let c = &c[..n];
    let whole = n / 4 * 4;
    let decays = F32x4::splat(decay);
    let mut sums = [F32x4::splat(0.0); R];
    for i in (0..whole).step_by(4) {
        let (b, c) = (F32x4::load(&b[i..]), F32x4::load(&c[i..]));
        for r in 0..R {
            let new = decays * F32x4::load(&rows[r][i..]) + F32x4::splat(dt * x[r]) * b;
            new.store(&mut rows[r][i..]);
            sums[r] = sums[r] + new * c;
        }
    }
    std::array::from_fn(|r| {
        let mut rest = 0.0;
        for i in whole..n {
            rows[r][i] = decay * rows[r][i] + dt * x[r] * b[i];
            rest += rows[r][i] * c[i];
        }
        sums[r].sum() + rest + d * x[r]
    })
}

/// `s = e^(s - max)`; their sum.
fn exp_and_sum(scores: &mut [f32], max: f32) -> f64 {
    let max4 = F32x4::splat(max);
    let mut total = 0f64;
    for some in scores.chunks_mut(64) {
        let (fours, rest) = some.as_chunks_mut::<4>();
        let mut sum = F32x4::splat(0.0);
        for s in fours {
            let e = (F32x4::load(s) - max4).exp();
            e.store(s);
            sum = sum + e;
        }
        total += sum.sum() as f64;
        for s in rest {
            *s = simd::exp(*s - max);
            total += *s as f64;
        }
    }
    total
}

/// `y += scale * x`.
fn add_scaled(y: &mut [f32], scale: f32, x: &[f32]) {
    let scales = F32x4::splat(scale);
    let (fours, rest) = y.as_chunks_mut::<4>();
    let (xs, x_rest) = x.as_chunks::<4>();
    for (y, x) in fours.iter_mut().zip(xs) {
        (F32x4::load(y) + scales * F32x4::load(x)).store(y);
    }
    for (y, x) in rest.iter_mut().zip(x_rest) {
        *y += scale * x;
    }
}

/// `sum_i a_i b_i` in sixteen running sums.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut acc = [F32x4::splat(0.0); 4];
    let (a16, b16) = (a.chunks_exact(16), b.chunks_exact(16));
    let tail: f32 = a16.remainder().iter().zip(b16.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a16.zip(b16) {
        for (i, acc) in acc.iter_mut().enumerate() {
            *acc = *acc + F32x4::load(&a[4 * i..]) * F32x4::load(&b[4 * i..]);
        }
    }
    ((acc[0] + acc[1]) + (acc[2] + acc[3])).sum() + tail
}

/// One row against some tokens: each weight is loaded once for all. The same sums for any number. `xs: [T, row.len()]`.
fn dots<const T: usize>(row: &[f32], xs: &[f32]) -> [f32; T] {
    let n = row.len();
    let xs: [&[f32]; T] = std::array::from_fn(|t| &xs[t * n..(t + 1) * n]);
    let mut acc = [[F32x4::splat(0.0); 2]; T];
    let whole = n / 8 * 8;
    for i in (0..whole).step_by(8) {
        let (w0, w1) = (F32x4::load(&row[i..]), F32x4::load(&row[i + 4..]));
        for (acc, x) in acc.iter_mut().zip(xs) {
            acc[0] = acc[0] + w0 * F32x4::load(&x[i..]);
            acc[1] = acc[1] + w1 * F32x4::load(&x[i + 4..]);
        }
    }
    std::array::from_fn(|t| {
        let tail: f32 = (whole..n).map(|i| row[i] * xs[t][i]).sum();
        (acc[t][0] + acc[t][1]).sum() + tail
    })
}
