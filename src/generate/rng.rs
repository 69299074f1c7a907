//! Random numbers that depend on a seed and a counter, nothing else.
//!
//! There is no state to carry, so token `i` of a reply draws the same number on any device, however many tokens were in flight.
//! The mixing function is `pcg4d` of Jarzynski and Olano, "Hash Functions for GPU Rendering", Journal of Computer Graphics
//! Techniques 9(3), 2020: wrapping 32-bit multiplications and additions only, which WGSL has too.

/// Four mixed words of four. In 32-bit wrapping arithmetic, on `v = (x, y, z, w)`:
///
/// ```text
/// v  = 1664525 v + 1013904223
/// x += y w;  y += z x;  z += x y;  w += y z        one after the other
/// v  = v ^ (v >> 16)
/// x += y w;  y += z x;  z += x y;  w += y z
/// ```
pub fn pcg4d(v: [u32; 4]) -> [u32; 4] {
    let mut v = v.map(|a| a.wrapping_mul(1664525).wrapping_add(1013904223));
    stir(&mut v);
    v = v.map(|a| a ^ (a >> 16));
    stir(&mut v);
    v
}

fn stir(v: &mut [u32; 4]) {
    // (to, a, b): v[to] += v[a] v[b], in this order.
    for (to, a, b) in [(0, 1, 3), (1, 2, 0), (2, 0, 1), (3, 1, 2)] {
        v[to] = v[to].wrapping_add(v[a].wrapping_mul(v[b]));
    }
}

/// The `counter`-th number of a seed, in `[0, 1)`: the first word of `pcg4d(seed low, seed high, counter, 0)`, its upper 24 bits
/// times 2^-24, which f32 holds exactly.
pub fn uniform(seed: u64, counter: u32) -> f32 {
    let [x, ..] = pcg4d([seed as u32, (seed >> 32) as u32, counter, 0]);
    (x >> 8) as f32 / (1 << 24) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From an independent implementation of the published recurrence with arbitrary-precision integers.
    #[test]
    fn known_words() {
        for (input, expected) in KNOWN {
            assert_eq!(pcg4d(input), expected, "{input:?}");
        }
    }

    const KNOWN: [([u32; 4], [u32; 4]); 4] = [
        ([0, 0, 0, 0], [0x0f02f829, 0x2d568769, 0x32b0c43b, 0xd32548ea]),
        ([1, 2, 3, 4], [0x3622cd16, 0xf11471d8, 0xe1109b3f, 0x02b94c2f]),
        ([0x0000002a, 0, 7, 0], [0x73f9db31, 0xc8526240, 0xde5a9d29, 0x5f4a20a8]),
        (
            [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
            [0x974ed892, 0xc015dc67, 0x9f955760, 0xa1bba208],
        ),
    ];

    /// Uniform over 256 bins along counters of one seed, along seeds at one counter, and along the seeds' upper half: chi-square
    /// with 255 degrees of freedom has mean 255 and standard deviation 22.6; 370 is five of them.
    #[test]
    fn uniform_along_every_axis() {
        type Axis = fn(u32) -> f32;
        let axes: [(&str, Axis); 4] = [
            ("counter, seed 0", |i| uniform(0, i)),
            ("counter, seed 42", |i| uniform(42, i)),
            ("seed", |i| uniform(u64::from(i), 0)),
            ("upper seed", |i| uniform(u64::from(i) << 32, 1)),
        ];
        const N: u32 = 1 << 17;
        for (name, axis) in axes {
            let mut bins = [0u32; 256];
            for i in 0..N {
                let u = axis(i);
                assert!((0.0..1.0).contains(&u), "{name}: {u}");
                bins[(u * 256.0) as usize] += 1;
            }
            let mean = f64::from(N) / 256.0;
            let chi2: f64 = bins.iter().map(|&b| (f64::from(b) - mean).powi(2) / mean).sum();
            assert!((150.0..370.0).contains(&chi2), "{name}: chi-square {chi2}");
        }
    }

    /// Neighbouring counters are not correlated: pairs fill a 16 x 16 grid evenly.
    #[test]
    fn pairs_are_independent() {
        const N: u32 = 1 << 17;
        let mut bins = [0u32; 256];
        for i in 0..N {
            let (a, b) = (uniform(7, i), uniform(7, i + 1));
            bins[(a * 16.0) as usize * 16 + (b * 16.0) as usize] += 1;
        }
        let mean = f64::from(N) / 256.0;
        let chi2: f64 = bins.iter().map(|&b| (f64::from(b) - mean).powi(2) / mean).sum();
        assert!((150.0..370.0).contains(&chi2), "chi-square {chi2}");
    }
}
