//! The formats in blocks of 32 columns: Q8_0, Q4_0.

#![expect(clippy::needless_range_loop, reason = "one index runs through weights, scales and tokens")]

use super::activations::Block32;
use super::kernels::{Format, dots16, nibbles};
use super::rows::Rows;

/// Q8_0.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Q80 {
    d: [u8; 16],
    qs: [[u8; 32]; 8],
}
const _: () = assert!(size_of::<Q80>() == 8 * 34);

/// Q4_0.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Q40 {
    d: [u8; 16],
    /// Columns 0..16 in the low nibbles, 16..32 in the high ones.
    qs: [[u8; 32]; 4],
}
const _: () = assert!(size_of::<Q40>() == 8 * 18);

impl Format for Q80 {
    type Tile = Q80;
    type Acts = Block32;

    #[inline(always)]
    fn block<R: Rows, const T: usize, const P: usize>(tile: &Q80, xs: &[&Block32; T], acc: &mut [[R::Float; P]; T]) {
        let mut dots = [[R::int(0); P]; T];
        for (i, qs) in tile.qs.as_chunks::<4>().0.iter().enumerate() {
            for v in 0..P {
                let mut w = [R::no_bytes(); 4];
                for g in 0..4 {
                    w[g] = R::bytes(&qs[g], v);
                }
                for t in 0..T {
                    let x = R::sixteen(&xs[t].q.as_chunks().0[i]);
                    let mut dot = dots[t][v];
                    dot = R::dot_signed(dot, w[0], R::four::<0>(x));
                    dot = R::dot_signed(dot, w[1], R::four::<1>(x));
                    dot = R::dot_signed(dot, w[2], R::four::<2>(x));
                    dots[t][v] = R::dot_signed(dot, w[3], R::four::<3>(x));
                }
            }
        }
        for v in 0..P {
            let d = R::halves(&tile.d, v);
            for t in 0..T {
                acc[t][v] = R::add_scaled(acc[t][v], dots[t][v], R::mul(d, R::float(xs[t].d)));
            }
        }
    }
}

/// Sixteen columns of Q4_0.
#[inline(always)]
fn q4_half<R: Rows, const T: usize, const P: usize, const NIBBLE: usize>(
    qs: &[[u8; 32]; 4],
    x: [&[[i8; 16]]; T],
    pairs: &mut [[R::Pairs; P]; T],
) {
    let mut w = [[R::no_bytes(); P]; 4];
    for g in 0..4 {
        for v in 0..P {
            w[g][v] = nibbles::<R, NIBBLE>(R::bytes(&qs[g], v));
        }
    }
    let mut sixteen = [&x[0][NIBBLE]; T];
    for t in 1..T {
        sixteen[t] = &x[t][NIBBLE];
    }
    dots16::<R, T, P>(pairs, w, sixteen);
}

impl Format for Q40 {
    type Tile = Q40;
    type Acts = Block32;

    #[inline(always)]
    fn block<R: Rows, const T: usize, const P: usize>(tile: &Q40, xs: &[&Block32; T], acc: &mut [[R::Float; P]; T]) {
        let mut pairs = [[R::no_pairs(); P]; T];
        let mut x = [xs[0].q.as_chunks().0; T];
        for t in 1..T {
            x[t] = xs[t].q.as_chunks().0;
        }
        q4_half::<R, T, P, 0>(&tile.qs, x, &mut pairs);
        q4_half::<R, T, P, 1>(R::anew(&tile.qs), x, &mut pairs);
        for v in 0..P {
            let d = R::halves(&tile.d, v);
            for t in 0..T {
                let sum = R::add_times(R::int(xs[t].minus_8), pairs[t][v], R::scale(1));
                acc[t][v] = R::add_scaled(acc[t][v], sum, R::mul(d, R::float(xs[t].d)));
            }
        }
    }
}
