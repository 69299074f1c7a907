//! Every op on every backend against `reference`, on random weights and odd shapes.
//!
//! A backend shows no buffer but the logits, so a case ends by copying the op's result through an F32 identity into a row that also
//! holds a constant 1, and reads that row through an identity head: the constant undoes the head's norm exactly enough (1e-7).
//! Weights are random *bytes* (tests/common/blocks.rs); a third of the rows has f16-subnormal scales and is judged by itself.

mod common;

use common::blocks;
use fastrand::Rng;
use outcrop::backend::gpu::{Forms, GpuOptions, MatmulForm, MatvecForm, Scan};
use outcrop::backend::{Attention, Backend, Buf, KvType, Mamba, Mat, Norm, Pass, StateShape, Vector, Want, cpu};
use outcrop::gguf::GgmlType;

/// Rows of every table; also ids.
const VOCAB: usize = 61;
/// Most tokens in a pass of the products' cases.
const UBATCH: u32 = 48;
/// Of what f32 sums of a few hundred terms may differ from f64 ones: error power over signal power.
const PRODUCT: f64 = 1e-11;
/// What rounding activations to 8 bits costs: steps of a 127th of the largest of 256, so 5e-5 where that is three deviations.
const ROUNDED: f64 = 2e-4;
/// What rounding both factors to 11 bits costs, at most: 2^-22 / 3 of the power of each, and twice that where two products are multiplied.
const HALVES: f64 = 3.2e-7;
/// After exponentials, a recurrence or a softmax.
const MIXER: f64 = 1e-10;

#[derive(Debug, Clone)]
enum Op {
    Embed {
        ty: GgmlType,
    },
    NormMatmul {
        mats: Vec<(GgmlType, usize)>,
    },
    MatmulAdd {
        ty: GgmlType,
        n_rows: usize,
    },
    Swiglu {
        gate: GgmlType,
        up: GgmlType,
        n_ff: usize,
    },
    Mamba {
        n_head: u32,
        d_head: u32,
        d_state: u32,
        n_group: u32,
        d_conv: u32,
        dt: f32,
        /// Multiplies what a token adds to dt: one token after another is forgotten at once, or hardly seen.
        wild: f32,
    },
    Attend {
        n_head: u32,
        n_head_kv: u32,
        d_head: u32,
        kv: KvType,
    },
}

#[derive(Debug, Clone)]
struct Case {
    op: Op,
    /// Width of the activations that the op reads.
    n_cols: usize,
    /// Tokens of each pass; only the last `shown` passes are looked at.
    passes: Vec<usize>,
    shown: usize,
}

/// What a case leaves: `[tokens, width]`.
struct Shown {
    values: Vec<f32>,
    width: usize,
}

/// Declares, remembers what to write, writes it.
struct Net<'a, B> {
    b: &'a mut B,
    prefix: String,
    rng: Rng,
    mats: Vec<(Mat, Vec<u8>)>,
    vectors: Vec<(Vector, Vec<f32>)>,
}

