//! Eight rows at a time: the vectors of the integer kernels, in three builds that give the same bits.
//!
//! Integers are exact, whichever instruction adds them; floats are multiplied and added one by one, never fused. So a kernel
//! written over [`Rows`] gives one result everywhere.

/// Vectors with a lane, or four bytes, for each row of a tile, or of a part of one: the first rows of it are part 0.
pub(super) trait Rows {
    /// Vectors that eight rows take: 1 or 2.
    const PARTS: usize;
    /// An i32 of each row.
    type Int: Copy;
    /// An f32 of each row.
    type Float: Copy;
    /// Four bytes of each row.
    type Bytes: Copy;
    /// Sums of a few products, two of each row: of its bytes 0 and 1, and of 2 and 3. They need only hold an i16.
    type Pairs: Copy;
    /// What the sums of each row are multiplied by, a signed byte.
    type Scale: Copy;
    /// Activations of sixteen columns.
    type Sixteen: Copy;
    /// Activations of four columns, for every row.
    type Four: Copy;

    /// Four bytes of each row in turn.
    fn bytes(b: &[u8; 32], part: usize) -> Self::Bytes;
    /// Zeros, to be replaced. Weights are filled in by loops: a closure has not the instructions of the function that it stands in, and every
    /// vector would pass through memory.
    fn no_bytes() -> Self::Bytes;
    /// `b`, to be loaded once more: the compiler would keep what it loaded for an earlier use, more than there are registers for.
    #[inline(always)]
    fn anew<B>(b: &B) -> &B {
        b
    }
    /// `n`, which the compiler does not know: it would write the turns of a loop one after another and keep what they share.
    #[inline(always)]
    fn times(n: usize) -> usize {
        n
    }
    /// Sixteen activations.
    fn sixteen(x: &[i8; 16]) -> Self::Sixteen;
    /// Number `4 G..4 G + 4` of them.
    fn four<const G: usize>(x: Self::Sixteen) -> Self::Four;
    /// `a & mask`, byte by byte.
    fn and(a: Self::Bytes, mask: u8) -> Self::Bytes;
    /// `a | b`.
    fn or(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// Pairs of bytes shifted left; mask first, or bits cross into the neighbour.
    fn shl<const N: u32>(a: Self::Bytes) -> Self::Bytes;
    /// Pairs of bytes shifted right; mask, or bits cross into the neighbour.
    fn shr<const N: u32>(a: Self::Bytes) -> Self::Bytes;
    /// Four activations.
    fn four_at(x: &[i8; 4]) -> Self::Four;
    /// No products yet.
    fn no_pairs() -> Self::Pairs;
    /// `acc + w . x`, with `w` in 0..=127. The weights of all products that go into one `acc` may add up to 129 in each byte,
    /// so that no sum leaves an i16.
    fn dot(acc: Self::Pairs, w: Self::Bytes, x: Self::Four) -> Self::Pairs;
    /// `acc + pairs * scale`.
    fn add_times(acc: Self::Int, pairs: Self::Pairs, scale: Self::Scale) -> Self::Int;
    /// `acc + w . x`, with `w` signed.
    fn dot_signed(acc: Self::Int, w: Self::Bytes, x: Self::Four) -> Self::Int;

    /// The same in each row.
    fn int(v: i32) -> Self::Int;
    /// `acc + a * b`.
    fn mul_add(acc: Self::Int, a: Self::Int, b: Self::Int) -> Self::Int;
    /// The same in each row.
    fn scale(v: i8) -> Self::Scale;
    /// Two signed bytes of each row in turn: all the first ones, all the second ones.
    fn scales(b: &[u8; 16], part: usize) -> (Self::Scale, Self::Scale);
    /// `acc + m . s`, two signed bytes of each row in turn.
    fn dot_pairs(acc: Self::Int, m: &[u8; 16], part: usize, s: &[i16; 2]) -> Self::Int;

    /// The same in each row.
    fn float(v: f32) -> Self::Float;
    /// An f16 of each row, exact.
    fn halves(b: &[u8; 16], part: usize) -> Self::Float;
    /// `a * b`.
    fn mul(a: Self::Float, b: Self::Float) -> Self::Float;
    /// `acc + v * scale`.
    fn add_scaled(acc: Self::Float, v: Self::Int, scale: Self::Float) -> Self::Float;
    /// `acc - v * scale`.
    fn sub_scaled(acc: Self::Float, v: Self::Int, scale: Self::Float) -> Self::Float;
    /// Row by row.
    fn store(v: Self::Float, out: &mut [f32; 8], part: usize);
}

/// Plain arrays: what the others are compared with, and the fallback.
pub(super) struct Portable;

#[expect(clippy::needless_range_loop, reason = "lanes")]
impl Rows for Portable {
    const PARTS: usize = 1;
    type Int = [i32; 8];
    type Float = [f32; 8];
    type Bytes = [u8; 32];
    /// A build that checks arithmetic notices a sum that leaves it.
    type Pairs = [[i16; 2]; 8];
    type Scale = [i32; 8];
    type Sixteen = [i8; 16];
    type Four = [i8; 4];

