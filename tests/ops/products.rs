//! Products: every type, every form.

use crate::{case::*, common, run::*};
use outcrop::backend::cpu;
use outcrop::backend::gpu::{Forms, GpuOptions, MatmulForm, MatvecForm};
use outcrop::gguf::GgmlType;

#[test]
fn products_of_every_type() {
    let mut cases = Vec::new();
    for ty in GgmlType::ALL {
        cases.push(case(768, Op::Embed { ty }));
        cases.push(case(256, Op::NormMatmul { mats: vec![(ty, 37)] }));
        cases.push(case(256, Op::NormMatmul { mats: vec![(ty, 1)] }));
        // Three of a type are one dispatch, like q, k and v.
        cases.push(case(
            768,
            Op::NormMatmul {
                mats: vec![(ty, 100), (ty, 9), (ty, 37)],
            },
        ));
        cases.push(case(256, Op::MatmulAdd { ty, n_rows: 96 }));
        cases.push(case(
            256,
            Op::Swiglu {
                gate: ty,
                up: ty,
                n_ff: 100,
            },
        ));
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
        cases.push(case(
            768,
            Op::NormMatmul {
                mats: vec![(ty, 100), (ty, 9), (ty, 37)],
            },
        ));
        cases.push(case(1536, Op::MatmulAdd { ty, n_rows: 33 }));
        cases.push(case(
            256,
            Op::Swiglu {
                gate: ty,
                up: ty,
                n_ff: 100,
            },
        ));
    }
    for ty in [Q4_0, Q8_0, Q4_K, Q6_K] {
        cases.push(case(2048, Op::NormMatmul { mats: vec![(ty, 1)] }));
        cases.push(case(4096, Op::MatmulAdd { ty, n_rows: 65 }));
        cases.push(case(8448, Op::MatmulAdd { ty, n_rows: 17 }));
    }
    for n_cols in [32, 96, 1120] {
        cases.push(case(n_cols, Op::NormMatmul { mats: vec![(Q5_1, 41)] }));
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
        case(
            256,
            Op::NormMatmul {
                mats: vec![(Q4_K, 64), (Q4_K, 37), (Q6_K, 37)],
            },
        ),
        case(
            256,
            Op::NormMatmul {
                mats: vec![(Q8_0, 5), (Q5_K, 5), (Q8_0, 5), (F16, 5)],
            },
        ),
        case(
            256,
            Op::NormMatmul {
                mats: vec![(Q4_0, 3); 6],
            },
        ),
        case(
            256,
            Op::Swiglu {
                gate: Q4_K,
                up: Q6_K,
                n_ff: 37,
            },
        ),
        case(
            768,
            Op::Swiglu {
                gate: F32,
                up: F32,
                n_ff: 130,
            },
        ),
        case(
            768,
            Op::NormMatmul {
                mats: vec![(F32, 130), (F16, 130)],
            },
        ),
        case(768, Op::Embed { ty: F32 }),
        case(768, Op::MatmulAdd { ty: F16, n_rows: 160 }),
        // Rows of 32-blocks that are no multiple of 256, and an odd number of blocks.
        case(
            96,
            Op::NormMatmul {
                mats: vec![(Q8_0, 7), (Q8_0, 3)],
            },
        ),
        case(96, Op::MatmulAdd { ty: Q4_0, n_rows: 32 }),
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
            Op::NormMatmul {
                mats: vec![(ty, 100), (ty, 9), (ty, 150)],
            },
            Op::MatmulAdd { ty, n_rows: 160 },
            Op::Swiglu {
                gate: ty,
                up: ty,
                n_ff: 100,
            },
        ];
        // All of one type, one of the others in turn: a pipeline takes a while to make.
        let all = ty == GgmlType::Q4_K;
        let ops = ops.into_iter().enumerate().filter(|(j, _)| all || i % 3 == *j);
        cases.extend(ops.map(|(_, op)| Case {
            op,
            n_cols: 256,
            passes: vec![3, 13, 17, 64, 65, 130],
            shown: 6,
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
