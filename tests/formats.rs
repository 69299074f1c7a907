//! Every weight format in every place of one model: random blocks of thirteen types, dealt out over the matrices in turn, so that
//! no two neighbours (query and key, gate and up) share a type. CPU and GPU against the reference.
//!
//! Random *bytes*: every encoding of quants and scales occurs, only the f16 scales are chosen so that weights stay small.

mod common;
#[path = "common/gguf_writer.rs"]
mod gguf_writer;

use gguf_writer::GgufWriter;
use half::{bf16, f16};
use outcrop::backend::gpu::{Forms, GpuOptions, MatvecForm};
use outcrop::backend::{Backend, KvType, Pass, Want, cpu};
use outcrop::gguf::{GgmlType, Gguf};
use outcrop::model::{Loader, Model};

/// Passes of one token, few and many: each has its own kernels on the GPU.
const PASSES: &[usize] = &[1, 5, 20, 1];
/// One token at a time: products of one vector only.
const TOKENS: &[usize] = &[1; 3];

/// `n` random blocks, of weights within about 0.1.
fn random_blocks(ty: GgmlType, n: usize, rng: &mut fastrand::Rng) -> Vec<u8> {
    use GgmlType::*;
    // Where the block's halves are, and the largest to put there: 0.1 / (largest scale * largest quant).
    let halves: &[(usize, f32)] = match ty {
        F32 | F16 | BF16 => &[],
        Q4_0 => &[(0, 0.1 / 8.0)],
        Q4_1 => &[(0, 0.1 / 15.0), (2, 0.05)],
        Q5_0 => &[(0, 0.1 / 16.0)],
        Q5_1 => &[(0, 0.1 / 31.0), (2, 0.05)],
        Q8_0 => &[(0, 0.1 / 128.0)],
        Q2_K => &[(80, 0.1 / 45.0), (82, 0.1 / 15.0)],
        Q3_K => &[(108, 0.1 / 128.0)],
        Q4_K => &[(0, 0.1 / 945.0), (2, 0.1 / 63.0)],
        Q5_K => &[(0, 0.1 / 1953.0), (2, 0.1 / 63.0)],
        Q6_K => &[(208, 0.1 / 4096.0)], // an f16 subnormal
    };
    let mut out = Vec::with_capacity(n * ty.block_bytes());
    for _ in 0..n {
        let at = out.len();
        let value = 0.1 * (2.0 * rng.f32() - 1.0);
        match ty {
            F32 => out.extend(value.to_le_bytes()),
            F16 => out.extend(f16::from_f32(value).to_le_bytes()),
            BF16 => out.extend(bf16::from_f32(value).to_le_bytes()),
            _ => out.extend(std::iter::repeat_with(|| rng.u8(..)).take(ty.block_bytes())),
        }
        for &(offset, largest) in halves {
            let scale = f16::from_f32(largest * (2.0 * rng.f32() - 1.0));
            out[at + offset..][..2].copy_from_slice(&scale.to_le_bytes());
        }
    }
    out
}

/// The oracle's two-group model with its matrices replaced.
fn model_of_all_formats() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/gguf/tiny-g2-Q4_K_M.gguf");
    let mut w = GgufWriter::copy_of(&std::fs::read(path).expect(path));
    let mut rng = fastrand::Rng::with_seed(5);
    let mut types = GgmlType::ALL.into_iter().cycle();
    for t in w.tensors.iter_mut().filter(|t| t.ne.len() == 2 && t.ty != GgmlType::F32.id()) {
        let ty = types.next().expect("endless");
        let n: u64 = t.ne.iter().product();
        t.data = random_blocks(ty, n as usize / ty.block_len(), &mut rng);
        t.ty = ty.id();
    }
    w.build()
}

fn load<B: Backend>(bytes: &[u8], backend: B) -> Model<B> {
    let mut loader = Loader::new(&Gguf::from_bytes(bytes).expect("the header"), backend).expect("a loader");
    // Odd pieces: blocks are cut anywhere.
    for (i, piece) in bytes.chunks(65_537).enumerate() {
        loader.push(i as u64 * 65_537, piece).expect("the file");
    }
    pollster::block_on(loader.finish()).expect("a model")
}

fn logits<B: Backend>(model: &mut Model<B>, passes: &[usize], kv: KvType) -> Vec<f32> {
    let ids: Vec<u32> = (0..passes.iter().sum::<usize>() as u32).map(|i| i * 71 % 1900).collect();
    let mut state = model.new_state(64, kv).expect("a state");
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

/// Normalised mean squared error: `|a - b|^2 / |a|^2`.
fn nmse(exact: &[f32], found: &[f32]) -> f64 {
    assert_eq!(exact.len(), found.len());
    let square = |v: f64| v * v;
    let error: f64 = exact
        .iter()
        .zip(found)
        .map(|(&a, &b)| square(f64::from(a) - f64::from(b)))
        .sum();
    error / exact.iter().map(|&a| square(f64::from(a))).sum::<f64>()
}

/// Bounds with f32 activations: f32 keys and values, f16 ones.
const F32: [f64; 2] = [1e-11, 1e-9];

fn compare<B: Backend>(backend: B, passes: &[usize], bounds: [f64; 2]) {
    let bytes = model_of_all_formats();
    let types: std::collections::BTreeSet<_> = Gguf::from_bytes(&bytes).unwrap().tensors.iter().map(|t| t.ty).collect();
    assert_eq!(types.len(), GgmlType::ALL.len());
    let mut reference = load(&bytes, cpu::Reference::new(32));
    let mut model = load(&bytes, backend);
    for (kv, allowed) in [KvType::F32, KvType::F16].into_iter().zip(bounds) {
        let exact = logits(&mut reference, passes, kv);
        assert!(exact.iter().all(|l| l.is_finite()));
        let found = nmse(&exact, &logits(&mut model, passes, kv));
        println!("{kv:?} keys and values: NMSE {found:.1e}");
        assert!(
            found <= allowed,
            "{kv:?} keys and values: NMSE {found:.1e}, allowed {allowed:.0e}"
        );
    }
}

#[test]
fn cpu() {
    compare(cpu::Cpu::new(32), PASSES, F32);
}

/// Five of the thirteen types round activations to 8 bits.
#[test]
fn cpu_int8() {
    compare(cpu::Cpu::int8(32), PASSES, [1e-3; 2]);
}

#[test]
fn gpu() {
    let options = GpuOptions {
        n_ubatch: 32,
        default_limits: true,
        ..Default::default()
    };
    if let Some(gpu) = common::gpu::open(options) {
        compare(gpu, PASSES, F32);
    }
}

/// Ten of the thirteen types round activations to 8 bits in the packed form.
#[test]
fn one_token_in_every_form() {
    for matvec in MatvecForm::ALL {
        let options = GpuOptions {
            n_ubatch: 1,
            default_limits: matvec != MatvecForm::Subgroups,
            forms: Some(Forms {
                matvec,
                ..Forms::default()
            }),
            ..Default::default()
        };
        println!("{matvec:?}");
        if let Some(gpu) = common::gpu::open(options) {
            compare(gpu, TOKENS, if matvec == MatvecForm::Packed { [1e-3; 2] } else { F32 });
        }
    }
}
