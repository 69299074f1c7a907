//! The lanes natively: SSE2, which every x86-64 has, and arrays elsewhere.

use std::array::from_fn;

#[cfg(target_arch = "x86_64")]
mod floats {
    use std::arch::x86_64::*;

    /// Four floats.
    #[derive(Clone, Copy)]
    pub struct F32x4(__m128);

    // SAFETY (all of it): SSE2 is part of x86-64; loads and stores are unaligned, of slices that hold four floats.
    impl F32x4 {
        #[inline(always)]
        pub fn splat(v: f32) -> Self {
            F32x4(unsafe { _mm_set1_ps(v) })
        }
        #[inline(always)]
        pub fn load(s: &[f32]) -> Self {
            let s = &s[..4];
            F32x4(unsafe { _mm_loadu_ps(s.as_ptr()) })
        }
        #[inline(always)]
        pub fn store(self, s: &mut [f32]) {
            let s = &mut s[..4];
            unsafe { _mm_storeu_ps(s.as_mut_ptr(), self.0) }
        }
        #[inline(always)]
        pub fn from_array(v: [f32; 4]) -> Self {
            F32x4(unsafe { _mm_loadu_ps(v.as_ptr()) })
        }
        #[inline(always)]
        pub fn to_array(self) -> [f32; 4] {
            let mut out = [0.0; 4];
            unsafe { _mm_storeu_ps(out.as_mut_ptr(), self.0) };
            out
        }
        #[inline(always)]
        pub(in super::super) fn add(self, o: Self) -> Self {
            F32x4(unsafe { _mm_add_ps(self.0, o.0) })
        }
        #[inline(always)]
        pub(in super::super) fn sub(self, o: Self) -> Self {
            F32x4(unsafe { _mm_sub_ps(self.0, o.0) })
        }
        #[inline(always)]
        pub(in super::super) fn mul(self, o: Self) -> Self {
            F32x4(unsafe { _mm_mul_ps(self.0, o.0) })
        }
        #[inline(always)]
        pub(in super::super) fn div(self, o: Self) -> Self {
            F32x4(unsafe { _mm_div_ps(self.0, o.0) })
        }
        // The second operand wins where one is NaN, here and below.
        #[inline(always)]
        pub fn at_most(self, bound: Self) -> Self {
            F32x4(unsafe { _mm_min_ps(bound.0, self.0) })
        }
        #[inline(always)]
        pub fn at_least(self, bound: Self) -> Self {
            F32x4(unsafe { _mm_max_ps(bound.0, self.0) })
        }
        #[inline(always)]
        pub fn zero_where_less(self, x: Self, bound: Self) -> Self {
            F32x4(unsafe { _mm_andnot_ps(_mm_cmplt_ps(x.0, bound.0), self.0) })
        }
        #[inline(always)]
        pub fn power_of_two(self, bias: i32) -> Self {
            F32x4(unsafe {
                let n = _mm_slli_epi32::<23>(_mm_castps_si128(self.0));
                _mm_castsi128_ps(_mm_add_epi32(n, _mm_set1_epi32(bias << 23)))
            })
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod floats {
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
        pub fn from_array(v: [f32; 4]) -> Self {
            F32x4(v)
        }
        #[inline(always)]
        pub fn to_array(self) -> [f32; 4] {
            self.0
        }
        #[inline(always)]
        pub(in super::super) fn add(self, o: Self) -> Self {
            F32x4(from_fn(|i| self.0[i] + o.0[i]))
        }
        #[inline(always)]
        pub(in super::super) fn sub(self, o: Self) -> Self {
            F32x4(from_fn(|i| self.0[i] - o.0[i]))
        }
        #[inline(always)]
        pub(in super::super) fn mul(self, o: Self) -> Self {
            F32x4(from_fn(|i| self.0[i] * o.0[i]))
        }
        #[inline(always)]
        pub(in super::super) fn div(self, o: Self) -> Self {
            F32x4(from_fn(|i| self.0[i] / o.0[i]))
        }
        #[inline(always)]
        pub fn at_most(self, bound: Self) -> Self {
            F32x4(from_fn(|i| if bound.0[i] < self.0[i] { bound.0[i] } else { self.0[i] }))
        }
        #[inline(always)]
        pub fn at_least(self, bound: Self) -> Self {
            F32x4(from_fn(|i| if bound.0[i] > self.0[i] { bound.0[i] } else { self.0[i] }))
        }
        #[inline(always)]
        pub fn zero_where_less(self, x: Self, bound: Self) -> Self {
            F32x4(from_fn(|i| if x.0[i] < bound.0[i] { 0.0 } else { self.0[i] }))
        }
        #[inline(always)]
        pub fn power_of_two(self, bias: i32) -> Self {
            let bits = self.0.map(|n| (n.to_bits() << 23).wrapping_add((bias as u32) << 23));
            F32x4(bits.map(f32::from_bits))
        }
    }
}

pub use floats::F32x4;

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
        from_fn(|q| F32x4::from_array(from_fn(|i| self.0[4 * q + i] as f32)))
    }
}

/// Sixteen signed bytes.
#[derive(Clone, Copy)]
pub struct I8x16([i8; 16]);

impl I8x16 {
    /// Widened, in order.
    #[inline(always)]
    pub fn to_f32(self) -> [F32x4; 4] {
        from_fn(|q| F32x4::from_array(from_fn(|i| self.0[4 * q + i] as f32)))
    }
}
