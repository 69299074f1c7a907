//! Eight rows at a time: the vectors of the integer kernels, in three builds that give the same bits.
//!
//! Integers are exact, whichever instruction adds them; floats are multiplied and added one by one, never fused. So a kernel
//! written over [`Rows`] gives one result everywhere.

/// Vectors with a lane, or four bytes, for each row of a tile.
pub(super) trait Rows {
    /// An i32 of each row.
    type Int: Copy;
    /// An f32 of each row.
    type Float: Copy;
    /// Four bytes of each row.
    type Bytes: Copy;

    /// Four bytes of each row in turn.
    fn bytes(b: &[u8; 32]) -> Self::Bytes;
    /// `a & mask`, byte by byte.
    fn and(a: Self::Bytes, mask: u8) -> Self::Bytes;
    /// `a | b`.
    fn or(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// Pairs of bytes shifted left; mask first, or bits cross into the neighbour.
    fn shl<const N: u32>(a: Self::Bytes) -> Self::Bytes;
    /// Pairs of bytes shifted right; mask, or bits cross into the neighbour.
    fn shr<const N: u32>(a: Self::Bytes) -> Self::Bytes;
    /// `acc + w . x`, with `w` in 0..=127.
    fn dot(acc: Self::Int, w: Self::Bytes, x: &[i8; 4]) -> Self::Int;
    /// `acc + w . x`, with `w` signed.
    fn dot_signed(acc: Self::Int, w: Self::Bytes, x: &[i8; 4]) -> Self::Int;

    /// The same in each row.
    fn int(v: i32) -> Self::Int;
    /// `acc + a * b`.
    fn mul_add(acc: Self::Int, a: Self::Int, b: Self::Int) -> Self::Int;
    /// Two unsigned bytes of each row in turn: all the first ones, all the second ones.
    fn pairs(b: &[u8; 16]) -> (Self::Int, Self::Int);
    /// Two signed bytes of each row in turn.
    fn pairs_signed(b: &[u8; 16]) -> (Self::Int, Self::Int);
    /// `acc + m . s`, two unsigned bytes of each row in turn.
    fn dot_pairs(acc: Self::Int, m: &[u8; 16], s: &[i16; 2]) -> Self::Int;

    /// The same in each row.
    fn float(v: f32) -> Self::Float;
    /// An f16 of each row, exact.
    fn halves(b: &[u8; 16]) -> Self::Float;
    /// `a * b`.
    fn mul(a: Self::Float, b: Self::Float) -> Self::Float;
    /// `acc + v * scale`.
    fn add_scaled(acc: Self::Float, v: Self::Int, scale: Self::Float) -> Self::Float;
    /// `acc - v * scale`.
    fn sub_scaled(acc: Self::Float, v: Self::Int, scale: Self::Float) -> Self::Float;
    /// Row by row.
    fn store(v: Self::Float, out: &mut [f32; 8]);
}

/// Plain arrays: what the others are compared with, and the fallback.
pub(super) struct Portable;

#[expect(clippy::needless_range_loop, reason = "lanes")]
impl Rows for Portable {
    type Int = [i32; 8];
    type Float = [f32; 8];
    type Bytes = [u8; 32];

    #[inline(always)]
    fn bytes(b: &[u8; 32]) -> [u8; 32] {
        *b
    }
    #[inline(always)]
    fn and(mut a: [u8; 32], mask: u8) -> [u8; 32] {
        for i in 0..32 {
            a[i] &= mask;
        }
        a
    }
    #[inline(always)]
    fn or(mut a: [u8; 32], b: [u8; 32]) -> [u8; 32] {
        for i in 0..32 {
            a[i] |= b[i];
        }
        a
    }
    #[inline(always)]
    fn shl<const N: u32>(mut a: [u8; 32]) -> [u8; 32] {
        for pair in a.as_chunks_mut::<2>().0 {
            *pair = (u16::from_le_bytes(*pair) << N).to_le_bytes();
        }
        a
    }
    #[inline(always)]
    fn shr<const N: u32>(mut a: [u8; 32]) -> [u8; 32] {
        for pair in a.as_chunks_mut::<2>().0 {
            *pair = (u16::from_le_bytes(*pair) >> N).to_le_bytes();
        }
        a
    }
    #[inline(always)]
    fn dot(acc: [i32; 8], w: [u8; 32], x: &[i8; 4]) -> [i32; 8] {
        Self::dot_signed(acc, w, x)
    }
    #[inline(always)]
    fn dot_signed(mut acc: [i32; 8], w: [u8; 32], x: &[i8; 4]) -> [i32; 8] {
        for r in 0..8 {
            for k in 0..4 {
                acc[r] += (w[4 * r + k] as i8) as i32 * x[k] as i32;
            }
        }
        acc
    }

    #[inline(always)]
    fn int(v: i32) -> [i32; 8] {
        [v; 8]
    }
    #[inline(always)]
    fn mul_add(mut acc: [i32; 8], a: [i32; 8], b: [i32; 8]) -> [i32; 8] {
        for r in 0..8 {
            acc[r] += a[r] * b[r];
        }
        acc
    }
    #[inline(always)]
    fn pairs(b: &[u8; 16]) -> ([i32; 8], [i32; 8]) {
        let mut out = ([0; 8], [0; 8]);
        for r in 0..8 {
            out.0[r] = b[2 * r] as i32;
            out.1[r] = b[2 * r + 1] as i32;
        }
        out
    }
    #[inline(always)]
    fn pairs_signed(b: &[u8; 16]) -> ([i32; 8], [i32; 8]) {
        let mut out = ([0; 8], [0; 8]);
        for r in 0..8 {
            out.0[r] = b[2 * r] as i8 as i32;
            out.1[r] = b[2 * r + 1] as i8 as i32;
        }
        out
    }
    #[inline(always)]
    fn dot_pairs(mut acc: [i32; 8], m: &[u8; 16], s: &[i16; 2]) -> [i32; 8] {
        for r in 0..8 {
            acc[r] += m[2 * r] as i32 * s[0] as i32 + m[2 * r + 1] as i32 * s[1] as i32;
        }
        acc
    }

    #[inline(always)]
    fn float(v: f32) -> [f32; 8] {
        [v; 8]
    }
    #[inline(always)]
    fn halves(b: &[u8; 16]) -> [f32; 8] {
        let mut out = [0.0; 8];
        for r in 0..8 {
            out[r] = half::f16::from_le_bytes([b[2 * r], b[2 * r + 1]]).to_f32();
        }
        out
    }
    #[inline(always)]
    fn mul(mut a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        for r in 0..8 {
            a[r] *= b[r];
        }
        a
    }
    #[inline(always)]
    fn add_scaled(mut acc: [f32; 8], v: [i32; 8], scale: [f32; 8]) -> [f32; 8] {
        for r in 0..8 {
            acc[r] += v[r] as f32 * scale[r];
        }
        acc
    }
    #[inline(always)]
    fn sub_scaled(mut acc: [f32; 8], v: [i32; 8], scale: [f32; 8]) -> [f32; 8] {
        for r in 0..8 {
            acc[r] -= v[r] as f32 * scale[r];
        }
        acc
    }
    #[inline(always)]
    fn store(v: [f32; 8], out: &mut [f32; 8]) {
        *out = v;
    }
}
