//! What a thread of a kernel's inner loop loads for a multiply-add, counted from the shader itself; and the same of other engines'
//! kernels, for which ours must not be worse. A real GPU's time is not among the things that a software adapter can show.

mod matvec;

use super::{
    forms::{MatmulForm, Shape},
    kernels::Kernel,
};
use crate::gguf::GgmlType;
use naga::{AddressSpace, BinaryOperator, Block, Expression, Function, Handle, Literal, Module, Statement, valid::*};

/// Of one thread, or per multiply-add.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Work {
    /// Loads from storage buffers, of whatever width.
    loads: f64,
    /// Their bytes.
    bytes: f64,
    /// Bytes loaded from workgroup memory and stored there.
    workgroup: f64,
}

impl Work {
    fn plus(self, o: Work, times: f64) -> Work {
        Work {
            loads: self.loads + times * o.loads,
            bytes: self.bytes + times * o.bytes,
            workgroup: self.workgroup + times * o.workgroup,
        }
    }

    fn per(self, multiply_adds: f64) -> Work {
        Work::default().plus(self, 1.0 / multiply_adds)
    }

    fn at_most(self, o: Work) -> bool {
        self.loads <= o.loads && self.bytes <= o.bytes && self.workgroup <= o.workgroup
    }
}

struct Counter<'a> {
    module: &'a Module,
    info: &'a ModuleInfo,
    /// Rounds of loops whose end is no literal.
    otherwise: Option<f64>,
}

impl Counter<'_> {
    /// The space of the variable that a pointer leads to.
    fn space(&self, f: &Function, pointer: Handle<Expression>) -> Option<AddressSpace> {
        match f.expressions[pointer] {
            Expression::Access { base, .. } | Expression::AccessIndex { base, .. } => self.space(f, base),
            Expression::GlobalVariable(v) => Some(self.module.global_variables[v].space),
            _ => None,
        }
    }

    /// A condition that the pipeline's constants decide.
    fn known(&self, f: &Function, condition: Handle<Expression>) -> Option<bool> {
        let literal = match f.expressions[condition] {
            Expression::Constant(c) => &self.module.global_expressions[self.module.constants[c].init],
            ref other => other,
        };
        match literal {
            Expression::Literal(Literal::Bool(yes)) => Some(*yes),
            _ => None,
        }
    }

    fn access(&self, f: &Function, pointer: Handle<Expression>, bytes: u32, load: bool) -> Work {
        let bytes = f64::from(bytes);
        match self.space(f, pointer) {
            Some(AddressSpace::Storage { .. }) if load => Work {
                loads: 1.0,
                bytes,
                workgroup: 0.0,
            },
            Some(AddressSpace::WorkGroup) => Work {
                workgroup: bytes,
                ..Default::default()
            },
            _ => Work::default(),
        }
    }

    fn size(&self, info: &FunctionInfo, e: Handle<Expression>) -> u32 {
        info[e].ty.inner_with(&self.module.types).size(self.module.to_ctx())
    }

    /// Rounds of a loop that counts up to a literal, or to one more than where it starts.
    fn rounds(&self, f: &Function, body: &Block) -> f64 {
        let literal = |e: Handle<Expression>| match f.expressions[e] {
            Expression::Literal(Literal::U32(n)) => Some(n),
            _ => None,
        };
        // The condition is the first thing that the body emits.
        let emitted = body.iter().filter_map(|s| match s {
            Statement::Emit(range) => Some(range.clone()),
            _ => None,
        });
        for e in emitted.flatten() {
            if let Expression::Binary {
                op: BinaryOperator::Less,
                right,
                ..
            } = f.expressions[e]
            {
                let end = match f.expressions[right] {
                    Expression::Binary {
                        op: BinaryOperator::Add,
                        right: more,
                        ..
                    } => literal(more),
                    _ => literal(right),
                };
                return end.map(f64::from).or(self.otherwise).expect("a loop to something known");
            }
        }
        panic!("a loop without an end")
    }

    fn block(&self, f: &Function, info: &FunctionInfo, block: &Block) -> Work {
        let mut sum = Work::default();
        for statement in block {
            let work = match statement {
                Statement::Emit(range) => {
                    let of = |e| match f.expressions[e] {
                        Expression::Load { pointer } => self.access(f, pointer, self.size(info, e), true),
                        _ => Work::default(),
                    };
                    range.clone().map(of).fold(Work::default(), |a, b| a.plus(b, 1.0))
                }
                Statement::Store { pointer, value } => self.access(f, *pointer, self.size(info, *value), false),
                Statement::Call { function, .. } => {
                    let callee = &self.module.functions[*function];
                    self.block(callee, &self.info[*function], &callee.body)
                }
                Statement::Block(inner) => self.block(f, info, inner),
                Statement::If {
                    condition,
                    accept,
                    reject,
                } => match self.known(f, *condition) {
                    Some(yes) => self.block(f, info, if yes { accept } else { reject }),
                    None => self.block(f, info, accept).plus(self.block(f, info, reject), 1.0),
                },
                Statement::Loop { body, .. } => Work::default().plus(self.block(f, info, body), self.rounds(f, body)),
                _ => Work::default(),
            };
            sum = sum.plus(work, 1.0);
        }
        sum
    }
}

