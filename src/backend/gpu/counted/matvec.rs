//! The same for a token's products: a lane's loop over the steps of its rows, and what joins the lanes.

use super::super::{
    forms::{Forms, MatvecForm, Shape},
    probe::product,
};
use super::*;

/// Loops of a block, not those inside of loops.
fn loops<'a>(block: &'a Block, found: &mut Vec<&'a Block>) {
    for statement in block {
        match statement {
            Statement::Loop { body, .. } => found.push(body),
            Statement::Block(inner) => loops(inner, found),
            _ => {}
        }
    }
}

fn constant(kernel: Kernel, name: &str) -> Option<f64> {
    kernel.constants().into_iter().find(|c| c.0 == name).map(|c| c.1)
}

/// Chunks of a step, STEP of the shaders.
fn step(ty: GgmlType) -> f64 {
    if ty.block_len() == 256 { 2.0 } else { 1.0 }
}

/// A product with nothing folded in, per multiply-add, for rows of 32 * `n_chunks`.
fn matvec(form: MatvecForm, ty: GgmlType, n_chunks: u32) -> Work {
    let shape = Shape {
        n_chunks,
        ..Default::default()
    };
    let kernel = Kernel::Matvec(ty, form, shape);
    let (module, info) = module(kernel);
    let lanes = constant(kernel, "LANES");
    let counter = |otherwise| Counter {
        module: &module,
        info: &info,
        otherwise: Some(otherwise),
    };
    let (f, of_entry) = (&module.entry_points[0].function, info.get_entry_point(0));
    // Down to the loop over a row's steps; the packed form has one before it that brings x.
    let mut body = &f.body;
    let mut brought = Work::default();
    for nth in match form {
        MatvecForm::Base => vec![0],
        MatvecForm::Subgroups => vec![0, 0],
        MatvecForm::Packed => vec![0, 1],
        MatvecForm::Serial => unreachable!("not for a GPU"),
    } {
        let mut found = Vec::new();
        loops(body, &mut found);
        if nth == 1 {
            brought = counter(0.0).block(f, of_entry, found[0]);
        }
        body = found[nth];
    }
    let of_step = counter(step(ty)).block(f, of_entry, body);
    let mut sum = of_step.per(step(ty) * 32.0 * 8.0);
    // A chunk is brought once for all rows of a workgroup.
    sum = sum.plus(brought.per(32.0 * f64::from(form.rows(ty, shape))), 1.0);
    if let Some(lanes) = lanes {
        let (handle, join) = module
            .functions
            .iter()
            .find(|(_, f)| f.name.as_deref() == Some("join"))
            .expect("join");
        let joined = counter(lanes / 8.0).block(join, &info[handle], &join.body);
        sum = sum.plus(joined.per(f64::from(n_chunks) / lanes * 32.0 * 8.0), 1.0);
    }
    sum
}

/// onnxruntime-web's `MatMulNBits` for a vector: contrib_ops/webgpu/quantization/matmul_nbits.wgsl.template at commit 12e917d (f32, block
/// 32, 8 rows, 128 threads). For 512 columns a thread brings a quad of x, and takes 16 bytes of a row, their scale, eight quads of x
/// from workgroup memory, where its sum is too.
fn onnxruntime_web() -> Work {
    Work {
        loads: 1.0 + 1.0 + 1.0,
        bytes: 16.0 + 16.0 + 4.0,
        workgroup: 16.0 + 8.0 * 16.0 + 4.0 + 4.0,
    }
    .per(32.0)
}

/// ggml-webgpu's: ggml/src/ggml-webgpu/wgsl-shaders/mul_mat_vec.wgsl of llama.cpp at commit 0c4b40e, 256 threads, 4 rows. A thread loads
/// `x` activations one by one, and for each row `words` words (one that is not aligned counts once, although it takes two loads).
/// Without subgroups a tree of partial sums follows, here for rows of 2048.
fn ggml_webgpu(x: f64, words: f64, subgroups: bool) -> Work {
    let rows = 4.0;
    let tree = Work {
        workgroup: rows * 4.0 * (1.0 + 3.0 * 255.0 / 256.0),
        ..Default::default()
    };
    let main = Work {
        loads: x + rows * words,
        bytes: 4.0 * (x + rows * words),
        workgroup: 0.0,
    };
    let of_tree = tree.per(2048.0 * rows / 256.0);
    main.per(x * rows).plus(of_tree, if subgroups { 0.0 } else { 1.0 })
}

