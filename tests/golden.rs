//! Whole models against exact logits: the GGUF dequantised to F32 and run by llama.cpp (tests/oracle/README.md).
//!
//! Every backend must sit inside the same bounds, however the prompt is cut into batches. `OUTCROP_ORACLE` may name a directory with
//! more models than the project carries.

mod common;

use common::oracle::{Backends, Oracle, kl_divergence};
use outcrop::backend::gpu::GpuOptions;
use outcrop::backend::{Backend, KvType, Pass, Want, cpu};
use outcrop::model::Model;

/// How a prompt is cut into passes.
#[derive(Debug, Clone, Copy)]
enum Cut {
    Whole,
    Uneven,
    TokenByToken,
}

impl Cut {
    /// Lengths of the passes of an `n`-token prompt, none above `max`.
    fn passes(self, n: usize, max: usize) -> Vec<usize> {
        const UNEVEN: [usize; 8] = [1, 2, 5, 64, 3, 33, 128, 17];
        let (mut left, mut out) = (n, Vec::new());
        while left > 0 {
            let want = match self {
                Cut::Whole => max,
                Cut::Uneven => UNEVEN[out.len() % UNEVEN.len()],
                Cut::TokenByToken => 1,
            };
            out.push(want.min(left).min(max));
            left -= out[out.len() - 1];
        }
        out
    }
}

/// Logits of every position, row-major.
async fn score<B: Backend>(model: &mut Model<B>, ids: &[u32], cut: Cut, kv: KvType) -> Vec<f32> {
    let mut state = model.new_state(1024, kv).expect("state");
    let (mut all, mut logits, mut pos) = (Vec::new(), Vec::new(), 0);
    for n in cut.passes(ids.len(), model.backend.n_ubatch() as usize) {
        let pass = Pass {
            ids: &ids[pos..pos + n],
            pos: pos as u32,
            want: Want::AllLogits,
        };
        model.forward(&mut state, &pass, &mut logits).await.expect("forward");
        all.extend_from_slice(&logits);
        pos += n;
    }
    all
}

/// The greedy continuation, as far as margins are wider than `tolerance`.
async fn check_greedy<B: Backend>(
    model: &mut Model<B>,
    ids: &[u32],
    greedy: &[u32],
    margin: &[f32],
    tolerance: f32,
) -> Option<String> {
    let mut state = model.new_state(1024, KvType::F32).expect("state");
    let (n_ubatch, mut pos, mut token) = (model.backend.n_ubatch() as usize, 0, None);
    for chunk in ids.chunks(n_ubatch) {
        let last = pos + chunk.len() == ids.len();
        let pass = Pass {
            ids: chunk,
            pos: pos as u32,
            want: if last { Want::Token } else { Want::Nothing },
        };
        token = model.forward(&mut state, &pass, &mut Vec::new()).await.expect("forward");
        pos += chunk.len();
    }
    for (step, (&want, &margin)) in greedy.iter().zip(margin).enumerate() {
        if margin <= tolerance {
            return None;
        }
        if token != Some(want) {
            return Some(format!("greedy step {step}: {token:?}, expected {want} (margin {margin})"));
        }
        let pass = Pass {
            ids: &[want],
            pos: pos as u32,
            want: Want::Token,
        };
        token = model.forward(&mut state, &pass, &mut Vec::new()).await.expect("forward");
        pos += 1;
    }
    None
}

struct Bounds {
    max_abs: f64,
    kl: f64,
    gap: f32,
}

const F32: Bounds = Bounds {
    max_abs: 5e-4,
    kl: 1e-8,
    gap: 1e-3,
};
const F16_KV: Bounds = Bounds {
    max_abs: 5e-2,
    kl: 1e-5,
    gap: 1e-1,
};

/// 8 bits and a scale for each 32. The reference with such keys and values is up to 9.6e-2 off, with a mean KL of 1.7e-4: twice that.
const Q8_KV: Bounds = Bounds {
    max_abs: 2e-1,
    kl: 4e-4,
    gap: 4e-1,
};
/// How far two backends with 8-bit keys and values may be apart: a value on the edge between two steps falls to either, which a last
/// place decides. 6e-3 was seen; all steps together make the 9.6e-2 above.
const Q8_SAME: f64 = 2e-2;

