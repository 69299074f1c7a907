//! [`Rows`] in WebAssembly's SIMD128: rows 0..4 and 4..8 in a vector each.
//!
//! With `relaxed-simd` the products of neighbouring columns are summed by one instruction, exact because the weights have seven bits.
//! It stops at pairs or goes on to fours: see [`sums_fours`]. Without it there are products of 16-bit pairs: columns 0 and 2, then 1 and
//! 3, which need no more than a mask and a shift to get.

use super::rows::Rows;
use core::arch::wasm32::*;

/// For WebAssembly with SIMD128. `SHORT`: sums of a few products are pairs of 16 bits; else they are of 32, the pairs added.
pub(super) struct Simd128<const SHORT: bool>;

/// Whether this processor adds four products to a sum in one instruction, as ARM's and the newest of x86 do. To others the engine
/// gives three for it, of which one makes the pairs that [`Simd128<true>`] is content with, and that one stops at what an i16 holds: with
/// weights of eight bits, which both leave to the implementation, the difference shows.
#[cfg(target_feature = "relaxed-simd")]
pub(super) fn sums_fours() -> bool {
    let (x, w) = std::hint::black_box((i8x16_splat(127), u8x16_splat(255)));
    i32x4_extract_lane::<0>(i32x4_relaxed_dot_i8x16_i7x16_add(x, w, i32x4_splat(0))) != 2 * i16::MAX as i32
}

#[inline(always)]
fn load(b: &[u8; 16]) -> v128 {
    // SAFETY: 16 bytes; wasm loads may be unaligned.
    unsafe { v128_load(b.as_ptr().cast()) }
}

/// Four bytes in every 32-bit lane.
#[inline(always)]
fn splat_bytes(x: &[i8; 4]) -> v128 {
    // SAFETY: 4 bytes; wasm loads may be unaligned.
    unsafe { v128_load32_splat(x.as_ptr().cast()) }
}

/// Even bytes as i16.
#[inline(always)]
fn even(v: v128) -> v128 {
    i16x8_shr(i16x8_shl(v, 8), 8)
}

/// Odd bytes as i16.
#[inline(always)]
fn odd(v: v128) -> v128 {
    i16x8_shr(v, 8)
}

/// Four f16 in the low halves of 32-bit lanes.
#[inline(always)]
fn halves4(h: v128) -> v128 {
    let magnitude = v128_and(h, i32x4_splat(0x7fff));
    let exponent = v128_and(h, i32x4_splat(0x7c00));
    // A subnormal is a small integer; computed as one, it costs no slow path of the processor.
    let subnormal = f32x4_mul(f32x4_convert_i32x4(magnitude), f32x4_splat(1.0 / 16_777_216.0));
    let shifted = i32x4_shl(magnitude, 13);
    let normal = i32x4_add(shifted, i32x4_splat(112 << 23));
    let infinite = v128_or(shifted, i32x4_splat(0xff << 23));
    let v = v128_bitselect(infinite, normal, i32x4_eq(exponent, i32x4_splat(0x7c00)));
    let v = v128_bitselect(subnormal, v, i32x4_eq(exponent, i32x4_splat(0)));
    v128_or(v, i32x4_shl(v128_and(h, i32x4_splat(0x8000)), 16))
}

/// Two halves of a tile.
type Pair = [v128; 2];

impl<const SHORT: bool> Rows for Simd128<SHORT> {
    type Int = Pair;
    type Float = Pair;
    type Bytes = Pair;
    type Pairs = Pair;
    /// `SHORT`: twice in each row's 32 bits.
    type Scale = Pair;

