//! The hot ops again, fast: SIMD dequantisation of a row, then f32 dot products with every token of the batch.
//!
//! What is not overridden here runs the specification in [`super::reference`].

use super::{
    Kernels, Kv, Matrix, Scratch, int8, reference,
    simd::{F32x4, I8x16, U8x16},
    tiles,
};
use crate::gguf::{GgmlType, quant};
use half::f16;

/// The kernels of [`super::Cpu`].
pub struct Simd;

impl Kernels for Simd {
    fn is_tiled(ty: GgmlType) -> bool {
        tiles::is_tiled(ty)
    }

    fn matmul(w: &Matrix, x: &[f32], y: &mut [f32], y_stride: usize, col: usize, scratch: &mut Scratch) {
        if w.tiled {
            return int8::matmul(w, x, y, y_stride, col, scratch);
        }
        let (n_cols, row) = (w.n_cols, &mut scratch.row[..w.n_cols]);
        for r in 0..w.n_rows {
            dequantize_row(w.ty, w.row(r), row);
            let mut out = y[col + r..].iter_mut().step_by(y_stride);
            let mut quads = x.chunks_exact(4 * n_cols);
            for four in &mut quads {
                for (dot, out) in dot4(row, four).into_iter().zip(&mut out) {
                    *out = dot;
                }
            }
            for (one, out) in quads.remainder().chunks_exact(n_cols).zip(out) {
                *out = dot(row, one);
            }
        }
    }

    fn rms_norm(x: &[f32], gamma: &[f32], eps: f32, y: &mut [f32]) {
        let mean = dot(x, x) / x.len() as f32;
        let scale = 1.0 / (mean + eps).sqrt();
        for i in 0..x.len() {
            y[i] = x[i] * scale * gamma[i];
        }
    }

    fn ssm_update(s: &mut [f32], x: &[f32], dt: f32, a: f32, b: &[f32], c: &[f32], d: f32, y: &mut [f32]) {
        let n = b.len();
        if !n.is_multiple_of(4) {
            return reference::ssm_update(s, x, dt, a, b, c, d, y);
        }
        let decay = F32x4::splat((dt * a).exp());
        for (p, s) in s.chunks_exact_mut(n).enumerate() {
            let dtx = F32x4::splat(dt * x[p]);
            let mut sum = F32x4::splat(0.0);
            for ((s, b), c) in s.chunks_exact_mut(4).zip(b.chunks_exact(4)).zip(c.chunks_exact(4)) {
                let new = decay * F32x4::load(s) + dtx * F32x4::load(b);
                new.store(s);
                sum = sum + new * F32x4::load(c);
            }
            y[p] = sum.sum() + d * x[p];
        }
    }

