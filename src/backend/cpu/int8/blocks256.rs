//! The formats in blocks of 256 columns: Q4_K, Q5_K, Q6_K.

#![expect(clippy::needless_range_loop, reason = "one index runs through weights, scales and tokens")]

use super::activations::Block256;
use super::kernels::{Format, add_times, dots4, dots16, nibbles, scales};
use super::rows::Rows;

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

/// Q6_K, its quants regrouped; see [`super::super::tiles`].
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Q6K {
    /// Of each half, of its first three quarters of 32 columns: quants in the low six bits, two bits of the last quarter's above.
    qs: [[[[u8; 32]; 8]; 3]; 2],
    scales: [[u8; 16]; 8],
    d: [u8; 16],
}
const _: () = assert!(size_of::<Q6K>() == 8 * 210);

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

/// The `i`-th sixteen columns of each token.
#[inline(always)]
fn sixteen<'a, const T: usize>(xs: &[&'a Block256; T], i: usize) -> [&'a [i8; 16]; T] {
    let mut x = [&xs[0].q.as_chunks().0[i]; T];
    for t in 1..T {
        x[t] = &xs[t].q.as_chunks().0[i];
    }
    x
}

/// Adds `d x.d sum - dmin x.d (mins . sums of x)` of a block.
#[inline(always)]
fn add_affine<R: Rows, const T: usize, const P: usize>(
    (d, dmin): (&[u8; 16], &[u8; 16]),
    mins: &[[u8; 16]; 4],
    sums: &[[R::Int; P]; T],
    xs: &[&Block256; T],
    acc: &mut [[R::Float; P]; T],
) {
    for v in 0..P {
        let (d, dmin) = (R::halves(d, v), R::halves(dmin, v));
        for t in 0..T {
            let mut offset = R::int(0);
            for (m, s) in mins.iter().zip(xs[t].sums32.as_chunks::<2>().0) {
                offset = R::dot_pairs(offset, m, v, s);
            }
            let dx = R::float(xs[t].d);
            acc[t][v] = R::add_scaled(acc[t][v], sums[t][v], R::mul(d, dx));
            acc[t][v] = R::sub_scaled(acc[t][v], offset, R::mul(dmin, dx));
        }
    }
}

/// Four columns of low and four of high nibbles, for one token.
#[inline(always)]
fn nibbles4<R: Rows, const P: usize>(pairs: &mut [[R::Pairs; P]; 2], qs: &[u8; 32], x: [R::Four; 2]) {
    for v in 0..P {
        let bytes = R::bytes(qs, v);
        pairs[0][v] = R::dot(pairs[0][v], nibbles::<R, 0>(bytes), x[0]);
        pairs[1][v] = R::dot(pairs[1][v], nibbles::<R, 1>(bytes), x[1]);
    }
}

/// Sub-blocks `2 p` and `2 p + 1`: the low nibbles and the high ones.
#[inline(always)]
fn q4_pair<R: Rows, const T: usize, const P: usize>(
    tile: &Q4K,
    p: usize,
    scales: [[R::Scale; P]; 2],
    xs: &[&Block256; T],
    sums: &mut [[R::Int; P]; T],
) {
    if T == 1 {
        // A byte is loaded once for its two nibbles.
        let mut pairs = [[R::no_pairs(); P]; 2];
        for (i, qs) in tile.qs[p].as_chunks::<4>().0.iter().enumerate().take(R::times(2)) {
            let x = &xs[0].q.as_chunks().0[4 * p + i..];
            let (low, high) = (R::sixteen(&x[0]), R::sixteen(&x[2]));
            nibbles4::<R, P>(&mut pairs, &qs[0], [R::four::<0>(low), R::four::<0>(high)]);
            nibbles4::<R, P>(&mut pairs, &qs[1], [R::four::<1>(low), R::four::<1>(high)]);
            nibbles4::<R, P>(&mut pairs, &qs[2], [R::four::<2>(low), R::four::<2>(high)]);
            nibbles4::<R, P>(&mut pairs, &qs[3], [R::four::<3>(low), R::four::<3>(high)]);
        }
        for (pairs, scale) in pairs.into_iter().zip(scales) {
            add_times::<R, 1, P>(sums.first_chunk_mut().expect("one token"), &[pairs], scale);
        }
        return;
    }
    let [low, high] = scales;
    q4_sub_block::<R, T, P, 0>(&tile.qs[p], low, xs, 2 * p, sums);
    q4_sub_block::<R, T, P, 1>(&tile.qs[p], high, xs, 2 * p + 1, sums);
}