    #[inline(always)]
    fn bytes(b: &[u8; 32]) -> Pair {
        let (halves, _) = b.as_chunks::<16>();
        [load(&halves[0]), load(&halves[1])]
    }
    #[inline(always)]
    fn and(a: Pair, mask: u8) -> Pair {
        let mask = u8x16_splat(mask);
        [v128_and(a[0], mask), v128_and(a[1], mask)]
    }
    #[inline(always)]
    fn or(a: Pair, b: Pair) -> Pair {
        [v128_or(a[0], b[0]), v128_or(a[1], b[1])]
    }
    #[inline(always)]
    fn shl<const N: u32>(a: Pair) -> Pair {
        [u16x8_shl(a[0], N), u16x8_shl(a[1], N)]
    }
    #[inline(always)]
    fn shr<const N: u32>(a: Pair) -> Pair {
        [u16x8_shr(a[0], N), u16x8_shr(a[1], N)]
    }
    #[inline(always)]
    fn no_pairs() -> Pair {
        [i32x4_splat(0); 2]
    }
    #[cfg(target_feature = "relaxed-simd")]
    #[inline(always)]
    fn dot(acc: Pair, w: Pair, x: &[i8; 4]) -> Pair {
        let x = splat_bytes(x);
        let one = |acc, w| match SHORT {
            true => i16x8_add(acc, i16x8_relaxed_dot_i8x16_i7x16(x, w)),
            false => i32x4_relaxed_dot_i8x16_i7x16_add(x, w, acc),
        };
        [one(acc[0], w[0]), one(acc[1], w[1])]
    }
    #[cfg(not(target_feature = "relaxed-simd"))]
    #[inline(always)]
    fn dot(acc: Pair, w: Pair, x: &[i8; 4]) -> Pair {
        const { assert!(!SHORT) };
        let x = splat_bytes(x);
        let (x0, x1) = (even(x), odd(x));
        let low = u16x8_splat(0xff);
        let one = |acc, w| {
            let acc = i32x4_add(acc, i32x4_dot_i16x8(v128_and(w, low), x0));
            i32x4_add(acc, i32x4_dot_i16x8(u16x8_shr(w, 8), x1))
        };
        [one(acc[0], w[0]), one(acc[1], w[1])]
    }
    #[inline(always)]
    fn add_times(acc: Pair, pairs: Pair, scale: Pair) -> Pair {
        let one = |acc, pairs, scale| match SHORT {
            true => i32x4_add(acc, i32x4_dot_i16x8(pairs, scale)),
            false => i32x4_add(acc, i32x4_mul(pairs, scale)),
        };
        [one(acc[0], pairs[0], scale[0]), one(acc[1], pairs[1], scale[1])]
    }
    #[inline(always)]
    fn dot_signed(acc: Pair, w: Pair, x: &[i8; 4]) -> Pair {
        let x = splat_bytes(x);
        let (x0, x1) = (even(x), odd(x));
        let one = |acc, w| {
            let acc = i32x4_add(acc, i32x4_dot_i16x8(even(w), x0));
            i32x4_add(acc, i32x4_dot_i16x8(odd(w), x1))
        };
        [one(acc[0], w[0]), one(acc[1], w[1])]
    }

    #[inline(always)]
    fn int(v: i32) -> Pair {
        [i32x4_splat(v); 2]
    }
    #[inline(always)]
    fn mul_add(acc: Pair, a: Pair, b: Pair) -> Pair {
        [
            i32x4_add(acc[0], i32x4_mul(a[0], b[0])),
            i32x4_add(acc[1], i32x4_mul(a[1], b[1])),
        ]
    }
    #[inline(always)]
    fn scale(v: i8) -> Pair {
        match SHORT {
            true => [i16x8_splat(v as i16); 2],
            false => [i32x4_splat(v as i32); 2],
        }
    }
    #[inline(always)]
    fn scales(b: &[u8; 16]) -> (Pair, Pair) {
        let v = load(b);
        let all = |v| match SHORT {
            true => [
                i16x8_shuffle::<0, 0, 1, 1, 2, 2, 3, 3>(v, v),
                i16x8_shuffle::<4, 4, 5, 5, 6, 6, 7, 7>(v, v),
            ],
            false => [i32x4_extend_low_i16x8(v), i32x4_extend_high_i16x8(v)],
        };
        (all(even(v)), all(odd(v)))
    }
    #[inline(always)]
    fn dot_pairs(acc: Pair, m: &[u8; 16], s: &[i16; 2]) -> Pair {
        let m = load(m);
        // SAFETY: 4 bytes; wasm loads may be unaligned.
        let s = unsafe { v128_load32_splat(s.as_ptr().cast()) };
        [
            i32x4_add(acc[0], i32x4_dot_i16x8(i16x8_extend_low_i8x16(m), s)),
            i32x4_add(acc[1], i32x4_dot_i16x8(i16x8_extend_high_i8x16(m), s)),
        ]
    }

    #[inline(always)]
    fn float(v: f32) -> Pair {
        [f32x4_splat(v); 2]
    }
    #[inline(always)]
    fn halves(b: &[u8; 16]) -> Pair {
        let h = load(b);
        [halves4(u32x4_extend_low_u16x8(h)), halves4(u32x4_extend_high_u16x8(h))]
    }
    #[inline(always)]
    fn mul(a: Pair, b: Pair) -> Pair {
        [f32x4_mul(a[0], b[0]), f32x4_mul(a[1], b[1])]
    }
    #[inline(always)]
    fn add_scaled(acc: Pair, v: Pair, scale: Pair) -> Pair {
        [
            f32x4_add(acc[0], f32x4_mul(f32x4_convert_i32x4(v[0]), scale[0])),
            f32x4_add(acc[1], f32x4_mul(f32x4_convert_i32x4(v[1]), scale[1])),
        ]
    }
    #[inline(always)]
    fn sub_scaled(acc: Pair, v: Pair, scale: Pair) -> Pair {
        [
            f32x4_sub(acc[0], f32x4_mul(f32x4_convert_i32x4(v[0]), scale[0])),
            f32x4_sub(acc[1], f32x4_mul(f32x4_convert_i32x4(v[1]), scale[1])),
        ]
    }
    #[inline(always)]
    fn store(v: Pair, out: &mut [f32; 8]) {
        let (low, high) = out.split_at_mut(4);
        // SAFETY: 4 floats each; wasm stores may be unaligned.
        unsafe {
            v128_store(low.as_mut_ptr().cast(), v[0]);
            v128_store(high.as_mut_ptr().cast(), v[1]);
        }
    }
}
