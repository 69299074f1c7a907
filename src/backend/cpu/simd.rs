//! Four and sixteen lanes at a time: WebAssembly's SIMD128 where it exists, arrays that the compiler vectorises elsewhere.
//!
//! The native twin is there so that every kernel is tested natively with the same code; lanes, order of sums and rounding are the
//! same in both, so results are too. No fused multiply-add: it would make them depend on the build.

use std::ops::{Add, Mul, Sub};

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod lanes {
    use core::arch::wasm32::*;

    /// Four floats.
    #[derive(Clone, Copy)]
    pub struct F32x4(v128);

    impl F32x4 {
        #[inline(always)]
        pub fn splat(v: f32) -> Self {
            F32x4(f32x4_splat(v))
        }
        #[inline(always)]
        pub fn load(s: &[f32]) -> Self {
            let s = &s[..4];
            // SAFETY: `s` holds 4 floats; wasm loads may be unaligned.
            F32x4(unsafe { v128_load(s.as_ptr().cast()) })
        }
        #[inline(always)]
        pub fn store(self, s: &mut [f32]) {
            let s = &mut s[..4];
            // SAFETY: `s` has room for 4 floats; wasm stores may be unaligned.
            unsafe { v128_store(s.as_mut_ptr().cast(), self.0) }
        }
        #[inline(always)]
        pub fn to_array(self) -> [f32; 4] {
            [
                f32x4_extract_lane::<0>(self.0),
                f32x4_extract_lane::<1>(self.0),
                f32x4_extract_lane::<2>(self.0),
                f32x4_extract_lane::<3>(self.0),
            ]
        }
        #[inline(always)]
        pub(super) fn add(self, o: Self) -> Self {
            F32x4(f32x4_add(self.0, o.0))
        }
        #[inline(always)]
        pub(super) fn sub(self, o: Self) -> Self {
            F32x4(f32x4_sub(self.0, o.0))
        }
        #[inline(always)]
        pub(super) fn mul(self, o: Self) -> Self {
            F32x4(f32x4_mul(self.0, o.0))
        }
    }

    /// Sixteen bytes.
    #[derive(Clone, Copy)]
    pub struct U8x16(v128);

    impl U8x16 {
        #[inline(always)]
        pub fn load(s: &[u8]) -> Self {
            let s = &s[..16];
            // SAFETY: `s` holds 16 bytes; wasm loads may be unaligned.
            U8x16(unsafe { v128_load(s.as_ptr().cast()) })
        }
        #[inline(always)]
        pub fn and(self, mask: u8) -> Self {
            U8x16(v128_and(self.0, u8x16_splat(mask)))
        }
        #[inline(always)]
        pub fn or(self, o: Self) -> Self {
            U8x16(v128_or(self.0, o.0))
        }
        #[inline(always)]
        pub fn shift_right(self, n: u32) -> Self {
            U8x16(u8x16_shr(self.0, n))
        }
        #[inline(always)]
        pub fn shift_left(self, n: u32) -> Self {
            U8x16(i8x16_shl(self.0, n))
        }
        /// The bytes minus `v`, as signed bytes.
        #[inline(always)]
        pub fn minus(self, v: i8) -> I8x16 {
            I8x16(i8x16_sub(self.0, i8x16_splat(v)))
        }
        #[inline(always)]
        pub fn as_signed(self) -> I8x16 {
            I8x16(self.0)
        }
        /// Widened, in order.
        #[inline(always)]
        pub fn to_f32(self) -> [F32x4; 4] {
            let (lo, hi) = (u16x8_extend_low_u8x16(self.0), u16x8_extend_high_u8x16(self.0));
            [
                F32x4(f32x4_convert_u32x4(u32x4_extend_low_u16x8(lo))),
                F32x4(f32x4_convert_u32x4(u32x4_extend_high_u16x8(lo))),
                F32x4(f32x4_convert_u32x4(u32x4_extend_low_u16x8(hi))),
                F32x4(f32x4_convert_u32x4(u32x4_extend_high_u16x8(hi))),
            ]
        }
    }

    /// Sixteen signed bytes.
    #[derive(Clone, Copy)]
    pub struct I8x16(v128);

    impl I8x16 {
        /// Widened, in order.
        #[inline(always)]
        pub fn to_f32(self) -> [F32x4; 4] {
            let (lo, hi) = (i16x8_extend_low_i8x16(self.0), i16x8_extend_high_i8x16(self.0));
            [
                F32x4(f32x4_convert_i32x4(i32x4_extend_low_i16x8(lo))),
                F32x4(f32x4_convert_i32x4(i32x4_extend_high_i16x8(lo))),
                F32x4(f32x4_convert_i32x4(i32x4_extend_low_i16x8(hi))),
                F32x4(f32x4_convert_i32x4(i32x4_extend_high_i16x8(hi))),
            ]
        }
    }
}

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod lanes {
    use std::array::from_fn;

    /// Four floats.
    #[derive(Clone, Copy)]
    pub struct F32x4([f32; 4]);

    impl F32x4 {
        #[inline(always)]
        pub fn splat(v: f32) -> Self {
            F32x4([v; 4])
        }
        #[inline(always)]
        pub fn load(s: &[f32]) -> Self {
            F32x4([s[0], s[1], s[2], s[3]])
        }
        #[inline(always)]
        pub fn store(self, s: &mut [f32]) {
            s[..4].copy_from_slice(&self.0);
        }
        #[inline(always)]
        pub fn to_array(self) -> [f32; 4] {
            self.0
        }
        #[inline(always)]
        pub(super) fn add(self, o: Self) -> Self {
            F32x4(from_fn(|i| self.0[i] + o.0[i]))
        }
        #[inline(always)]
        pub(super) fn sub(self, o: Self) -> Self {
            F32x4(from_fn(|i| self.0[i] - o.0[i]))
        }
        #[inline(always)]
        pub(super) fn mul(self, o: Self) -> Self {
            F32x4(from_fn(|i| self.0[i] * o.0[i]))
        }
    }

    /// Sixteen bytes.
    #[derive(Clone, Copy)]
    pub struct U8x16([u8; 16]);

    impl U8x16 {
        #[inline(always)]
        pub fn load(s: &[u8]) -> Self {
            U8x16(from_fn(|i| s[i]))
        }
        #[inline(always)]
        pub fn and(self, mask: u8) -> Self {
            U8x16(self.0.map(|v| v & mask))
        }
        #[inline(always)]
        pub fn or(self, o: Self) -> Self {
            U8x16(from_fn(|i| self.0[i] | o.0[i]))
        }
        #[inline(always)]
        pub fn shift_right(self, n: u32) -> Self {
            U8x16(self.0.map(|v| v >> n))
        }
        #[inline(always)]
        pub fn shift_left(self, n: u32) -> Self {
            U8x16(self.0.map(|v| v << n))
        }
        /// The bytes minus `v`, as signed bytes.
        #[inline(always)]
        pub fn minus(self, v: i8) -> I8x16 {
            I8x16(self.0.map(|b| (b as i8).wrapping_sub(v)))
        }
        #[inline(always)]
        pub fn as_signed(self) -> I8x16 {
            I8x16(self.0.map(|b| b as i8))
        }
        /// Widened, in order.
        #[inline(always)]
        pub fn to_f32(self) -> [F32x4; 4] {
            from_fn(|q| F32x4(from_fn(|i| self.0[4 * q + i] as f32)))
        }
    }

    /// Sixteen signed bytes.
    #[derive(Clone, Copy)]
    pub struct I8x16([i8; 16]);

    impl I8x16 {
        /// Widened, in order.
        #[inline(always)]
        pub fn to_f32(self) -> [F32x4; 4] {
            from_fn(|q| F32x4(from_fn(|i| self.0[4 * q + i] as f32)))
        }
    }
}

pub use lanes::{F32x4, I8x16, U8x16};

impl F32x4 {
    /// Sum of the lanes, pairwise.
    #[inline(always)]
    pub fn sum(self) -> f32 {
        let [a, b, c, d] = self.to_array();
        (a + c) + (b + d)
    }
}

impl Add for F32x4 {
    type Output = Self;
    #[inline(always)]
    fn add(self, o: Self) -> Self {
        F32x4::add(self, o)
    }
}

impl Sub for F32x4 {
    type Output = Self;
    #[inline(always)]
    fn sub(self, o: Self) -> Self {
        F32x4::sub(self, o)
    }
}

impl Mul for F32x4 {
    type Output = Self;
    #[inline(always)]
    fn mul(self, o: Self) -> Self {
        F32x4::mul(self, o)
    }
}
