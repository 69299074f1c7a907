//! The sampler at the edges of its options, and the options that are refused.

mod common;

use common::sampling::{assert_distribution, draw, warm};
use outcrop::{
    Error,
    generate::{Options, Sampler},
};

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
