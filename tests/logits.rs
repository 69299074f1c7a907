//! The bits of every logit are the same in every build: natively with this processor's instructions and without, on one thread and on
//! three; and in both WebAssembly builds (tests/browser/logits.test.mjs). All must give the hashes in tests/fixtures/logits.json.
//!
//! They may change only where the arithmetic changes on purpose: the test prints what it found.

mod common;

use common::oracle::Oracle;
use outcrop::backend::cpu::{Cpu, Pool, PortableCpu, tiles};
use outcrop::backend::{Backend, KvType, Pass, Want};
use outcrop::gguf::{GgmlType, Gguf};
use outcrop::model::Model;
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    /// Tokens of the prompts, each the beginning of the oracle's.
    lengths: Vec<usize>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    model: String,
    activations: String,
    kv: String,
    /// Of each prompt's logits, `[tokens, n_vocab]` f32 in little-endian order: FNV-1a in 64 bits.
    hashes: Vec<String>,
}

fn expected() -> Expected {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/logits.json");
    serde_json::from_str(&std::fs::read_to_string(path).expect(path)).expect("hashes")
}

fn fnv_1a(hash: u64, bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Hash of the logits of a prompt, in passes as large as the backend takes them.
fn hash<B: Backend>(model: &mut Model<B>, ids: &[u32], kv: KvType) -> String {
    let mut state = model.new_state(ids.len() as u32, kv).expect("a state");
    let (mut hash, mut pos, mut logits) = (0xcbf2_9ce4_8422_2325, 0, Vec::new());
    for ids in ids.chunks(model.backend.n_ubatch() as usize) {
        let want = Want::AllLogits;
        pollster::block_on(model.forward(&mut state, &Pass { ids, pos, want }, &mut logits)).expect("a pass");
        assert!(logits.iter().all(|l| l.is_finite()));
        hash = logits.iter().fold(hash, |hash, l| fnv_1a(hash, &l.to_le_bytes()));
        pos += ids.len() as u32;
    }
    format!("{hash:016x}")
}

/// A backend's hashes of every case. `make`: with activations in 8 bits or not.
fn check<B: Backend>(build: &str, make: impl Fn(bool) -> B) {
    let (oracle, Expected { lengths, cases }) = (Oracle::open(), expected());
    let mut wrong = Vec::new();
    for case in cases {
        let int8 = match &*case.activations {
            "int8" => true,
            "f32" => false,
            other => panic!("no activations are {other}"),
        };
        let mut model = oracle.load(&case.model, make(int8), 1 << 20);
        let kv = KvType::from_name(&case.kv).expect("a type of keys and values");
        let found: Vec<_> = lengths.iter().map(|&n| hash(&mut model, &oracle.ids[..n], kv)).collect();
        if found != case.hashes {
            let Case {
                model, activations, kv, ..
            } = case;
            wrong.push(format!("{model} {activations} {kv}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{build}: other bits than elsewhere:\n{}", wrong.join("\n"));
}

#[test]
fn hashes_of_known_texts() {
    assert_eq!(fnv_1a(0xcbf2_9ce4_8422_2325, b"a"), 0xaf63_dc4c_8601_ec8c);
    assert_eq!(fnv_1a(0xcbf2_9ce4_8422_2325, b"foobar"), 0x8594_4171_f739_67e8);
}

#[test]
fn every_tiled_type_is_in_some_case() {
    let oracle = Oracle::open();
    let mut seen: Vec<GgmlType> = Vec::new();
    for case in expected().cases.iter().filter(|case| case.activations == "int8") {
        let bytes = std::fs::read(oracle.gguf_path(&case.model)).expect("a model");
        seen.extend(Gguf::from_bytes(&bytes).expect("a header").tensors.iter().map(|t| t.ty));
    }
    for ty in GgmlType::ALL.into_iter().filter(|&ty| tiles::is_tiled(ty)) {
        assert!(seen.contains(&ty), "{ty}");
    }
}

#[test]
fn this_processors_instructions_on_one_thread() {
    check("one thread", |int8| if int8 { Cpu::int8(32) } else { Cpu::new(32) });
}

#[test]
fn this_processors_instructions_on_three_threads() {
    check("three threads", |int8| {
        let cpu = if int8 { Cpu::int8(64) } else { Cpu::new(64) };
        cpu.with_pool(Pool::new(3).expect("threads"))
    });
}

#[test]
fn portable_kernels() {
    check(
        "portable",
        |int8| {
            if int8 { PortableCpu::int8(512) } else { PortableCpu::new(512) }
        },
    );
}
