//! The same session on the GPU: exact answers of the demo model, and a state that stays on the device between turns.

mod common;

use common::demo::{chat, golden, ids, open, request, user};
use outcrop::{
    Error,
    backend::gpu::{Gpu, GpuOptions},
    generate::{FinishReason, NativeHost, Options, Session},
    text::ChatRequest,
};
use serde_json::json;

/// A session on whatever adapter there is; a software one will do.
fn gpu(n_ubatch: u32, n_ctx: u32) -> Option<Session<Gpu>> {
    let options = GpuOptions {
        n_ubatch,
        ..GpuOptions::default()
    };
    match pollster::block_on(Gpu::new(options)) {
        Ok(gpu) => Some(open(gpu, n_ctx)),
        Err(Error::NoGpu { what }) => {
            println!("SKIPPED: no GPU adapter, not even a software one: {what}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Every fifth answer, each twice: through the recorded plan and once more through its replay.
#[test]
fn golden_answers_on_gpu() {
    let Some(mut session) = gpu(64, 1024) else { return };
    for case in golden().iter().step_by(5) {
        for round in 0..2 {
            let options = Options {
                max_tokens: Some(160),
                ..Options::default()
            };
            let reply = chat(&mut session, &NativeHost::new(), &request(case), &options).unwrap();
            assert_eq!(
                reply.ids,
                ids(&case["completion_ids"]),
                "{}, round {round}: {:?}",
                case["category"],
                reply.text
            );
            assert_eq!(reply.text, case["completion"]);
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