    #[inline(always)]
    fn bytes(b: &[u8; 32], _: usize) -> [u8; 32] {
        *b
    }
    #[inline(always)]
    fn no_bytes() -> [u8; 32] {
        [0; 32]
    }
    #[inline(always)]
    fn sixteen(x: &[i8; 16]) -> [i8; 16] {
        *x
    }
    #[inline(always)]
    fn four<const G: usize>(x: [i8; 16]) -> [i8; 4] {
        x.as_chunks().0[G]
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
    fn four_at(x: &[i8; 4]) -> [i8; 4] {
        *x
    }
    #[inline(always)]
    fn no_pairs() -> [[i16; 2]; 8] {
        [[0; 2]; 8]
    }
    #[inline(always)]
    fn dot(mut acc: [[i16; 2]; 8], w: [u8; 32], x: [i8; 4]) -> [[i16; 2]; 8] {
        for r in 0..8 {
            for k in 0..4 {
                acc[r][k / 2] += w[4 * r + k] as i16 * x[k] as i16;
            }
        }
        acc
    }
    #[inline(always)]
    fn add_times(mut acc: [i32; 8], pairs: [[i16; 2]; 8], scale: [i32; 8]) -> [i32; 8] {
        for r in 0..8 {
            acc[r] += (pairs[r][0] as i32 + pairs[r][1] as i32) * scale[r];
        }
        acc
    }
    #[inline(always)]
    fn dot_signed(mut acc: [i32; 8], w: [u8; 32], x: [i8; 4]) -> [i32; 8] {
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
    fn scale(v: i8) -> [i32; 8] {
        [v as i32; 8]
    }
    #[inline(always)]
    fn scales(b: &[u8; 16], _: usize) -> ([i32; 8], [i32; 8]) {
        let mut out = ([0; 8], [0; 8]);
        for r in 0..8 {
            out.0[r] = b[2 * r] as i8 as i32;
            out.1[r] = b[2 * r + 1] as i8 as i32;
        }
        out
    }
    #[inline(always)]
    fn dot_pairs(mut acc: [i32; 8], m: &[u8; 16], _: usize, s: &[i16; 2]) -> [i32; 8] {
        for r in 0..8 {
            acc[r] += m[2 * r] as i8 as i32 * s[0] as i32 + m[2 * r + 1] as i8 as i32 * s[1] as i32;
        }
        acc
    }

    #[inline(always)]
    fn float(v: f32) -> [f32; 8] {
        [v; 8]
    }
    #[inline(always)]
    fn halves(b: &[u8; 16], _: usize) -> [f32; 8] {
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
    fn store(v: [f32; 8], out: &mut [f32; 8], _: usize) {
        *out = v;
    }
}
