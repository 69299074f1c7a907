//! What a session keeps between requests: when the state is continued, when it starts again, and what stopping and failing leave.

mod common;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use common::{
    demo::{chat, cpu, open, user},
    watched::{Log, Watched},
};
use outcrop::{
    Error,
    backend::{Backend, Want, cpu::Cpu},
    generate::{FinishReason, Host, NativeHost, Options, Session},
    text::ChatRequest,
};
use serde_json::json;

fn watched(n_ubatch: u32) -> (Session<Watched<Cpu>>, Rc<RefCell<Log>>) {
    let backend = Watched::new(Cpu::new(n_ubatch));
    let log = backend.log.clone();
    (open(backend, 1024), log)
}

/// Messages of a conversation in which every reply was long enough to matter.
const TURNS: [&str; 4] = [
    "My name is Ada.",
    "What is the capital of France?",
    "What is my name?",
    "How many legs does an ant have?",
];

/// A conversation that continues its state gives the answers of sessions that start from nothing, and feeds each token once.
#[test]
fn turns_reuse_the_state() {
    let (mut live, log) = watched(512);
    let host = NativeHost::new();
    let mut messages = Vec::new();
    let mut held = 0;
    for (turn, text) in TURNS.into_iter().enumerate() {
        messages.push(json!({ "role": "user", "content": text }));
        let request = ChatRequest::new(messages.clone());
        let reply = chat(&mut live, &host, &request, &Options::default()).unwrap();
        let fresh = chat(&mut cpu(1024), &host, &request, &Options::default()).unwrap();
        assert_eq!((&reply.text, &reply.ids), (&fresh.text, &fresh.ids), "turn {turn}");
        assert_eq!(
            (reply.usage.cached_tokens, fresh.usage.cached_tokens),
            (held, 0),
            "turn {turn}"
        );
        assert_eq!(reply.finish_reason, FinishReason::Stop);
        // The token that ended the reply was made but never fed.
        held = reply.usage.prompt_tokens + reply.ids.len() - 1;
        assert_eq!(live.sequence().consumed().len(), held);
        messages.push(json!({ "role": "assistant", "content": reply.text }));
    }
    let log = log.borrow();
    assert_eq!(
        log.passes.iter().map(|(ids, ..)| ids.len()).sum::<usize>(),
        held,
        "no token was fed twice"
    );
    let mut pos = 0;
    for (ids, at, _) in &log.passes {
        assert_eq!(*at as usize, pos, "passes follow on each other");
        pos += ids.len();
    }
}

/// A prompt that the state is not the beginning of starts again, whether it differs early, late, or is the same once more.
#[test]
fn other_prompts_start_again() {
    let (mut live, log) = watched(512);
    let host = NativeHost::new();
    let first = user("What is the capital of France?");
    let system = ChatRequest::new(vec![
        json!({ "role": "system", "content": "Talk like a pirate." }),
        json!({ "role": "user", "content": "What is the capital of France?" }),
    ]);
    let mut answers = Vec::new();
    for (i, request) in [&first, &first, &user("What is the capital of Spain?"), &system, &first]
        .into_iter()
        .enumerate()
    {
        let resets = log.borrow().resets;
        let reply = chat(&mut live, &host, request, &Options::default()).unwrap();
        assert_eq!(reply.usage.cached_tokens, 0);
        assert_eq!(log.borrow().resets, resets + usize::from(i > 0), "request {i}");
        let fresh = chat(&mut cpu(1024), &host, request, &Options::default()).unwrap();
        assert_eq!(reply.ids, fresh.ids, "request {i}");
        answers.push(reply.text);
    }
    assert_eq!((&answers[0], &answers[0]), (&answers[1], &answers[4]));
}

/// Greedy replies leave the logits on the device; the middle of a prompt asks for nothing at all.
#[test]
fn passes_ask_for_no_more_than_they_need() {
    let prompt_tokens = {
        let (mut session, log) = watched(4);
        let reply = chat(
            &mut session,
            &NativeHost::new(),
            &user("What is the capital of France?"),
            &Options::default(),
        )
        .unwrap();
        let wants: Vec<Want> = log.borrow().passes.iter().map(|&(_, _, want)| want).collect();
        let n_batches = reply.usage.prompt_tokens.div_ceil(4);
        assert!(n_batches > 2);
        assert!(wants[..n_batches - 1].iter().all(|&want| want == Want::Nothing), "{wants:?}");
        assert!(wants[n_batches - 1..].iter().all(|&want| want == Want::Token), "{wants:?}");
        assert!(
            log.borrow().passes[..n_batches - 1].iter().all(|(ids, ..)| ids.len() == 4),
            "full batches first"
        );
        reply.usage.prompt_tokens
    };
    let (mut session, log) = watched(4);
    let options = Options {
        temperature: 0.5,
        seed: Some(1),
        max_tokens: Some(3),
        ..Options::default()
    };
    chat(
        &mut session,
        &NativeHost::new(),
        &user("What is the capital of France?"),
        &options,
    )
    .unwrap();
    let wants: Vec<Want> = log.borrow().passes.iter().map(|&(_, _, want)| want).collect();
    assert!(
        wants[prompt_tokens.div_ceil(4) - 1..]
            .iter()
            .all(|&want| want == Want::Logits),
        "{wants:?}"
    );
}

