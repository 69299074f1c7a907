//! Products: every type, every form.

use crate::{case::*, common, run::*};
use outcrop::backend::cpu;
use outcrop::backend::gpu::{Forms, GpuOptions, MatmulForm, MatvecForm};
use outcrop::gguf::GgmlType;

fn normed(n_cols: usize, mats: &[(GgmlType, usize)]) -> Case {
    case(n_cols, Op::NormMatmul { mats: mats.to_vec() })
}

fn added(n_cols: usize, ty: GgmlType, n_rows: usize) -> Case {
    case(n_cols, Op::MatmulAdd { ty, n_rows })
}

fn gated(n_cols: usize, [gate, up]: [GgmlType; 2], n_ff: usize) -> Case {
    case(n_cols, Op::Swiglu { gate, up, n_ff })
}

#[test]
fn products_of_every_type() {
    let mut cases = Vec::new();
    for ty in GgmlType::ALL {
        cases.push(case(768, Op::Embed { ty }));
        cases.push(normed(256, &[(ty, 37)]));
        cases.push(normed(256, &[(ty, 1)]));
        // Three of a type are one dispatch, like q, k and v.
        cases.push(normed(768, &[(ty, 100), (ty, 9), (ty, 37)]));
        cases.push(added(256, ty, 96));
        cases.push(gated(256, [ty, ty], 100));
    }
    check(&cases, UBATCH, &[defaults()]);
}

/// What a token's products run as. Packed products round activations like the CPU's 8-bit path.
fn forms() -> Vec<(GpuOptions, f64)> {
    let options = |matvec: MatvecForm| GpuOptions {
        default_limits: matvec != MatvecForm::Subgroups,
        forms: Some(Forms {
            matvec,
            ..Forms::default()
        }),
        ..Default::default()
    };
    let bound = |matvec| if matvec == MatvecForm::Packed { ROUNDED } else { PRODUCT };
    MatvecForm::ALL.map(|form| (options(form), bound(form))).into()
}

/// Rows that fill no tile, lanes that have nothing to do, rows longer than what the packed form keeps of x at a time.
#[test]
fn one_token_in_every_form() {
    use GgmlType::*;
    let mut cases = Vec::new();
    for ty in GgmlType::ALL {
        cases.push(normed(768, &[(ty, 100), (ty, 9), (ty, 37)]));
        cases.push(added(1536, ty, 33));
        cases.push(gated(256, [ty, ty], 100));
    }
    for ty in [Q4_0, Q8_0, Q4_K, Q6_K] {
        cases.push(normed(2048, &[(ty, 1)]));
        cases.push(added(4096, ty, 65));
        cases.push(added(8448, ty, 17));
    }
    for n_cols in [32, 96, 1120] {
        cases.push(normed(n_cols, &[(Q5_1, 41)]));
    }
    for case in &mut cases {
        (case.passes, case.shown) = (vec![1, 1, 1], 3);
    }
    let want = pollster::block_on(run(cpu::Reference::new(1), &cases, false));
    let mut failures = Vec::new();
    for (options, bound) in forms() {
        let name = format!("{:?}", options.forms.expect("a form").matvec);
        let Some(gpu) = common::gpu::open(options) else { continue };
        let began = std::time::Instant::now();
        let got = pollster::block_on(run(gpu, &cases, true));
        failures.extend(judge(&name, bound, &cases, &want, &got));
        println!("{name}: {:.1} s", began.elapsed().as_secs_f32());
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn mixed_types_and_many_slabs() {
    use GgmlType::*;
    let cases = [
        normed(256, &[(Q4_K, 64), (Q4_K, 37), (Q6_K, 37)]),
        normed(256, &[(Q8_0, 5), (Q5_K, 5), (Q8_0, 5), (F16, 5)]),
        normed(256, &[(Q4_0, 3); 6]),
        gated(256, [Q4_K, Q6_K], 37),
        gated(768, [F32, F32], 130),
        normed(768, &[(F32, 130), (F16, 130)]),
        case(768, Op::Embed { ty: F32 }),
        added(768, F16, 160),
        // Rows of 32-blocks that are no multiple of 256, and an odd number of blocks.
        normed(96, &[(Q8_0, 7), (Q8_0, 3)]),
        added(96, Q4_0, 32),
        case(32, Op::Embed { ty: Q5_0 }),
    ];
    check(&cases, UBATCH, &[small_bindings(), GpuOptions::default()]);
}

/// Every form of the prefill's products: each type, each thing that is folded in, tiles of rows and of tokens that are not full.
#[test]
fn forms_of_batches() {
    let mut cases = Vec::new();
    for (i, ty) in GgmlType::ALL.into_iter().enumerate() {
        let ops = [
            normed(256, &[(ty, 100), (ty, 9), (ty, 150)]),
            added(256, ty, 160),
            gated(256, [ty, ty], 100),
        ];
        // All of one type, one of the others in turn: a pipeline takes a while to make.
        let all = ty == GgmlType::Q4_K;
        let ops = ops.into_iter().enumerate().filter(|(j, _)| all || i % 3 == *j);
        cases.extend(ops.map(|(_, case)| Case {
            passes: vec![3, 13, 17, 64, 65, 130],
            shown: 6,
            ..case
        }));
    }
    let forms = [MatmulForm::Base, MatmulForm::Serial, MatmulForm::F16].map(|matmul| GpuOptions {
        default_limits: matmul != MatmulForm::F16,
        forms: Some(Forms {
            matmul,
            ..Default::default()
        }),
        ..Default::default()
    });
    check(&cases, 130, &forms);
}
