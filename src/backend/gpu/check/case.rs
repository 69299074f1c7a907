//! What a model asks of a device, in small: its ops with the same kernels on few rows.

use super::blocks::{self, Rng};
use crate::{
    Result,
    backend::{Attention, Backend, Buf, KvType, Mamba, Mat, Norm, StateShape, Vector},
    gguf::GgmlType,
};

/// Rows of a matrix: no multiple of anything.
const ROWS: u32 = 18;
/// Rows of a vocabulary: more than one workgroup of the argmax looks at.
pub(super) const VOCAB: u32 = 4096 + ROWS;
/// Key/value heads: enough to take the wrong one.
const KV_HEADS: u32 = 2;
/// Ids that the embedding is asked for are below this.
pub(super) const IDS: u32 = 24;

/// An op as a model uses it: what decides which kernels it takes.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) enum Case {
    Embed {
        ty: GgmlType,
        n_cols: u32,
    },
    NormMatmul {
        tys: Vec<GgmlType>,
        n_cols: u32,
    },
    MatmulAdd {
        ty: GgmlType,
        n_cols: u32,
    },
    Swiglu {
        gate: GgmlType,
        up: GgmlType,
        n_cols: u32,
    },
    /// With the product behind it, which may take over its norm.
    Mamba {
        m: Dims,
        out: GgmlType,
    },
    /// Query heads of a key/value head, and their length.
    Attend {
        group: u32,
        d_head: u32,
    },
    Pick {
        ty: GgmlType,
        n_cols: u32,
    },
}

/// The sizes of a Mamba layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct Dims {
    n_head: u32,
    d_head: u32,
    d_state: u32,
    n_group: u32,
    d_conv: u32,
}

/// The cases of a model, each once.
#[derive(Debug, Default)]
pub(in super::super) struct Cases {
    pub(super) list: Vec<Case>,
    /// A Mamba layer whose product is still to come, and where it leaves its result.
    mixed: Option<(Dims, Buf)>,
}

impl Cases {
    fn add(&mut self, case: Case) {
        if !self.list.contains(&case) {
            self.list.push(case);
        }
    }

    pub(in super::super) fn embed(&mut self, table: Mat) {
        self.add(Case::Embed {
            ty: table.ty,
            n_cols: table.n_cols,
        });
    }

    pub(in super::super) fn norm_matmul(&mut self, ws: &[Mat]) {
        self.add(Case::NormMatmul {
            tys: ws.iter().map(|w| w.ty).collect(),
            n_cols: ws[0].n_cols,
        });
    }

    pub(in super::super) fn mamba_mix(&mut self, m: &Mamba, y: Buf) {
        let dims = Dims {
            n_head: m.n_head,
            d_head: m.d_head,
            d_state: m.d_state,
            n_group: m.n_group,
            d_conv: m.d_conv,
        };
        self.mixed = Some((dims, y));
    }

    pub(in super::super) fn attend(&mut self, a: &Attention) {
        self.add(Case::Attend {
            group: a.n_head / a.n_head_kv.max(1),
            d_head: a.d_head,
        });
    }

    pub(in super::super) fn matmul_add(&mut self, w: Mat, y: Buf) {
        match self.mixed.take_if(|(_, at)| at.id == y.id) {
            Some((m, _)) => self.add(Case::Mamba { m, out: w.ty }),
            None => self.add(Case::MatmulAdd {
                ty: w.ty,
                n_cols: w.n_cols,
            }),
        }
    }

    pub(in super::super) fn swiglu(&mut self, gate: Mat, up: Mat) {
        self.add(Case::Swiglu {
            gate: gate.ty,
            up: up.ty,
            n_cols: gate.n_cols,
        });
    }

    pub(in super::super) fn pick(&mut self, head: Mat) {
        // The head of many rows is a product like any other.
        self.norm_matmul(&[head]);
        self.add(Case::Pick {
            ty: head.ty,
            n_cols: head.n_cols,
        });
    }

    /// A state with a layer for each case that needs one.
    pub(super) fn shape(&self, kv_type: KvType, n_ctx: u32) -> StateShape {
        let mut shape = StateShape {
            kv_type,
            n_ctx,
            ..StateShape::default()
        };
        for case in &self.list {
            match *case {
                Case::Mamba { m, .. } => {
                    shape.n_recurrent += 1;
                    shape.conv_len = shape.conv_len.max((m.d_conv - 1) * m.d_xbc());
                    shape.ssm_len = shape.ssm_len.max(m.n_head * m.d_head * m.d_state);
                }
                Case::Attend { d_head, .. } => {
                    shape.n_attention += 1;
                    shape.kv_len = shape.kv_len.max(KV_HEADS * d_head);
                }
                _ => {}
            }
        }
        shape
    }
}