/// Runs `lengths` of one model through every cut; the failures, worded.
fn check<B: Backend>(
    oracle: &Oracle,
    name: &str,
    model: &mut Model<B>,
    lengths: &[usize],
    cuts: &[Cut],
    kv: KvType,
) -> Vec<String> {
    let bounds = match kv {
        KvType::F32 => F32,
        KvType::F16 => F16_KV,
        KvType::Q8_0 => Q8_KV,
    };
    let backend = std::any::type_name::<B>()
        .rsplit("::")
        .next()
        .unwrap_or_default()
        .trim_end_matches('>');
    let mut failures = Vec::new();
    for &n in lengths {
        let golden = oracle.golden(name, n);
        let n_vocab = golden.logits.len() / golden.positions.len();
        let ids = &oracle.ids[..n];
        for &cut in cuts {
            let got = pollster::block_on(score(model, ids, cut, kv));
            let (mut worst, mut kl) = (0f64, 0f64);
            for (row, &p) in golden.positions.iter().enumerate() {
                let want = &golden.logits[row * n_vocab..(row + 1) * n_vocab];
                let got = &got[p * n_vocab..(p + 1) * n_vocab];
                let diff = want
                    .iter()
                    .zip(got)
                    .map(|(a, b)| (*a as f64 - *b as f64).abs())
                    .fold(0.0, f64::max);
                worst = worst.max(if got.iter().all(|v| v.is_finite()) {
                    diff
                } else {
                    f64::INFINITY
                });
                kl += kl_divergence(want, got) / golden.positions.len() as f64;
            }
            let wrong_top = (0..n).find(|&p| {
                let row = &got[p * n_vocab..(p + 1) * n_vocab];
                golden.gap[p] > bounds.gap && cpu::reference::argmax(row).ok() != Some(golden.argmax[p])
            });
            println!("{backend} {name} n={n} {cut:?} {kv:?}: max abs {worst:.2e}, mean KL {kl:.2e}");
            if worst > bounds.max_abs || kl > bounds.kl || wrong_top.is_some() {
                failures.push(format!(
                    "{name} n={n} {cut:?} {kv:?}: max abs {worst:.2e}, KL {kl:.2e}, wrong top-1 at {wrong_top:?}"
                ));
            }
        }
        if kv == KvType::F32 {
            let wrong = pollster::block_on(check_greedy(model, ids, &golden.greedy, &golden.margin, 2e-3));
            failures.extend(wrong.map(|w| format!("{name} n={n}: {w}")));
        }
    }
    failures
}

const ALL_CUTS: [Cut; 3] = [Cut::Whole, Cut::Uneven, Cut::TokenByToken];

