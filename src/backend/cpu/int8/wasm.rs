//! [`Rows`] in WebAssembly's SIMD128: four rows in a vector, half a tile.
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

/// The `part`-th half of 32 bytes.
#[inline(always)]
fn half(b: &[u8; 32], part: usize) -> *const v128 {
    b.as_chunks::<16>().0[part].as_ptr().cast()
}

/// The `part`-th half of 16 bytes, as the low half of a vector.
#[inline(always)]
fn quarter(b: &[u8; 16], part: usize) -> v128 {
    // SAFETY: 8 bytes; wasm loads may be unaligned.
    unsafe { v128_load64_zero(b.as_chunks::<8>().0[part].as_ptr().cast()) }
}

/// Lane `G` in every lane.
#[inline(always)]
fn lane<const G: usize>(v: v128) -> v128 {
    match G {
        0 => i32x4_shuffle::<0, 0, 0, 0>(v, v),
        1 => i32x4_shuffle::<1, 1, 1, 1>(v, v),
        2 => i32x4_shuffle::<2, 2, 2, 2>(v, v),
        _ => i32x4_shuffle::<3, 3, 3, 3>(v, v),
    }
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
    let is_normal = i32x4_gt(magnitude, i32x4_splat(0x3ff));
    // With the exponent of the least normal f16, which is one too many for a normal one. A subnormal then is too large by just that f16; as a
    // small number of its own it would take a slow path of the processor.
    let v = i32x4_add(i32x4_shl(magnitude, 13), i32x4_splat(113 << 23));
    let v = i32x4_add(v, i32x4_shl(is_normal, 23));
    let v = f32x4_sub(v, v128_andnot(f32x4_splat(1.0 / 16384.0), is_normal));
    let infinite = v128_and(i32x4_gt(magnitude, i32x4_splat(0x7bff)), i32x4_splat(0xff << 23));
    v128_or(v128_or(v, infinite), i32x4_shl(v128_andnot(h, i32x4_splat(0x7fff)), 16))
}

#[cfg(target_feature = "relaxed-simd")]
type Sixteen = v128;
/// Even and odd columns as i16.
#[cfg(not(target_feature = "relaxed-simd"))]
type Sixteen = [v128; 2];

impl<const SHORT: bool> Rows for Simd128<SHORT> {
    const PARTS: usize = 2;
    type Int = v128;
    type Float = v128;
    type Bytes = v128;
    type Pairs = v128;
    /// `SHORT`: twice in each row's 32 bits.
    type Scale = v128;
    type Sixteen = Sixteen;
    type Four = Sixteen;

