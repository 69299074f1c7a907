//! Token ids against llama.cpp's (tests/oracle/golden/tokenizer.json), against published cl100k ids, and hostile vocabularies.

use std::path::{Path, PathBuf};

use outcrop::{gguf::Gguf, text::Tokenizer};
use serde_json::Value;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn load(path: &Path) -> Tokenizer {
    let bytes = std::fs::read(path).expect("fixture");
    Tokenizer::from_gguf(&Gguf::from_bytes(&bytes).expect("a GGUF")).expect("a tokenizer")
}

fn tiny() -> Tokenizer {
    load(&root("tests/oracle/gguf/tiny-Q4_K_M.gguf"))
}

/// The 100k vocabulary, which `node tests/fixtures/text/make_vocab.mjs` writes (`./build.sh test` does so).
fn full() -> Option<Tokenizer> {
    let path = root("target/granite-vocab.gguf");
    if !path.exists() {
        println!("SKIPPED: target/granite-vocab.gguf is not there: node tests/fixtures/text/make_vocab.mjs");
        return None;
    }
    Some(load(&path))
}

fn golden() -> Vec<Value> {
    let text = std::fs::read_to_string(root("tests/oracle/golden/tokenizer.json")).expect("fixture");
    serde_json::from_str(&text).expect("JSON")
}

fn ids(value: &Value) -> Vec<u32> {
    let ids = value.as_array().expect("ids");
    ids.iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

/// Every string of the oracle in one vocabulary: plain, with control tokens, and back.
fn assert_golden(tokenizer: &Tokenizer, vocab: &str) {
    let mut failures = Vec::new();
    let cases: Vec<_> = golden().into_iter().filter(|case| case["vocab"] == vocab).collect();
    assert_eq!(cases.len(), 30);
    for case in &cases {
        let text = case["text"].as_str().expect("text");
        let (plain, special) = (tokenizer.encode(text).unwrap(), tokenizer.encode_special(text).unwrap());
        if plain != ids(&case["ids"]) || special != ids(&case["ids_special"]) {
            failures.push(format!(
                "{text:?}: {plain:?} and {special:?}, expected {} and {}",
                case["ids"], case["ids_special"]
            ));
        }
        if tokenizer.decode(&plain) != text {
            failures.push(format!("{text:?} came back as {:?}", tokenizer.decode(&plain)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn tiny_vocabulary_equals_llama_cpp() {
    assert_golden(&tiny(), "tiny2048");
}

#[test]
fn full_vocabulary_equals_llama_cpp() {
    let Some(tokenizer) = full() else { return };
    assert_golden(&tokenizer, "full100352");
    assert_eq!(tokenizer.n_vocab(), 100352);
}
