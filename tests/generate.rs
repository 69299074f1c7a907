//! Replies of the demo model: the exact answers, and what the options do to them.

mod common;

use common::demo::{chat, cpu, golden, ids, open, request, user};
use outcrop::{
    Error,
    backend::{
        Backend,
        cpu::{Cpu, Reference},
    },
    generate::{FinishReason, NativeHost, Options, Reply, Session},
    text::ChatRequest,
};
use serde_json::{Value, json};

/// Where a margin is below `tolerance`, the runner-up is right too, and what follows it is anybody's guess.
fn is_golden(reply: &Reply, case: &Value, tolerance: f64) -> bool {
    let (want, second) = (ids(&case["completion_ids"]), ids(&case["second_ids"]));
    let finish = if case["finished"] == true {
        FinishReason::Stop
    } else {
        FinishReason::Length
    };
    match (0..want.len()).find(|&i| reply.ids.get(i) != Some(&want[i])) {
        None => reply.ids == want && reply.text == case["completion"] && reply.finish_reason == finish,
        Some(i) => case["margins"][i].as_f64().unwrap() < tolerance && reply.ids.get(i) == Some(&second[i]),
    }
}

fn assert_golden<B: Backend>(mut session: Session<B>, cases: &[Value], tolerance: f64) {
    let options = Options {
        max_tokens: Some(160),
        ..Options::default()
    };
    let mut failures = Vec::new();
    for case in cases {
        let reply = chat(&mut session, &NativeHost::new(), &request(case), &options).unwrap();
        if !is_golden(&reply, case, tolerance) {
            failures.push(format!(
                "{}: {:?}, expected {}",
                case["category"], reply.text, case["completion"]
            ));
        }
        assert_eq!(
            reply.usage.prompt_tokens,
            ids(&case["prompt_ids"]).len(),
            "{}",
            case["category"]
        );
    }
    assert!(
        failures.is_empty(),
        "{} of {}:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

#[test]
fn golden_answers_on_cpu() {
    assert_golden(cpu(2048), &golden(), 0.0);
}

#[test]
fn golden_answers_with_8_bit_activations() {
    assert_golden(open(Cpu::int8(512), 2048), &golden(), 0.3);
}

/// The plain loops are slow: every tenth answer.
#[test]
fn golden_answers_on_reference() {
    let cases: Vec<Value> = golden().into_iter().step_by(10).collect();
    assert_golden(open(Reference::new(64), 1024), &cases, 0.0);
}

/// Batches of any size, down to token by token, give the same ids, in 8 bits close calls included: products have the same bits.
#[test]
fn batch_size_makes_no_difference() {
    let case = &golden()[1];
    let ids_of = |backend| {
        let mut session = open(backend, 1024);
        chat(&mut session, &NativeHost::new(), &request(case), &Options::default())
            .unwrap()
            .ids
    };
    let rounded = ids_of(Cpu::int8(64));
    for n_ubatch in [1, 3, 16, 500] {
        assert_eq!(
            ids_of(Cpu::new(n_ubatch)),
            ids(&case["completion_ids"]),
            "n_ubatch {n_ubatch}"
        );
        assert_eq!(ids_of(Cpu::int8(n_ubatch)), rounded, "8 bits, n_ubatch {n_ubatch}");
    }
}

/// One way or another to a reply of the demo model on the CPU.
fn reply(session: &mut Session<Cpu>, request: &ChatRequest, options: Options) -> Reply {
    chat(session, &NativeHost::new(), request, &options).unwrap()
}

const POEM: &str = "Write a short poem about the sea.";

#[test]
fn stop_texts_end_the_reply_before_them() {
    let mut session = cpu(1024);
    let full = reply(&mut session, &user(POEM), Options::default()).text;
    assert!(
        full.len() > 40 && full.contains(' '),
        "the test needs a text to cut: {full:?}"
    );
    // Every substring of five characters, most of which span tokens, some of them with others that come to nothing.
    let chars: Vec<(usize, char)> = full.char_indices().collect();
    for window in chars.windows(6).step_by(7) {
        let stop = &full[window[0].0..window[5].0];
        let options = Options {
            stop: vec![format!("{stop}\u{1}"), stop.into(), "nowhere".into()],
            ..Options::default()
        };
        let cut = reply(&mut session, &user(POEM), options);
        assert_eq!(cut.text, full[..full.find(stop).unwrap()], "stop {stop:?}");
        assert_eq!(cut.finish_reason, FinishReason::Stop);
    }
    // What only looked like the start of one is shown in the end.
    let tail = format!("{}!?", &full[full.len() - 3..]);
    let whole = reply(
        &mut session,
        &user(POEM),
        Options {
            stop: vec![tail],
            ..Options::default()
        },
    );
    assert_eq!(whole.text, full);
}

#[test]
fn seeds_repeat_and_differ() {
    let mut session = cpu(1024);
    let warm = |seed| Options {
        temperature: 1.5,
        top_p: 0.98,
        seed,
        max_tokens: Some(40),
        ..Options::default()
    };
    let first = reply(&mut session, &user(POEM), warm(Some(7)));
    let again = reply(&mut cpu(1024), &user(POEM), warm(Some(7)));
    assert_eq!((&first.text, &first.ids), (&again.text, &again.ids));
    let others: Vec<Reply> = (8..12)
        .map(|seed| reply(&mut session, &user(POEM), warm(Some(seed))))
        .collect();
    assert!(others.iter().all(|other| other.ids != first.ids), "other seeds, other texts");
    let unseeded: Vec<Reply> = (0..3).map(|_| reply(&mut session, &user(POEM), warm(None))).collect();
    assert!(
        unseeded[0].ids != unseeded[1].ids || unseeded[1].ids != unseeded[2].ids,
        "without a seed replies vary"
    );
}

/// The sampler's own argmax and a draw from one token agree with the device's choice.
#[test]
fn every_way_to_be_greedy() {
    let mut session = cpu(1024);
    let greedy = reply(&mut session, &user(POEM), Options::default());
    for options in [
        Options {
            temperature: 1.0,
            top_k: 1,
            ..Options::default()
        },
        Options {
            temperature: 1.0,
            top_p: 1e-6,
            ..Options::default()
        },
        Options {
            temperature: 0.7,
            min_p: 1.0,
            ..Options::default()
        },
        Options {
            logprobs: Some(0),
            ..Options::default()
        },
    ] {
        assert_eq!(
            reply(&mut session, &user(POEM), options.clone()).ids,
            greedy.ids,
            "{options:?}"
        );
    }
    let penalised = reply(
        &mut session,
        &user(POEM),
        Options {
            repetition_penalty: 2.0,
            max_tokens: Some(30),
            ..Options::default()
        },
    );
    assert_ne!(penalised.ids, greedy.ids, "a penalty takes part in a greedy reply");
}

#[test]
fn lengths_and_limits() {
    let mut session = cpu(1024);
    let full = reply(&mut session, &user(POEM), Options::default());
    assert_eq!(full.finish_reason, FinishReason::Stop);
    for n in [1, 2, 9] {
        let cut = reply(
            &mut session,
            &user(POEM),
            Options {
                max_tokens: Some(n),
                ..Options::default()
            },
        );
        assert_eq!(cut.ids, full.ids[..n]);
        assert_eq!(cut.finish_reason, FinishReason::Length);
        assert_eq!(
            (cut.usage.completion_tokens, cut.usage.total_tokens),
            (n, n + cut.usage.prompt_tokens)
        );
    }
    let exact = Options {
        max_tokens: Some(full.ids.len()),
        ..Options::default()
    };
    assert_eq!(
        reply(&mut session, &user(POEM), exact).finish_reason,
        FinishReason::Stop,
        "the end came first"
    );

    // The context fills up: the last token is made from a full context and needs no room itself.
    let n_prompt = full.usage.prompt_tokens;
    let mut small = cpu(n_prompt as u32 + 3);
    let cut = reply(&mut small, &user(POEM), Options::default());
    assert_eq!(
        (cut.ids.as_slice(), cut.finish_reason),
        (&full.ids[..4], FinishReason::Length)
    );
    assert_eq!(small.sequence().consumed().len(), n_prompt + 3);
    let mut tight = cpu(n_prompt as u32);
    assert_eq!(reply(&mut tight, &user(POEM), Options::default()).ids, full.ids[..1]);
    let mut tiny = cpu(n_prompt as u32 - 1);
    let error = chat(&mut tiny, &NativeHost::new(), &user(POEM), &Options::default()).unwrap_err();
    assert!(
        matches!(error, Error::ContextFull { needed, n_ctx } if needed == n_prompt && n_ctx == n_prompt - 1),
        "{error}"
    );

    // Past the model's own end, for those who ask for it.
    let beyond = Options {
        ignore_eos: true,
        max_tokens: Some(full.ids.len() + 3),
        ..Options::default()
    };
    let beyond = reply(&mut session, &user(POEM), beyond);
    assert_eq!(beyond.ids[..full.ids.len()], full.ids);
    assert_eq!(beyond.ids.len(), full.ids.len() + 3);
    assert!(
        beyond.text.starts_with(&full.text) && !beyond.text.contains("<|"),
        "control tokens are not text: {:?}",
        beyond.text
    );
}

#[test]
fn bad_requests_change_nothing() {
    let mut session = cpu(256);
    let host = NativeHost::new();
    reply(&mut session, &user("What is the capital of France?"), Options::default());
    let held = session.sequence().consumed().to_vec();
    let mut generate =
        |prompt: &[u32], options: &Options| pollster::block_on(session.generate(&host, prompt, options, &mut |_| ()));
    let d = Options::default;
    let cases: [(&[u32], Options, &str); 5] = [
        (&[], d(), "invalid_request"),
        (&[1, 2048], d(), "invalid_request"),
        (&[1, u32::MAX], d(), "invalid_request"),
        (&[1], Options { top_p: 0.0, ..d() }, "invalid_request"),
        (&[5; 257], d(), "context_length_exceeded"),
    ];
    for (prompt, options, code) in cases {
        assert_eq!(generate(prompt, &options).unwrap_err().code(), code, "{prompt:?} {options:?}");
    }
    let none = ChatRequest::new(Vec::new());
    assert_eq!(chat(&mut session, &host, &none, &d()).unwrap_err().code(), "invalid_request");
    assert_eq!(session.sequence().consumed(), held);
}

#[test]
fn logprobs_describe_the_distribution() {
    let mut session = cpu(1024);
    let request = user("What is the capital of France?");
    let plain = reply(&mut session, &request, Options::default());
    let detailed = reply(
        &mut session,
        &request,
        Options {
            logprobs: Some(5),
            ..Options::default()
        },
    );
    assert_eq!((&plain.ids, &plain.logprobs), (&detailed.ids, &None));
    let list = detailed.logprobs.unwrap();
    assert_eq!(list.len(), detailed.ids.len());

    // Against the logits of the whole sequence at once.
    let mut all = session.template().unwrap().render(session.tokenizer(), &request).unwrap().ids;
    let n_prompt = all.len();
    all.extend(&detailed.ids[..detailed.ids.len() - 1]);
    let logits = pollster::block_on(session.score(&NativeHost::new(), &all)).unwrap();
    let n_vocab = session.sequence().n_vocab();
    assert_eq!(logits.len(), all.len() * n_vocab);
    for (i, (entry, &id)) in list.iter().zip(&detailed.ids).enumerate() {
        let row = &logits[(n_prompt - 1 + i) * n_vocab..][..n_vocab];
        let sum: f64 = row.iter().map(|&l| f64::from(l).exp()).sum();
        let expected = f64::from(row[id as usize]) - sum.ln();
        assert!(
            (f64::from(entry.token.logprob) - expected).abs() < 1e-3,
            "{entry:?}, expected {expected}"
        );
        assert_eq!(entry.top_logprobs[0], entry.token, "a greedy token is the likeliest");
        assert_eq!(entry.top_logprobs.len(), 5);
        assert!(entry.top_logprobs.is_sorted_by(|a, b| a.logprob >= b.logprob));
    }
    let text: Vec<u8> = list.iter().take(list.len() - 1).flat_map(|t| t.token.bytes.clone()).collect();
    assert_eq!(text, plain.text.as_bytes());
    let wire = serde_json::to_value(&list[0]).unwrap();
    assert_eq!(
        wire.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["token", "bytes", "logprob", "top_logprobs"]
    );
}

#[test]
fn timings_add_up() {
    let made = reply(&mut cpu(1024), &user(POEM), Options::default());
    let t = made.timings;
    assert!(t.prefill_ms > 0.0 && t.decode_ms > 0.0, "{t:?}");
    assert!(
        t.prefill_ms <= t.time_to_first_token_ms && t.time_to_first_token_ms + t.decode_ms <= t.total_ms,
        "{t:?}"
    );
    let near = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-9;
    assert!(
        near(
            t.prefill_tokens_per_second,
            made.usage.prompt_tokens as f64 * 1e3 / t.prefill_ms
        ),
        "{t:?}"
    );
    assert!(
        near(t.decode_tokens_per_second, (made.ids.len() - 1) as f64 * 1e3 / t.decode_ms),
        "{t:?}"
    );
    let wire = serde_json::to_value(&made).unwrap();
    assert_eq!(wire["finish_reason"], "stop");
    assert_eq!(wire["usage"]["cached_tokens"], json!(0));
    assert!(wire.get("logprobs").is_none());
}
