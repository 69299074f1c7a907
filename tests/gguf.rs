//! GGUF headers that are right: ggml's own files, one with every metadata type, and version 2.
//!
//! The fixtures were written by the `gguf` Python package (`tests/fixtures/quant/make.py`) and by llama.cpp (`tests/oracle`).

#[path = "common/gguf_writer.rs"]
mod gguf_writer;

use std::collections::BTreeMap;

use gguf_writer::GgufWriter;
use outcrop::Error;
use outcrop::gguf::quant::dequantize;
use outcrop::gguf::{Array, GgmlType, Gguf, HeaderReader, Value};

fn read(path: &str) -> Vec<u8> {
    let path = format!("{}/tests/{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Reads a header in pieces of `piece` bytes.
fn in_pieces(bytes: &[u8], file_len: Option<u64>, piece: usize) -> Gguf {
    let mut reader = HeaderReader::new(file_len);
    for part in bytes.chunks(piece) {
        if let Some(gguf) = reader.push(part).expect("a valid header") {
            return gguf;
        }
    }
    panic!("{}", reader.finish());
}

#[test]
fn oracle_files() {
    use GgmlType::*;
    // As the gguf Python package counts them.
    let cases: [(&str, &[(GgmlType, usize)]); 6] = [
        ("tiny-Q4_K_M", &[(F32, 37), (Q4_K, 31), (Q6_K, 4)]),
        ("tiny-64-Q4_K_M", &[(F32, 37), (Q4_K, 31), (Q6_K, 4)]),
        ("tiny-g2-Q4_K_M", &[(F32, 21), (Q4_K, 21), (Q6_K, 4)]),
        ("tiny-Q4_0", &[(F32, 37), (Q4_0, 34), (Q6_K, 1)]),
        ("tiny-Q5_K_M", &[(F32, 37), (Q5_K, 31), (Q6_K, 4)]),
        ("tiny-Q8_0", &[(F32, 37), (Q8_0, 35)]),
    ];
    for (name, types) in cases {
        let bytes = read(&format!("oracle/gguf/{name}.gguf"));
        let gguf = Gguf::from_bytes(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut found = BTreeMap::new();
        for t in &gguf.tensors {
            *found.entry(t.ty).or_insert(0) += 1;
            assert_eq!(gguf.tensor(&t.name), Some(t), "{name}");
            assert!(t.offset >= gguf.data_offset, "{name}");
        }
        assert_eq!(gguf.version, 3, "{name}");
        assert_eq!(found, types.iter().copied().collect(), "{name}");
        assert_eq!(gguf.end(), bytes.len() as u64, "{name}");
        assert_eq!(gguf.tensor("blk.99.attn_norm.weight"), None, "{name}");

        let m = &gguf.metadata;
        assert_eq!(m.str("general.architecture").unwrap(), "granitehybrid", "{name}");
        assert_eq!(m.u32("granitehybrid.vocab_size").unwrap(), 2048, "{name}");
        assert_eq!(m.f32("granitehybrid.embedding_scale").unwrap(), 12.0, "{name}");
        assert!(!m.bool("granitehybrid.rope.scaling.finetuned").unwrap(), "{name}");
        let tokens = m.strings("tokenizer.ggml.tokens").unwrap();
        assert_eq!((tokens.len(), tokens.get(0), tokens.get(1)), (2048, "!", "\""), "{name}");
        assert_eq!(m.i32s("tokenizer.ggml.token_type").unwrap().len(), 2048, "{name}");
        let n_layer = m.u32("granitehybrid.block_count").unwrap() as usize;
        assert_eq!(
            m.i32s("granitehybrid.attention.head_count_kv").unwrap().len(),
            n_layer,
            "{name}"
        );
    }
}

#[test]
fn pieces_of_any_size_give_the_same() {
    for path in [
        "fixtures/gguf/v3.gguf",
        "fixtures/gguf/v2.gguf",
        "oracle/gguf/tiny-Q4_K_M.gguf",
    ] {
        let bytes = read(path);
        let len = bytes.len() as u64;
        let whole = Gguf::from_bytes(&bytes).unwrap();
        for piece in [1, 2, 3, 7, 64, 1000, 4096, bytes.len()] {
            assert_eq!(in_pieces(&bytes, Some(len), piece), whole, "{path} in pieces of {piece}");
            let blind = in_pieces(&bytes, None, piece);
            assert_eq!(
                (&blind.tensors, &blind.metadata),
                (&whole.tensors, &whole.metadata),
                "{path} in pieces of {piece}"
            );
            assert_eq!(blind.file_len, None);
        }
    }
}

#[test]
fn header_comes_once() {
    let bytes = read("fixtures/gguf/v2.gguf");
    let mut reader = HeaderReader::new(None);
    assert!(reader.push(&bytes).unwrap().is_some());
    assert!(reader.push(b"tensor data").unwrap().is_none());
    // A header can be complete long before the tensors have come.
    let end = Gguf::from_bytes(&bytes).unwrap().data_offset as usize;
    let mut reader = HeaderReader::new(Some(bytes.len() as u64));
    assert!(reader.push(&bytes[..end]).unwrap().is_some());
}

#[test]
fn every_metadata_type() {
    let bytes = read("fixtures/gguf/v3.gguf");
    let gguf = Gguf::from_bytes(&bytes).unwrap();
    let strings = ["a", "", "é", "bcd"];
    let nested = vec![Array::I32(vec![1, 2, 3]), Array::I32(vec![4])];
    let expected = [
        ("general.alignment", Value::U32(64)),
        ("general.architecture", Value::String("test".into())),
        ("t.u8", Value::U8(u8::MAX)),
        ("t.i8", Value::I8(i8::MIN)),
        ("t.u16", Value::U16(u16::MAX)),
        ("t.i16", Value::I16(i16::MIN)),
        ("t.u32", Value::U32(u32::MAX)),
        ("t.i32", Value::I32(i32::MIN)),
        ("t.u64", Value::U64(u64::MAX)),
        ("t.i64", Value::I64(i64::MIN)),
        ("t.f32", Value::F32(0.1)),
        ("t.f64", Value::F64(0.1)),
        ("t.true", Value::Bool(true)),
        ("t.false", Value::Bool(false)),
        ("t.string", Value::String("naïve 東京 🙂".into())),
        ("t.empty", Value::String(String::new())),
        ("t.array.u8", Value::Array(Array::U8(vec![0, u8::MAX]))),
        ("t.array.i8", Value::Array(Array::I8(vec![i8::MIN, i8::MAX]))),
        ("t.array.u16", Value::Array(Array::U16(vec![0, u16::MAX]))),
        ("t.array.i16", Value::Array(Array::I16(vec![i16::MIN, i16::MAX]))),
        ("t.array.u32", Value::Array(Array::U32(vec![0, u32::MAX]))),
        ("t.array.i32", Value::Array(Array::I32(vec![i32::MIN, i32::MAX]))),
        ("t.array.u64", Value::Array(Array::U64(vec![0, u64::MAX]))),
        ("t.array.i64", Value::Array(Array::I64(vec![i64::MIN, i64::MAX]))),
        ("t.array.f32", Value::Array(Array::F32(vec![0.1, -1.5]))),
        ("t.array.f64", Value::Array(Array::F64(vec![0.1, -1.5]))),
        ("t.array.bool", Value::Array(Array::Bool(vec![true, false, true]))),
        (
            "t.array.string",
            Value::Array(Array::String(Box::new(strings.into_iter().collect()))),
        ),
        ("t.array.array", Value::Array(Array::Array(nested))),
    ];
    let expected: BTreeMap<&str, &Value> = expected.iter().map(|(key, value)| (*key, value)).collect();
    assert_eq!(gguf.metadata.iter().collect::<BTreeMap<_, _>>(), expected);
    assert!(gguf.metadata.strings("t.array.string").unwrap().iter().eq(strings));

    let found: Vec<_> = gguf
        .tensors
        .iter()
        .map(|t| (t.name.as_str(), t.ty, t.ne.as_slice(), t.size))
        .collect();
    let expected: [(&str, GgmlType, &[u64], u64); 3] = [
        ("vector", GgmlType::F32, &[5], 20),
        ("matrix", GgmlType::F16, &[4, 3], 24),
        ("blocks", GgmlType::Q8_0, &[32, 2], 68),
    ];
    assert_eq!(found, expected);
    assert_eq!(gguf.data_offset % 64, 0);
    let matrix = gguf.tensor("matrix").unwrap();
    assert_eq!((matrix.n_cols(), matrix.n_rows(), matrix.offset % 64), (4, 3, 0));
    let mut values = [0.0; 12];
    dequantize(
        matrix.ty,
        &bytes[matrix.offset as usize..][..matrix.size as usize],
        &mut values,
    );
    assert_eq!(values, std::array::from_fn(|i| i as f32));
}

#[test]
fn version_2() {
    let bytes = read("fixtures/gguf/v2.gguf");
    let gguf = Gguf::from_bytes(&bytes).unwrap();
    assert_eq!(gguf.version, 2);
    assert_eq!(gguf.metadata.str("general.architecture").unwrap(), "test");
    assert_eq!(gguf.metadata.i32s("t.array").unwrap(), [8, 0, 8]);
    let t = gguf.tensor("vector").unwrap();
    assert_eq!(
        (t.ne.as_slice(), t.size, gguf.end()),
        ([3].as_slice(), 12, bytes.len() as u64)
    );
    let mut values = [0.0; 3];
    dequantize(t.ty, &bytes[t.offset as usize..], &mut values);
    assert_eq!(values, [1.0, 2.0, 3.0]);
}

#[test]
fn vocabulary_only() {
    let mut w = GgufWriter::new();
    w.set("tokenizer.ggml.model", Value::String("gpt2".into()));
    w.set("tokenizer.ggml.merges", Value::Array(Array::String(Box::default())));
    let bytes = w.build();
    let gguf = Gguf::from_bytes(&bytes).unwrap();
    assert_eq!(gguf.tensors, []);
    assert_eq!(gguf.end(), bytes.len() as u64);
    assert!(gguf.metadata.strings("tokenizer.ggml.merges").unwrap().is_empty());
}

#[test]
fn a_written_copy_reads_the_same() {
    let bytes = read("fixtures/gguf/v3.gguf");
    let gguf = Gguf::from_bytes(&bytes).unwrap();
    let copy = GgufWriter::copy_of(&bytes).build();
    let copied = Gguf::from_bytes(&copy).unwrap();
    assert_eq!(copied.metadata, gguf.metadata);
    for (a, b) in gguf.tensors.iter().zip(&copied.tensors) {
        let data = |bytes: &[u8], offset: u64| bytes[offset as usize..][..a.size as usize].to_vec();
        assert_eq!((&a.name, a.ty, &a.ne, a.size), (&b.name, b.ty, &b.ne, b.size));
        assert_eq!(data(&bytes, a.offset), data(&copy, b.offset));
    }
}

#[test]
fn typed_access() {
    let mut w = GgufWriter::new();
    w.set("big", Value::U64(1 << 32))
        .set("minus", Value::I8(-1))
        .set("seven", Value::U16(7))
        .set("double", Value::F64(0.5));
    w.set("word", Value::String("x".into()))
        .set("yes", Value::Bool(true))
        .set("list", Value::Array(Array::U64(vec![1, 1 << 31])));
    let gguf = Gguf::from_bytes(&w.build()).unwrap();
    let m = &gguf.metadata;

    assert_eq!(
        (m.u32("seven").unwrap(), m.i32("seven").unwrap(), m.u64("big").unwrap()),
        (7, 7, 1 << 32)
    );
    assert_eq!((m.i32("minus").unwrap(), m.f32("double").unwrap()), (-1, 0.5));
    assert_eq!(m.opt_u32("absent").unwrap(), None);
    assert_eq!(m.array("list").unwrap().len(), 2);
    for (error, words) in [
        (m.u32("absent").unwrap_err(), "no metadata key absent"),
        (
            m.u32("big").unwrap_err(),
            "key big: 4294967296 (integer), expected an unsigned 32-bit integer",
        ),
        (m.u32("minus").unwrap_err(), "key minus: -1 (integer)"),
        (m.opt_u32("word").unwrap_err(), "key word: \"x\", expected an unsigned"),
        (m.f32("seven").unwrap_err(), "key seven: 7 (integer), expected a float"),
        (m.opt_bool("seven").unwrap_err(), "expected a bool"),
        (m.str("yes").unwrap_err(), "key yes: true (bool), expected a string"),
        (
            m.strings("list").unwrap_err(),
            "key list: an array of 2 u64, expected an array of strings",
        ),
        (m.i32s("list").unwrap_err(), "expected an array of 32-bit integers"),
    ] {
        assert!(error.to_string().contains(words), "{error} / {words}");
        assert_eq!(error.code(), "bad_metadata");
    }
}

#[test]
fn the_wrong_kind_of_file() {
    let start = |bytes: &[u8]| HeaderReader::new(None).push(bytes).unwrap_err();
    assert!(matches!(start(b"<!DOCTYPE html>"), Error::NotGguf { found } if found == b"<!DO"));
    assert!(matches!(start(b"GGUF\0\0\0\x03"), Error::BigEndianGguf));
    assert!(matches!(start(b"GGUF\x01\0\0\0"), Error::GgufVersion { found: 1 }));
    assert!(matches!(start(b"GGUF\x04\0\0\0"), Error::GgufVersion { found: 4 }));
    assert!(matches!(Gguf::from_bytes(b"").unwrap_err(), Error::Truncated { len: 0, .. }));
    assert!(matches!(
        Gguf::from_bytes(b"GG").unwrap_err(),
        Error::Truncated { len: 2, .. }
    ));
    let mut reader = HeaderReader::new(None);
    assert!(reader.push(b"PK").unwrap().is_none());
    assert!(matches!(reader.finish(), Error::NotGguf { found } if found == b"PK"));
}
