//! [`Rows`] in AVX2: a row's four bytes, i32 or f32 in each 32-bit lane.
//!
//! Every function must be inlined into one that has the `avx2` feature; [`super::matmul`] sees to both.

use super::rows::Rows;
use std::arch::x86_64::*;

/// For processors with AVX2.
pub(super) struct Avx2;

// SAFETY (all of it): the callers run only where AVX2 was detected; loads and stores are unaligned, of arrays of the full width.
impl Rows for Avx2 {
    const PARTS: usize = 1;
    type Int = __m256i;
    type Float = __m256;
    type Bytes = __m256i;
    type Pairs = __m256i;
    /// Twice in each row's 32 bits.
    type Scale = __m256i;
    /// Twice.
    type Sixteen = __m256i;
    type Four = __m256i;

    #[inline(always)]
    fn bytes(b: &[u8; 32], _: usize) -> __m256i {
        unsafe { _mm256_loadu_si256(b.as_ptr().cast()) }
    }
    #[inline(always)]
    fn no_bytes() -> __m256i {
        unsafe { _mm256_setzero_si256() }
    }
    #[inline(always)]
    fn sixteen(x: &[i8; 16]) -> __m256i {
        unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(x.as_ptr().cast())) }
    }
    #[inline(always)]
    fn four<const G: usize>(x: __m256i) -> __m256i {
        unsafe {
            match G {
                0 => _mm256_shuffle_epi32::<0x00>(x),
                1 => _mm256_shuffle_epi32::<0x55>(x),
                2 => _mm256_shuffle_epi32::<0xaa>(x),
                _ => _mm256_shuffle_epi32::<0xff>(x),
            }
        }
    }
    #[inline(always)]
    fn and(a: __m256i, mask: u8) -> __m256i {
        unsafe { _mm256_and_si256(a, _mm256_set1_epi8(mask as i8)) }
    }
    #[inline(always)]
    fn or(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_or_si256(a, b) }
    }
    #[inline(always)]
    fn shl<const N: u32>(a: __m256i) -> __m256i {
        unsafe { _mm256_sll_epi16(a, _mm_cvtsi32_si128(N as i32)) }
    }
    #[inline(always)]
    fn shr<const N: u32>(a: __m256i) -> __m256i {
        unsafe { _mm256_srl_epi16(a, _mm_cvtsi32_si128(N as i32)) }
    }
    #[inline(always)]
    fn four_at(x: &[i8; 4]) -> __m256i {
        unsafe { _mm256_set1_epi32(i32::from_le_bytes(x.map(|x| x as u8))) }
    }
    #[inline(always)]
    fn no_pairs() -> __m256i {
        unsafe { _mm256_setzero_si256() }
    }
    // 2 * 127 * 127 fits an i16, so the pairs never saturate.
    #[inline(always)]
    fn dot(acc: __m256i, w: __m256i, x: __m256i) -> __m256i {
        unsafe { _mm256_add_epi16(acc, _mm256_maddubs_epi16(w, x)) }
    }
    #[inline(always)]
    fn add_times(acc: __m256i, pairs: __m256i, scale: __m256i) -> __m256i {
        unsafe { _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, scale)) }
    }
    #[inline(always)]
    fn dot_signed(acc: __m256i, w: __m256i, x: __m256i) -> __m256i {
        unsafe {
            let even = |v| _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(v));
            let acc = _mm256_add_epi32(acc, _mm256_madd_epi16(even(w), even(x)));
            _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_srai_epi16::<8>(w), _mm256_srai_epi16::<8>(x)))
        }
    }

    #[inline(always)]
    fn int(v: i32) -> __m256i {
        unsafe { _mm256_set1_epi32(v) }
    }
    #[inline(always)]
    fn mul_add(acc: __m256i, a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_add_epi32(acc, _mm256_mullo_epi32(a, b)) }
    }
    #[inline(always)]
    fn scale(v: i8) -> __m256i {
        unsafe { _mm256_set1_epi16(v as i16) }
    }
    #[inline(always)]
    fn scales(b: &[u8; 16], _: usize) -> (__m256i, __m256i) {
        unsafe {
            // A row's two bytes, each in 16 bits.
            let both = _mm256_cvtepi8_epi16(_mm_loadu_si128(b.as_ptr().cast()));
            let first = _mm256_or_si256(
                _mm256_slli_epi32::<16>(both),
                _mm256_and_si256(both, _mm256_set1_epi32(0xffff)),
            );
            let second = _mm256_srai_epi32::<16>(both);
            let second = _mm256_or_si256(
                _mm256_slli_epi32::<16>(second),
                _mm256_and_si256(second, _mm256_set1_epi32(0xffff)),
            );
            (first, second)
        }
    }
    #[inline(always)]
    fn dot_pairs(acc: __m256i, m: &[u8; 16], _: usize, s: &[i16; 2]) -> __m256i {
        unsafe {
            let m = _mm256_cvtepi8_epi16(_mm_loadu_si128(m.as_ptr().cast()));
            let s = _mm256_set1_epi32(s[0] as u16 as i32 | (s[1] as i32) << 16);
            _mm256_add_epi32(acc, _mm256_madd_epi16(m, s))
        }
    }

    #[inline(always)]
    fn float(v: f32) -> __m256 {
        unsafe { _mm256_set1_ps(v) }
    }
    #[inline(always)]
    fn halves(b: &[u8; 16], _: usize) -> __m256 {
        unsafe {
            let h = _mm256_cvtepu16_epi32(_mm_loadu_si128(b.as_ptr().cast()));
            let magnitude = _mm256_and_si256(h, _mm256_set1_epi32(0x7fff));
            let exponent = _mm256_and_si256(h, _mm256_set1_epi32(0x7c00));
            // A subnormal is a small integer; computed as one, it costs no slow path of the processor.
            let subnormal = _mm256_mul_ps(_mm256_cvtepi32_ps(magnitude), _mm256_set1_ps(1.0 / 16_777_216.0));
            let shifted = _mm256_slli_epi32::<13>(magnitude);
            let normal = _mm256_add_epi32(shifted, _mm256_set1_epi32(112 << 23));
            let infinite = _mm256_or_si256(shifted, _mm256_set1_epi32(0xff << 23));
            let is_infinite = _mm256_cmpeq_epi32(exponent, _mm256_set1_epi32(0x7c00));
            let is_subnormal = _mm256_cmpeq_epi32(exponent, _mm256_setzero_si256());
            let v = _mm256_blendv_epi8(normal, infinite, is_infinite);
            let v = _mm256_blendv_epi8(v, _mm256_castps_si256(subnormal), is_subnormal);
            let sign = _mm256_slli_epi32::<16>(_mm256_and_si256(h, _mm256_set1_epi32(0x8000)));
            _mm256_castsi256_ps(_mm256_or_si256(v, sign))
        }
    }
    #[inline(always)]
    fn mul(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    fn add_scaled(acc: __m256, v: __m256i, scale: __m256) -> __m256 {
        unsafe { _mm256_add_ps(acc, _mm256_mul_ps(_mm256_cvtepi32_ps(v), scale)) }
    }
    #[inline(always)]
    fn sub_scaled(acc: __m256, v: __m256i, scale: __m256) -> __m256 {
        unsafe { _mm256_sub_ps(acc, _mm256_mul_ps(_mm256_cvtepi32_ps(v), scale)) }
    }
    #[inline(always)]
    fn store(v: __m256, out: &mut [f32; 8], _: usize) {
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), v) }
    }
}