impl<B: Backend> Net<'_, B> {
    fn mat(&mut self, name: &str, ty: GgmlType, n_rows: usize, n_cols: usize, bytes: Vec<u8>) -> Mat {
        let name = format!("{}.{name}.weight", self.prefix);
        let mat = self.b.matrix(&name, ty, n_rows as u32, n_cols as u32).expect("a matrix");
        self.mats.push((mat, bytes));
        mat
    }
    fn blocks(&mut self, name: &str, ty: GgmlType, n_rows: usize, n_cols: usize) -> Mat {
        let bytes = blocks::random(ty, n_rows, n_cols, &mut self.rng);
        self.mat(name, ty, n_rows, n_cols, bytes)
    }
    /// An F32 matrix by rule.
    fn rows(&mut self, name: &str, n_rows: usize, n_cols: usize, f: impl Fn(usize, usize) -> f32) -> Mat {
        let values: Vec<f32> = (0..n_rows * n_cols).map(|i| f(i / n_cols, i % n_cols)).collect();
        self.mat(name, GgmlType::F32, n_rows, n_cols, blocks::f32_rows(&values))
    }
    /// An embedding table of random activations.
    fn activations(&mut self, name: &str, n_cols: usize) -> Mat {
        self.scaled_activations(name, n_cols, |_| 1.0)
    }
    fn scaled_activations(&mut self, name: &str, n_cols: usize, scale: impl Fn(usize) -> f32) -> Mat {
        let mut rng = self.rng.fork();
        let values: Vec<f32> = (0..VOCAB * n_cols)
            .map(|i| (rng.f32() * 4.0 - 2.0) * scale(i % n_cols))
            .collect();
        self.mat(name, GgmlType::F32, VOCAB, n_cols, blocks::f32_rows(&values))
    }
    fn vector(&mut self, len: usize, f: impl Fn(&mut Rng) -> f32) -> Vector {
        let v = self.b.vector(&self.prefix, len as u32).expect("a vector");
        let values = (0..len).map(|_| f(&mut self.rng)).collect();
        self.vectors.push((v, values));
        v
    }
    fn norm(&mut self, len: usize) -> Norm {
        Norm {
            gamma: self.vector(len, |r| 0.5 + r.f32()),
            eps: 1e-5,
        }
    }
    fn buf(&mut self, n_cols: usize) -> Buf {
        self.b.buffer(n_cols as u32).expect("a buffer")
    }
}

/// A case's ops on handles.
enum Steps {
    Embed {
        table: Mat,
        x: Buf,
    },
    NormMatmul {
        input: Mat,
        x: Buf,
        norm: Norm,
        ws: Vec<Mat>,
        y: Buf,
    },
    MatmulAdd {
        input: Mat,
        y: Buf,
        start: Mat,
        x: Buf,
        w: Mat,
    },
    Swiglu {
        input: Mat,
        x: Buf,
        norm: Norm,
        gate: Mat,
        up: Mat,
        h: Buf,
    },
    Mamba {
        input: Mat,
        p: Buf,
        m: Mamba,
        y: Buf,
    },
    Attend {
        input: Mat,
        qkv: Buf,
        a: Attention,
        y: Buf,
    },
}

/// The tail that shows a buffer.
struct Show {
    one: Mat,
    copy: Mat,
    row: Buf,
    norm: Norm,
    head: Mat,
    width: usize,
}