/// Sub-block `j`, for several tokens.
#[inline(always)]
fn q4_sub_block<R: Rows, const T: usize, const P: usize, const NIBBLE: usize>(
    qs: &[[u8; 32]; 8],
    scale: [R::Scale; P],
    xs: &[&Block256; T],
    j: usize,
    sums: &mut [[R::Int; P]; T],
) {
    let mut pairs = [[R::no_pairs(); P]; T];
    for (i, qs) in qs.as_chunks::<2>().0.iter().enumerate().take(R::times(4)) {
        for (g, qs) in qs.iter().enumerate() {
            let mut w = [R::no_bytes(); P];
            for v in 0..P {
                w[v] = nibbles::<R, NIBBLE>(R::bytes(qs, v));
            }
            for t in 0..T {
                dots4::<R, P>(&mut pairs[t], w, R::four_at(&xs[t].q.as_chunks().0[8 * j + 2 * i + g]));
            }
        }
    }
    add_times::<R, T, P>(sums, &pairs, scale);
}

impl Format for Q4K {
    type Tile = Q4K;
    type Acts = Block256;

    #[inline(always)]
    fn block<R: Rows, const T: usize, const P: usize>(tile: &Q4K, xs: &[&Block256; T], acc: &mut [[R::Float; P]; T]) {
        let (packed, mins) = scales_mins(&tile.scales);
        let mut sums = [[R::int(0); P]; T];
        for p in 0..4 {
            q4_pair::<R, T, P>(tile, p, scales::<R, P>(&packed[p]), xs, &mut sums);
        }
        add_affine::<R, T, P>((&tile.d, &tile.dmin), &mins, &sums, xs, acc);
    }
}

