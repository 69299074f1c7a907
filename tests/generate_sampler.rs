//! The sampler against a naive oracle that computes the whole distribution in f64, one step after the other.

mod common;

use std::collections::HashMap;

use common::sampling::{assert_distribution, draw, random_logits, warm};
use outcrop::generate::{Options, Sampler};

/// The distribution that the options describe, `[n_vocab]`, by the book: penalties, temperature, top-k, top-p, min-p, each on the
/// renormalised result of the one before.
fn oracle(logits: &[f32], options: &Options, prompt: &[u32], reply: &[u32], never: &[u32]) -> Vec<f64> {
    let mut l: Vec<f64> = logits.iter().map(|&l| f64::from(l)).collect();
    let history = [prompt, reply].concat();
    let window = &history[history.len().saturating_sub(options.repetition_last_n)..];
    for (id, l) in (0u32..).zip(&mut l) {
        if window.contains(&id) {
            let p = f64::from(options.repetition_penalty);
            *l = if *l > 0.0 { *l / p } else { *l * p };
        }
        let count = reply.iter().filter(|&&r| r == id).count();
        if count > 0 {
            *l -= count as f64 * f64::from(options.frequency_penalty) + f64::from(options.presence_penalty);
        }
    }
    let mut rank: Vec<usize> = (0..l.len()).filter(|&id| !never.contains(&(id as u32))).collect();
    rank.sort_by(|&a, &b| l[b].total_cmp(&l[a]).then(a.cmp(&b)));
    let mut p = vec![0.0; l.len()];
    if options.temperature == 0.0 {
        p[rank[0]] = 1.0;
        return p;
    }
    if options.top_k > 0 {
        rank.truncate(options.top_k);
    }
    let max = l[rank[0]];
    let weight = |id: usize| ((l[id] - max) / f64::from(options.temperature)).exp();
    let total: f64 = rank.iter().map(|&id| weight(id)).sum();
    let mut sum = 0.0;
    let nucleus = rank.iter().position(|&id| {
        sum += weight(id) / total;
        sum >= f64::from(options.top_p) - 1e-12
    });
    if options.top_p < 1.0 {
        rank.truncate(nucleus.map_or(rank.len(), |i| i + 1));
    }
    rank.retain(|&id| weight(id) >= f64::from(options.min_p));
    let total: f64 = rank.iter().map(|&id| weight(id)).sum();
    for id in rank {
        p[id] = weight(id) / total;
    }
    p
}

#[test]
fn distributions() {
    let mut rng = fastrand::Rng::with_seed(1);
    let cases = [
        ("temperature 1", 30, warm()),
        (
            "temperature 0.3",
            30,
            Options {
                temperature: 0.3,
                ..warm()
            },
        ),
        (
            "temperature 3",
            30,
            Options {
                temperature: 3.0,
                ..warm()
            },
        ),
        ("top_k 5", 30, Options { top_k: 5, ..warm() }),
        ("top_k beyond the vocabulary", 30, Options { top_k: 1000, ..warm() }),
        ("top_p 0.5", 30, Options { top_p: 0.5, ..warm() }),
        (
            "top_p 0.9 over many",
            3000,
            Options {
                top_p: 0.9,
                temperature: 4.0,
                ..warm()
            },
        ),
        ("min_p 0.1", 30, Options { min_p: 0.1, ..warm() }),
        (
            "min_p 0.3, top_p 0.6",
            30,
            Options {
                min_p: 0.3,
                top_p: 0.6,
                ..warm()
            },
        ),
        (
            "all at once",
            300,
            Options {
                temperature: 0.8,
                top_k: 40,
                top_p: 0.95,
                min_p: 0.02,
                ..warm()
            },
        ),
        (
            "top_k 200 of 3000",
            3000,
            Options {
                top_k: 200,
                temperature: 2.0,
                ..warm()
            },
        ),
    ];
    for (seed, (name, n_vocab, options)) in (1..).zip(cases) {
        let logits = random_logits(&mut rng, n_vocab, 4.0);
        let mut sampler = Sampler::new(Vec::new());
        sampler.begin(&options, seed, n_vocab, &[]).unwrap();
        let counts = draw(&mut sampler, &logits, if n_vocab > 1000 { 20_000 } else { 100_000 });
        assert_distribution(name, &counts, &oracle(&logits, &options, &[], &[], &[]));
    }
}

/// Seeds are as good as counters: the first token over many seeds has the same distribution.
#[test]
fn distribution_over_seeds() {
    let logits = random_logits(&mut fastrand::Rng::with_seed(2), 20, 4.0);
    let mut sampler = Sampler::new(Vec::new());
    let mut counts = vec![0; logits.len()];
    for seed in 0..50_000 {
        sampler.begin(&warm(), seed, logits.len(), &[]).unwrap();
        counts[sampler.pick(&mut logits.clone()).unwrap() as usize] += 1;
    }
    assert_distribution("seeds 0..50000", &counts, &oracle(&logits, &warm(), &[], &[], &[]));
}