fn declare<B: Backend>(net: &mut Net<B>, case: &Case) -> (Steps, Show, StateShape) {
    let d = case.n_cols;
    let mut shape = StateShape {
        n_recurrent: 0,
        conv_len: 0,
        ssm_len: 0,
        n_attention: 0,
        kv_len: 0,
        kv_type: KvType::F32,
        n_ctx: case.passes.iter().sum::<usize>() as u32,
    };
    let (steps, out, width) = match &case.op {
        Op::Embed { ty } => {
            let (table, x) = (net.blocks("table", *ty, VOCAB, d), net.buf(d));
            (Steps::Embed { table, x }, x, d)
        }
        Op::NormMatmul { mats } => {
            let ws: Vec<Mat> = mats.iter().map(|&(ty, n)| net.blocks("w", ty, n, d)).collect();
            let width: usize = mats.iter().map(|m| m.1).sum();
            // Wider than what is written: the rest of a row must be left alone.
            let y = net.buf(width.next_multiple_of(32) + 32);
            let (input, x, norm) = (net.activations("input", d), net.buf(d), net.norm(d));
            (Steps::NormMatmul { input, x, norm, ws, y }, y, width)
        }
        Op::MatmulAdd { ty, n_rows } => {
            let w = net.blocks("w", *ty, *n_rows, d);
            let x = net.buf(n_rows.next_multiple_of(32));
            let (input, y) = (net.activations("input", d), net.buf(d));
            let start = net.activations("start", n_rows.next_multiple_of(32));
            (Steps::MatmulAdd { input, y, start, x, w }, x, *n_rows)
        }
        Op::Swiglu { gate, up, n_ff } => {
            let (gate, up) = (net.blocks("gate", *gate, *n_ff, d), net.blocks("up", *up, *n_ff, d));
            let (input, x, norm) = (net.activations("input", d), net.buf(d), net.norm(d));
            let h = net.buf(n_ff.next_multiple_of(32));
            (
                Steps::Swiglu {
                    input,
                    x,
                    norm,
                    gate,
                    up,
                    h,
                },
                h,
                *n_ff,
            )
        }
        &Op::Mamba {
            n_head,
            d_head,
            d_state,
            n_group,
            d_conv,
            dt,
            wild,
        } => {
            let mut m = Mamba {
                slot: 0,
                n_head,
                d_head,
                d_state,
                n_group,
                d_conv,
                conv_w: Vector { id: 0, len: 0 },
                conv_b: Vector { id: 0, len: 0 },
                dt_bias: Vector { id: 0, len: 0 },
                a: Vector { id: 0, len: 0 },
                d: Vector { id: 0, len: 0 },
                norm: net.norm((n_head * d_head) as usize),
            };
            let (heads, xbc, inner) = (n_head as usize, m.d_xbc() as usize, m.d_inner() as usize);
            m.conv_w = net.vector(xbc * d_conv as usize, |r| r.f32() - 0.5);
            m.conv_b = net.vector(xbc, |r| r.f32() - 0.5);
            // Some heads far in the linear branch of the softplus, some where it is an exponential.
            m.dt_bias = net.vector(heads, move |r| dt * (r.f32() - 0.4));
            m.a = net.vector(heads, |r| -(r.f32() * 4.0 - 2.0).exp() * wild.max(1.0));
            m.d = net.vector(heads, |r| r.f32() * 2.0 - 1.0);
            shape.n_recurrent = 1;
            shape.conv_len = (d_conv - 1) * m.d_xbc();
            shape.ssm_len = n_head * d_head * d_state;
            let cols = (m.d_proj() as usize).next_multiple_of(32);
            let first = inner + xbc;
            let input = net.scaled_activations("input", cols, |c| if c < first { 1.0 } else { wild });
            let p = net.buf(cols);
            let y = net.buf(inner.next_multiple_of(32));
            (Steps::Mamba { input, p, m, y }, y, inner)
        }
        &Op::Attend {
            n_head,
            n_head_kv,
            d_head,
            kv,
        } => {
            let a = Attention {
                slot: 0,
                n_head,
                n_head_kv,
                d_head,
                scale: 0.3 / (d_head as f32).sqrt(),
            };
            shape.n_attention = 1;
            shape.kv_len = n_head_kv * d_head;
            shape.kv_type = kv;
            let (q, kv) = ((n_head * d_head) as usize, (n_head_kv * d_head) as usize);
            let cols = (q + 2 * kv).next_multiple_of(32);
            let (input, qkv) = (net.activations("input", cols), net.buf(cols));
            let y = net.buf(q.next_multiple_of(32));
            (Steps::Attend { input, qkv, a, y }, y, q)
        }
    };
    let (cols, row) = (width.next_multiple_of(32), (width + 1).next_multiple_of(32));
    let show = Show {
        one: net.rows("one", VOCAB, row, |_, c| if c == row - 1 { 1.0 } else { 0.0 }),
        copy: net.rows("copy", row, cols, |r, c| if r == c && r < width { 1.0 } else { 0.0 }),
        row: net.buf(row),
        norm: Norm {
            gamma: net.vector(row, |_| 1.0),
            eps: 1e-5,
        },
        head: net.rows("head", row, row, |r, c| if r == c { 1.0 } else { 0.0 }),
        width,
    };
    debug_assert!(out.n_cols as usize >= cols);
    (steps, show, shape)
}