    #[inline(always)]
    fn bytes(b: &[u8; 32], part: usize) -> v128 {
        // SAFETY: 16 bytes; wasm loads may be unaligned.
        unsafe { v128_load(half(b, part)) }
    }
    #[inline(always)]
    fn no_bytes() -> v128 {
        i32x4_splat(0)
    }
    #[inline(always)]
    fn anew<B>(b: &B) -> &B {
        std::hint::black_box(b)
    }
    #[inline(always)]
    fn times(n: usize) -> usize {
        std::hint::black_box(n)
    }
    #[cfg(target_feature = "relaxed-simd")]
    #[inline(always)]
    fn sixteen(x: &[i8; 16]) -> v128 {
        // SAFETY: 16 bytes; wasm loads may be unaligned.
        unsafe { v128_load(x.as_ptr().cast()) }
    }
    #[cfg(not(target_feature = "relaxed-simd"))]
    #[inline(always)]
    fn sixteen(x: &[i8; 16]) -> [v128; 2] {
        // SAFETY: 16 bytes; wasm loads may be unaligned.
        let x = unsafe { v128_load(x.as_ptr().cast()) };
        [even(x), odd(x)]
    }
    #[cfg(target_feature = "relaxed-simd")]
    #[inline(always)]
    fn four<const G: usize>(x: v128) -> v128 {
        lane::<G>(x)
    }
    #[cfg(not(target_feature = "relaxed-simd"))]
    #[inline(always)]
    fn four<const G: usize>(x: [v128; 2]) -> [v128; 2] {
        x.map(lane::<G>)
    }
    #[inline(always)]
    fn and(a: v128, mask: u8) -> v128 {
        v128_and(a, u8x16_splat(mask))
    }
    #[inline(always)]
    fn or(a: v128, b: v128) -> v128 {
        v128_or(a, b)
    }
    #[inline(always)]
    fn shl<const N: u32>(a: v128) -> v128 {
        u16x8_shl(a, N)
    }
    #[inline(always)]
    fn shr<const N: u32>(a: v128) -> v128 {
        u16x8_shr(a, N)
    }
    #[inline(always)]
    fn four_at(x: &[i8; 4]) -> Sixteen {
        // SAFETY: 4 bytes; wasm loads may be unaligned.
        let x = unsafe { v128_load32_splat(x.as_ptr().cast()) };
        #[cfg(target_feature = "relaxed-simd")]
        return x;
        #[cfg(not(target_feature = "relaxed-simd"))]
        [even(x), odd(x)]
    }
    #[inline(always)]
    fn no_pairs() -> v128 {
        i32x4_splat(0)
    }
    #[cfg(target_feature = "relaxed-simd")]
    #[inline(always)]
    fn dot(acc: v128, w: v128, x: v128) -> v128 {
        match SHORT {
            true => i16x8_add(acc, i16x8_relaxed_dot_i8x16_i7x16(x, w)),
            false => i32x4_relaxed_dot_i8x16_i7x16_add(x, w, acc),
        }
    }
    #[cfg(not(target_feature = "relaxed-simd"))]
    #[inline(always)]
    fn dot(acc: v128, w: v128, [x0, x1]: [v128; 2]) -> v128 {
        const { assert!(!SHORT) };
        let acc = i32x4_add(acc, i32x4_dot_i16x8(v128_and(w, u16x8_splat(0xff)), x0));
        i32x4_add(acc, i32x4_dot_i16x8(u16x8_shr(w, 8), x1))
    }
    #[inline(always)]
    fn add_times(acc: v128, pairs: v128, scale: v128) -> v128 {
        match SHORT {
            true => i32x4_add(acc, i32x4_dot_i16x8(pairs, scale)),
            false => i32x4_add(acc, i32x4_mul(pairs, scale)),
        }
    }
    #[inline(always)]
    fn dot_signed(acc: v128, w: v128, x: Self::Sixteen) -> v128 {
        #[cfg(target_feature = "relaxed-simd")]
        let [x0, x1] = [even(x), odd(x)];
        #[cfg(not(target_feature = "relaxed-simd"))]
        let [x0, x1] = x;
        let acc = i32x4_add(acc, i32x4_dot_i16x8(even(w), x0));
        i32x4_add(acc, i32x4_dot_i16x8(odd(w), x1))
    }

    #[inline(always)]
    fn int(v: i32) -> v128 {
        i32x4_splat(v)
    }
    #[inline(always)]
    fn mul_add(acc: v128, a: v128, b: v128) -> v128 {
        i32x4_add(acc, i32x4_mul(a, b))
    }
    #[inline(always)]
    fn scale(v: i8) -> v128 {
        match SHORT {
            true => i16x8_splat(v as i16),
            false => i32x4_splat(v as i32),
        }
    }
    #[inline(always)]
    fn scales(b: &[u8; 16], part: usize) -> (v128, v128) {
        let v = quarter(b, part);
        match SHORT {
            true => {
                let twice = i16x8_shuffle::<0, 0, 1, 1, 2, 2, 3, 3>(v, v);
                (even(twice), odd(twice))
            }
            false => (i32x4_extend_low_i16x8(even(v)), i32x4_extend_low_i16x8(odd(v))),
        }
    }
    #[inline(always)]
    fn dot_pairs(acc: v128, m: &[u8; 16], part: usize, s: &[i16; 2]) -> v128 {
        let m = i16x8_extend_low_i8x16(quarter(m, part));
        // SAFETY: 4 bytes; wasm loads may be unaligned.
        let s = unsafe { v128_load32_splat(s.as_ptr().cast()) };
        i32x4_add(acc, i32x4_dot_i16x8(m, s))
    }

    #[inline(always)]
    fn float(v: f32) -> v128 {
        f32x4_splat(v)
    }
    #[inline(always)]
    fn halves(b: &[u8; 16], part: usize) -> v128 {
        halves4(u32x4_extend_low_u16x8(quarter(b, part)))
    }
    #[inline(always)]
    fn mul(a: v128, b: v128) -> v128 {
        f32x4_mul(a, b)
    }
    #[inline(always)]
    fn add_scaled(acc: v128, v: v128, scale: v128) -> v128 {
        f32x4_add(acc, f32x4_mul(f32x4_convert_i32x4(v), scale))
    }
    #[inline(always)]
    fn sub_scaled(acc: v128, v: v128, scale: v128) -> v128 {
        f32x4_sub(acc, f32x4_mul(f32x4_convert_i32x4(v), scale))
    }
    #[inline(always)]
    fn store(v: v128, out: &mut [f32; 8], part: usize) {
        // SAFETY: 4 floats; wasm stores may be unaligned.
        unsafe { v128_store(out.as_chunks_mut::<4>().0[part].as_mut_ptr().cast(), v) }
    }
}
