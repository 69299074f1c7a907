//! The golden test in small: seven tokens through models with every kind of layer. Seconds where `golden.rs` takes minutes, so it
//! is what the mutation suite runs (`mutations.mjs`).
//!
//! The last test leaves the oracle's models behind: time steps so large that a naive softplus overflows.

mod common;
#[path = "common/gguf_writer.rs"]
mod gguf_writer;

use common::oracle::{Backends, Oracle};
use gguf_writer::GgufWriter;
use outcrop::Error;
use outcrop::backend::gpu::{Gpu, GpuOptions};
use outcrop::backend::{Backend, KvType, Pass, Want, cpu};
use outcrop::gguf::{Array, Gguf, StringArray, Value};
use outcrop::model::{Loader, Model};

/// The bound of `tests/oracle/README.md` for f32 activations and an f32 cache.
const MAX_ABS: f64 = 5e-4;

/// Logits of every position of `ids`, cut into `passes`; and the greedy token after the last, found by the backend.
/// `None` for a backend that refuses what it finds there.
fn score<B: Backend>(model: &mut Model<B>, ids: &[u32], passes: &[usize]) -> (Vec<f32>, Option<u32>) {
    let (mut all, mut logits, mut token) = (Vec::new(), Vec::new(), None);
    for want in [Want::AllLogits, Want::Token] {
        let mut state = model.new_state(512, KvType::F32).expect("a state");
        let mut pos = 0;
        for &n in passes {
            let pass = Pass {
                ids: &ids[pos..pos + n],
                pos: pos as u32,
                want,
            };
            token = match pollster::block_on(model.forward(&mut state, &pass, &mut logits)) {
                Err(Error::NonFiniteLogits) => None,
                other => other.expect("a pass"),
            };
            if want == Want::AllLogits {
                all.extend_from_slice(&logits);
            }
            pos += n;
        }
        assert_eq!(pos, ids.len(), "passes of the whole prompt");
    }
    (all, token)
}

fn max_abs(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let worst = |worst: f64, (a, b): (&f32, &f32)| {
        let diff = (f64::from(*a) - f64::from(*b)).abs();
        if diff.is_nan() { f64::INFINITY } else { worst.max(diff) }
    };
    a.iter().zip(b).fold(0.0, worst)
}

/// A device with WebGPU's default limits.
fn open_gpu() -> Option<Gpu> {
    common::gpu::open(GpuOptions {
        n_ubatch: 512,
        default_limits: true,
        ..Default::default()
    })
}