    fn attend_head(
        q: &[f32],
        k: &Kv,
        v: &Kv,
        n: usize,
        stride: usize,
        first: usize,
        scale: f32,
        work: &mut Vec<f32>,
        y: &mut [f32],
    ) {
        let (Kv::F32(keys), Kv::F32(values)) = (k, v) else {
            return reference::attend_head(q, k, v, n, stride, first, scale, work, y);
        };
        let d = q.len();
        work.resize(n.max(work.len()), 0.0);
        let scores = &mut work[..n];
        let mut max = f32::NEG_INFINITY;
        for (score, k) in scores.iter_mut().zip(keys.chunks_exact(stride)) {
            *score = scale * dot(q, &k[first..first + d]);
            max = max.max(*score);
        }
        let mut total = 0f64;
        for s in scores.iter_mut() {
            *s = (*s - max).exp();
            total += *s as f64;
        }
        let inv = (1.0 / total) as f32;
        y.fill(0.0);
        for (&score, v) in scores.iter().zip(values.chunks_exact(stride)) {
            reference::add_scaled(y, score * inv, &v[first..first + d]);
        }
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

/// One row against four tokens: each weight is loaded once for the four. `xs: [4, row.len()]`.
fn dot4(row: &[f32], xs: &[f32]) -> [f32; 4] {
    let n = row.len();
    let xs: [&[f32]; 4] = std::array::from_fn(|t| &xs[t * n..(t + 1) * n]);
    let mut acc = [[F32x4::splat(0.0); 2]; 4];
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

/// Decodes a row, the common types with SIMD. Equal to [`quant::dequantize`] up to the last bit of a product.
pub fn dequantize_row(ty: GgmlType, bytes: &[u8], out: &mut [f32]) {
    match ty {
        GgmlType::F16 => f16_row(bytes, out),
        GgmlType::Q4_K => blocks(ty, bytes, out, q4_k),
        GgmlType::Q6_K => blocks(ty, bytes, out, q6_k),
        GgmlType::Q8_0 => blocks(ty, bytes, out, q8_0),
        GgmlType::Q4_0 => blocks(ty, bytes, out, q4_0),
        _ => quant::dequantize(ty, bytes, out),
    }
}

fn blocks(ty: GgmlType, bytes: &[u8], out: &mut [f32], decode: impl Fn(&[u8], &mut [f32])) {
    for (block, out) in bytes.chunks_exact(ty.block_bytes()).zip(out.chunks_exact_mut(ty.block_len())) {
        decode(block, out);
    }
}

fn scale(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// `out[0..16] = q * d - m`.
#[inline(always)]
fn store_affine(q: U8x16, d: f32, m: f32, out: &mut [f32]) {
    let (d, m) = (F32x4::splat(d), F32x4::splat(m));
    for (q, out) in q.to_f32().into_iter().zip(out.chunks_exact_mut(4)) {
        (q * d - m).store(out);
    }
}

/// `out[0..16] = q * d`.
#[inline(always)]
fn store_scaled(q: I8x16, d: f32, out: &mut [f32]) {
    let d = F32x4::splat(d);
    for (q, out) in q.to_f32().into_iter().zip(out.chunks_exact_mut(4)) {
        (q * d).store(out);
    }
}

/// `{d, dmin: f16, scales: [12], qs: [128]}`; see [`quant`] for the layout.
fn q4_k(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (scale(block), scale(&block[2..]));
    let (scales, qs) = (block[4..16].try_into().expect("12 bytes"), &block[16..144]);
    for (j, (qs, out)) in qs.chunks_exact(32).zip(out.chunks_exact_mut(64)).enumerate() {
        let ((s0, m0), (s1, m1)) = (quant::scale_min_k4(scales, 2 * j), quant::scale_min_k4(scales, 2 * j + 1));
        let (d0, m0, d1, m1) = (d * s0 as f32, dmin * m0 as f32, d * s1 as f32, dmin * m1 as f32);
        for half in [0, 16] {
            let q = U8x16::load(&qs[half..]);
            store_affine(q.and(0xf), d0, m0, &mut out[half..half + 16]);
            store_affine(q.shift_right(4), d1, m1, &mut out[32 + half..48 + half]);
        }
    }
}

/// `{ql: [128], qh: [64], scales: [16] i8, d: f16}`.
fn q6_k(block: &[u8], out: &mut [f32]) {
    let d = scale(&block[208..]);
    for (half, out) in out.chunks_exact_mut(128).enumerate() {
        let (ql, qh, sc) = (&block[64 * half..], &block[128 + 32 * half..], &block[192 + 8 * half..]);
        for is in 0..2 {
            let at = 16 * is;
            let (l0, l1, h) = (U8x16::load(&ql[at..]), U8x16::load(&ql[at + 32..]), U8x16::load(&qh[at..]));
            let q = [
                l0.and(0xf).or(h.and(3).shift_left(4)),
                l1.and(0xf).or(h.shift_right(2).and(3).shift_left(4)),
                l0.shift_right(4).or(h.shift_right(4).and(3).shift_left(4)),
                l1.shift_right(4).or(h.shift_right(6).shift_left(4)),
            ];
            for (k, q) in q.into_iter().enumerate() {
                store_scaled(
                    q.minus(32),
                    d * sc[is + 2 * k] as i8 as f32,
                    &mut out[32 * k + at..32 * k + at + 16],
                );
            }
        }
    }
}

/// `{d: f16, qs: [32] i8}`.
fn q8_0(block: &[u8], out: &mut [f32]) {
    let d = scale(block);
    for half in [0, 16] {
        store_scaled(U8x16::load(&block[2 + half..]).as_signed(), d, &mut out[half..half + 16]);
    }
}

/// `{d: f16, qs: [16]}`: low nibbles are the first half.
fn q4_0(block: &[u8], out: &mut [f32]) {
    let (d, q) = (scale(block), U8x16::load(&block[2..]));
    store_scaled(q.and(0xf).minus(8), d, &mut out[..16]);
    store_scaled(q.shift_right(4).minus(8), d, &mut out[16..]);
}

/// Halves without branches: shifting the exponent into place leaves it 112 too small, subnormals included.
fn f16_row(bytes: &[u8], out: &mut [f32]) {
    const SHIFT_EXPONENT: f32 = f32::from_bits((127 + 112) << 23);
    for (o, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
        let h = u16::from_le_bytes([b[0], b[1]]) as u32;
        let magnitude = f32::from_bits((h & 0x7fff) << 13) * SHIFT_EXPONENT;
        let infinite = if h & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
        *o = f32::from_bits(magnitude.to_bits() | infinite | (h & 0x8000) << 16);
    }
}
