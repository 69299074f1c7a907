//! Runs cases on backends and judges what comes out.

use crate::{case::*, common, common::blocks};
use fastrand::Rng;
use outcrop::backend::gpu::{GpuOptions, MatmulForm};
use outcrop::backend::{Backend, Pass, Want, cpu};

pub fn record<B: Backend>(b: &mut B, steps: &Steps, show: &Show) {
    let out = match steps {
        Steps::Embed { table, x } => {
            b.embed(*table, 3.0, *x);
            *x
        }
        Steps::NormMatmul { input, x, norm, ws, y } => {
            b.embed(*input, 1.0, *x);
            b.norm_matmul(*x, *norm, ws, *y);
            *y
        }
        Steps::MatmulAdd { input, y, start, x, w } => {
            b.embed(*input, 1.0, *y);
            b.embed(*start, 1.0, *x);
            b.matmul_add(*w, *y, 0.22, *x);
            *x
        }
        Steps::Swiglu {
            input,
            x,
            norm,
            gate,
            up,
            h,
        } => {
            b.embed(*input, 1.0, *x);
            b.swiglu(*x, *norm, *gate, *up, *h);
            *h
        }
        Steps::Mamba { input, p, m, y } => {
            b.embed(*input, 1.0, *p);
            b.mamba_mix(*p, m, *y);
            *y
        }
        Steps::Attend { input, qkv, a, y } => {
            b.embed(*input, 1.0, *qkv);
            b.attend(*qkv, a, *y);
            *y
        }
    };
    b.embed(show.one, 1.0, show.row);
    b.matmul_add(show.copy, out, 1.0, show.row);
    b.pick(show.row, show.norm, show.head, 1.0);
}

/// Runs all cases on one backend. With `again` each case runs a second time on its reset state and must give the same.
pub async fn run<B: Backend>(mut b: B, cases: &[Case], again: bool) -> Vec<Shown> {
    let mut nets = Vec::new();
    for (i, case) in cases.iter().enumerate() {
        let rng = Rng::with_seed(i as u64 + 1);
        let mut net = Net {
            b: &mut b,
            prefix: format!("blk.{i}"),
            rng,
            mats: Vec::new(),
            vectors: Vec::new(),
        };
        let declared = declare(&mut net, case);
        let (mats, vectors) = (net.mats, net.vectors);
        nets.push((declared, mats, vectors));
    }
    for (_, mats, vectors) in &nets {
        for (mat, bytes) in mats {
            let mut at = 0;
            for piece in bytes.chunks(9973) {
                b.write_matrix(*mat, at, piece).expect("written");
                at += piece.len() as u64;
            }
        }
        for (v, values) in vectors {
            b.write_vector(*v, values).expect("written");
        }
    }
    b.finish_loading().await.expect("loaded");
    let mut out = Vec::new();
    for (((steps, show, shape), ..), case) in nets.iter().zip(cases) {
        let mut state = b.new_state(shape).expect("a state");
        let mut shown = Vec::new();
        for _ in 0..=again as usize {
            let (mut pos, mut values) = (0, Vec::new());
            for (k, &n) in case.passes.iter().enumerate() {
                let ids: Vec<u32> = (pos..pos + n).map(|t| (t * t * 7 + t * 13) as u32 % VOCAB as u32).collect();
                let wanted = k + case.shown >= case.passes.len();
                let pass = Pass {
                    ids: &ids,
                    pos: pos as u32,
                    want: if wanted { Want::AllLogits } else { Want::Nothing },
                };
                let mut logits = Vec::new();
                if b.begin(&mut state, &pass).expect("begun") {
                    record(&mut b, steps, show);
                }
                b.end(&mut state, &pass, &mut logits).await.expect("a pass");
                for row in logits.chunks(show.head.n_rows as usize) {
                    let one = row[row.len() - 1];
                    values.extend(row[..show.width].iter().map(|v| v / one));
                }
                pos += n;
            }
            shown.push(values);
            b.reset_state(&mut state).expect("reset");
        }
        if again {
            assert!(shown[0] == shown[1], "{case:?}: a reset state is not a new one");
        }
        out.push(Shown {
            values: shown.swap_remove(0),
            width: show.width,
        });
    }
    out
}