fn assert_none(failures: Vec<String>) {
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn reference_meets_the_oracle() {
    let oracle = Oracle::open();
    let mut failures = Vec::new();
    for name in oracle.models() {
        let mut model = Backends::reference(&oracle, &name, 512);
        failures.extend(check(&oracle, &name, &mut model, &oracle.lengths, &ALL_CUTS, KvType::F32));
    }
    assert_none(failures);
}

#[test]
fn cpu_meets_the_oracle() {
    let oracle = Oracle::open();
    let mut failures = Vec::new();
    for name in oracle.models() {
        let mut model = Backends::cpu(&oracle, &name, 512);
        failures.extend(check(&oracle, &name, &mut model, &oracle.lengths, &ALL_CUTS, KvType::F32));
    }
    assert_none(failures);
}

/// Activations in 8 bits cannot meet an absolute bound: in these random models the smallest rounding grows through every layer. They
/// must be as near to exact as llama.cpp's are, and independent of how the prompt is cut.
#[test]
fn int8_is_as_exact_as_8_bit_activations_can_be() {
    let oracle = Oracle::open();
    let mut failures = Vec::new();
    for name in oracle.models() {
        let mut exact = Backends::cpu(&oracle, &name, 512);
        let mut model = Backends::cpu_int8(&oracle, &name, 512);
        let n_vocab = model.hparams.n_vocab as usize;
        let all = pollster::block_on(score(&mut exact, &oracle.ids, Cut::Whole, KvType::F32));
        for &n in &oracle.lengths {
            let got = pollster::block_on(score(&mut model, &oracle.ids[..n], Cut::Whole, KvType::F32));
            assert!(got.iter().all(|l| l.is_finite()), "{name} n={n}");
            let (mut kl, mut same) = (0.0, 0.0);
            for (want, got) in all.chunks_exact(n_vocab).zip(got.chunks_exact(n_vocab)) {
                kl += kl_divergence(want, got) / n as f64;
                let top = |row| cpu::reference::argmax(row).expect("finite");
                same += if top(want) == top(got) { 1.0 / n as f64 } else { 0.0 };
            }
            let (their_kl, their_same) = oracle.llamacpp(&name, n);
            println!("{name} n={n}: mean KL {kl:.2e} (llama.cpp {their_kl:.2e}), top-1 {same:.3} ({their_same:.3})");
            let (most_kl, least_same) = if n >= 300 {
                (1.25 * their_kl, their_same - 0.01)
            } else {
                (0.1, 0.0)
            };
            if kl > most_kl || same < least_same {
                failures.push(format!(
                    "{name} n={n}: mean KL {kl:.2e}, at most {most_kl:.2e}; top-1 {same:.3}, at least {least_same:.3}"
                ));
            }
        }
        let whole = pollster::block_on(score(&mut model, &oracle.ids[..300], Cut::Whole, KvType::F32));
        for cut in [Cut::Uneven, Cut::TokenByToken] {
            let again = pollster::block_on(score(&mut model, &oracle.ids[..300], cut, KvType::F32));
            if whole.iter().zip(&again).any(|(a, b)| a.to_bits() != b.to_bits()) {
                failures.push(format!("{name} {cut:?}: other bits than in one pass"));
            }
        }
    }
    assert_none(failures);
}

#[test]
fn f16_keys_and_values_stay_close() {
    let oracle = Oracle::open();
    let name = "tiny-64-Q4_K_M";
    let mut failures = check(
        &oracle,
        name,
        &mut Backends::reference(&oracle, name, 512),
        &[64],
        &[Cut::Uneven],
        KvType::F16,
    );
    failures.extend(check(
        &oracle,
        name,
        &mut Backends::cpu(&oracle, name, 512),
        &[1, 64, 300],
        &[Cut::Uneven],
        KvType::F16,
    ));
    assert_none(failures);
}

/// As far from exact as 8 bits are, and as far from the reference's own 8 bits as roundings are.
#[test]
fn q8_0_keys_and_values_stay_close() {
    let oracle = Oracle::open();
    let name = "tiny-64-Q4_K_M";
    let kv = KvType::Q8_0;
    let mut reference = Backends::reference(&oracle, name, 512);
    let mut cpu = Backends::cpu(&oracle, name, 512);
    let mut failures = check(&oracle, name, &mut reference, &[64, 300], &[Cut::Uneven], kv);
    failures.extend(check(&oracle, name, &mut cpu, &[1, 64, 300], &[Cut::Uneven], kv));
    let ids = &oracle.ids[..64];
    let want = pollster::block_on(score(&mut reference, ids, Cut::Whole, kv));
    let mut compare = |backend: &str, got: Vec<f32>| {
        let worst = want.iter().zip(&got).map(|(a, b)| (a - b).abs() as f64).fold(0.0, f64::max);
        println!("{backend} {kv:?} beside the reference: max abs {worst:.2e}");
        if worst > Q8_SAME || got.iter().any(|v| !v.is_finite()) {
            failures.push(format!("{backend}: {worst:.2e} from the reference"));
        }
    };
    compare("cpu", pollster::block_on(score(&mut cpu, ids, Cut::Uneven, kv)));
    let options = GpuOptions {
        n_ubatch: 512,
        default_limits: true,
        ..Default::default()
    };
    if let Some(gpu) = common::gpu::open(options) {
        let mut gpu = oracle.load(name, gpu, 65_537);
        compare("gpu", pollster::block_on(score(&mut gpu, ids, Cut::Uneven, kv)));
        compare("gpu, whole", pollster::block_on(score(&mut gpu, ids, Cut::Whole, kv)));
    }
    assert_none(failures);
}

/// On a software adapter the long prompts take long, so they run on three models only.
#[test]
fn gpu_meets_the_oracle() {
    let oracle = Oracle::open();
    let mut failures = Vec::new();
    for name in oracle.models() {
        let options = GpuOptions {
            n_ubatch: 512,
            default_limits: true,
            ..Default::default()
        };
        let Some(gpu) = common::gpu::open(options) else { return };
        let mut model = oracle.load(&name, gpu, 65_537);
        let mut run = |lengths: &[usize], cuts: &[Cut], kv| failures.extend(check(&oracle, &name, &mut model, lengths, cuts, kv));
        let long = ["tiny-Q4_K_M", "tiny-64-Q4_K_M", "tiny-g2-Q4_K_M"].contains(&&*name);
        let lengths: Vec<usize> = oracle.lengths.iter().copied().filter(|&n| long || n <= 64).collect();
        run(&lengths, &ALL_CUTS, KvType::F32);
        if name == "tiny-64-Q4_K_M" {
            run(&[64], &[Cut::Uneven], KvType::F16);
        }
    }
    assert_none(failures);
}
