//! The lanes in WebAssembly's SIMD128.

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
    pub(super) fn div(self, o: Self) -> Self {
        F32x4(f32x4_div(self.0, o.0))
    }
    #[inline(always)]
    pub fn from_array(v: [f32; 4]) -> Self {
        F32x4(f32x4(v[0], v[1], v[2], v[3]))
    }
    #[inline(always)]
    pub fn at_most(self, bound: Self) -> Self {
        F32x4(f32x4_pmin(self.0, bound.0))
    }
    #[inline(always)]
    pub fn at_least(self, bound: Self) -> Self {
        F32x4(f32x4_pmax(self.0, bound.0))
    }
    #[inline(always)]
    pub fn zero_where_less(self, x: Self, bound: Self) -> Self {
        F32x4(v128_andnot(self.0, f32x4_lt(x.0, bound.0)))
    }
    #[inline(always)]
    pub fn power_of_two(self, bias: i32) -> Self {
        F32x4(i32x4_add(i32x4_shl(self.0, 23), i32x4_splat(bias << 23)))
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
