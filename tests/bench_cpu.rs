//! What `bench cpu` counts, on a clock that ticks once each time it is read: bytes, products, ops and rates are known beforehand.

mod common;

use std::cell::Cell;

use common::oracle::Oracle;
use outcrop::Error;
use outcrop::backend::KvType;
use outcrop::backend::cpu::{Cpu, Pool};
use outcrop::bench::{CpuOp, CpuReport, Work, cpu_speed};
use outcrop::generate::{Host, Sequence};
use outcrop::gguf::Gguf;

/// A millisecond passes with each look at the clock.
struct Ticking(Cell<f64>);

impl Host for Ticking {
    fn now_ms(&self) -> f64 {
        self.0.set(self.0.get() + 1.0);
        self.0.get()
    }
    fn cancelled(&self) -> bool {
        false
    }
    async fn breathe(&self) {}
}

const NAME: &str = "tiny-64-Q4_K_M";
const WORK: Work = Work {
    prompt: 24,
    tokens: 6,
    repeats: 3,
};
const N_UBATCH: u32 = 16;

fn report(kv: KvType, details: bool) -> CpuReport {
    let cpu = Cpu::int8(N_UBATCH).with_pool(Pool::new(2).expect("threads"));
    let model = Oracle::open().load(NAME, cpu, 1 << 20);
    let mut sequence = Sequence::new(model, 64, kv).expect("a sequence");
    let report = pollster::block_on(cpu_speed(&Ticking(Cell::new(0.0)), &mut sequence, WORK, details)).expect("a report");
    assert!(sequence.consumed().is_empty(), "the sequence is empty afterwards");
    report
}

fn gguf() -> Gguf {
    Gguf::from_bytes(&std::fs::read(Oracle::open().gguf_path(NAME)).expect("a model")).expect("a header")
}

/// Bytes and elements of the matrices whose names contain one of `parts`.
fn size(gguf: &Gguf, parts: &[&str]) -> (f64, f64) {
    let named = gguf
        .tensors
        .iter()
        .filter(|t| t.ne.len() == 2 && parts.iter().any(|part| t.name.contains(part)));
    named.fold((0.0, 0.0), |(bytes, n), t| {
        (bytes + t.size as f64, n + t.ne.iter().product::<u64>() as f64)
    })
}

#[test]
fn rates_are_of_all_tokens_but_the_first() {
    let CpuReport {
        prefill_tps,
        decode_tps,
        prompt,
        tokens,
        repeats,
        copy_gbps,
        ops,
        ..
    } = report(KvType::F32, false);
    assert_eq!((prompt, tokens, repeats), (24, 6, 3));
    // The clock is read at the start, after the first token and after the last: a tick each.
    assert_eq!((prefill_tps, decode_tps), (24e3, 5e3));
    assert!(copy_gbps == 0.0 && ops.is_empty(), "nobody asked");
}

