//! The bundled demo model, and the answers that it must give.
//!
//! The answers in models/demo/golden.json come from llama.cpp on the same weights in f32; every margin is wide enough that a path
//! with f32 activations must give each id. With 8-bit activations a narrow margin may go to the runner-up, which the file names.

use std::path::Path;

use outcrop::{
    Result,
    backend::{Backend, KvType, cpu::Cpu},
    generate::{Host, Options, Reply, Session, load_file},
    text::{ChatRequest, ChatTemplate, Tokenizer},
};
use serde_json::{Value, json};

/// A session on the demo model.
pub fn open<B: Backend>(backend: B, n_ctx: u32) -> Session<B> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo/granite-demo-Q4_K_M.gguf");
    let (gguf, model) = pollster::block_on(load_file(&path, backend)).unwrap();
    let tokenizer = Tokenizer::from_gguf(&gguf).unwrap();
    let template = ChatTemplate::from_gguf(&gguf).unwrap();
    Session::new(model, tokenizer, Some(template), n_ctx, KvType::F32).unwrap()
}

/// The same on the CPU.
pub fn cpu(n_ctx: u32) -> Session<Cpu> {
    open(Cpu::new(512), n_ctx)
}

/// Prompts with their exact answers.
pub fn golden() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo/golden.json");
    let mut all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    std::mem::take(all["prompts"].as_array_mut().unwrap())
}

/// A list of ids in JSON.
pub fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// The chat request of a golden prompt.
pub fn request(case: &Value) -> ChatRequest {
    serde_json::from_value(json!({ "messages": case["messages"], "tools": case["tools"] })).unwrap()
}

/// A conversation of one message.
pub fn user(text: &str) -> ChatRequest {
    ChatRequest::new(vec![json!({ "role": "user", "content": text })])
}

/// Runs a chat request and checks that what was streamed is the reply's text.
pub fn chat<B: Backend>(session: &mut Session<B>, host: &impl Host, request: &ChatRequest, options: &Options) -> Result<Reply> {
    let mut streamed = String::new();
    let reply = pollster::block_on(session.chat(host, request, options, &mut |text| {
        assert!(!text.is_empty(), "empty pieces are noise");
        streamed.push_str(text);
    }))?;
    assert_eq!(reply.text, streamed);
    Ok(reply)
}
