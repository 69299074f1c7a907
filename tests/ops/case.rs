//! What is run: an op with its shapes, and how it is declared on any backend.

use crate::common::blocks;
use fastrand::Rng;
use outcrop::backend::{Attention, Backend, Buf, KvType, Mamba, Mat, Norm, StateShape, Vector};
use outcrop::gguf::GgmlType;

/// Rows of every table; also ids.
pub const VOCAB: usize = 61;
/// Most tokens in a pass of the products' cases.
pub const UBATCH: u32 = 48;
/// Of what f32 sums of a few hundred terms may differ from f64 ones: error power over signal power.
pub const PRODUCT: f64 = 1e-11;
/// What rounding activations to 8 bits costs: steps of a 127th of the largest of 256, so 5e-5 where that is three deviations.
pub const ROUNDED: f64 = 2e-4;
/// What rounding both factors to 11 bits costs, at most: 2^-22 / 3 of the power of each, and twice that where two products are multiplied.
pub const HALVES: f64 = 3.2e-7;
/// After exponentials, a recurrence or a softmax.
pub const MIXER: f64 = 1e-10;

#[derive(Debug, Clone)]
pub enum Op {
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
pub struct Case {
    pub op: Op,
    /// Width of the activations that the op reads.
    pub n_cols: usize,
    /// Tokens of each pass; only the last `shown` passes are looked at.
    pub passes: Vec<usize>,
    pub shown: usize,
}

/// What a case leaves: `[tokens, width]`.
pub struct Shown {
    pub values: Vec<f32>,
    pub width: usize,
}

/// Declares, remembers what to write, writes it.
pub struct Net<'a, B> {
    pub b: &'a mut B,
    pub prefix: String,
    pub rng: Rng,
    pub mats: Vec<(Mat, Vec<u8>)>,
    pub vectors: Vec<(Vector, Vec<f32>)>,
}

impl<B: Backend> Net<'_, B> {
    pub fn mat(&mut self, name: &str, ty: GgmlType, n_rows: usize, n_cols: usize, bytes: Vec<u8>) -> Mat {
        let name = format!("{}.{name}.weight", self.prefix);
        let mat = self.b.matrix(&name, ty, n_rows as u32, n_cols as u32).expect("a matrix");
        self.mats.push((mat, bytes));
        mat
    }
    pub fn blocks(&mut self, name: &str, ty: GgmlType, n_rows: usize, n_cols: usize) -> Mat {
        let bytes = blocks::random(ty, n_rows, n_cols, &mut self.rng);
        self.mat(name, ty, n_rows, n_cols, bytes)
    }
    /// An F32 matrix by rule.
    pub fn rows(&mut self, name: &str, n_rows: usize, n_cols: usize, f: impl Fn(usize, usize) -> f32) -> Mat {
        let values: Vec<f32> = (0..n_rows * n_cols).map(|i| f(i / n_cols, i % n_cols)).collect();
        self.mat(name, GgmlType::F32, n_rows, n_cols, blocks::f32_rows(&values))
    }
    /// An embedding table of random activations.
    pub fn activations(&mut self, name: &str, n_cols: usize) -> Mat {
        self.scaled_activations(name, n_cols, |_| 1.0)
    }
    pub fn scaled_activations(&mut self, name: &str, n_cols: usize, scale: impl Fn(usize) -> f32) -> Mat {
        let mut rng = self.rng.fork();
        let values: Vec<f32> = (0..VOCAB * n_cols)
            .map(|i| (rng.f32() * 4.0 - 2.0) * scale(i % n_cols))
            .collect();
        self.mat(name, GgmlType::F32, VOCAB, n_cols, blocks::f32_rows(&values))
    }
    pub fn vector(&mut self, len: usize, f: impl Fn(&mut Rng) -> f32) -> Vector {
        let v = self.b.vector(&self.prefix, len as u32).expect("a vector");
        let values = (0..len).map(|_| f(&mut self.rng)).collect();
        self.vectors.push((v, values));
        v
    }
    pub fn norm(&mut self, len: usize) -> Norm {
        Norm {
            gamma: self.vector(len, |r| 0.5 + r.f32()),
            eps: 1e-5,
        }
    }
    pub fn buf(&mut self, n_cols: usize) -> Buf {
        self.b.buffer(n_cols as u32).expect("a buffer")
    }
}

/// A case's ops on handles.
pub enum Steps {
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
pub struct Show {
    pub one: Mat,
    pub copy: Mat,
    pub row: Buf,
    pub norm: Norm,
    pub head: Mat,
    pub width: usize,
}

pub fn declare<B: Backend>(net: &mut Net<B>, case: &Case) -> (Steps, Show, StateShape) {
    let d = case.n_cols;
    let mut shape = StateShape {
        n_ctx: case.passes.iter().sum::<usize>() as u32,
        ..StateShape::default()
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
