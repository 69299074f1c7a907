//! Small vocabularies written for the purpose: what each token type means, and files that contradict themselves.

#[path = "common/gguf_writer.rs"]
mod gguf_writer;

use gguf_writer::GgufWriter;
use outcrop::{
    Error, Result,
    gguf::{Array, Gguf, Value},
    text::{ChatRequest, ChatTemplate, Tokenizer},
};
use serde_json::json;

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// GPT-2's character for a byte.
fn written(byte: u8) -> char {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    match printable(byte) {
        true => char::from(byte),
        false => char::from_u32(0x100 + (0..byte).filter(|&b| !printable(b)).count() as u32).unwrap(),
    }
}

/// The 256 bytes, then `more` tokens; the merges `a b`, `ab c`; `<eos>` is the end.
struct Vocab {
    tokens: Vec<(String, i32)>,
    merges: Vec<String>,
    eos: u32,
}

impl Vocab {
    fn new(more: &[(&str, i32)]) -> Self {
        let bytes = (0..=255).map(|b| (written(b).to_string(), NORMAL));
        let own = [("ab", NORMAL), ("abc", NORMAL), ("<eos>", CONTROL)];
        let more = own.iter().chain(more).map(|(token, kind)| (token.to_string(), *kind));
        Vocab {
            tokens: bytes.chain(more).collect(),
            merges: ["a b", "ab c"].map(str::to_owned).to_vec(),
            eos: 258,
        }
    }

    fn writer(&self) -> GgufWriter {
        let mut writer = GgufWriter::new();
        let strings = |list: Vec<&str>| Value::Array(Array::String(Box::new(list.into_iter().collect())));
        writer.set("tokenizer.ggml.model", Value::String("gpt2".into()));
        writer.set("tokenizer.ggml.pre", Value::String("dbrx".into()));
        writer.set(
            "tokenizer.ggml.tokens",
            strings(self.tokens.iter().map(|(token, _)| token.as_str()).collect()),
        );
        writer.set(
            "tokenizer.ggml.token_type",
            Value::Array(Array::I32(self.tokens.iter().map(|(_, kind)| *kind).collect())),
        );
        writer.set(
            "tokenizer.ggml.merges",
            strings(self.merges.iter().map(String::as_str).collect()),
        );
        writer.set("tokenizer.ggml.eos_token_id", Value::U32(self.eos));
        writer
    }

    fn build(&self) -> Result<Tokenizer> {
        build(&mut self.writer())
    }
}

fn build(writer: &mut GgufWriter) -> Result<Tokenizer> {
    Tokenizer::from_gguf(&Gguf::from_bytes(&writer.build())?)
}

/// Text of each id, `|` between them.
fn pieces(tokenizer: &Tokenizer, text: &str, special: bool) -> String {
    let ids = if special {
        tokenizer.encode_special(text)
    } else {
        tokenizer.encode(text)
    };
    let spell = |id: u32| String::from_utf8_lossy(tokenizer.piece_bytes(id)).into_owned();
    ids.unwrap().into_iter().map(spell).collect::<Vec<_>>().join("|")
}

#[test]
fn token_types() {
    let vocab = Vocab::new(&[
        ("<u>", USER_DEFINED),
        ("<unk>", UNKNOWN),
        ("<pad>", UNUSED),
        ("<b>", 6),
        (" é", USER_DEFINED),
    ]);
    let tokenizer = vocab.build().unwrap();
    assert_eq!(tokenizer.n_vocab(), 264);
    // Only USER_DEFINED tokens are found in plain text, CONTROL and UNKNOWN ones where asked for, the others never.
    assert_eq!(pieces(&tokenizer, "abc<u>ab<eos>", false), "abc|<u>|ab|<|e|o|s|>");
    assert_eq!(pieces(&tokenizer, "abc<u>ab<eos><unk>", true), "abc|<u>|ab|<eos>|<unk>");
    assert_eq!(pieces(&tokenizer, "<pad><b>", true), "<|p|a|d|>|<|b|>");
    // They are written as they read, not in the byte alphabet.
    assert_eq!(pieces(&tokenizer, "ab éc", false), "ab| é|c");
    assert_eq!(tokenizer.decode(&tokenizer.encode("ab éc").unwrap()), "ab éc");
    // Neither structure nor padding shows.
    assert_eq!(tokenizer.decode(&[256, 258, 260, 261, 262, 259, 999]), "ab<u>");
    assert!(tokenizer.is_control(258) && tokenizer.is_control(260) && !tokenizer.is_control(259));
}

