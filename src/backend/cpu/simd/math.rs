//! Exponentials of our own: a libm's differ from build to build, and none of them does four at a time.

use super::F32x4;

/// `1.5 * 2^23`: added to a small number, it leaves the nearest integer in the low bits.
const SHIFT: f32 = 12_582_912.0;
/// Below this the exponential is 0: where floats become subnormal, and processors slow.
const SMALLEST: f32 = -86.98;
/// The next one is infinite.
const LARGEST: f32 = 88.722_83;
/// ln 2 to 14 bits, so that its products with exponents are exact.
const LN_2_HIGH: f32 = 11_357.0 / 16_384.0;
/// The rest of ln 2.
const LN_2_LOW: f32 = -2.908_897_1e-5;
/// `(e^r - 1 - r) / r^2` for `|r| <= ln 2 / 2`: the polynomial whose largest relative error of `e^r` is smallest, 4.2e-9.
const REST: [f32; 5] = [0.499_999_94, 0.166_665_2, 0.041_668_4, 0.008_368_851, 0.001_381_432];

impl F32x4 {
    /// `e^x`, to 1.5e-7 of itself; 0 below -86.98. NaN stays.
    #[inline(always)]
    pub fn exp(self) -> Self {
        let s = F32x4::splat;
        let x = self.at_most(s(LARGEST + 0.5)).at_least(s(SMALLEST));
        let shifted = x * s(std::f32::consts::LOG2_E) + s(SHIFT);
        let n = shifted - s(SHIFT);
        let r = (x - n * s(LN_2_HIGH)) - n * s(LN_2_LOW);
        let mut q = s(REST[4]);
        for c in REST[..4].iter().rev() {
            q = q * r + s(*c);
        }
        let p = s(1.0) + (r + r * r * q);
        // One of the powers of two by hand: 2^128 would be none.
        ((p + p) * shifted.power_of_two(126)).zero_where_less(self, s(SMALLEST))
    }

    /// `x * sigmoid(x)`.
    #[inline(always)]
    pub fn silu(self) -> Self {
        self / (F32x4::splat(1.0) + (F32x4::splat(0.0) - self).exp())
    }
}

/// One of [`F32x4::exp`].
#[inline]
pub fn exp(x: f32) -> f32 {
    F32x4::splat(x).exp().to_array()[0]
}

/// One of [`F32x4::silu`].
#[inline]
pub fn silu(x: f32) -> f32 {
    F32x4::splat(x).silu().to_array()[0]
}

/// `ln(1 + e^x)`; above 20 the identity.
pub fn softplus(x: f32) -> f32 {
    if x > 20.0 {
        return x;
    }
    // ln(1 + u) = 2 artanh(u / (2 + u)), whose argument is at most a third.
    let u = exp(-x.abs()) as f64;
    let s = u / (2.0 + u);
    let mut sum = 0.0;
    for k in (1..=17).rev().step_by(2) {
        sum = sum * (s * s) + 1.0 / k as f64;
    }
    (x.max(0.0) as f64 + 2.0 * s * sum) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every 97th float, both signs, and the edges.
    fn floats() -> impl Iterator<Item = f32> {
        let edges = [
            0.0,
            -0.0,
            SMALLEST,
            LARGEST,
            88.722_84,
            89.5,
            -87.4,
            -104.0,
            f32::INFINITY,
            f32::NEG_INFINITY,
        ];
        (0..=u32::MAX).step_by(97).map(f32::from_bits).chain(edges)
    }

    #[test]
    fn exponentials_of_all_floats() {
        let mut worst = 0f64;
        for x in floats() {
            let (found, exact) = (exp(x), (x as f64).exp());
            if x.is_nan() {
                assert!(found.is_nan());
            } else if exact as f32 == f32::INFINITY {
                assert_eq!(found, f32::INFINITY, "e^{x}");
            } else if x < SMALLEST {
                assert_eq!(found.to_bits(), 0, "e^{x}");
            } else {
                worst = worst.max((found as f64 / exact - 1.0).abs());
            }
        }
        println!("worst relative error {worst:.2e}");
        assert!(worst < 1.5e-7, "{worst:.2e}");
    }

    #[test]
    fn silu_and_softplus_of_all_floats() {
        let (mut silus, mut softpluses) = (0f64, 0f64);
        for x in floats() {
            let v = x as f64;
            let exact = v / (1.0 + (-v).exp());
            if exact.is_nan() {
                assert!(silu(x).is_nan(), "silu({x})");
            } else {
                // Where e^-x overflows a float: silu is above -1e-36 and found 0.
                silus = silus.max((silu(x) as f64 - exact).abs() / exact.abs().max(1e-29));
            }
            if x.is_nan() {
                assert!(softplus(x).is_nan());
            } else if x <= 20.0 {
                let exact = v.exp().ln_1p();
                softpluses = softpluses.max((softplus(x) as f64 - exact).abs() / exact.max(1e-30));
            } else {
                assert_eq!(softplus(x), x);
            }
        }
        println!("worst relative errors {silus:.2e} {softpluses:.2e}");
        assert!(silus < 4e-7, "{silus:.2e}");
        assert!(softpluses < 2.5e-7, "{softpluses:.2e}");
    }

    #[test]
    fn lanes_are_independent() {
        let x = [f32::NAN, -100.0, 1.0, 1000.0];
        let found = F32x4::from_array(x).exp().to_array();
        for (found, x) in found.into_iter().zip(x) {
            assert_eq!(found.to_bits(), exp(x).to_bits(), "{x}");
        }
    }
}
