//! Rows of blocks to floats, the common types with SIMD.

use super::simd::{F32x4, I8x16, U8x16};
use crate::gguf::{GgmlType, quant};
use half::f16;

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

/// A half without branches: shifting the exponent into place leaves it 112 too small, subnormals included.
#[inline(always)]
pub(super) fn widen(h: f16) -> f32 {
    const SHIFT_EXPONENT: f32 = f32::from_bits((127 + 112) << 23);
    let h = h.to_bits() as u32;
    let magnitude = f32::from_bits((h & 0x7fff) << 13) * SHIFT_EXPONENT;
    let infinite = if h & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(magnitude.to_bits() | infinite | (h & 0x8000) << 16)
}

fn f16_row(bytes: &[u8], out: &mut [f32]) {
    for (o, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
        *o = widen(f16::from_le_bytes(*b));
    }
}
