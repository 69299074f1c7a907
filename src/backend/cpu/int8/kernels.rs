//! A tile of weights times the 8-bit activations of a few tokens, written once over [`Rows`].
//!
//! Within a block everything is integer. Blocks are added in f32 in their order, whatever the number of tokens, so a product has
//! the same bits in a batch as alone, on any thread and in any build.

#![expect(clippy::needless_range_loop, reason = "one index runs through weights, scales and tokens")]

use super::activations::{Block32, Block256};
use super::{Output, rows::Rows};
use std::ops::Range;

/// Q4_K.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Q4K {
    d: [u8; 16],
    dmin: [u8; 16],
    /// Twelve bytes a row, two at a time.
    scales: [[u8; 16]; 6],
    /// Nibbles of sub-blocks `2p` (low) and `2p + 1`.
    qs: [[[u8; 32]; 8]; 4],
}
const _: () = assert!(size_of::<Q4K>() == 8 * 144);

/// Q5_K.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Q5K {
    d: [u8; 16],
    dmin: [u8; 16],
    /// As in [`Q4K`].
    scales: [[u8; 16]; 6],
    /// Bit `j`: the fifth bit of sub-block `j`.
    qh: [[u8; 32]; 8],
    /// As in [`Q4K`].
    qs: [[[u8; 32]; 8]; 4],
}
const _: () = assert!(size_of::<Q5K>() == 8 * 176);

/// Q6_K.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Q6K {
    /// Of each half: columns 0..64 in the low nibbles, 64..128 in the high ones.
    ql: [[[u8; 32]; 16]; 2],
    /// Of each half: bits `2s` and `2s + 1` belong to columns `32 s..32 s + 32`.
    qh: [[[u8; 32]; 8]; 2],
    scales: [[u8; 16]; 8],
    d: [u8; 16],
}
const _: () = assert!(size_of::<Q6K>() == 8 * 210);

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

/// A format's kernel.
pub(super) trait Format {
    /// A block of a tile.
    type Tile: bytemuck::Pod;
    /// The activations it is multiplied with.
    type Acts;
    /// `acc[t] += tile . xs[t][b]`.
    fn block<R: Rows, const T: usize>(tile: &Self::Tile, xs: &[&[Self::Acts]; T], b: usize, acc: &mut [R::Float; T]);
}

/// The four columns from `k` on.
#[inline(always)]
fn four<const N: usize>(q: &[i8; N], k: usize) -> &[i8; 4] {
    q[k..k + 4].try_into().expect("four")
}

/// The 6-bit scales and mins of Q4_K and Q5_K, `[pair of sub-blocks][row][2]`; see [`crate::gguf::quant::scale_min_k4`].
#[inline(always)]
fn scales_mins(packed: &[[u8; 16]; 6]) -> ([[u8; 16]; 4], [[u8; 16]; 4]) {
    let (mut scales, mut mins) = ([[0; 16]; 4], [[0; 16]; 4]);
    for p in 0..2 {
        let (s, m, h) = (&packed[p], &packed[p + 2], &packed[p + 4]);
        for i in 0..16 {
            scales[p][i] = s[i] & 0x3f;
            mins[p][i] = m[i] & 0x3f;
            scales[p + 2][i] = h[i] & 0x0f | (s[i] >> 2) & 0x30;
            mins[p + 2][i] = h[i] >> 4 | (m[i] >> 2) & 0x30;
        }
    }
    (scales, mins)
}

/// Adds `d x.d sum - dmin x.d (mins . sums of x)` of a block.
#[inline(always)]
fn add_affine<R: Rows, const T: usize>(
    (d, dmin): (&[u8; 16], &[u8; 16]),
    mins: &[[u8; 16]; 4],
    sums: &[R::Int; T],
    xs: &[&[Block256]; T],
    b: usize,
    acc: &mut [R::Float; T],
) {
    let (d, dmin) = (R::halves(d), R::halves(dmin));
    for t in 0..T {
        let x = &xs[t][b];
        let mut offset = R::int(0);
        for (m, s) in mins.iter().zip(x.sums32.as_chunks::<2>().0) {
            offset = R::dot_pairs(offset, m, s);
        }
        let dx = R::float(x.d);
        acc[t] = R::add_scaled(acc[t], sums[t], R::mul(d, dx));
        acc[t] = R::sub_scaled(acc[t], offset, R::mul(dmin, dx));
    }
}