fn record<B: Backend>(b: &mut B, steps: &Steps, show: &Show) {
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
async fn run<B: Backend>(mut b: B, cases: &[Case], again: bool) -> Vec<Shown> {
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
fn nmse(want: &Shown, got: &Shown, of: impl Fn(usize) -> bool) -> f64 {
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
fn judge(backend: &str, product: f64, cases: &[Case], want: &[Shown], got: &[Shown]) -> Vec<String> {
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
fn check(cases: &[Case], n_ubatch: u32, gpus: &[GpuOptions]) {
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

fn defaults() -> GpuOptions {
    GpuOptions {
        default_limits: true,
        ..Default::default()
    }
}

/// Bindings so small that tables and heads take many slabs.
fn small_bindings() -> GpuOptions {
    GpuOptions {
        max_binding: Some(160 << 10),
        ..defaults()
    }
}

fn case(n_cols: usize, op: Op) -> Case {
    let passes = vec![1, 2, 3, 7, 13, 33, UBATCH as usize];
    Case {
        op,
        n_cols,
        shown: passes.len(),
        passes,
    }
}

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

fn mamba(n_head: u32, d_head: u32, d_state: u32, n_group: u32, d_conv: u32, dt: f32) -> Op {
    Op::Mamba {
        n_head,
        d_head,
        d_state,
        n_group,
        d_conv,
        dt,
        wild: 1.0,
    }
}

/// Each form of the recurrence.
fn scans() -> Vec<GpuOptions> {
    [Scan::Sequential, Scan::Chunked, Scan::Auto]
        .map(|scan| GpuOptions { scan, ..defaults() })
        .into()
}

#[test]
fn mamba_layers() {
    let mut cases: Vec<Case> = [
        mamba(4, 64, 128, 1, 4, 4.0),
        mamba(8, 16, 64, 2, 4, 4.0),
        // dt past 20, where a softplus by its formula overflows in the end.
        mamba(8, 32, 16, 1, 4, 120.0),
        mamba(6, 40, 100, 3, 3, 30.0),
        mamba(3, 5, 7, 1, 2, 4.0),
        mamba(2, 33, 3, 2, 6, 4.0),
        mamba(2, 8, 8, 1, 1, 4.0),
    ]
    .map(|op| case(0, op))
    .into();
    // Batches and single tokens in every order: each hands its state to the other.
    for case in &mut cases {
        case.passes = vec![1, 1, 5, 1, 2, 33, 1, 1, 1, 1, 17, 3, 48, 1];
        case.shown = case.passes.len();
    }
    check(&cases, UBATCH, &scans());
}

/// Batches of several chunks of the recurrence, whole and broken ones; every width of the state that has a kernel.
#[test]
fn mamba_chunks() {
    let mut cases: Vec<Case> = [
        mamba(4, 64, 128, 1, 4, 4.0),
        mamba(2, 80, 256, 2, 4, 1.0),
        mamba(4, 32, 64, 2, 4, 4.0),
        mamba(6, 40, 100, 3, 3, 30.0),
        mamba(3, 5, 1, 1, 4, 4.0),
        mamba(2, 33, 16, 1, 2, 0.0),
        // dt of almost nothing: the state keeps all.
        mamba(2, 16, 16, 1, 4, -40.0),
    ]
    .map(|op| case(0, op))
    .into();
    for case in &mut cases {
        case.passes = vec![64, 1, 63, 65, 2, 128, 200, 17, 129, 1, 200];
        case.shown = case.passes.len();
    }
    check(&cases, 200, &scans());
}

/// Tokens with a dt of 100 and a decay of e^-1000 beside tokens with a dt of e^-50, in the same chunk and head: what a difference of
/// running sums would get wrong.
#[test]
fn mamba_wild_decays() {
    let mut cases: Vec<Case> = [3.0f32, 30.0, 100.0]
        .into_iter()
        .flat_map(|wild| {
            [(4, 64, 128, 1), (4, 20, 16, 2)].map(|(n_head, d_head, d_state, n_group)| Op::Mamba {
                n_head,
                d_head,
                d_state,
                n_group,
                d_conv: 4,
                dt: 4.0,
                wild,
            })
        })
        .map(|op| case(0, op))
        .collect();
    for case in &mut cases {
        case.passes = vec![130, 1, 64, 130, 3];
        case.shown = case.passes.len();
    }
    check(&cases, 130, &scans());
}

#[test]
fn attention_layers() {
    let stored = |n_head, n_head_kv, d_head, kv| Op::Attend {
        n_head,
        n_head_kv,
        d_head,
        kv,
    };
    let attend = |n_head, n_head_kv, d_head| stored(n_head, n_head_kv, d_head, KvType::F32);
    let mut cases: Vec<Case> = [
        attend(4, 1, 64),
        attend(8, 2, 32),
        attend(3, 3, 4),
        attend(5, 1, 12),
        attend(10, 2, 20),
        attend(2, 2, 128),
        attend(2, 1, 260),
        attend(40, 1, 8),
        stored(8, 2, 32, KvType::F16),
        stored(8, 2, 64, KvType::Q8_0),
        // Rows of 36 and 4 elements: the last block is short.
        stored(6, 3, 12, KvType::Q8_0),
        stored(2, 1, 4, KvType::Q8_0),
    ]
    .map(|op| case(0, op))
    .into();
    for case in &mut cases {
        case.passes = vec![1, 1, 5, 48, 1, 48, 48, 48, 48, 33, 1, 1];
        case.shown = case.passes.len();
    }
    // Each key/value head by itself from the 60th key on.
    let apart = GpuOptions { far: 60, ..defaults() };
    check(&cases, UBATCH, &[defaults(), apart]);
}

/// Past 1024 and 2048 tokens the cache moves to larger buffers, and a single token's context is split over workgroups.
#[test]
fn the_cache_grows() {
    let cases = KvType::ALL.map(|kv| Case {
        op: Op::Attend {
            n_head: 2,
            n_head_kv: 1,
            d_head: 8,
            kv,
        },
        n_cols: 0,
        passes: [[256; 4].as_slice(), &[1, 2, 1], &[256; 4], &[1, 1, 40, 1]].concat(),
        shown: 3,
    });
    check(&cases, 256, &[defaults()]);
}

/// Keys of one layer in f16 fill the default limit of a binding to the last byte, and a token's context is split into 64 spans. All keys
/// but the token's own are zeros, so what comes out is its value over the sum of the weights.
#[test]
fn a_context_of_128k_tokens() {
    let n_ctx = 1 << 17;
    let case = case(
        0,
        Op::Attend {
            n_head: 8,
            n_head_kv: 8,
            d_head: 64,
            kv: KvType::F16,
        },
    );
    let options = GpuOptions {
        n_ubatch: 2,
        ..defaults()
    };
    let Some(mut gpu) = common::gpu::open(options) else { return };
    let mut net = Net {
        b: &mut gpu,
        prefix: "blk.0".into(),
        rng: Rng::with_seed(1),
        mats: Vec::new(),
        vectors: Vec::new(),
    };
    let (steps, show, mut shape) = declare(&mut net, &case);
    shape.n_ctx = n_ctx;
    let (mats, vectors) = (net.mats, net.vectors);
    for (mat, bytes) in &mats {
        gpu.write_matrix(*mat, 0, bytes).expect("written");
    }
    for (v, values) in &vectors {
        gpu.write_vector(*v, values).expect("written");
    }
    let of = |bytes: &[u8], i: usize| f32::from_le_bytes(bytes[i * 4..i * 4 + 4].try_into().unwrap());
    pollster::block_on(async {
        gpu.finish_loading().await.expect("loaded");
        let mut state = gpu.new_state(&shape).expect("a state");
        let pass = Pass {
            ids: &[5],
            pos: n_ctx - 1,
            want: Want::AllLogits,
        };
        let mut logits = Vec::new();
        if gpu.begin(&mut state, &pass).expect("begun") {
            record(&mut gpu, &steps, &show);
        }
        gpu.end(&mut state, &pass, &mut logits).await.expect("a pass");
        let (one, input) = (logits[logits.len() - 1] as f64, &mats[0].1);
        let row = |i: usize| of(input, 5 * 1536 + i) as f64;
        for (i, &got) in logits[..512].iter().enumerate() {
            let head = i / 64 * 64;
            let dot: f64 = (head..head + 64).map(|j| row(j) * row(512 + j)).sum();
            let weight = (dot * 0.3 / 8.0).exp();
            let want = weight * row(1024 + i) / (n_ctx as f64 - 1.0 + weight);
            let got = got as f64 / one;
            assert!((want - got).abs() < 1e-3 * want.abs() + 1e-9, "{i}: {want:e}, {got:e}");
        }
    });
}