#[test]
fn the_longest_token_takes_all_its_places_first() {
    // llama.cpp's order: `bcd` wins over the `ab` that begins before it, because it is longer.
    let tokenizer = Vocab::new(&[("<ab", USER_DEFINED), ("bcd>", USER_DEFINED)]).build().unwrap();
    assert_eq!(pieces(&tokenizer, "<abcd><ab", false), "<|a|bcd>|<ab");
    let tokenizer = Vocab::new(&[("<u>", USER_DEFINED), ("<u>!", USER_DEFINED), ("<eos>!", USER_DEFINED)])
        .build()
        .unwrap();
    assert_eq!(pieces(&tokenizer, "<u><u>!<u>", false), "<u>|<u>!|<u>");
    assert_eq!(pieces(&tokenizer, "<eos>!<eos>", true), "<eos>!|<eos>");
    // Words end where a token was cut out.
    assert_eq!(pieces(&tokenizer, " <u> ab<u>c", false), " |<u>| |ab|<u>|c");
}

#[test]
fn what_ends_a_reply_is_never_text() {
    // The file calls its end token USER_DEFINED; it is the end all the same.
    let mut vocab = Vocab::new(&[
        ("<eot>", USER_DEFINED),
        ("<|start_of_role|>", CONTROL),
        ("<bos>", USER_DEFINED),
    ]);
    vocab.tokens[258].1 = USER_DEFINED;
    let mut writer = vocab.writer();
    writer.set("tokenizer.ggml.eot_token_id", Value::U32(259));
    writer.set("tokenizer.ggml.eom_token_id", Value::U32(258));
    writer.set("tokenizer.ggml.bos_token_id", Value::U32(261));
    let tokenizer = build(&mut writer).unwrap();
    assert_eq!(tokenizer.stop_ids(), [258, 259, 260]);
    assert_eq!(pieces(&tokenizer, "<eos><eot><bos>", false), "<|e|o|s|>|<|e|o|t|>|<|b|o|s|>");
    assert_eq!(pieces(&tokenizer, "<eos><eot><bos>", true), "<eos>|<eot>|<bos>");
}

#[test]
fn the_first_token_is_there_once() {
    let mut writer = Vocab::new(&[("<bos>", CONTROL)]).writer();
    writer.set("tokenizer.ggml.bos_token_id", Value::U32(259));
    writer.set("tokenizer.ggml.add_bos_token", Value::Bool(true));
    let tokenizer = build(&mut writer).unwrap();
    assert!(tokenizer.add_bos());
    let request = ChatRequest::new(vec![json!({"role": "user", "content": "<bos>abc"})]);
    for source in [
        "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}",
        "{{ messages[0].content }}<eos>",
    ] {
        let template = ChatTemplate::new(source, &tokenizer).unwrap();
        let ids = template.render(&tokenizer, &request).unwrap().ids;
        assert_eq!(
            ids,
            [259, 27, 65, 78, 82, 29, 257, 258].map(|id| if id < 256 { byte_id(id) } else { id }),
            "{source}"
        );
    }
}

/// Ids of the fixture are the bytes themselves; the numbers above are GPT-2's, which start at `!`.
fn byte_id(rank: u32) -> u32 {
    rank + 33
}