/// The kernel's shader, with its constants in it.
fn module(kernel: Kernel) -> (Module, ModuleInfo) {
    let module = naga::front::wgsl::parse_str(&kernel.source()).expect("valid WGSL");
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    let info = validator.validate(&module).expect("a valid module");
    let values = kernel.constants().into_iter().map(|(n, v)| (n.to_owned(), v)).collect();
    let (module, info) =
        naga::back::pipeline_constants::process_overrides(&module, &info, None, &values).expect("valid constants");
    (module.into_owned(), info.into_owned())
}

/// One round of the kernel's loop over the chunks of 32 columns, a thread's; and the threads of a workgroup.
fn chunk_of(kernel: Kernel) -> (Work, u32) {
    let (module, info) = module(kernel);
    let counter = Counter {
        module: &module,
        info: &info,
        otherwise: None,
    };
    let entry = &module.entry_points[0];
    let (f, info) = (&entry.function, info.get_entry_point(0));
    let has_barrier = |body: &Block| body.iter().any(|s| matches!(s, Statement::ControlBarrier(_)));
    let body = f.body.iter().find_map(|s| match s {
        Statement::Loop { body, .. } => Some(body),
        _ => None,
    });
    let inner = body.expect("a loop").iter().find_map(|s| match s {
        Statement::Block(inner) if has_barrier(inner) => Some(inner),
        _ => None,
    });
    let work = counter.block(f, info, inner.expect("the loop's own statements"));
    (work, entry.workgroup_size[0])
}

/// A matmul's, per multiply-add, with nothing folded in.
fn matmul(form: MatmulForm, ty: GgmlType) -> Work {
    let shape = Shape {
        n_chunks: 64,
        ..Default::default()
    };
    let (work, threads) = chunk_of(Kernel::Matmul(ty, form, shape));
    work.per(f64::from(32 * form.rows() * MatmulForm::TOKENS) / f64::from(threads))
}

/// onnxruntime-web's `MatMulNBits` for prefill: contrib_ops/webgpu/quantization/matmul_nbits_wide_tile.wgsl.template at commit
/// 0412bb7 (f32, block 32). A thread of 128 has a row of W and 16 tokens; for 32 columns it loads the row's 16 bytes and their scale, one
/// quad of x for everybody, and every quad of the 16 tokens from workgroup memory.
fn onnxruntime_web() -> Work {
    let work = Work {
        loads: 1.0 + 1.0 + 1.0,
        bytes: 16.0 + 4.0 + 16.0,
        workgroup: 16.0 * 8.0 * 16.0 + 16.0,
    };
    work.per(32.0 * 16.0)
}

/// ggml-webgpu's register tile: ggml/src/ggml-webgpu/wgsl-shaders/mul_mat_reg_tile.wgsl and mul_mat_decls.tmpl of llama.cpp at commits
/// b0169df and 0c4b40e, Q4_0, 64 threads of `tile` x `tile` results, 32 columns at a time, f16 in workgroup memory. Of W a thread loads
/// a scale and two words for 16 weights (a word that is not aligned counts once, although it takes two loads); of x f32 quads; then both
/// come from workgroup memory one by one.
fn ggml_webgpu(tile: f64) -> Work {
    let of_tile = 8.0 * tile * 32.0 / 64.0; // weights, and as many activations, of a thread
    let work = Work {
        loads: of_tile / 16.0 * 3.0 + of_tile / 4.0,
        bytes: of_tile / 16.0 * 12.0 + of_tile * 4.0,
        workgroup: 2.0 * of_tile * 2.0 + 32.0 * 2.0 * tile * 2.0,
    };
    work.per(32.0 * tile * tile)
}

/// The f32 form against the f32 kernel and the f16 register tile that is ggml's default; the f16 form also against ggml's former tile
/// of 8 x 8.
#[test]
fn no_more_than_the_peers() {
    let base = matmul(MatmulForm::Base, GgmlType::Q4_0);
    let halves = matmul(MatmulForm::F16, GgmlType::Q4_0);
    let table = [
        ("base Q4_0", base),
        ("base Q4_K", matmul(MatmulForm::Base, GgmlType::Q4_K)),
        ("f16 Q4_0", halves),
        ("serial Q4_0", matmul(MatmulForm::Serial, GgmlType::Q4_0)),
        ("onnxruntime-web", onnxruntime_web()),
        ("ggml-webgpu 4 x 4", ggml_webgpu(4.0)),
        ("ggml-webgpu 8 x 8", ggml_webgpu(8.0)),
    ];
    for (name, w) in table {
        println!(
            "{name:18} {:.5} loads {:.4} bytes {:.3} workgroup bytes",
            w.loads, w.bytes, w.workgroup
        );
    }
    assert!(base.at_most(onnxruntime_web()) && base.at_most(ggml_webgpu(4.0)), "{base:?}");
    for peer in [onnxruntime_web(), ggml_webgpu(4.0), ggml_webgpu(8.0)] {
        assert!(halves.at_most(peer), "{halves:?}, {peer:?}");
    }
}

/// The counter's own figures where they are known: each of 128 threads brings two quads of x a run, decodes a row and multiplies 8 x 8.
#[test]
fn counts_are_those_of_the_shader() {
    let (work, threads) = chunk_of(Kernel::Matmul(
        GgmlType::F32,
        MatmulForm::Base,
        Shape {
            n_chunks: 64,
            ..Default::default()
        },
    ));
    assert_eq!(threads, 128);
    assert_eq!((work.loads, work.bytes), (8.0 + 4.0, (8.0 + 4.0) * 16.0));
    assert_eq!(work.workgroup, 2.0 * 16.0 * ((4.0 + 2.0) + 4.0 * 16.0));
}