impl Format for Q4K {
    type Tile = Q4K;
    type Acts = Block256;

    #[inline(always)]
    fn block<R: Rows, const T: usize>(tile: &Q4K, xs: &[&[Block256]; T], b: usize, acc: &mut [R::Float; T]) {
        let (scales, mins) = scales_mins(&tile.scales);
        let mut sums = [R::int(0); T];
        for p in 0..4 {
            let (s0, s1) = R::scales(&scales[p]);
            let mut pairs = [R::no_pairs(); T];
            for g in 0..8 {
                let w = R::and(R::bytes(&tile.qs[p][g]), 0x0f);
                for t in 0..T {
                    pairs[t] = R::dot(pairs[t], w, four(&xs[t][b].q, 64 * p + 4 * g));
                }
            }
            for t in 0..T {
                sums[t] = R::add_times(sums[t], pairs[t], s0);
            }
            let mut pairs = [R::no_pairs(); T];
            for g in 0..8 {
                let w = R::and(R::shr::<4>(R::bytes(&tile.qs[p][g])), 0x0f);
                for t in 0..T {
                    pairs[t] = R::dot(pairs[t], w, four(&xs[t][b].q, 64 * p + 32 + 4 * g));
                }
            }
            for t in 0..T {
                sums[t] = R::add_times(sums[t], pairs[t], s1);
            }
        }
        add_affine::<R, T>((&tile.d, &tile.dmin), &mins, &sums, xs, b, acc);
    }
}

/// Moves the fifth bits of sub-block `J` to bit 4.
#[inline(always)]
fn fifth<R: Rows, const J: usize>(qh: &[u8; 32]) -> R::Bytes {
    let bit = R::and(R::bytes(qh), 1 << J);
    match J {
        0 => R::shl::<4>(bit),
        1 => R::shl::<3>(bit),
        2 => R::shl::<2>(bit),
        3 => R::shl::<1>(bit),
        4 => bit,
        5 => R::shr::<1>(bit),
        6 => R::shr::<2>(bit),
        _ => R::shr::<3>(bit),
    }
}

/// Sub-blocks `2 P` and `2 P + 1`, given as `LOW` and `HIGH`.
#[inline(always)]
fn q5_pair<R: Rows, const T: usize, const LOW: usize, const HIGH: usize>(
    tile: &Q5K,
    scales: &[u8; 16],
    xs: &[&[Block256]; T],
    b: usize,
    sums: &mut [R::Int; T],
) {
    let qs = &tile.qs[LOW / 2];
    let (s0, s1) = R::scales(scales);
    for half in 0..2 {
        let mut pairs = [R::no_pairs(); T];
        for g in 4 * half..4 * half + 4 {
            let w = R::or(R::and(R::bytes(&qs[g]), 0x0f), fifth::<R, LOW>(&tile.qh[g]));
            for t in 0..T {
                pairs[t] = R::dot(pairs[t], w, four(&xs[t][b].q, 32 * LOW + 4 * g));
            }
        }
        for t in 0..T {
            sums[t] = R::add_times(sums[t], pairs[t], s0);
        }
        let mut pairs = [R::no_pairs(); T];
        for g in 4 * half..4 * half + 4 {
            let w = R::or(R::and(R::shr::<4>(R::bytes(&qs[g])), 0x0f), fifth::<R, HIGH>(&tile.qh[g]));
            for t in 0..T {
                pairs[t] = R::dot(pairs[t], w, four(&xs[t][b].q, 32 * HIGH + 4 * g));
            }
        }
        for t in 0..T {
            sums[t] = R::add_times(sums[t], pairs[t], s1);
        }
    }
}

impl Format for Q5K {
    type Tile = Q5K;
    type Acts = Block256;