#[test]
fn ops_bytes_and_products_of_a_token() {
    let gguf = gguf();
    let u32_of = |key: &str| gguf.metadata.u32(&format!("granitehybrid.{key}")).expect("a number") as f64;
    // 8 bits each, and a float for each 32.
    for (kv, bits) in [(KvType::F32, 32.0), (KvType::F16, 16.0), (KvType::Q8_0, 9.0)] {
        let CpuReport {
            ops,
            batch_ops,
            batch,
            bytes_per_token,
            decode_tps,
            copy_gbps,
            share_of_copy,
            ..
        } = report(kv, true);
        assert_eq!(batch, N_UBATCH);
        let layers = u32_of("block_count");
        let n_attention = gguf.tensors.iter().filter(|t| t.name.ends_with("attn_q.weight")).count() as f64;
        let all = |ops: &[CpuOp], name: &str| {
            let some: Vec<&CpuOp> = ops.iter().filter(|op| op.op.starts_with(name)).collect();
            let times: u32 = some.iter().map(|op| op.times).sum();
            // Each op takes a tick, so a millisecond a time.
            some.iter().for_each(|op| assert_eq!(op.ms, f64::from(op.times), "{}", op.op));
            let sum = |f: fn(&CpuOp) -> f64| some.iter().map(|op| f(op) * op.ms * 1e6).sum::<f64>();
            (f64::from(times), sum(|op| op.gbps).round(), sum(|op| op.gmacs).round())
        };
        let (d_conv, d_inner, d_state) = (u32_of("ssm.conv_kernel"), u32_of("ssm.inner_size"), u32_of("ssm.state_size"));
        let d_xbc = d_inner + 2.0 * u32_of("ssm.group_count") * d_state;
        let kv_len = gguf
            .tensors
            .iter()
            .find(|t| t.name.ends_with("attn_k.weight"))
            .expect("keys")
            .ne[1] as f64;
        // Behind the prompt and half of the answer.
        let pos = 27.0;
        let mut total = 0.0;
        for (ops, n) in [(&ops, 1.0), (&batch_ops, f64::from(batch))] {
            let mut bytes = 0.0;
            let mut check = |name: &str, times: f64, (moved, products): (f64, f64)| {
                assert_eq!(all(ops, name), (times, moved, n * products), "{name}, {n} tokens, {kv:?}");
                bytes += moved;
            };
            check("norm_matmul", layers, size(&gguf, &["ssm_in", "attn_q", "attn_k", "attn_v"]));
            check(
                "matmul_add",
                2.0 * layers,
                size(&gguf, &["ssm_out", "attn_output", "ffn_down"]),
            );
            check("swiglu", layers, size(&gguf, &["ffn_gate", "ffn_up"]));
            let state = d_inner * d_state + (d_conv - 1.0) * d_xbc;
            check(
                "mamba_mix",
                layers - n_attention,
                (8.0 * n * state * (layers - n_attention), 0.0),
            );
            let seen = pos + (n / 2.0).ceil();
            let row = 2.0 * kv_len * bits / 8.0;
            check("attend", n_attention, (row.floor() * n * seen * n_attention, 0.0));
            let table = gguf.tensor("token_embd.weight").expect("a table");
            check("embed", 1.0, (n * table.size as f64 / table.ne[1] as f64, 0.0));
            let head = if n == 1.0 {
                size(
                    &gguf,
                    &[if gguf.tensor("output.weight").is_some() {
                        "output.weight"
                    } else {
                        "token_embd"
                    }],
                )
            } else {
                (0.0, 0.0)
            };
            check("pick", if n == 1.0 { 1.0 } else { 0.0 }, head);
            if n == 1.0 {
                total = bytes;
            }
        }
        assert_eq!(bytes_per_token as f64, total);
        let share = total * decode_tps / (copy_gbps * 1e9);
        assert!((share_of_copy / share - 1.0).abs() < 1e-9);
        assert!(ops.windows(2).all(|two| two[0].ms >= two[1].ms), "the longest first");
    }
}

/// Cancels after so many breaths.
struct Leaving {
    breaths: Cell<u32>,
    most: u32,
}

impl Host for Leaving {
    fn now_ms(&self) -> f64 {
        0.0
    }
    fn cancelled(&self) -> bool {
        self.breaths.get() >= self.most
    }
    async fn breathe(&self) {
        self.breaths.set(self.breaths.get() + 1);
    }
}

#[test]
fn a_measurement_stops_wherever_it_is() {
    let model = Oracle::open().load(NAME, Cpu::int8(N_UBATCH), 1 << 20);
    let mut sequence = Sequence::new(model, 64, KvType::F32).expect("a sequence");
    let mut run = |most| {
        let host = Leaving {
            breaths: Cell::new(0),
            most,
        };
        let result = pollster::block_on(cpu_speed(&host, &mut sequence, WORK, true));
        (result, host.breaths.get())
    };
    let (result, all) = run(u32::MAX);
    result.expect("a report");
    for most in 0..=all {
        let (result, breaths) = run(most);
        assert!(matches!(result, Err(Error::Aborted)), "{most} of {all} breaths: {result:?}");
        assert!(breaths <= most + 1, "{breaths} breaths, the last {most}");
    }
    run(u32::MAX).0.expect("a report after all");
}
