//! The same session on the GPU: exact answers of the demo model, and a state that stays on the device between turns.

mod common;

use std::cell::Cell;

use common::demo::{chat, cpu, golden, ids, open, request, user};
use outcrop::{
    Error,
    backend::{
        Backend,
        gpu::{Forms, Gpu, GpuOptions, MatmulForm, MatvecForm},
    },
    generate::{FinishReason, Host, NativeHost, Options, Reply, Session},
    text::ChatRequest,
};
use serde_json::{Value, json};

/// A session on whatever adapter there is; a software one will do.
fn gpu(n_ubatch: u32, n_ctx: u32) -> Option<Session<Gpu>> {
    with(
        GpuOptions {
            n_ubatch,
            ..GpuOptions::default()
        },
        n_ctx,
    )
}

fn with(options: GpuOptions, n_ctx: u32) -> Option<Session<Gpu>> {
    match pollster::block_on(Gpu::new(options)) {
        Ok(gpu) => Some(open(gpu, n_ctx)),
        Err(Error::NoGpu { what }) => {
            println!("SKIPPED: no GPU adapter, not even a software one: {what}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// The greedy answer, which must be the known one.
fn known_answer(session: &mut Session<Gpu>, case: &Value, what: &str) -> Reply {
    let options = Options {
        max_tokens: Some(160),
        ..Options::default()
    };
    let reply = chat(session, &NativeHost::new(), &request(case), &options).unwrap();
    let (got, category) = (&reply.ids, &case["category"]);
    assert_eq!(*got, ids(&case["completion_ids"]), "{what}, {category}: {:?}", reply.text);
    reply
}

/// Every fifth answer, each twice: through the recorded plan and once more through its replay.
#[test]
fn golden_answers_on_gpu() {
    let Some(mut session) = gpu(64, 1024) else { return };
    for case in golden().iter().step_by(5) {
        for round in 0..2 {
            let reply = known_answer(&mut session, case, &format!("round {round}"));
            assert_eq!(reply.text, case["completion"]);
        }
    }
}

/// The same tokens, whatever form the products take; packed ones and f16 tiles round, but not so much that these answers change.
#[test]
fn greedy_answers_in_every_form() {
    let matvecs = MatvecForm::ALL.map(|matvec| Forms {
        matvec,
        ..Forms::default()
    });
    let matmuls = MatmulForm::ALL.map(|matmul| Forms {
        matmul,
        ..Forms::default()
    });
    for forms in matvecs.into_iter().chain(matmuls) {
        let options = GpuOptions {
            n_ubatch: 64,
            forms: Some(forms),
            ..GpuOptions::default()
        };
        let Some(mut session) = with(options, 1024) else { return };
        for case in golden().iter().step_by(9) {
            known_answer(&mut session, case, &format!("{forms:?}"));
        }
    }
}

/// Turns continue the state on the device; stop, length and the sampler work on logits read back from it.
#[test]
fn turns_and_draws_on_gpu() {
    let (Some(mut live), Some(mut fresh)) = (gpu(64, 1024), gpu(64, 1024)) else {
        return;
    };
    let host = NativeHost::new();
    let mut messages = Vec::new();
    for (turn, text) in ["My name is Ada.", "What is the capital of France?", "What is my name?"]
        .into_iter()
        .enumerate()
    {
        messages.push(json!({ "role": "user", "content": text }));
        let request = ChatRequest::new(messages.clone());
        let reply = chat(&mut live, &host, &request, &Options::default()).unwrap();
        let alone = chat(&mut fresh, &host, &request, &Options::default()).unwrap();
        assert_eq!(reply.ids, alone.ids, "turn {turn}");
        assert_eq!(reply.usage.cached_tokens > 0, turn > 0, "turn {turn}");
        messages.push(json!({ "role": "assistant", "content": reply.text }));
        // The other session is asked for something else in between, so that it cannot continue.
        chat(
            &mut fresh,
            &host,
            &user("Hello"),
            &Options {
                max_tokens: Some(1),
                ..Options::default()
            },
        )
        .unwrap();
    }
    let draw = |session: &mut Session<Gpu>| {
        let options = Options {
            temperature: 1.2,
            top_p: 0.95,
            seed: Some(5),
            max_tokens: Some(20),
            ..Options::default()
        };
        chat(session, &host, &user("Write a short poem about the sea."), &options).unwrap()
    };
    let first = draw(&mut live);
    assert_eq!(first.ids, draw(&mut fresh).ids, "same seed, same text");
    assert!(first.finish_reason != FinishReason::Abort && !first.ids.is_empty());
}

/// Stops at the n-th time of being asked.
struct Impatient(Cell<usize>);

impl Host for Impatient {
    fn now_ms(&self) -> f64 {
        0.0
    }
    fn cancelled(&self) -> bool {
        let left = self.0.get();
        self.0.set(left.saturating_sub(1));
        left == 0
    }
    async fn breathe(&self) {}
}

/// However many tokens a submit makes, and wherever in it the reply ends: the reply is the CPU's, and what the state says it holds is
/// what it holds.
#[test]
fn submits_of_any_size_give_the_same_reply() {
    let (Some(mut session), mut oracle) = (gpu(64, 256), cpu(256)) else {
        return;
    };
    let host = NativeHost::new();
    let request = user("Write a short poem about the sea.");
    let prompt = session.template().unwrap().render(session.tokenizer(), &request).unwrap().ids;
    let full = generate(&mut oracle, &host, &prompt, &most(19));
    assert_eq!(
        full.finish_reason,
        FinishReason::Length,
        "the test needs a longer poem: {full:?}"
    );
    // Text that ends with the eighth token, and begins inside of the seventh.
    let tail = oracle.tokenizer().decode(&full.ids[6..8]);
    let stop = Options {
        stop: vec![tail[1..].to_owned()],
        ..most(19)
    };
    let stopped = generate(&mut oracle, &host, &prompt, &stop);
    assert_eq!(
        (stopped.finish_reason, &stopped.ids[..]),
        (FinishReason::Stop, &full.ids[..8]),
        "{tail:?}"
    );

    for n in [Some(1), Some(2), Some(5), Some(16), None] {
        session.set_tokens_per_submit(n);
        let held = |session: &Session<Gpu>| session.sequence().consumed().len() - prompt.len();
        let reply = generate(&mut session, &host, &prompt, &most(19));
        assert_eq!((&reply.ids, &reply.text), (&full.ids, &full.text), "{n:?}");
        assert_eq!((reply.finish_reason, held(&session)), (FinishReason::Length, 18), "{n:?}");

        // A stop text in the middle of a submit: the state is that of a token which the reply shows.
        let reply = generate(&mut session, &host, &prompt, &stop);
        assert_eq!((&reply.ids, &reply.text), (&stopped.ids, &stopped.text), "{n:?}");
        assert_eq!(reply.finish_reason, FinishReason::Stop, "{n:?}");
        assert!(held(&session) <= 7, "{n:?}");
        let longer = [&prompt[..], &full.ids[..8]].concat();
        let reply = generate(&mut session, &host, &longer, &most(5));
        assert_eq!(reply.ids, full.ids[8..13], "{n:?}");
        let lost = longer.len() - reply.usage.cached_tokens;
        assert!(lost <= n.unwrap_or(16) as usize, "{lost} tokens are fed again with {n:?}");

        // Stopped by the caller: what was made belongs to the reply, and the rest can follow.
        let reply = generate(&mut session, &Impatient(Cell::new(3)), &prompt, &most(100));
        let made = reply.ids.len();
        assert_eq!(reply.finish_reason, FinishReason::Abort, "{n:?}");
        assert!(made >= 2, "{n:?}: {:?}", reply.ids);
        assert_eq!(held(&session), made - 1, "{n:?}");
        let longer = [&prompt[..], &reply.ids].concat();
        let rest = generate(&mut session, &host, &longer, &most(3));
        assert_eq!(rest.usage.cached_tokens, longer.len() - 1, "{n:?}");
        let both = [reply.ids, rest.ids].concat();
        let known = both.len().min(19);
        assert_eq!(both[..known], full.ids[..known], "{n:?}");
    }
}

/// The reply ends with the context, and no submit goes beyond it.
#[test]
fn a_full_context_ends_the_reply() {
    let mut expected = Vec::new();
    for n in [1, 4, 16] {
        let Some(mut session) = gpu(64, 40) else { return };
        session.set_tokens_per_submit(Some(n));
        let options = Options {
            ignore_eos: true,
            ..Options::default()
        };
        let reply = generate(&mut session, &NativeHost::new(), &[5; 30], &options);
        assert_eq!((reply.finish_reason, reply.ids.len()), (FinishReason::Length, 11), "{n}");
        assert_eq!(session.sequence().consumed().len(), 40, "{n}");
        if expected.is_empty() {
            expected.clone_from(&reply.ids);
        }
        assert_eq!(reply.ids, expected, "{n}");
    }
}

fn most(n: usize) -> Options {
    Options {
        max_tokens: Some(n),
        ..Options::default()
    }
}

fn generate<B: Backend>(session: &mut Session<B>, host: &impl Host, prompt: &[u32], options: &Options) -> Reply {
    let mut streamed = String::new();
    let reply = pollster::block_on(session.generate(host, prompt, options, &mut |text| streamed.push_str(text))).unwrap();
    assert_eq!(reply.text, streamed);
    reply
}