/// With penalties the distribution changes with every token: walk a reply and ask the oracle at each step.
#[test]
fn penalties_step_by_step() {
    let mut rng = fastrand::Rng::with_seed(3);
    let prompt = [3, 1, 4, 1, 5, 9, 2, 6];
    for last_n in [0, 1, 4, 8, 11, usize::MAX] {
        for (repetition, frequency, presence) in [
            (1.5, 0.0, 0.0),
            (1.0, 0.7, 0.0),
            (1.0, 0.0, 1.1),
            (0.8, -0.05, 0.4),
            (1.3, 0.6, 0.5),
        ] {
            let options = Options {
                repetition_penalty: repetition,
                repetition_last_n: last_n,
                frequency_penalty: frequency,
                presence_penalty: presence,
                ..Options::default()
            };
            let mut sampler = Sampler::new(Vec::new());
            let (mut reply, mut drawn) = (Vec::new(), HashMap::new());
            sampler.begin(&options, 0, 16, &prompt).unwrap();
            for step in 0..60 {
                let logits = random_logits(&mut rng, 16, 2.0);
                let id = sampler.pick(&mut logits.clone()).unwrap();
                let p = oracle(&logits, &options, &prompt, &reply, &[]);
                assert_eq!(
                    p[id as usize], 1.0,
                    "last_n {last_n}, {options:?}, step {step}: picked {id}, oracle {p:?}"
                );
                reply.push(id);
                *drawn.entry(id).or_insert(0) += 1;
            }
            assert!(drawn.len() > 2, "the walk must not be trivial");
        }
    }
    // And once as a distribution: one token, after a reply that is forced by the prompt.
    let options = Options {
        repetition_penalty: 1.7,
        ..warm()
    };
    let logits = random_logits(&mut rng, 16, 3.0);
    let mut counts = vec![0; 16];
    let mut sampler = Sampler::new(Vec::new());
    for seed in 0..100_000 {
        sampler.begin(&options, seed, 16, &prompt).unwrap();
        counts[sampler.pick(&mut logits.clone()).unwrap() as usize] += 1;
    }
    assert_distribution("repetition 1.7", &counts, &oracle(&logits, &options, &prompt, &[], &[]));
}

#[test]
fn random_options_never_leave_the_support() {
    let mut rng = fastrand::Rng::with_seed(4);
    for case in 0..2000 {
        let n_vocab = rng.usize(1..200);
        // Coarse steps make ties common.
        let logits: Vec<f32> = random_logits(&mut rng, n_vocab, 6.0)
            .iter()
            .map(|l| (l * 2.0).round() / 2.0)
            .collect();
        let options = Options {
            temperature: [0.0, 0.25, 1.0, 2.0][rng.usize(..4)],
            top_k: [0, 1, 2, n_vocab, rng.usize(..n_vocab + 2)][rng.usize(..5)],
            top_p: [1.0, 0.9, 0.30001, 1e-9][rng.usize(..4)],
            min_p: [0.0, 0.05001, 1.0][rng.usize(..3)],
            ..Options::default()
        };
        let never: Vec<u32> = (0..n_vocab as u32 - 1).filter(|_| rng.u8(..10) == 0).collect();
        let p = oracle(&logits, &options, &[], &[], &never);
        let mut sampler = Sampler::new(never);
        sampler.begin(&options, case, n_vocab, &[]).unwrap();
        for _ in 0..20 {
            let id = sampler.pick(&mut logits.clone()).unwrap();
            assert!(
                p[id as usize] > 0.0,
                "case {case}: drew {id} of {logits:?} with {options:?}, oracle {p:?}"
            );
        }
    }
}

#[test]
fn same_seed_same_tokens() {
    let mut rng = fastrand::Rng::with_seed(6);
    let steps: Vec<Vec<f32>> = (0..40).map(|_| random_logits(&mut rng, 50, 3.0)).collect();
    let options = Options {
        top_p: 0.95,
        repetition_penalty: 1.1,
        ..warm()
    };
    let mut sampler = Sampler::new(Vec::new());
    let mut reply = |seed| {
        sampler.begin(&options, seed, 50, &[1, 2, 3]).unwrap();
        steps
            .iter()
            .map(|l| sampler.pick(&mut l.clone()).unwrap())
            .collect::<Vec<u32>>()
    };
    let first = reply(1234);
    assert_ne!(first, reply(1235));
    assert_ne!(first, reply(1234 | 1 << 40), "the seed's upper half counts");
    assert_eq!(first, reply(1234), "nothing is left over from other replies");
}
