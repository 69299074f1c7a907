//! The sampler against a naive oracle that computes the whole distribution in f64, one step after the other.

use std::collections::HashMap;

use outcrop::{
    Error,
    generate::{Options, Sampler},
};

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

/// Draws from fresh copies of the logits and counts the tokens.
fn draw(sampler: &mut Sampler, logits: &[f32], n: usize) -> Vec<u32> {
    let mut counts = vec![0; logits.len()];
    let mut scratch = vec![0.0; logits.len()];
    for _ in 0..n {
        scratch.copy_from_slice(logits);
        counts[sampler.pick(&mut scratch).unwrap() as usize] += 1;
    }
    counts
}

/// Chi-square test at about five standard deviations; rare tokens are pooled, impossible ones must not occur.
fn assert_distribution(name: &str, counts: &[u32], p: &[f64]) {
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

fn random_logits(rng: &mut fastrand::Rng, n: usize, spread: f32) -> Vec<f32> {
    (0..n).map(|_| (rng.f32() + rng.f32() + rng.f32() - 1.5) * spread).collect()
}

fn warm() -> Options {
    Options {
        temperature: 1.0,
        ..Options::default()
    }
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
fn edges() {
    let one = |options: Options, logits: &[f32]| {
        let mut sampler = Sampler::new(Vec::new());
        sampler.begin(&options, 9, logits.len(), &[]).unwrap();
        (0..50)
            .map(|_| sampler.pick(&mut logits.to_vec()).unwrap())
            .collect::<Vec<u32>>()
    };
    let equal = [1.5; 40];
    let peaked = [0.0, 2.0, 5.0, 5.0, -3.0];
    // Ties go to the lowest id, whichever filter decides.
    for options in [
        Options::default(),
        Options { top_k: 1, ..warm() },
        Options { top_p: 1e-6, ..warm() },
        Options {
            top_p: f32::MIN_POSITIVE,
            ..warm()
        },
    ] {
        assert_eq!(one(options.clone(), &equal), [0; 50], "{options:?}");
        assert_eq!(one(options.clone(), &peaked), [2; 50], "{options:?}");
    }
    // min_p 1 keeps exactly the tokens as likely as the likeliest.
    let picked = one(Options { min_p: 1.0, ..warm() }, &peaked);
    assert!(
        picked.contains(&2) && picked.contains(&3) && picked.iter().all(|id| [2, 3].contains(id)),
        "{picked:?}"
    );
    // Extreme temperatures: the coldest is greedy without overflow, the hottest is uniform.
    assert_eq!(
        one(
            Options {
                temperature: f32::MIN_POSITIVE,
                ..warm()
            },
            &[0.0, 1.0, 3e38, -3e38]
        ),
        [2; 50]
    );
    assert_eq!(
        one(
            Options {
                temperature: 1e-45,
                ..warm()
            },
            &[0.0, 1.0, 0.5]
        ),
        [1; 50]
    );
    let mut sampler = Sampler::new(Vec::new());
    sampler
        .begin(
            &Options {
                temperature: f32::MAX,
                ..warm()
            },
            5,
            8,
            &[],
        )
        .unwrap();
    let logits = [3.0, -2.0, 9.0, 0.0, 1.0, 7.0, -8.0, 2.0];
    assert_distribution("hottest", &draw(&mut sampler, &logits, 20_000), &[0.125; 8]);
    // A vocabulary of one.
    assert_eq!(
        one(
            Options {
                top_p: 0.5,
                min_p: 0.5,
                top_k: 3,
                ..warm()
            },
            &[-7.0]
        ),
        [0; 50]
    );
    // An absurd penalty saturates instead of making infinities.
    let mut sampler = Sampler::new(Vec::new());
    let options = Options {
        repetition_penalty: f32::MAX,
        ..Options::default()
    };
    sampler.begin(&options, 0, 3, &[0, 1]).unwrap();
    assert_eq!(sampler.pick(&mut [-5.0, 5.0, 1.0]).unwrap(), 2);
    sampler
        .begin(
            &Options {
                repetition_penalty: f32::MIN_POSITIVE,
                ..options
            },
            0,
            3,
            &[0, 1],
        )
        .unwrap();
    assert_eq!(sampler.pick(&mut [-5.0, 5.0, 1.0]).unwrap(), 1);
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

#[test]
fn unused_tokens_are_never_picked() {
    let mut sampler = Sampler::new(vec![2, 3, 77]);
    for options in [
        Options::default(),
        warm(),
        Options { top_k: 1, ..warm() },
        Options {
            top_p: 0.5,
            min_p: 0.1,
            ..warm()
        },
    ] {
        sampler.begin(&options, 3, 5, &[]).unwrap();
        for _ in 0..100 {
            assert!(![2, 3].contains(&sampler.pick(&mut [0.0, 1.0, 9.0, 8.0, 1.0]).unwrap()));
        }
    }
}

#[test]
fn invalid_numbers_are_an_error() {
    let mut sampler = Sampler::new(vec![0]);
    for options in [Options::default(), warm()] {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 1500, 2999] {
                let mut logits = vec![0.5; 3000];
                logits[at] = bad;
                sampler.begin(&options, 0, 3000, &[]).unwrap();
                let result = sampler.pick(&mut logits);
                assert!(matches!(result, Err(Error::NonFiniteLogits)), "{bad} at {at}: {result:?}");
            }
        }
        sampler.begin(&options, 0, 1, &[]).unwrap();
        assert!(
            matches!(sampler.pick(&mut [1.0]), Err(Error::NonFiniteLogits)),
            "nothing may be picked"
        );
        assert!(matches!(sampler.pick(&mut []), Err(Error::NonFiniteLogits)));
    }
}

#[test]
fn options_are_checked() {
    let d = Options::default;
    let cases = [
        (
            "temperature",
            Options {
                temperature: -0.1,
                ..d()
            },
        ),
        (
            "temperature",
            Options {
                temperature: f32::NAN,
                ..d()
            },
        ),
        (
            "temperature",
            Options {
                temperature: f32::INFINITY,
                ..d()
            },
        ),
        ("top_p", Options { top_p: 0.0, ..d() }),
        ("top_p", Options { top_p: 1.01, ..d() }),
        ("top_p", Options { top_p: f32::NAN, ..d() }),
        ("min_p", Options { min_p: -0.1, ..d() }),
        ("min_p", Options { min_p: 1.5, ..d() }),
        (
            "repetition_penalty",
            Options {
                repetition_penalty: 0.0,
                ..d()
            },
        ),
        (
            "repetition_penalty",
            Options {
                repetition_penalty: f32::INFINITY,
                ..d()
            },
        ),
        (
            "frequency_penalty",
            Options {
                frequency_penalty: 2.5,
                ..d()
            },
        ),
        (
            "presence_penalty",
            Options {
                presence_penalty: f32::NAN,
                ..d()
            },
        ),
        (
            "max_tokens",
            Options {
                max_tokens: Some(0),
                ..d()
            },
        ),
        (
            "stop",
            Options {
                stop: vec!["x".into(), String::new()],
                ..d()
            },
        ),
        (
            "top_logprobs",
            Options {
                logprobs: Some(21),
                ..d()
            },
        ),
    ];
    for (field, options) in cases {
        let error = options.check().expect_err(&format!("{options:?}"));
        assert_eq!(error.code(), "invalid_request");
        assert!(error.to_string().contains(field), "{error} should name {field}");
    }
    d().check().unwrap();
    Options {
        temperature: 5.0,
        top_p: 1e-9,
        min_p: 1.0,
        logprobs: Some(20),
        max_tokens: Some(1),
        ..d()
    }
    .check()
    .unwrap();
}