    #[inline(always)]
    fn block<R: Rows, const T: usize>(tile: &Q5K, xs: &[&[Block256]; T], b: usize, acc: &mut [R::Float; T]) {
        let (scales, mins) = scales_mins(&tile.scales);
        let mut sums = [R::int(0); T];
        q5_pair::<R, T, 0, 1>(tile, &scales[0], xs, b, &mut sums);
        q5_pair::<R, T, 2, 3>(tile, &scales[1], xs, b, &mut sums);
        q5_pair::<R, T, 4, 5>(tile, &scales[2], xs, b, &mut sums);
        q5_pair::<R, T, 6, 7>(tile, &scales[3], xs, b, &mut sums);
        add_affine::<R, T>((&tile.d, &tile.dmin), &mins, &sums, xs, b, acc);
    }
}

/// Weights of quarter `S` of a half from its bytes of `ql` and `qh`.
#[inline(always)]
fn q6_weights<R: Rows, const S: usize>(low: R::Bytes, high: R::Bytes) -> R::Bytes {
    let low = if S < 2 { low } else { R::shr::<4>(low) };
    let high = match S {
        0 => R::shl::<4>(high),
        1 => R::shl::<2>(high),
        2 => high,
        _ => R::shr::<2>(high),
    };
    R::or(R::and(low, 0x0f), R::and(high, 0x30))
}

/// Quarter `S` of half `h`: 32 columns, two sub-blocks. In WebAssembly a function of its own: inlined, bytes that the quarters share
/// would be kept from one to the next, more than there are registers for.
#[cfg_attr(target_arch = "wasm32", inline(never))]
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
fn q6_quarter<R: Rows, const T: usize, const S: usize>(
    tile: &Q6K,
    h: usize,
    xs: &[&[Block256]; T],
    b: usize,
    sums: &mut [R::Int; T],
) {
    let (s0, s1) = R::scales(&tile.scales[4 * h + S]);
    for two in 0..4 {
        let mut pairs = [R::no_pairs(); T];
        for g in 2 * two..2 * two + 2 {
            let w = q6_weights::<R, S>(R::bytes(&tile.ql[h][8 * (S % 2) + g]), R::bytes(&tile.qh[h][g]));
            for t in 0..T {
                pairs[t] = R::dot(pairs[t], w, four(&xs[t][b].q, 128 * h + 32 * S + 4 * g));
            }
        }
        let scale = if two < 2 { s0 } else { s1 };
        for t in 0..T {
            sums[t] = R::add_times(sums[t], pairs[t], scale);
        }
    }
}

impl Format for Q6K {
    type Tile = Q6K;
    type Acts = Block256;

    #[inline(always)]
    fn block<R: Rows, const T: usize>(tile: &Q6K, xs: &[&[Block256]; T], b: usize, acc: &mut [R::Float; T]) {
        let mut sums = [R::int(0); T];
        for t in 0..T {
            for (scales, s) in tile.scales.iter().zip(xs[t][b].sums16.as_chunks::<2>().0) {
                sums[t] = R::dot_pairs(sums[t], scales, s);
            }
            sums[t] = R::mul_add(R::int(0), sums[t], R::int(-32));
        }
        for h in 0..2 {
            q6_quarter::<R, T, 0>(tile, h, xs, b, &mut sums);
            q6_quarter::<R, T, 1>(tile, h, xs, b, &mut sums);
            q6_quarter::<R, T, 2>(tile, h, xs, b, &mut sums);
            q6_quarter::<R, T, 3>(tile, h, xs, b, &mut sums);
        }
        let d = R::halves(&tile.d);
        for t in 0..T {
            acc[t] = R::add_scaled(acc[t], sums[t], R::mul(d, R::float(xs[t][b].d)));
        }
    }
}

impl Format for Q80 {
    type Tile = Q80;
    type Acts = Block32;

    #[inline(always)]
    fn block<R: Rows, const T: usize>(tile: &Q80, xs: &[&[Block32]; T], b: usize, acc: &mut [R::Float; T]) {
        let mut dots = [R::int(0); T];
        for g in 0..8 {
            let w = R::bytes(&tile.qs[g]);
            for t in 0..T {
                dots[t] = R::dot_signed(dots[t], w, four(&xs[t][b].q, 4 * g));
            }
        }
        let d = R::halves(&tile.d);
        for t in 0..T {
            acc[t] = R::add_scaled(acc[t], dots[t], R::mul(d, R::float(xs[t][b].d)));
        }
    }
}