/// The first tokens of the oracle's prompt, cut in several ways that the state must bridge.
fn check<B: Backend>(load: impl Fn(&Oracle, &str) -> Model<B>, names: &[&str], cuts: &[&[usize]]) {
    let oracle = Oracle::open();
    let mut wrong = Vec::new();
    for name in names {
        let mut model = load(&oracle, name);
        for passes in cuts {
            let n = passes.iter().sum();
            let golden = oracle.golden(name, n);
            let (found, token) = score(&mut model, &oracle.ids[..n], passes);
            let n_vocab = model.hparams.n_vocab as usize;
            let rows = golden.positions.iter().flat_map(|&p| &found[p * n_vocab..][..n_vocab]);
            let worst = max_abs(&golden.logits, &rows.copied().collect::<Vec<_>>());
            if worst > MAX_ABS {
                wrong.push(format!(
                    "{name} in passes of {passes:?}: max abs {worst:.2e}, allowed {MAX_ABS:.0e}"
                ));
            } else if token != Some(golden.argmax[n - 1]) && golden.gap[n - 1] > 1e-3 {
                let right = golden.argmax[n - 1];
                wrong.push(format!(
                    "{name} in passes of {passes:?}: greedy token {token:?}, expected {right}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whole, and in pieces: a batch longer than the convolution between single tokens.
const SEVEN: [&[usize]; 2] = [&[7], &[1, 4, 1, 1]];

#[test]
fn reference() {
    let load = |oracle: &Oracle, name: &str| Backends::reference(oracle, name, 16);
    check(load, &["tiny-64-Q4_K_M", "tiny-g2-Q4_K_M"], &SEVEN);
}

#[test]
fn cpu() {
    let load = |oracle: &Oracle, name: &str| Backends::cpu(oracle, name, 16);
    check(load, &["tiny-64-Q4_K_M", "tiny-g2-Q4_K_M", "tiny-Q8_0", "tiny-Q4_0"], &SEVEN);
}

fn check_gpu(names: &[&str], cuts: &[&[usize]]) {
    if open_gpu().is_some() {
        let load = |oracle: &Oracle, name: &str| oracle.load(name, open_gpu().expect("as before"), 1 << 20);
        check(load, names, cuts);
    }
}

#[test]
fn gpu() {
    check_gpu(&["tiny-64-Q4_K_M", "tiny-g2-Q4_K_M"], &SEVEN);
}

/// Other formats, and batches large enough for the widest tiles.
#[test]
fn gpu_batch() {
    check_gpu(&["tiny-Q8_0"], &[&[7]]);
    check_gpu(&["tiny-Q4_0"], &[&[1, 1, 5]]);
    check_gpu(&["tiny-Q5_K_M"], &[&[33, 31]]);
}

/// A context longer than what one workgroup attends to.
#[test]
fn gpu_long() {
    check_gpu(&["tiny-g2-Q4_K_M"], &[&[298, 1, 1]]);
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

/// What is compiled while weights arrive is all that passes of any length dispatch, and computes the same.
#[test]
fn gpu_kernels_compiled_ahead() {
    let Some(gpu) = open_gpu() else { return };
    let (oracle, model) = (Oracle::open(), "tiny-g2-Q4_K_M");
    let bytes = std::fs::read(oracle.gguf_path(model)).expect("the model");
    let mut loader = Loader::new(&Gguf::from_bytes(&bytes).expect("the header"), gpu).expect("a loader");
    loader.prepare(512, KvType::F32).expect("a plan");
    loader.push(0, &bytes).expect("the file");
    let mut model = pollster::block_on(loader.finish()).expect("a model");
    pollster::block_on(model.backend.ready()).expect("kernels");
    let ahead = model.backend.kernel_names();
    assert!(ahead.len() > 10, "{ahead:?}");
    let ids = &oracle.ids[..24];
    let (found, _) = score(&mut model, ids, &[17, 2, 4, 1]);
    assert_eq!(model.backend.kernel_names(), ahead, "a pass compiled more");
    let (exact, _) = score(&mut load(&bytes, cpu::Reference::new(32)), ids, &[17, 2, 4, 1]);
    let worst = max_abs(&exact, &found);
    assert!(worst <= MAX_ABS, "max abs {worst:.2e}, allowed {MAX_ABS:.0e}");
}

/// Against the reference, whose softplus has its own test.
fn check_large_time_steps<B: Backend>(backend: B) {
    let bytes = large_time_steps();
    let ids = &Oracle::open().ids[..7];
    let (exact, _) = score(&mut load(&bytes, cpu::Reference::new(16)), ids, &[7]);
    assert!(exact.iter().all(|l| l.is_finite()));
    let (found, _) = score(&mut load(&bytes, backend), ids, &[4, 1, 2]);
    let worst = max_abs(&exact, &found);
    assert!(worst <= MAX_ABS, "max abs {worst:.2e}, allowed {MAX_ABS:.0e}");
}

#[test]
fn large_time_steps_on_cpu() {
    check_large_time_steps(cpu::Cpu::new(16));
}

#[test]
fn large_time_steps_on_gpu() {
    if let Some(gpu) = open_gpu() {
        check_large_time_steps(gpu);
    }
}

/// Three copies of the vocabulary behind 4096 rows of zeros: more logits than one workgroup looks at, and every one of them thrice.
#[test]
fn lowest_of_equals_on_every_backend() {
    let oracle = Oracle::open();
    let golden = oracle.golden("tiny-g2-Q4_K_M", 7);
    let mut w = GgufWriter::copy_of(&std::fs::read(oracle.gguf_path("tiny-g2-Q4_K_M")).expect("the model"));
    let table = w.tensor("token_embd.weight");
    let n_vocab = table.ne[1];
    let row = table.data.len() / n_vocab as usize;
    table.data = [vec![0; 4096 * row], table.data.repeat(3)].concat();
    table.ne[1] = 4096 + 3 * n_vocab;
    let n = table.ne[1] as u32;
    w.set("granitehybrid.vocab_size", Value::U32(n));
    let tokens: StringArray = (0..n).map(|_| "x").collect();
    w.set("tokenizer.ggml.tokens", Value::Array(Array::String(Box::new(tokens))));
    let bytes = w.build();
    let ids: Vec<u32> = oracle.ids[..7].iter().map(|id| id + 4096 + n_vocab as u32).collect();
    let expected = Some(golden.argmax[6] + 4096);
    let greedy = |name: &str, token: Option<u32>| assert_eq!(token, expected, "greedy token of {name}");
    greedy("reference", score(&mut load(&bytes, cpu::Reference::new(16)), &ids, &[7]).1);
    greedy("cpu", score(&mut load(&bytes, cpu::Cpu::new(16)), &ids, &[7]).1);
    if let Some(gpu) = open_gpu() {
        greedy("gpu", score(&mut load(&bytes, gpu), &ids, &[6, 1]).1);
    }
}