/// Cancels at the n-th time of being asked, and counts how often it was given its turn.
struct Impatient {
    patience: Cell<usize>,
    breaths: Cell<usize>,
}

impl Impatient {
    fn new(patience: usize) -> Self {
        Impatient {
            patience: Cell::new(patience),
            breaths: Cell::new(0),
        }
    }
}

impl Host for Impatient {
    fn now_ms(&self) -> f64 {
        self.breaths.get() as f64
    }
    fn cancelled(&self) -> bool {
        let left = self.patience.get();
        self.patience.set(left.saturating_sub(1));
        left == 0
    }
    async fn breathe(&self) {
        self.breaths.set(self.breaths.get() + 1);
    }
}

/// Stopping takes effect before the next pass, wherever that is, and the state goes on from there.
#[test]
fn cancellation_within_one_pass() {
    let host = NativeHost::new();
    let request = user("Write a short poem about the sea.");
    let full = chat(&mut cpu(1024), &host, &request, &Options::default()).unwrap();
    let (mut session, log) = watched(8);
    let n_batches = full.usage.prompt_tokens.div_ceil(8);
    assert!(
        n_batches >= 2 && full.ids.len() > 8,
        "the test needs something to cut: {full:?}"
    );
    for patience in [0, 1, n_batches, n_batches + 1, n_batches + 5] {
        let before = log.borrow().passes.len();
        let impatient = Impatient::new(patience);
        // Starts from zero each time, because the same prompt again is not a continuation once its end has been fed.
        let reply = chat(&mut session, &impatient, &request, &Options::default()).unwrap();
        assert_eq!(reply.finish_reason, FinishReason::Abort);
        assert_eq!(
            log.borrow().passes.len() - before,
            patience,
            "as many passes as it was asked for"
        );
        assert_eq!(
            impatient.breaths.get(),
            patience + 1,
            "the host has its turn before every pass"
        );
        let n_made = (patience + 1).saturating_sub(n_batches);
        assert_eq!(reply.ids, full.ids[..n_made], "patience {patience}");
        assert!(
            full.text.starts_with(&reply.text) && reply.text.is_empty() == (n_made == 0),
            "{:?}",
            reply.text
        );

        // What the state says it holds is what it holds: continuing gives what an uncut reply would have been.
        let held = session.sequence().consumed().to_vec();
        let mut all = session_prompt(&session, &request);
        assert_eq!(
            held.len(),
            if patience < n_batches {
                patience * 8
            } else {
                all.len() + n_made - 1
            }
        );
        all.extend(&reply.ids);
        assert!(all.starts_with(&held));
        let rest = pollster::block_on(session.generate(&host, &all, &Options::default(), &mut |_| ())).unwrap();
        assert_eq!(rest.ids, full.ids[n_made..], "patience {patience}");
        assert_eq!(rest.usage.cached_tokens, held.len());
    }
}

fn session_prompt<B: Backend>(session: &Session<B>, request: &ChatRequest) -> Vec<u32> {
    session.template().unwrap().render(session.tokenizer(), request).unwrap().ids
}

/// A pass that fails spoils the state, and only the state: the error is reported and the next request is right.
#[test]
fn a_failed_pass_spoils_only_the_state() {
    let host = NativeHost::new();
    let request = user("What is the capital of France?");
    let (mut session, log) = watched(8);
    let expected = chat(&mut session, &host, &request, &Options::default()).unwrap();
    for fail_in in [0, 1, 3, 6] {
        log.borrow_mut().fail_in = Some(fail_in);
        let error = chat(&mut session, &host, &request, &Options::default()).unwrap_err();
        assert_eq!(error.code(), "gpu_lost");
        assert_eq!(session.sequence().consumed(), [0; 0], "nobody knows what it holds");
        let reply = chat(&mut session, &host, &request, &Options::default()).unwrap();
        assert_eq!((reply.ids, reply.usage.cached_tokens), (expected.ids.clone(), 0));
    }
    // Invalid numbers end the reply, but the pass itself was whole.
    log.borrow_mut().poison = Some(7);
    let options = Options {
        temperature: 1.0,
        ..Options::default()
    };
    assert!(matches!(
        chat(&mut session, &host, &request, &options),
        Err(Error::NonFiniteLogits)
    ));
    assert!(matches!(
        pollster::block_on(session.score(&host, &[1, 2])),
        Err(Error::NonFiniteLogits)
    ));
    log.borrow_mut().poison = None;
    assert_eq!(
        chat(&mut session, &host, &request, &Options::default()).unwrap().ids,
        expected.ids
    );
}