impl Format for Q40 {
    type Tile = Q40;
    type Acts = Block32;

    #[inline(always)]
    fn block<R: Rows, const T: usize>(tile: &Q40, xs: &[&[Block32]; T], b: usize, acc: &mut [R::Float; T]) {
        let mut pairs = [R::no_pairs(); T];
        for g in 0..4 {
            let w = R::bytes(&tile.qs[g]);
            let (low, high) = (R::and(w, 0x0f), R::and(R::shr::<4>(w), 0x0f));
            for t in 0..T {
                pairs[t] = R::dot(pairs[t], low, four(&xs[t][b].q, 4 * g));
                pairs[t] = R::dot(pairs[t], high, four(&xs[t][b].q, 16 + 4 * g));
            }
        }
        let d = R::halves(&tile.d);
        for t in 0..T {
            let sum = R::add_times(R::int(xs[t][b].minus_8), pairs[t], R::scale(1));
            acc[t] = R::add_scaled(acc[t], sum, R::mul(d, R::float(xs[t][b].d)));
        }
    }
}

/// Products of a tile with `T` tokens: `[T][row]`.
#[inline(always)]
fn tile<R: Rows, F: Format, const T: usize>(tile: &[F::Tile], xs: &[&[F::Acts]; T]) -> [[f32; 8]; T] {
    let mut acc = [R::float(0.0); T];
    for (b, block) in tile.iter().enumerate() {
        F::block::<R, T>(block, xs, b, &mut acc);
    }
    let mut out = [[0.0; 8]; T];
    for t in 0..T {
        R::store(acc[t], &mut out[t]);
    }
    out
}

/// One part of a product.
pub(super) struct Work<'a, A> {
    /// `[n_tokens][n_blocks]`.
    pub xs: &'a [A],
    /// Of a row.
    pub n_blocks: usize,
    /// Which rows of the matrix.
    pub rows: Range<usize>,
    /// Of the whole matrix.
    pub out: &'a Output<'a>,
}

/// Tokens whose activations, some 1.3 bytes a column, stay in the second cache while all tiles go by them.
const PANEL: usize = 64;

/// Some tiles times all tokens. `data: [tiles of work.rows][n_blocks]` tile blocks.
///
/// A tile stays in the nearest cache while four tokens at a time go by it.
///
/// # Safety
/// While it runs, nobody else may have those rows of the output.
#[inline(always)]
pub(super) unsafe fn matmul<R: Rows, F: Format>(data: &[u8], work: &Work<F::Acts>) {
    let n = work.n_blocks;
    let tiles: &[F::Tile] = bytemuck::cast_slice(data);
    for (panel, xs) in work.xs.chunks(PANEL * n).enumerate() {
        for (blocks, row) in tiles.chunks_exact(n).zip(work.rows.clone().step_by(8)) {
            let n_rows = (work.rows.end - row).min(8);
            // SAFETY: the same contract.
            let put = |t, values: &[f32; 8]| unsafe {
                match n_rows {
                    8 => work.out.put(PANEL * panel + t, row, values),
                    _ => work.out.put(PANEL * panel + t, row, &values[..n_rows]),
                }
            };
            let fours = xs.chunks_exact(4 * n);
            let first_alone = xs.len() / n / 4 * 4;
            let alone = fours.remainder().chunks_exact(n);
            for (i, x) in fours.enumerate() {
                let (x01, x23) = x.split_at(2 * n);
                let ((x0, x1), (x2, x3)) = (x01.split_at(n), x23.split_at(n));
                let products = tile::<R, F, 4>(blocks, &[x0, x1, x2, x3]);
                for (k, values) in products.iter().enumerate() {
                    put(4 * i + k, values);
                }
            }
            for (i, x) in alone.enumerate() {
                put(first_alone + i, &tile::<R, F, 1>(blocks, &[x])[0]);
            }
        }
    }
}
