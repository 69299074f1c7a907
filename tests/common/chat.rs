//! What tests of prompts start from: files, the tiny model's template, one in the older style.

use std::path::Path;

use outcrop::{
    gguf::Gguf,
    text::{ChatRequest, ChatTemplate, Tokenizer},
};
use serde_json::Value;

pub fn read(path: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("fixture")
}

pub fn gguf(path: &str) -> Gguf {
    Gguf::from_bytes(&read(path)).expect("a GGUF")
}

pub fn tiny() -> (Tokenizer, ChatTemplate) {
    let gguf = gguf("tests/oracle/gguf/tiny-Q4_K_M.gguf");
    (Tokenizer::from_gguf(&gguf).unwrap(), ChatTemplate::from_gguf(&gguf).unwrap())
}

pub fn granite_4_0(tokenizer: &Tokenizer) -> ChatTemplate {
    let source = String::from_utf8(read("tests/fixtures/text/granite-4.0-style.jinja")).unwrap();
    ChatTemplate::new(&source, tokenizer).unwrap()
}

pub fn request(value: Value) -> ChatRequest {
    ChatRequest::from_json(&value.to_string()).unwrap()
}
