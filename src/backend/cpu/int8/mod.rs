//! Integer kernels: weights in tiles of eight rows times activations in 8 bits.
//!
//! For the types that [`super::tiles`] knows. F32, F16 and the rarer quants keep the f32 products of [`super::kernels`], exact and slower.

pub mod activations;
mod blocks256;
mod blocks32;
mod kernels;
mod rows;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;

use super::{
    Matrix,
    products::{Inputs, Output},
    tiles,
};
use crate::gguf::GgmlType;
use kernels::Format;
use std::ops::Range;

/// Rows `rows` of `W x[t]`, `w` tiled, into `out`. `rows` starts with a tile and ends with one, or with the matrix.
///
/// # Safety
/// While it runs, nobody else may have those rows of `out`.
pub(super) unsafe fn matmul<const PORTABLE: bool>(w: &Matrix, x: &Inputs, rows: Range<usize>, out: &Output) {
    // SAFETY: the same contract.
    unsafe {
        match w.ty {
            GgmlType::Q8_0 => dispatch::<blocks32::Q80, PORTABLE>(w, x.blocks32(w.n_cols), rows, out),
            GgmlType::Q4_0 => dispatch::<blocks32::Q40, PORTABLE>(w, x.blocks32(w.n_cols), rows, out),
            GgmlType::Q4_K => dispatch::<blocks256::Q4K, PORTABLE>(w, x.blocks256(w.n_cols), rows, out),
            GgmlType::Q5_K => dispatch::<blocks256::Q5K, PORTABLE>(w, x.blocks256(w.n_cols), rows, out),
            GgmlType::Q6_K => dispatch::<blocks256::Q6K, PORTABLE>(w, x.blocks256(w.n_cols), rows, out),
            ty => unreachable!("{ty} is not tiled"),
        }
    }
}

/// In the best instructions that there are; `PORTABLE`: in none of them.
///
/// # Safety
/// As [`matmul`].
unsafe fn dispatch<F: Format, const PORTABLE: bool>(w: &Matrix, xs: &[F::Acts], rows: Range<usize>, out: &Output) {
    let n_blocks = w.n_cols / w.ty.block_len();
    let tile = tiles::ROWS * w.ty.row_bytes(w.n_cols);
    let first = rows.start / tiles::ROWS;
    let data = &w.data[first * tile..rows.end.div_ceil(tiles::ROWS).max(first) * tile];
    let work = kernels::Work { xs, n_blocks, rows, out };
    // SAFETY: the same contract.
    unsafe {
        if PORTABLE {
            return kernels::matmul::<rows::Portable, F>(data, &work);
        }
        #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
        if !wasm::sums_fours() {
            return kernels::matmul::<wasm::Simd128<true>, F>(data, &work);
        }
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        return kernels::matmul::<wasm::Simd128<false>, F>(data, &work);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            return matmul_avx2::<F>(data, &work);
        }
        #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
        kernels::matmul::<rows::Portable, F>(data, &work)
    }
}