#[test]
fn files_that_contradict_themselves() {
    let merges = |merges: &[&str]| {
        let mut vocab = Vocab::new(&[("<u>", USER_DEFINED), ("[PAD]", UNUSED)]);
        vocab.merges = merges.iter().map(|merge| merge.to_string()).collect();
        vocab.build()
    };
    for bad in [
        "", " ", "a", "a ", " b", "ab", "a x", "x y", "<eos> a", "[PAD] a", "abc abc", "a  b", "a b c", "é é", "<e os>",
    ] {
        assert!(
            matches!(merges(&["a b", bad]), Err(Error::Tokenizer { .. })),
            "{bad:?}: {:?}",
            merges(&["a b", bad])
        );
    }
    assert!(merges(&[]).is_ok());
    assert!(merges(&["a b", "a b", "ab c"]).is_ok(), "a merge twice");

    let text = |text: &str| Some(Value::String(text.into()));
    let strings = |list: &[&str]| Some(Value::Array(Array::String(Box::new(list.iter().copied().collect()))));
    let types = |list: Vec<i32>| Some(Value::Array(Array::I32(list)));
    let cases = [
        ("model", None, "bad_metadata"),
        ("model", text("llama"), "unsupported_model"),
        ("pre", None, "bad_metadata"),
        ("pre", text("gpt-2"), "unsupported_model"),
        ("pre", Some(Value::U32(3)), "bad_metadata"),
        ("tokens", None, "bad_metadata"),
        ("tokens", strings(&[]), "bad_metadata"),
        ("tokens", strings(&["a"; 259]), "tokenizer"),
        ("tokens", types(vec![1; 259]), "bad_metadata"),
        ("token_type", types(vec![1; 258]), "bad_metadata"),
        ("token_type", types(vec![9; 259]), "bad_metadata"),
        ("merges", None, "bad_metadata"),
        ("eos_token_id", None, "bad_metadata"),
        ("eos_token_id", Some(Value::U32(259)), "bad_metadata"),
        ("bos_token_id", Some(Value::I64(-1)), "bad_metadata"),
    ];
    for (key, value, code) in cases {
        let (key, mut writer) = (format!("tokenizer.ggml.{key}"), Vocab::new(&[]).writer());
        match value.clone() {
            Some(value) => writer.set(&key, value),
            None => writer.remove(&key),
        };
        let error = build(&mut writer).unwrap_err();
        assert_eq!(error.code(), code, "{key} = {value:?}: {error}");
    }
    // The end is a byte: the byte is structure then, and text cannot be written.
    let error = Vocab {
        eos: 97,
        ..Vocab::new(&[])
    }
    .build()
    .unwrap_err();
    assert_eq!(error.code(), "tokenizer", "{error}");
    assert_eq!(Vocab::new(&[("", CONTROL)]).build().unwrap_err().code(), "bad_metadata");
    // A token twice is its first id.
    let tokenizer = Vocab::new(&[("abc", NORMAL), ("<u>", USER_DEFINED), ("<u>", USER_DEFINED)])
        .build()
        .unwrap();
    assert_eq!(tokenizer.encode("abc<u>").unwrap(), [257, 260]);
    // A file that names an ordinary token as its start keeps it ordinary.
    let mut writer = Vocab::new(&[]).writer();
    let tokenizer = build(writer.set("tokenizer.ggml.bos_token_id", Value::U32(97))).unwrap();
    assert_eq!(tokenizer.encode("abc").unwrap(), [257]);
    // A file without types has text only, but for its end.
    let mut writer = Vocab::new(&[]).writer();
    let tokenizer = build(writer.remove("tokenizer.ggml.token_type")).unwrap();
    assert!(tokenizer.is_control(258) && !tokenizer.is_control(257));
}

/// Control tokens that are words of the template language: whatever that gives, it gives it without a panic.
#[test]
fn control_tokens_that_break_templates() {
    for token in ["{{", "messages", "\u{fdd0}", "0", "1", "%}", "\u{fdd2}0", "a", "\n"] {
        let tokenizer = Vocab::new(&[(token, CONTROL), ("2", CONTROL)]).build();
        let Ok(tokenizer) = tokenizer else { continue };
        for source in [
            "{{ messages[0].content }}<eos>",
            "a{% if messages %}\n1{% endif %}\u{fdd0}259\u{fdd1}\u{fdd2}",
        ] {
            let Ok(template) = ChatTemplate::new(source, &tokenizer) else {
                continue;
            };
            let text = format!("{token}<eos>\u{fdd0}258\u{fdd1}2");
            let request = ChatRequest::new(vec![json!({"role": "user", "content": text})]);
            if let Ok(prompt) = template.render(&tokenizer, &request) {
                let ends = prompt.ids.iter().filter(|&&id| id == 258).count();
                assert_eq!(ends, usize::from(source.ends_with("<eos>")), "{token:?} {source:?}");
            }
        }
    }
}
