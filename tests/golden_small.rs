//! The golden test in small: seven tokens through models with every kind of layer. Seconds where `golden.rs` takes minutes, so it
//! is what the mutation suite runs (`mutations.mjs`).
//!
//! The last test leaves the oracle's models behind: time steps so large that a naive softplus overflows.

mod common;
#[path = "common/gguf_writer.rs"]
mod gguf_writer;

use common::oracle::{Backends, Oracle};
use gguf_writer::GgufWriter;
use outcrop::backend::{Backend, KvType, Pass, Want, cpu};
use outcrop::gguf::Gguf;
use outcrop::model::{Loader, Model};

/// The bound of `tests/oracle/README.md` for f32 activations and an f32 cache.
const MAX_ABS: f64 = 5e-4;

/// Logits of every position of `ids`, cut into `passes`.
fn score<B: Backend>(model: &mut Model<B>, ids: &[u32], passes: &[usize]) -> Vec<f32> {
    let mut state = model.new_state(64, KvType::F32).expect("a state");
    let (mut all, mut logits, mut pos) = (Vec::new(), Vec::new(), 0);
    for &n in passes {
        let pass = Pass {
            ids: &ids[pos..pos + n],
            pos: pos as u32,
            want: Want::AllLogits,
        };
        pollster::block_on(model.forward(&mut state, &pass, &mut logits)).expect("a pass");
        all.extend_from_slice(&logits);
        pos += n;
    }
    all
}

fn max_abs(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let worst = |worst: f64, (a, b): (&f32, &f32)| {
        let diff = (f64::from(*a) - f64::from(*b)).abs();
        if diff.is_nan() { f64::INFINITY } else { worst.max(diff) }
    };
    a.iter().zip(b).fold(0.0, worst)
}

/// Seven tokens as one batch, then in pieces that the state must carry over.
fn check<B: Backend>(load: impl Fn(&Oracle, &str) -> Model<B>, names: &[&str]) {
    let oracle = Oracle::open();
    let mut wrong = Vec::new();
    for name in names {
        let golden = oracle.golden(name, 7);
        assert_eq!(golden.positions, [0, 1, 2, 3, 4, 5, 6]);
        let mut model = load(&oracle, name);
        for passes in [&[7][..], &[1, 2, 1, 3]] {
            let worst = max_abs(&golden.logits, &score(&mut model, &oracle.ids[..7], passes));
            if worst > MAX_ABS {
                wrong.push(format!(
                    "{name} in passes of {passes:?}: max abs {worst:.2e}, allowed {MAX_ABS:.0e}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn reference() {
    check(
        |oracle, name| Backends::reference(oracle, name, 16),
        &["tiny-64-Q4_K_M", "tiny-g2-Q4_K_M"],
    );
}

#[test]
fn cpu() {
    check(
        |oracle, name| Backends::cpu(oracle, name, 16),
        &["tiny-64-Q4_K_M", "tiny-g2-Q4_K_M", "tiny-Q8_0", "tiny-Q4_0"],
    );
}

#[test]
fn softplus_is_right_everywhere() {
    let cases = [
        -200.0, -100.0, -20.0, -5.0, -0.5, 0.0, 0.5, 5.5, 9.0, 14.0, 19.9, 20.0, 20.1, 30.0, 88.0, 89.0, 1e4, 3e38f32,
    ];
    for v in cases {
        let exact = f64::from(v).max(0.0) + (-f64::from(v).abs()).exp().ln_1p();
        let found = f64::from(cpu::reference::softplus(v));
        let allowed = 1e-6 * exact + f64::from(f32::MIN_POSITIVE);
        assert!((found - exact).abs() <= allowed, "softplus({v}): {found:e}, not {exact:e}");
    }
}

/// A model whose heads have time steps of 0 to 120: below, at and beyond the branch, and where `e^v` is infinite in f32.
fn large_time_steps() -> Vec<u8> {
    let path = Oracle::open().gguf_path("tiny-g2-Q4_K_M");
    let mut w = GgufWriter::copy_of(&std::fs::read(path).expect("the model"));
    for t in w.tensors.iter_mut().filter(|t| t.name.ends_with("ssm_dt.bias")) {
        let n = t.data.len() / 4;
        t.data = (0..n)
            .flat_map(|h| (h as f32 * 120.0 / (n - 1) as f32).to_le_bytes())
            .collect();
    }
    // A state that survives a large step, else every such head forgets alike: A = -1 / 64.
    for t in w.tensors.iter_mut().filter(|t| t.name.ends_with("ssm_a")) {
        t.data = (-1f32 / 64.0).to_le_bytes().repeat(t.data.len() / 4);
    }
    w.build()
}

fn load<B: Backend>(bytes: &[u8], backend: B) -> Model<B> {
    let mut loader = Loader::new(&Gguf::from_bytes(bytes).expect("the header"), backend).expect("a loader");
    loader.push(0, bytes).expect("the file");
    pollster::block_on(loader.finish()).expect("a model")
}

#[test]
fn large_time_steps_on_cpu() {
    let bytes = large_time_steps();
    let ids = &Oracle::open().ids[..7];
    let exact = score(&mut load(&bytes, cpu::Reference::new(16)), ids, &[7]);
    assert!(exact.iter().all(|l| l.is_finite()));
    let found = score(&mut load(&bytes, cpu::Cpu::new(16)), ids, &[4, 3]);
    let worst = max_abs(&exact, &found);
    assert!(worst <= MAX_ABS, "max abs {worst:.2e}, allowed {MAX_ABS:.0e}");
}