/// # Safety
/// The processor must have AVX2; and as [`matmul`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn matmul_avx2<F: Format>(data: &[u8], work: &kernels::Work<F::Acts>) {
    // SAFETY: the same contract.
    unsafe { kernels::matmul::<avx2::Avx2, F>(data, work) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::cpu::{products::Then, share::Shared},
        gguf::quant,
    };
    use activations::{Block32, Block256};
    use half::f16;
    use rows::{Portable, Rows};

    /// Random rows of blocks; scales of every magnitude that an f16 has, subnormals included.
    fn random_matrix(ty: GgmlType, n_rows: usize, n_cols: usize, rng: &mut fastrand::Rng) -> (Matrix, Vec<u8>) {
        let mut bytes: Vec<u8> = std::iter::repeat_with(|| rng.u8(..))
            .take(n_rows * ty.row_bytes(n_cols))
            .collect();
        let halves: &[usize] = match ty {
            GgmlType::Q4_K | GgmlType::Q5_K => &[0, 2],
            GgmlType::Q6_K => &[208],
            _ => &[0],
        };
        for block in bytes.chunks_exact_mut(ty.block_bytes()) {
            for &at in halves {
                let scale = f16::from_bits(rng.u16(..) & 0xbfff);
                block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
            }
        }
        let mut w = Matrix::new(ty, n_rows, n_cols, true).expect("small");
        // In pieces that break tiles, rows and blocks.
        let (mut at, mut scratch) = (0, Vec::new());
        while at < bytes.len() {
            let n = rng.usize(0..3000).min(bytes.len() - at);
            w.write(at, &bytes[at..at + n], &mut scratch);
            at += n;
        }
        (w, bytes)
    }

    fn into_new(len: usize, stride: usize, f: impl FnOnce(&Output)) -> Vec<f32> {
        let mut y = vec![0.0; len];
        f(&Output {
            y: Shared::new(&mut y),
            stride,
            col: 0,
            then: Then::Store,
        });
        y
    }

    /// In two parts, cut at `row`.
    fn dispatched<F: Format>(w: &Matrix, xs: &[F::Acts], row: usize) -> Vec<f32> {
        let n_tokens = xs.len() / (w.n_cols / w.ty.block_len());
        into_new(n_tokens * w.n_rows, w.n_rows, |out| {
            // SAFETY: nobody else has the output.
            unsafe {
                dispatch::<F, false>(w, xs, 0..row, out);
                dispatch::<F, false>(w, xs, row..w.n_rows, out);
            }
        })
    }

    fn product<R: Rows, F: Format>(w: &Matrix, xs: &[F::Acts]) -> Vec<f32> {
        let n_blocks = w.n_cols / w.ty.block_len();
        into_new(xs.len() / n_blocks * w.n_rows, w.n_rows, |out| {
            let work = kernels::Work {
                xs,
                n_blocks,
                rows: 0..w.n_rows,
                out,
            };
            // SAFETY: nobody else has the output.
            unsafe { kernels::matmul::<R, F>(&w.data, &work) }
        })
    }

    /// A matrix of every odd shape: against f64 sums of the rounded activations, and all builds against each other.
    fn check<F: Format>(ty: GgmlType, quantize: impl Fn(&[f32]) -> Vec<F::Acts>, values: impl Fn(&F::Acts) -> Vec<f32>) {
        let mut rng = fastrand::Rng::with_seed(3);
        for (n_rows, n_blocks, n_tokens) in [(1, 1, 1), (8, 3, 4), (13, 2, 7), (40, 5, 2)] {
            let n_cols = n_blocks * ty.block_len();
            let (w, bytes) = random_matrix(ty, n_rows, n_cols, &mut rng);
            let x: Vec<f32> = std::iter::repeat_with(|| rng.f32() - 0.5).take(n_tokens * n_cols).collect();
            let acts = quantize(&x);
            let rounded: Vec<f32> = acts.iter().flat_map(&values).collect();
            let y = product::<Portable, F>(&w, &acts);
            let mut row = vec![0.0; n_cols];
            for r in 0..n_rows {
                quant::dequantize(ty, &bytes[r * ty.row_bytes(n_cols)..][..ty.row_bytes(n_cols)], &mut row);
                for t in 0..n_tokens {
                    let terms = row.iter().zip(&rounded[t * n_cols..]).map(|(&w, &x)| w as f64 * x as f64);
                    let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
                    let found = y[t * n_rows + r] as f64;
                    assert!(
                        (found - sum).abs() <= 3e-6 * size,
                        "{ty} row {r} token {t}: {found}, not {sum}"
                    );
                }
            }
            for t in 0..n_tokens {
                let alone = product::<Portable, F>(&w, &acts[t * n_blocks..(t + 1) * n_blocks]);
                assert_eq!(alone, y[t * n_rows..(t + 1) * n_rows], "{ty} token {t} alone");
            }
            let fast = dispatched::<F>(&w, &acts, n_rows / 16 * 8);
            let bits = |y: &[f32]| y.iter().map(|y| y.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&fast), bits(&y), "{ty}: this processor's instructions");
        }
    }

    fn blocks256(x: &[f32]) -> Vec<Block256> {
        let round = |x| {
            let mut block = Block256::ZERO;
            block.quantize(x);
            block
        };
        x.as_chunks().0.iter().map(round).collect()
    }
    fn blocks32(x: &[f32]) -> Vec<Block32> {
        let round = |x| {
            let mut block = Block32::ZERO;
            block.quantize(x);
            block
        };
        x.as_chunks().0.iter().map(round).collect()
    }

    #[test]
    fn products_are_exact_and_the_same_in_every_build() {
        let k = |b: &Block256| b.q.iter().map(|&q| b.d * q as f32).collect();
        check::<blocks256::Q4K>(GgmlType::Q4_K, blocks256, k);
        check::<blocks256::Q5K>(GgmlType::Q5_K, blocks256, k);
        check::<blocks256::Q6K>(GgmlType::Q6_K, blocks256, k);
        let k = |b: &Block32| b.q.iter().map(|&q| b.d * q as f32).collect();
        check::<blocks32::Q80>(GgmlType::Q8_0, blocks32, k);
        check::<blocks32::Q40>(GgmlType::Q4_0, blocks32, k);
    }

    /// The largest weights and activations that there are, signs alike: nothing saturates.
    fn check_extremes<F: Format>(ty: GgmlType, one: &[u8], expected: f32, quantize: impl Fn(&[f32]) -> Vec<F::Acts>) {
        let n_cols = ty.block_len();
        let mut w = Matrix::new(ty, 1, n_cols, true).expect("small");
        w.write(0, one, &mut Vec::new());
        for sign in [1.0, -1.0] {
            let acts = quantize(&vec![127.0 * sign; n_cols]);
            assert_eq!(product::<Portable, F>(&w, &acts), [expected * sign], "{ty}");
            assert_eq!(dispatched::<F>(&w, &acts, 0), [expected * sign], "{ty}");
        }
    }

    #[test]
    fn extremes_fit() {
        let one = f16::ONE.to_le_bytes();
        for (ty, len, most) in [(GgmlType::Q4_K, 144, 15.0), (GgmlType::Q5_K, 176, 31.0)] {
            let mut block = vec![0xff; len];
            block[0..2].copy_from_slice(&one);
            block[2..4].fill(0);
            let expected = 63.0 * most * 127.0 * 256.0;
            match ty {
                GgmlType::Q4_K => check_extremes::<blocks256::Q4K>(ty, &block, expected, blocks256),
                _ => check_extremes::<blocks256::Q5K>(ty, &block, expected, blocks256),
            }
        }
        for (scale, weight, quants) in [(127i8, 31.0, 0xff), (-128, 31.0, 0xff), (-128, -32.0, 0)] {
            let mut block = [quants; 210];
            block[192..208].fill(scale as u8);
            block[208..].copy_from_slice(&one);
            check_extremes::<blocks256::Q6K>(GgmlType::Q6_K, &block, scale as f32 * weight * 127.0 * 256.0, blocks256);
        }
        for (weight, quants) in [(7.0, 0xff), (-8.0, 0)] {
            let mut block = [quants; 18];
            block[..2].copy_from_slice(&one);
            check_extremes::<blocks32::Q40>(GgmlType::Q4_0, &block, weight * 127.0 * 32.0, blocks32);
        }
    }
}
