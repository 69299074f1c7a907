//! Four and sixteen lanes at a time: WebAssembly's SIMD128, SSE2 or arrays.
//!
//! The native twins are there so that every kernel is tested natively with the same code; lanes, order of sums and rounding are the
//! same in all, so results are too. No fused multiply-add: it would make them depend on the build.
//!
//! Every build has, besides the arithmetic of [`F32x4`]:
//! - `at_most(bound)`, `at_least(bound)`: a NaN stays
//! - `zero_where_less(x, bound)`: itself, and 0 in the lanes where `x < bound`
//! - `power_of_two(bias)`: `2^(n + bias - 127)`, `n` being the integer in the low bits of the lane, `1 <= n + bias <= 254`

#[cfg_attr(all(target_arch = "wasm32", target_feature = "simd128"), path = "wasm.rs")]
#[cfg_attr(not(all(target_arch = "wasm32", target_feature = "simd128")), path = "native.rs")]
mod lanes;
mod math;

pub use lanes::{F32x4, I8x16, U8x16};
pub use math::{exp, silu, softplus};
use std::ops::{Add, Div, Mul, Sub};

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

impl Div for F32x4 {
    type Output = Self;
    #[inline(always)]
    fn div(self, o: Self) -> Self {
        F32x4::div(self, o)
    }
}