/// Base and packed against peers without subgroups, the form with subgroups against the one with them; each in its own formats.
#[test]
fn no_more_than_the_peers() {
    use GgmlType::{Q4_0, Q4_K, Q6_K, Q8_0};
    let line = |name: String, w: Work| {
        println!(
            "{name:24} {:.4} loads {:.3} bytes {:.3} workgroup bytes",
            w.loads, w.bytes, w.workgroup
        );
        w
    };
    let peer = line("onnxruntime-web".into(), onnxruntime_web());
    for form in [MatvecForm::Base, MatvecForm::Subgroups, MatvecForm::Packed] {
        for n_chunks in [64, 128, 256] {
            let ours = matvec(form, Q4_0, n_chunks);
            assert!(ours.at_most(peer), "{form:?}, {n_chunks} chunks: {ours:?}, {peer:?}");
        }
    }
    // d, dmin, three words of scales, two of quants for 16 weights; d and a word for 8; d, three words, two of scales for 16; d and
    // two words for 8.
    for (ty, x, words) in [(Q4_K, 16.0, 7.0), (Q4_0, 8.0, 2.0), (Q6_K, 16.0, 6.0), (Q8_0, 8.0, 3.0)] {
        for form in [MatvecForm::Base, MatvecForm::Subgroups, MatvecForm::Packed] {
            let ours = line(format!("{form:?} {ty}"), matvec(form, ty, 64));
            let peer = ggml_webgpu(x, words, form == MatvecForm::Subgroups);
            assert!(ours.at_most(peer), "{form:?}, {ty}: {ours:?}, {peer:?}");
        }
        line(format!("ggml-webgpu {ty}"), ggml_webgpu(x, words, false));
    }
}

/// The counter's figures where they are known: eight rows, 8 quads of x and of each row.
#[test]
fn counts_are_those_of_the_shader() {
    let work = matvec(MatvecForm::Subgroups, GgmlType::F32, 64);
    assert_eq!((work.loads, work.bytes), (9.0 * 8.0 / 256.0, 9.0 * 128.0 / 256.0));
    assert_eq!(work.workgroup, 0.0);
    // The base form joins 32 lanes after two chunks each: 36 bytes stored, 8 times 8 loaded, 8 stored, 4 + 4 (+ 8) times 8 loaded.
    let work = matvec(MatvecForm::Base, GgmlType::F32, 64);
    assert!(work.workgroup > 0.0 && work.workgroup < 0.6, "{work:?}");
}

/// Of the lanes that work on a row, the share of steps at which one has something to do.
fn busy(lanes: f64, n_chunks: f64, step: f64) -> f64 {
    let steps = n_chunks / step;
    steps / ((steps / lanes).ceil() * lanes)
}

/// Lanes as the recorded products have them: all busy at a model's usual widths, three quarters at least at small ones.
#[test]
fn lanes_are_busy() {
    for ty in GgmlType::ALL {
        for (n_cols, least) in [(2048, 1.0), (3072, 1.0), (4096, 1.0), (8192, 1.0), (768, 0.75), (1536, 0.75)] {
            let probes = product(Forms::default(), ty, 2048, n_cols, 1).expect("a product");
            let lanes = probes[0].shader.constants.iter().find(|c| c.0 == "LANES").expect("lanes").1;
            let n_chunks = f64::from(n_cols) / 32.0;
            let found = busy(lanes, n_chunks, step(ty));
            assert!(found >= least, "{ty}, {n_cols} columns: {lanes} lanes, {found}");
            let shape = Shape {
                n_chunks: n_cols / 32,
                add: true,
                ..Default::default()
            };
            for form in [MatvecForm::Base, MatvecForm::Packed] {
                let lanes = constant(Kernel::Matvec(ty, form.of(ty), shape), "LANES").expect("lanes");
                let found = busy(lanes, n_chunks, step(ty));
                assert!(found >= least, "{ty}, {n_cols} columns, added: {lanes} lanes, {found}");
            }
            // Subgroups have the size that they have.
            for size in [8.0, 16.0, 32.0] {
                let step = if size * step(ty) > n_chunks { 1.0 } else { step(ty) };
                let found = busy(size, n_chunks, step);
                assert!(found >= 0.75, "{ty}, {n_cols} columns: subgroups of {size}, {found}");
            }
        }
    }
}
