//! A tile of weights times the 8-bit activations of a few tokens, written once over [`Rows`].
//!
//! Within a block everything is integer. Blocks are added in f32 in their order, whatever the number of tokens, so a product has
//! the same bits in a batch as alone, on any thread and in any build.

#![expect(clippy::needless_range_loop, reason = "one index runs through weights, scales and tokens")]

use super::{Output, rows::Rows};
use std::ops::Range;

/// A format's kernel.
pub(super) trait Format {
    /// A block of a tile.
    type Tile: bytemuck::Pod;
    /// The activations it is multiplied with.
    type Acts;
    /// `acc[t] += tile . xs[t]`, a tile's rows in `P` parts.
    fn block<R: Rows, const T: usize, const P: usize>(tile: &Self::Tile, xs: &[&Self::Acts; T], acc: &mut [[R::Float; P]; T]);
}

/// Four columns of weights, times those of a token.
#[inline(always)]
pub(super) fn dots4<R: Rows, const P: usize>(pairs: &mut [R::Pairs; P], w: [R::Bytes; P], x: R::Four) {
    for v in 0..P {
        pairs[v] = R::dot(pairs[v], w[v], x);
    }
}

/// Sixteen columns of weights, times those of each token.
#[inline(always)]
pub(super) fn dots16<R: Rows, const T: usize, const P: usize>(
    pairs: &mut [[R::Pairs; P]; T],
    w: [[R::Bytes; P]; 4],
    x: [&[i8; 16]; T],
) {
    for t in 0..T {
        let x = R::sixteen(x[t]);
        dots4::<R, P>(&mut pairs[t], w[0], R::four::<0>(x));
        dots4::<R, P>(&mut pairs[t], w[1], R::four::<1>(x));
        dots4::<R, P>(&mut pairs[t], w[2], R::four::<2>(x));
        dots4::<R, P>(&mut pairs[t], w[3], R::four::<3>(x));
    }
}

/// Adds what was summed, times a scale.
#[inline(always)]
pub(super) fn add_times<R: Rows, const T: usize, const P: usize>(
    sums: &mut [[R::Int; P]; T],
    pairs: &[[R::Pairs; P]; T],
    scale: [R::Scale; P],
) {
    for t in 0..T {
        for v in 0..P {
            sums[t][v] = R::add_times(sums[t][v], pairs[t][v], scale[v]);
        }
    }
}

/// The two scales of each row of each part.
#[inline(always)]
pub(super) fn scales<R: Rows, const P: usize>(b: &[u8; 16]) -> [[R::Scale; P]; 2] {
    let mut both = [[R::scale(0); P]; 2];
    for v in 0..P {
        (both[0][v], both[1][v]) = R::scales(b, v);
    }
    both
}

/// The low nibbles (0) or the high ones of the bytes of each row.
#[inline(always)]
pub(super) fn nibbles<R: Rows, const NIBBLE: usize>(bytes: R::Bytes) -> R::Bytes {
    R::and(if NIBBLE == 0 { bytes } else { R::shr::<4>(bytes) }, 0x0f)
}

/// Products of a tile with `T` tokens: `[T][row]`. `P`: [`Rows::PARTS`].
#[inline(always)]
fn tile_in_parts<R: Rows, F: Format, const T: usize, const P: usize>(tile: &[F::Tile], xs: &[&[F::Acts]; T]) -> [[f32; 8]; T] {
    let mut acc = [[R::float(0.0); P]; T];
    for (b, block) in tile.iter().enumerate() {
        let mut blocks = [&xs[0][b]; T];
        for t in 1..T {
            blocks[t] = &xs[t][b];
        }
        F::block::<R, T, P>(block, &blocks, &mut acc);
    }
    let mut out = [[0.0; 8]; T];
    for t in 0..T {
        for v in 0..P {
            R::store(acc[t][v], &mut out[t], v);
        }
    }
    out
}

/// Products of a tile with `T` tokens: `[T][row]`.
#[inline(always)]
fn tile<R: Rows, F: Format, const T: usize>(tile: &[F::Tile], xs: &[&[F::Acts]; T]) -> [[f32; 8]; T] {
    match R::PARTS {
        1 => tile_in_parts::<R, F, T, 1>(tile, xs),
        _ => tile_in_parts::<R, F, T, 2>(tile, xs),
    }
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
            let (first, n_tokens) = (PANEL * panel, xs.len() / n);
            // SAFETY: the same contract.
            unsafe {
                let t = some_tokens::<R, F, 4>(blocks, xs, 0..n_tokens, first, row, work);
                some_tokens::<R, F, 1>(blocks, xs, t..n_tokens, first, row, work);
            }
        }
    }
}

/// A tile times tokens, `T` at a time while there are as many; the first one left. `xs: [n_tokens][n_blocks]`, of which the first is token `first`.
///
/// # Safety
/// As [`matmul`].
#[inline(always)]
unsafe fn some_tokens<R: Rows, F: Format, const T: usize>(
    blocks: &[F::Tile],
    xs: &[F::Acts],
    tokens: Range<usize>,
    first: usize,
    row: usize,
    work: &Work<F::Acts>,
) -> usize {
    let (n, n_rows) = (work.n_blocks, (work.rows.end - row).min(8));
    let mut t = tokens.start;
    while t + T <= tokens.end {
        let products = tile::<R, F, T>(blocks, &std::array::from_fn(|k| &xs[(t + k) * n..][..n]));
        for (k, values) in products.iter().enumerate() {
            // SAFETY: the same contract.
            unsafe { work.out.put(first + t + k, row, &values[..n_rows]) };
        }
        t += T;
    }
    t
}