/// Moves the fifth bits of sub-block `J` to bit 4.
#[inline(always)]
fn fifth<R: Rows, const J: usize>(qh: &[u8; 32], v: usize) -> R::Bytes {
    let bit = R::and(R::bytes(qh, v), 1 << J);
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

/// Sub-block `J`.
#[inline(always)]
fn q5_sub_block<R: Rows, const T: usize, const P: usize, const J: usize>(
    tile: &Q5K,
    scale: [R::Scale; P],
    xs: &[&Block256; T],
    sums: &mut [[R::Int; P]; T],
) {
    for i in 0..2 {
        // With five bits a byte's weights may add up to 124 in sixteen columns.
        let (mut pairs, tile) = ([[R::no_pairs(); P]; T], R::anew(tile));
        let mut w = [[R::no_bytes(); P]; 4];
        for g in 0..4 {
            for v in 0..P {
                let bytes = R::bytes(&tile.qs[J / 2][4 * i + g], v);
                let low = if J.is_multiple_of(2) {
                    nibbles::<R, 0>(bytes)
                } else {
                    nibbles::<R, 1>(bytes)
                };
                w[g][v] = R::or(low, fifth::<R, J>(&tile.qh[4 * i + g], v));
            }
        }
        dots16::<R, T, P>(&mut pairs, w, sixteen(xs, 2 * J + i));
        add_times::<R, T, P>(sums, &pairs, scale);
    }
}

/// Two sub-blocks whose scales stand together.
#[inline(always)]
fn q5_pair<R: Rows, const T: usize, const P: usize, const J: usize, const NEXT: usize>(
    tile: &Q5K,
    packed: &[u8; 16],
    xs: &[&Block256; T],
    sums: &mut [[R::Int; P]; T],
) {
    let [first, second] = scales::<R, P>(packed);
    q5_sub_block::<R, T, P, J>(tile, first, xs, sums);
    q5_sub_block::<R, T, P, NEXT>(tile, second, xs, sums);
}

impl Format for Q5K {
    type Tile = Q5K;
    type Acts = Block256;

    #[inline(always)]
    fn block<R: Rows, const T: usize, const P: usize>(tile: &Q5K, xs: &[&Block256; T], acc: &mut [[R::Float; P]; T]) {
        let (packed, mins) = scales_mins(&tile.scales);
        let mut sums = [[R::int(0); P]; T];
        q5_pair::<R, T, P, 0, 1>(tile, &packed[0], xs, &mut sums);
        q5_pair::<R, T, P, 2, 3>(tile, &packed[1], xs, &mut sums);
        q5_pair::<R, T, P, 4, 5>(tile, &packed[2], xs, &mut sums);
        q5_pair::<R, T, P, 6, 7>(tile, &packed[3], xs, &mut sums);
        add_affine::<R, T, P>((&tile.d, &tile.dmin), &mins, &sums, xs, acc);
    }
}

/// The last quarter's weights, of which three bytes hold two bits each.
#[inline(always)]
fn q6_last<R: Rows>(qs: &[[[u8; 32]; 8]; 3], g: usize, v: usize) -> R::Bytes {
    let (a, b, c) = (R::bytes(&qs[0][g], v), R::bytes(&qs[1][g], v), R::bytes(&qs[2][g], v));
    let (a, b, c) = (R::and(a, 0xc0), R::and(b, 0xc0), R::and(c, 0xc0));
    R::shr::<2>(R::or(R::shr::<2>(R::or(R::shr::<2>(a), b)), c))
}

/// Adds sixteen columns, whose weights let an i16 hold the sums of eight.
#[inline(always)]
fn q6_sixteen<R: Rows, const T: usize, const P: usize>(
    sums: &mut [[R::Int; P]; T],
    w: [[R::Bytes; P]; 4],
    scale: [R::Scale; P],
    x: [&[i8; 16]; T],
) {
    for t in 0..T {
        let (x, sums) = (R::sixteen(x[t]), std::array::from_mut(&mut sums[t]));
        let mut pairs = [R::no_pairs(); P];
        dots4::<R, P>(&mut pairs, w[0], R::four::<0>(x));
        dots4::<R, P>(&mut pairs, w[1], R::four::<1>(x));
        add_times::<R, 1, P>(sums, &[pairs], scale);
        let mut pairs = [R::no_pairs(); P];
        dots4::<R, P>(&mut pairs, w[2], R::four::<2>(x));
        dots4::<R, P>(&mut pairs, w[3], R::four::<3>(x));
        add_times::<R, 1, P>(sums, &[pairs], scale);
    }
}

/// One quarter of half `h`: 32 columns, two sub-blocks.
#[inline(always)]
fn q6_quarter<R: Rows, const T: usize, const P: usize>(
    tile: &Q6K,
    h: usize,
    quarter: usize,
    xs: &[&Block256; T],
    sums: &mut [[R::Int; P]; T],
) {
    let turns = if T == 1 { R::times(2) } else { 2 };
    let both = scales::<R, P>(&tile.scales[4 * h + quarter]);
    for (i, scale) in both.into_iter().enumerate().take(turns) {
        let qs = R::anew(&tile.qs[h]);
        let mut w = [[R::no_bytes(); P]; 4];
        for g in 0..4 {
            for v in 0..P {
                w[g][v] = match quarter {
                    3 => q6_last::<R>(qs, 4 * i + g, v),
                    _ => R::and(R::bytes(&qs[quarter][4 * i + g], v), 0x3f),
                };
            }
        }
        q6_sixteen::<R, T, P>(sums, w, scale, sixteen(xs, 8 * h + 2 * quarter + i));
    }
}

impl Format for Q6K {
    type Tile = Q6K;
    type Acts = Block256;

    #[inline(always)]
    fn block<R: Rows, const T: usize, const P: usize>(tile: &Q6K, xs: &[&Block256; T], acc: &mut [[R::Float; P]; T]) {
        let mut sums = [[R::int(0); P]; T];
        for t in 0..T {
            for v in 0..P {
                for (scales, s) in tile.scales.iter().zip(xs[t].sums16.as_chunks::<2>().0) {
                    sums[t][v] = R::dot_pairs(sums[t][v], scales, v, s);
                }
                sums[t][v] = R::mul_add(R::int(0), sums[t][v], R::int(-32));
            }
        }
        for h in 0..2 {
            if T == 1 {
                // Written out: which bits to take costs as much as taking them.
                q6_quarter::<R, T, P>(tile, h, 0, xs, &mut sums);
                q6_quarter::<R, T, P>(tile, h, 1, xs, &mut sums);
                q6_quarter::<R, T, P>(tile, h, 2, xs, &mut sums);
                q6_quarter::<R, T, P>(tile, h, 3, xs, &mut sums);
            } else {
                for quarter in 0..4 {
                    q6_quarter::<R, T, P>(tile, h, quarter, xs, &mut sums);
                }
            }
        }
        for v in 0..P {
            let d = R::halves(&tile.d, v);
            for t in 0..T {
                acc[t][v] = R::add_scaled(acc[t][v], sums[t][v], R::mul(d, R::float(xs[t].d)));
            }
        }
    }
}
