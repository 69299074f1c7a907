//! Files that are good GGUFs but not a model we can run: each is refused at load, with the right code and words, never run as garbage.

#[path = "common/gguf_writer.rs"]
mod gguf_writer;

use gguf_writer::GgufWriter;
use outcrop::Error;
use outcrop::backend::cpu::Cpu;
use outcrop::gguf::{Array, GgmlType, Gguf, Value};
use outcrop::model::Loader;

fn tiny() -> Vec<u8> {
    std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/gguf/tiny-g2-Q4_K_M.gguf")).expect("the fixture")
}

/// Loads a whole file on the CPU.
fn load(bytes: &[u8]) -> Result<(), Error> {
    let gguf = Gguf::from_bytes(bytes)?;
    let mut loader = Loader::new(&gguf, Cpu::new(8))?;
    loader.push(0, bytes)?;
    pollster::block_on(loader.finish()).map(|_| ())
}

type Change = fn(&mut GgufWriter) -> &mut GgufWriter;

#[test]
fn what_cannot_be_run_is_refused() {
    let cases: &[(&str, Change, &str, &str)] = &[
        (
            "another architecture",
            |w| w.set("general.architecture", Value::String("granite".into())),
            "unsupported_model",
            "granite",
        ),
        (
            "no architecture",
            |w| w.remove("general.architecture"),
            "bad_metadata",
            "general.architecture",
        ),
        (
            "experts",
            |w| w.set("granitehybrid.expert_count", Value::U32(8)),
            "unsupported_model",
            "8 experts",
        ),
        (
            "RoPE",
            |w| w.set("granitehybrid.rope.scaling.finetuned", Value::Bool(true)),
            "unsupported_model",
            "rotary",
        ),
        (
            "RoPE by default",
            |w| w.remove("granitehybrid.rope.scaling.finetuned"),
            "unsupported_model",
            "rotary",
        ),
        (
            "no epsilon",
            |w| w.remove("granitehybrid.attention.layer_norm_rms_epsilon"),
            "bad_metadata",
            "rms_epsilon",
        ),
        (
            "epsilon NaN",
            |w| w.set("granitehybrid.attention.layer_norm_rms_epsilon", Value::F32(f32::NAN)),
            "bad_metadata",
            "NaN",
        ),
        (
            "scale infinite",
            |w| w.set("granitehybrid.residual_scale", Value::F32(f32::INFINITY)),
            "bad_metadata",
            "residual_scale",
        ),
        (
            "kinds of too few layers",
            |w| w.set("granitehybrid.attention.head_count_kv", Value::Array(Array::I32(vec![0, 2]))),
            "bad_metadata",
            "2 entries",
        ),
        (
            "negative heads",
            |w| {
                w.set(
                    "granitehybrid.attention.head_count_kv",
                    Value::Array(Array::I32(vec![0, -2, 0, 2])),
                )
            },
            "bad_metadata",
            "-2",
        ),
        (
            "heads that do not divide",
            |w| {
                w.set(
                    "granitehybrid.attention.head_count_kv",
                    Value::Array(Array::I32(vec![0, 3, 0, 3])),
                )
            },
            "bad_metadata",
            "divisor",
        ),
        (
            "two kinds of attention",
            |w| {
                w.set(
                    "granitehybrid.attention.head_count_kv",
                    Value::Array(Array::I32(vec![0, 2, 0, 4])),
                )
            },
            "unsupported_model",
            "2 and 4",
        ),
        (
            "a group count that does not divide",
            |w| w.set("granitehybrid.ssm.group_count", Value::U32(3)),
            "bad_metadata",
            "group_count",
        ),
        (
            "zero heads",
            |w| w.set("granitehybrid.ssm.time_step_rank", Value::U32(0)),
            "bad_metadata",
            "time_step_rank",
        ),
        (
            "an absurd width",
            |w| w.set("granitehybrid.embedding_length", Value::U32(u32::MAX)),
            "bad_metadata",
            "embedding_length",
        ),
        (
            "an absurd state",
            |w| w.set("granitehybrid.ssm.state_size", Value::U32(1 << 24)),
            "bad_metadata",
            "ssm.state_size",
        ),
        (
            "a number as text",
            |w| w.set("granitehybrid.block_count", Value::String("4".into())),
            "bad_metadata",
            "block_count",
        ),
        (
            "a missing tensor",
            |w| w.remove_tensor("blk.2.ssm_out.weight"),
            "bad_tensors",
            "blk.2.ssm_out.weight",
        ),
        (
            "no embedding",
            |w| w.remove_tensor("token_embd.weight"),
            "bad_tensors",
            "token_embd.weight",
        ),
        (
            "the wrong shape",
            |w| {
                w.tensor("blk.0.ffn_up.weight").ne.swap(0, 1);
                w
            },
            "bad_tensors",
            "blk.0.ffn_up.weight",
        ),
        (
            "a vector too short",
            |w| {
                w.tensor("blk.0.ssm_a").ne = vec![8];
                w
            },
            "bad_tensors",
            "blk.0.ssm_a",
        ),
        (
            "a bias that nobody adds",
            |w| w.zeros("blk.1.attn_q.bias", GgmlType::F32, &[256]),
            "unsupported_model",
            "blk.1.attn_q.bias",
        ),
        (
            "a type without a kernel",
            |w| {
                w.tensor("blk.0.ffn_up.weight").ty = 16;
                w
            },
            "unsupported_tensor_type",
            "blk.0.ffn_up.weight",
        ),
    ];
    let good = tiny();
    load(&good).expect("the file that the cases start from");
    let mut failures = Vec::new();
    for (name, change, code, word) in cases {
        let mut w = GgufWriter::copy_of(&good);
        change(&mut w);
        match load(&w.build()) {
            Ok(()) => failures.push(format!("{name}: loaded")),
            Err(e) if e.code() != *code || !e.to_string().contains(word) => failures.push(format!("{name}: {} {e}", e.code())),
            Err(_) => {}
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_file_that_stops_early_is_not_a_model() {
    let bytes = tiny();
    let gguf = Gguf::from_bytes(&bytes).expect("header");
    for end in [gguf.data_offset, gguf.data_offset + 1, gguf.end() / 2, gguf.end() - 1] {
        let mut loader = Loader::new(&gguf, Cpu::new(8)).expect("loader");
        loader.push(0, &bytes[..end as usize]).expect("push");
        let code = pollster::block_on(loader.finish())
            .map(|_| ())
            .expect_err("incomplete")
            .code();
        assert_eq!(code, "truncated_file", "{end} bytes");
    }
}

#[test]
fn pieces_may_break_anywhere() {
    let bytes = tiny();
    let gguf = Gguf::from_bytes(&bytes).expect("header");
    let mut greedy = Vec::new();
    for piece in [1999, 65_536, bytes.len()] {
        let mut loader = Loader::new(&gguf, Cpu::new(8)).expect("loader");
        for (i, chunk) in bytes.chunks(piece).enumerate() {
            loader.push((i * piece) as u64, chunk).expect("push");
        }
        let mut model = pollster::block_on(loader.finish()).expect("whole");
        let mut state = model.new_state(16, Default::default()).expect("state");
        let pass = outcrop::backend::Pass {
            ids: &[1, 2, 3],
            pos: 0,
            want: outcrop::backend::Want::Logits,
        };
        let mut logits = Vec::new();
        pollster::block_on(model.forward(&mut state, &pass, &mut logits)).expect("forward");
        greedy.push(logits);
    }
    assert!(greedy.windows(2).all(|w| w[0] == w[1]), "the cut must not matter");
}