impl Dims {
    fn d_inner(self) -> u32 {
        self.n_head * self.d_head
    }
    fn d_xbc(self) -> u32 {
        self.d_inner() + 2 * self.n_group * self.d_state
    }
    fn d_proj(self) -> u32 {
        self.d_inner() + self.d_xbc() + self.n_head
    }
}

/// A case's handles on a backend.
pub(super) enum Op {
    Embed { table: Mat, x: Buf },
    NormMatmul { x: Buf, norm: Norm, ws: Vec<Mat>, y: Buf },
    MatmulAdd { w: Mat, y: Buf, x: Buf },
    Swiglu { x: Buf, norm: Norm, gate: Mat, up: Mat, h: Buf },
    Mamba { p: Buf, m: Mamba, y: Buf, w: Mat, x: Buf },
    Attend { qkv: Buf, a: Attention, y: Buf },
    Pick { x: Buf, norm: Norm, head: Mat },
}

impl Op {
    pub(super) fn run<B: Backend>(&self, b: &mut B) {
        match self {
            Op::Embed { table, x } => b.embed(*table, 1.5, *x),
            Op::NormMatmul { x, norm, ws, y } => b.norm_matmul(*x, *norm, ws, *y),
            Op::MatmulAdd { w, y, x } => b.matmul_add(*w, *y, 0.25, *x),
            Op::Swiglu { x, norm, gate, up, h } => b.swiglu(*x, *norm, *gate, *up, *h),
            Op::Mamba { p, m, y, w, x } => {
                b.mamba_mix(*p, m, *y);
                b.matmul_add(*w, *y, 0.25, *x);
            }
            Op::Attend { qkv, a, y } => b.attend(*qkv, a, *y),
            Op::Pick { x, norm, head } => b.pick(*x, *norm, *head, 2.0),
        }
    }

    /// What must be filled before each pass, and with numbers of what size. A residual is small, so that faint rows show beside it.
    pub(super) fn inputs(&self) -> Vec<(Buf, f32)> {
        match self {
            Op::Embed { .. } => Vec::new(),
            Op::NormMatmul { x, .. } | Op::Swiglu { x, .. } | Op::Pick { x, .. } => vec![(*x, 1.0)],
            Op::MatmulAdd { y, x, .. } => vec![(*y, 1.0), (*x, 1e-3)],
            Op::Mamba { p, x, .. } => vec![(*p, 1.0), (*x, 1e-3)],
            Op::Attend { qkv, .. } => vec![(*qkv, 2.0)],
        }
    }

    /// Whether an element of the result, for token `id`, comes of faint weights.
    pub(super) fn is_faint(&self, id: u32, col: usize) -> bool {
        match self {
            Op::Embed { .. } => blocks::is_faint(id as usize),
            Op::Attend { .. } | Op::Pick { .. } => false,
            _ => blocks::is_faint(col % ROWS as usize),
        }
    }

    /// Where the result is. The head's is in the logits.
    pub(super) fn output(&self) -> Option<Buf> {
        match self {
            Op::NormMatmul { y, .. } | Op::Attend { y, .. } => Some(*y),
            Op::MatmulAdd { x, .. } | Op::Mamba { x, .. } | Op::Embed { x, .. } => Some(*x),
            Op::Swiglu { h, .. } => Some(*h),
            Op::Pick { .. } => None,
        }
    }
}

/// Declares the cases on a backend and writes their weights: the same on every backend. Returns one op a case.
pub(super) fn declare<B: Backend>(cases: &[Case], b: &mut B) -> Result<Vec<Op>> {
    let mut net = Net {
        b,
        rng: Rng::new(1),
        mats: Vec::new(),
        vectors: Vec::new(),
        n_recurrent: 0,
        n_attention: 0,
    };
    let ops = cases
        .iter()
        .enumerate()
        .map(|(i, case)| net.op(i, case))
        .collect::<Result<_>>()?;
    let Net { b, mats, vectors, .. } = net;
    for (mat, bytes) in mats {
        b.write_matrix(mat, 0, &bytes)?;
    }
    for (vector, values) in vectors {
        b.write_vector(vector, &values)?;
    }
    Ok(ops)
}

struct Net<'a, B> {
    b: &'a mut B,
    rng: Rng,
    mats: Vec<(Mat, Vec<u8>)>,
    vectors: Vec<(Vector, Vec<f32>)>,
    n_recurrent: u32,
    n_attention: u32,
}