/// Error power over signal power, of the columns that `of` picks.
pub fn nmse(want: &Shown, got: &Shown, of: impl Fn(usize) -> bool) -> f64 {
    let (mut error, mut signal) = (0f64, 0f64);
    for (i, (&a, &b)) in want.values.iter().zip(&got.values).enumerate() {
        if of(i % want.width) {
            error += (a as f64 - b as f64).powi(2);
            signal += (a as f64).powi(2);
        }
    }
    if error == 0.0 { 0.0 } else { error / signal }
}

/// Failures of one backend, worded.
pub fn judge(backend: &str, product: f64, cases: &[Case], want: &[Shown], got: &[Shown]) -> Vec<String> {
    let mut failures = Vec::new();
    let mut worst = 0f64;
    for ((case, want), got) in cases.iter().zip(want).zip(got) {
        assert!(
            !want.values.is_empty() && want.values.iter().all(|v| v.is_finite()),
            "{case:?}: the reference is not finite"
        );
        let bound = if matches!(case.op, Op::Mamba { .. } | Op::Attend { .. }) {
            MIXER
        } else {
            product
        };
        // Rows with subnormal scales give results 10,000 times smaller: among the others they would not show.
        let split = matches!(case.op, Op::NormMatmul { .. } | Op::Swiglu { .. });
        let small = |c: usize| split && blocks::is_subnormal_row(c);
        for error in [nmse(want, got, |c| !small(c)), nmse(want, got, small)] {
            worst = worst.max(error);
            if want.values.len() != got.values.len() || error.is_nan() || error > bound {
                failures.push(format!("{backend}: NMSE {error:.2e}, bound {bound:.0e}: {case:?}"));
            }
        }
    }
    println!("{backend}: {} cases, worst NMSE {worst:.2e}", cases.len());
    failures
}

/// All backends on `cases`; the GPU with each of these options.
pub fn check(cases: &[Case], n_ubatch: u32, gpus: &[GpuOptions]) {
    let want = pollster::block_on(run(cpu::Reference::new(n_ubatch), cases, false));
    let got = pollster::block_on(run(cpu::Cpu::new(n_ubatch), cases, true));
    let mut failures = judge("cpu", PRODUCT, cases, &want, &got);
    let got = pollster::block_on(run(cpu::Cpu::int8(n_ubatch), cases, true));
    failures.extend(judge("cpu int8", ROUNDED, cases, &want, &got));
    for options in gpus {
        let options = GpuOptions {
            n_ubatch,
            ..options.clone()
        };
        let name = format!(
            "gpu, bindings of {:?} bytes, scan {:?}, {:?}",
            options.max_binding, options.scan, options.forms
        );
        let f16 = options.forms.is_some_and(|f| f.matmul == MatmulForm::F16);
        let bound = if f16 { HALVES } else { PRODUCT };
        let Some(gpu) = common::gpu::open(options) else { break };
        let got = pollster::block_on(run(gpu, cases, true));
        failures.extend(judge(&name, bound, cases, &want, &got));
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

pub fn defaults() -> GpuOptions {
    GpuOptions {
        default_limits: true,
        ..Default::default()
    }
}

/// Bindings so small that tables and heads take many slabs.
pub fn small_bindings() -> GpuOptions {
    GpuOptions {
        max_binding: Some(160 << 10),
        ..defaults()
    }
}

pub fn case(n_cols: usize, op: Op) -> Case {
    let passes = vec![1, 2, 3, 7, 13, 33, UBATCH as usize];
    Case {
        op,
        n_cols,
        shown: passes.len(),
        passes,
    }
}

/// A case for each mixer, over passes that are all looked at.
pub fn mixers(ops: impl IntoIterator<Item = Op>, passes: &[usize]) -> Vec<Case> {
    let of = |op| Case {
        op,
        n_cols: 0,
        passes: passes.to_vec(),
        shown: passes.len(),
    };
    ops.into_iter().map(of).collect()
}
