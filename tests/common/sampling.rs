//! What tests of the sampler draw from, and how they judge what came.

use outcrop::generate::{Options, Sampler};

pub fn random_logits(rng: &mut fastrand::Rng, n: usize, spread: f32) -> Vec<f32> {
    (0..n).map(|_| (rng.f32() + rng.f32() + rng.f32() - 1.5) * spread).collect()
}

pub fn warm() -> Options {
    Options {
        temperature: 1.0,
        ..Options::default()
    }
}

/// Draws from fresh copies of the logits and counts the tokens.
pub fn draw(sampler: &mut Sampler, logits: &[f32], n: usize) -> Vec<u32> {
    let mut counts = vec![0; logits.len()];
    let mut scratch = vec![0.0; logits.len()];
    for _ in 0..n {
        scratch.copy_from_slice(logits);
        counts[sampler.pick(&mut scratch).unwrap() as usize] += 1;
    }
    counts
}

/// Chi-square test at about five standard deviations; rare tokens are pooled, impossible ones must not occur.
pub fn assert_distribution(name: &str, counts: &[u32], p: &[f64]) {
    let n: f64 = counts.iter().map(|&c| f64::from(c)).sum();
    let (mut chi2, mut cells, mut pooled) = (0.0, 0, (0.0, 0.0));
    let mut cell = |seen: f64, expected: f64| {
        chi2 += (seen - expected).powi(2) / expected;
        cells += 1;
    };
    for (id, (&seen, &p)) in counts.iter().zip(p).enumerate() {
        assert!(p > 0.0 || seen == 0, "{name}: token {id} is filtered out, drawn {seen} times");
        match p * n {
            e if e >= 10.0 => cell(f64::from(seen), e),
            e => pooled = (pooled.0 + f64::from(seen), pooled.1 + e),
        }
    }
    if pooled.1 >= 10.0 {
        cell(pooled.0, pooled.1);
    } else {
        assert!(
            pooled.0 <= 40.0,
            "{name}: rare tokens drawn {} times, expected {}",
            pooled.0,
            pooled.1
        );
    }
    let dof = f64::from((cells - 1).max(1));
    assert!(
        chi2 <= dof + 5.0 * (2.0 * dof).sqrt() + 10.0,
        "{name}: chi-square {chi2:.1} with {dof} degrees of freedom"
    );
}