impl<B: Backend> Net<'_, B> {
    /// Matrices of one case are neighbours, as those of a layer are.
    fn mat(&mut self, case: usize, ty: GgmlType, n_rows: u32, n_cols: u32) -> Result<Mat> {
        let mat = self.b.matrix(&format!("blk.{case}.check"), ty, n_rows, n_cols)?;
        // A vocabulary is zero but for its last rows.
        let zeros = if n_rows == VOCAB { VOCAB - 2 * ROWS } else { 0 };
        let mut bytes = vec![0; zeros as usize * ty.row_bytes(n_cols as usize)];
        bytes.extend(blocks::rows(ty, n_rows - zeros, n_cols, &mut self.rng));
        self.mats.push((mat, bytes));
        Ok(mat)
    }

    fn vector(&mut self, len: u32, low: f32, high: f32) -> Result<Vector> {
        let vector = self.b.vector("check", len)?;
        let values = (0..len).map(|_| self.rng.between(low, high)).collect();
        self.vectors.push((vector, values));
        Ok(vector)
    }

    fn norm(&mut self, len: u32) -> Result<Norm> {
        Ok(Norm {
            gamma: self.vector(len, 0.5, 1.5)?,
            eps: 1e-5,
        })
    }

    fn op(&mut self, i: usize, case: &Case) -> Result<Op> {
        Ok(match *case {
            Case::Embed { ty, n_cols } => Op::Embed {
                table: self.mat(i, ty, IDS, n_cols)?,
                x: self.b.buffer(n_cols)?,
            },
            Case::NormMatmul { ref tys, n_cols } => Op::NormMatmul {
                x: self.b.buffer(n_cols)?,
                norm: self.norm(n_cols)?,
                ws: tys.iter().map(|&ty| self.mat(i, ty, ROWS, n_cols)).collect::<Result<_>>()?,
                y: self.b.buffer(ROWS * tys.len() as u32)?,
            },
            Case::MatmulAdd { ty, n_cols } => Op::MatmulAdd {
                w: self.mat(i, ty, ROWS, n_cols)?,
                y: self.b.buffer(n_cols)?,
                x: self.b.buffer(ROWS)?,
            },
            Case::Swiglu { gate, up, n_cols } => Op::Swiglu {
                x: self.b.buffer(n_cols)?,
                norm: self.norm(n_cols)?,
                gate: self.mat(i, gate, ROWS, n_cols)?,
                up: self.mat(i, up, ROWS, n_cols)?,
                h: self.b.buffer(ROWS)?,
            },
            Case::Mamba { m, out } => self.mamba(i, m, out)?,
            Case::Attend { group, d_head } => {
                self.n_attention += 1;
                let n_head_kv = KV_HEADS;
                let n_head = group * n_head_kv;
                Op::Attend {
                    qkv: self.b.buffer((n_head + 2 * n_head_kv) * d_head)?,
                    a: Attention {
                        slot: self.n_attention - 1,
                        n_head,
                        n_head_kv,
                        d_head,
                        scale: 1.0 / (d_head as f32).sqrt(),
                    },
                    y: self.b.buffer(n_head * d_head)?,
                }
            }
            Case::Pick { ty, n_cols } => Op::Pick {
                x: self.b.buffer(n_cols)?,
                norm: self.norm(n_cols)?,
                head: self.mat(i, ty, VOCAB, n_cols)?,
            },
        })
    }

    fn mamba(&mut self, i: usize, m: Dims, out: GgmlType) -> Result<Op> {
        self.n_recurrent += 1;
        Ok(Op::Mamba {
            p: self.b.buffer(m.d_proj())?,
            m: Mamba {
                slot: self.n_recurrent - 1,
                n_head: m.n_head,
                d_head: m.d_head,
                d_state: m.d_state,
                n_group: m.n_group,
                d_conv: m.d_conv,
                conv_w: self.vector(m.d_xbc() * m.d_conv, -0.5, 0.5)?,
                conv_b: self.vector(m.d_xbc(), -0.5, 0.5)?,
                dt_bias: self.vector(m.n_head, -2.0, 2.0)?,
                a: self.vector(m.n_head, -2.0, -0.1)?,
                d: self.vector(m.n_head, -1.0, 1.0)?,
                norm: self.norm(m.d_inner())?,
            },
            y: self.b.buffer(m.d_inner())?,
            w: self.mat(i, out, ROWS, m.d_inner())?,
            x: self.b.buffer(ROWS)?,
        })
    }
}
