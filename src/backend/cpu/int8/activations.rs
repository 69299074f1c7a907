//! Activations in 8 bits: `x = d * q`, `q` in -127..=127, one scale for as many columns as a weight's block has. The quants are rounded with
//! a scale that takes the largest to 127; `d` is the one that then fits all of them best.
//!
//! With k-quants 256 columns share a scale, so that a whole block is summed in integers; llama.cpp's CPU path does the same, and
//! it is the yardstick of accuracy (tests/oracle/README.md). Q8_0 and Q4_0 have a float scale every 32 columns anyway.
//!
//! A block with an infinity or a NaN in it gets NaN for a scale, so that a broken model is noticed and not smoothed over.

/// 256 columns, for the k-quants.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Block256 {
    /// The quants.
    pub q: [i8; 256],
    /// Sum of each 16 quants: Q6_K's weights are stored plus 32.
    pub sums16: [i16; 16],
    /// Sum of each 32 quants, for the mins of Q4_K and Q5_K.
    pub sums32: [i16; 8],
    /// The scale.
    pub d: f32,
}

/// 32 columns, for Q8_0 and Q4_0.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Block32 {
    /// The quants.
    pub q: [i8; 32],
    /// -8 times the sum of the quants: Q4_0's weights are stored plus 8.
    pub minus_8: i32,
    /// The scale.
    pub d: f32,
}

impl Default for Block256 {
    fn default() -> Self {
        Self::ZERO
    }
}

impl Default for Block32 {
    fn default() -> Self {
        Self::ZERO
    }
}

impl Block256 {
    /// All zeros.
    pub const ZERO: Block256 = Block256 {
        q: [0; 256],
        sums16: [0; 16],
        sums32: [0; 8],
        d: 0.0,
    };

    /// Rounds 256 columns.
    pub fn quantize(&mut self, x: &[f32; 256]) {
        self.d = round_to_i8(x, &mut self.q);
        let (halves, _) = self.q.as_chunks::<16>();
        for (j, q) in halves.iter().enumerate() {
            self.sums16[j] = sum(q) as i16;
        }
        for j in 0..8 {
            self.sums32[j] = self.sums16[2 * j] + self.sums16[2 * j + 1];
        }
    }
}

impl Block32 {
    /// All zeros.
    pub const ZERO: Block32 = Block32 {
        q: [0; 32],
        minus_8: 0,
        d: 0.0,
    };

    /// Rounds 32 columns.
    pub fn quantize(&mut self, x: &[f32; 32]) {
        self.d = round_to_i8(x, &mut self.q);
        self.minus_8 = -8 * sum(&self.q);
    }
}

fn sum(q: &[i8]) -> i32 {
    q.iter().map(|&q| q as i32).sum()
}

/// Rounds to nearest, ties to even; the scale.
fn round_to_i8<const N: usize>(x: &[f32; N], q: &mut [i8; N]) -> f32 {
    // As integers the magnitudes order like the floats, with infinity and every NaN on top.
    let mut largest = 0;
    for x in x {
        largest = largest.max((x.to_bits() & 0x7fff_ffff) as i32);
    }
    let largest = f32::from_bits(largest as u32);
    let (d, inverse) = (largest / 127.0, 127.0 / largest);
    if !(largest.is_finite() && inverse.is_finite()) {
        // Either nothing to round, or too small for its inverse to be a float.
        q.fill(0);
        return if largest.is_finite() { 0.0 } else { f32::NAN };
    }
    // Adding 1.5 * 2^23 leaves the rounded integer in the low bits.
    const SHIFT: f32 = 12_582_912.0;
    // The scale that fits the quants best, x.q / q.q, is another than the one that they were rounded with. Sums of eight lanes, so that
    // they are the same in every build.
    let (mut xq, mut qq) = ([0f32; 8], 0i32);
    for (q, x) in q.chunks_exact_mut(8).zip(x.chunks_exact(8)) {
        for ((q, x), xq) in q.iter_mut().zip(x).zip(&mut xq) {
            let rounded = (x * inverse + SHIFT).to_bits() as i32 - SHIFT.to_bits() as i32;
            *q = rounded as i8;
            *xq += x * inverse * rounded as f32;
            qq += rounded * rounded;
        }
    }
    d * (xq.iter().sum::<f32>() / qq as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_to_nearest_and_sums_what_it_made() {
        let mut rng = fastrand::Rng::with_seed(2);
        for scale in [1e-30f32, 1e-3, 1.0, 1e20] {
            let x: [f32; 256] = std::array::from_fn(|_| scale * (2.0 * rng.f32() - 1.0));
            let mut block = Block256::ZERO;
            block.quantize(&x);
            assert_eq!(block.q.iter().map(|q| q.unsigned_abs()).max(), Some(127));
            let step = x.iter().fold(0f32, |most, x| most.max(x.abs())) / 127.0;
            for (x, &q) in x.iter().zip(&block.q) {
                assert!((x - step * q as f32).abs() <= 0.5001 * step, "{x} as {q}");
            }
            // In units of a step: the squares of small numbers are none.
            let error = |d: f32| -> f64 {
                let off = |(x, &q): (&f32, &i8)| f64::from(x / step) - f64::from(d / step) * f64::from(q);
                x.iter().zip(&block.q).map(|pair| off(pair).powi(2)).sum()
            };
            assert!((block.d / step - 1.0).abs() < 1e-3);
            assert!(
                [0.999, 0.9999, 1.0, 1.0001, 1.001]
                    .iter()
                    .all(|f| error(block.d) <= error(step * f) + 1e-6)
            );
            for j in 0..16 {
                assert_eq!(block.sums16[j] as i32, sum(&block.q[16 * j..][..16]));
                assert_eq!(block.sums32[j / 2] as i32, sum(&block.q[j / 2 * 32..][..32]));
            }
        }
    }

    #[test]
    fn zeros_and_what_is_no_number() {
        let mut block = Block32::ZERO;
        block.quantize(&[0.0; 32]);
        assert_eq!((block.q, block.d), ([0; 32], 0.0));
        block.quantize(&[1e-44; 32]);
        assert_eq!((block.q, block.d), ([0; 32], 0.0));
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = [1.0; 32];
            x[7] = bad;
            block.quantize(&x);
            assert!(block.d.is_nan());
        }
    }
}
