//! Token ids against llama.cpp's (tests/oracle/golden/tokenizer.json) and against published cl100k ids; streamed text.

#[path = "common/gguf_writer.rs"]
mod gguf_writer;

use std::path::{Path, PathBuf};

use gguf_writer::GgufWriter;
use outcrop::{
    gguf::{Array, Gguf, Value as Kv},
    text::{Detokenizer, Tokenizer},
};
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

const FULL: &str = "target/granite-vocab.gguf";

/// The 100k vocabulary, which `node tests/fixtures/text/make_vocab.mjs` writes (`./build.sh test` does so).
fn full() -> Option<Tokenizer> {
    let path = root(FULL);
    if !path.exists() {
        println!("SKIPPED: {FULL} is not there: node tests/fixtures/text/make_vocab.mjs");
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

#[test]
fn published_ids_of_the_full_vocabulary() {
    let Some(tokenizer) = full() else { return };
    // cl100k's, as other engines publish them for Granite 4.0.
    let cases: [(&str, &[u32]); 12] = [
        ("Hello world", &[9906, 1917]),
        ("2023", &[2366, 18]),
        ("650841823", &[13655, 25496, 23848]),
        ("d.o.o", &[67, 14778, 14778]),
        ("60-138-3818", &[1399, 12, 10350, 12, 19162, 23]),
        ("irrelevant", &[404, 98673]),
        ("unanswerable", &[359, 9399, 481]),
        ("\n", &[198]),
        ("I'LL go", &[40, 6, 4178, 733]),
        ("  two  spaces\n\n\n x", &[220, 1403, 220, 12908, 1432, 865]),
        ("naïve café 東京 🙂", &[3458, 38672, 588, 53050, 61696, 109, 47653, 28584]),
        ("", &[]),
    ];
    for (text, ids) in cases {
        assert_eq!(tokenizer.encode(text).unwrap(), ids, "{text:?}");
        assert_eq!(tokenizer.decode(ids), text);
    }
    // As text, in a vocabulary where it is no token.
    let mut writer = GgufWriter::copy_of(&std::fs::read(root(FULL)).expect("just read"));
    let types = writer.kv.iter_mut().find(|(key, _)| key == "tokenizer.ggml.token_type");
    let Some((_, Kv::Array(Array::I32(types)))) = types else {
        panic!("types")
    };
    types[100270] = 5;
    let other = Tokenizer::from_gguf(&Gguf::from_bytes(&writer.build()).unwrap()).unwrap();
    assert_eq!(other.encode("<tool_call>\n").unwrap(), [27, 14506, 13735, 397]);
    assert_eq!(tokenizer.encode("<tool_call>\n").unwrap(), [100270, 198]);

    assert_eq!(tokenizer.eos_id(), 100257);
    assert_eq!(tokenizer.stop_ids(), [100257, 100264]);
    assert_eq!(tokenizer.bos_id(), Some(100257));
    assert!(!tokenizer.add_bos());
    assert!(tokenizer.is_control(100269) && !tokenizer.is_control(100270) && !tokenizer.is_control(u32::MAX));
    assert_eq!(tokenizer.piece_bytes(100270), b"<tool_call>");
    assert_eq!(tokenizer.piece_bytes(100352), b"");
}

/// Runs of one kind of character are one word each: the splitter and the merges must take them in their stride.
#[test]
fn long_runs() {
    let tokenizer = tiny();
    for unit in ["a", " ", "\n", "1", "!", "é", " \n", "🙂", "a ", "\t"] {
        let text = unit.repeat(20_000);
        let ids = tokenizer.encode(&text).unwrap();
        assert_eq!(tokenizer.decode(&ids), text, "{unit:?}");
        let text = text + "x";
        assert_eq!(tokenizer.decode(&tokenizer.encode(&text).unwrap()), text, "{unit:?}");
    }
    // Beyond what the splitter's engine agrees to look back over: an error, not other ids.
    let spaces = " ".repeat(2_000_000) + "x";
    assert_eq!(tokenizer.encode(&spaces).unwrap_err().code(), "tokenizer");
}

#[test]
fn a_stream_has_whole_characters_only() {
    let tokenizer = tiny();
    let byte = |b: u8| {
        (0..256)
            .find(|&id| tokenizer.piece_bytes(id) == [b])
            .expect("a token for every byte")
    };
    let ids = |bytes: &[u8]| bytes.iter().map(|&b| byte(b)).collect::<Vec<_>>();
    let cases: [(&[u8], &[&str], &str); 10] = [
        (b"ab", &["a", "b"], ""),
        ("é".as_bytes(), &["", "é"], ""),
        ("🙂".as_bytes(), &["", "", "", "🙂"], ""),
        (b"\xf0\x9f\x99", &["", "", ""], "\u{fffd}"),
        // Certain with the byte that does not continue.
        (b"\xf0\x9f\x99a", &["", "", "", "\u{fffd}a"], ""),
        (b"\xc3\xc3\xa9", &["", "\u{fffd}", "é"], ""),
        (b"\xffa", &["\u{fffd}", "a"], ""),
        (b"\xed\xa0\x80", &["", "\u{fffd}\u{fffd}", "\u{fffd}"], ""),
        (b"\x80\x80", &["\u{fffd}", "\u{fffd}"], ""),
        (b"\xc3", &[""], "\u{fffd}"),
    ];
    for (bytes, expected, rest) in cases {
        let mut detokenizer = Detokenizer::new(&tokenizer);
        let pieces: Vec<String> = ids(bytes).into_iter().map(|id| detokenizer.push(id)).collect();
        assert_eq!(pieces, expected, "{bytes:x?}");
        assert_eq!(detokenizer.finish(), rest, "{bytes:x?}");
        assert_eq!(tokenizer.decode(&ids(bytes)), String::from_utf8_lossy(bytes), "{bytes:x?}");
    }
    // Control tokens are not text, nor are ids that do not exist, and neither disturbs a character in pieces.
    let mut detokenizer = Detokenizer::new(&tokenizer);
    let [a, b] = ids("é".as_bytes())[..] else { unreachable!() };
    let pieces = [a, tokenizer.eos_id(), u32::MAX, b].map(|id| detokenizer.push(id));
    assert_eq!(pieces, ["", "", "", "é"]);
}
