//! The ops that multiply by weights: what they read is prepared once, split by token; the products are split by row.

use super::{
    CpuBackend,
    int8::activations::{Block32, Block256},
    kernels::Kernels,
    matrix::Matrix,
    pool::Pool,
    reserve,
    share::{Shared, part, part_of_units},
    tiles,
};
use crate::{
    Result,
    backend::{Buf, Mat, Norm, Want},
    gguf::GgmlType,
};
use std::ops::Range;

/// What products read: rows of floats, and the same in 8 bits.
#[derive(Default)]
pub struct Inputs {
    /// `[n_ubatch, widest row]`.
    pub(super) floats: Vec<f32>,
    blocks256: Vec<Block256>,
    blocks32: Vec<Block32>,
    n: usize,
}

impl Inputs {
    /// `[n, n_cols]`.
    pub fn rows(&self, n_cols: usize) -> &[f32] {
        &self.floats[..self.n * n_cols]
    }

    /// The rows for k-quants, `[n, n_cols / 256]`.
    pub fn blocks256(&self, n_cols: usize) -> &[Block256] {
        &self.blocks256[..self.n * n_cols / 256]
    }

    /// The rows for Q8_0 and Q4_0, `[n, n_cols / 32]`.
    pub fn blocks32(&self, n_cols: usize) -> &[Block32] {
        &self.blocks32[..self.n * n_cols / 32]
    }

    /// Room for `n` rows rounded for a matrix of type `ty`.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub(super) fn reserve(&mut self, ty: GgmlType, n: u64, n_cols: u64) -> Result<()> {
        match ty {
            GgmlType::Q8_0 | GgmlType::Q4_0 => reserve(&mut self.blocks32, n * n_cols / 32),
            _ => reserve(&mut self.blocks256, n * n_cols / 256),
        }
    }

    /// Rows that `fill` writes, rounded for the types that `ws` have.
    fn prepare<'a>(
        &mut self,
        pool: &Pool,
        n: usize,
        n_cols: usize,
        ws: impl Iterator<Item = &'a Matrix>,
        fill: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let (mut k, mut simple) = (false, false);
        for w in ws.filter(|w| w.tiled) {
            match w.ty {
                GgmlType::Q8_0 | GgmlType::Q4_0 => simple = true,
                _ => k = true,
            }
        }
        self.n = n;
        let rows = Shared::new(&mut self.floats[..n * n_cols]);
        let n256 = if k { n_cols / 256 } else { 0 };
        let n32 = if simple { n_cols / 32 } else { 0 };
        let blocks256 = Shared::new(&mut self.blocks256[..n * n256]);
        let blocks32 = Shared::new(&mut self.blocks32[..n * n32]);
        for_tokens(pool, n, |t| {
            // SAFETY: a token has its own parts.
            let (row, q256, q32) = unsafe {
                (
                    rows.part(t * n_cols, n_cols),
                    blocks256.part(t * n256, n256),
                    blocks32.part(t * n32, n32),
                )
            };
            fill(t, row);
            for (block, x) in q256.iter_mut().zip(row.as_chunks().0) {
                block.quantize(x);
            }
            for (block, x) in q32.iter_mut().zip(row.as_chunks().0) {
                block.quantize(x);
            }
        });
    }
}

/// `f(t)` for every token, split by token. One alone is not worth waking anybody for.
pub(super) fn for_tokens(pool: &Pool, n: usize, f: impl Fn(usize) + Sync) {
    if n == 1 {
        return f(0);
    }
    let n_threads = pool.n_threads();
    pool.run(|i| part(n, i, n_threads).for_each(&f));
}

/// What becomes of a product.
#[derive(Clone, Copy)]
pub enum Then {
    /// Stored.
    Store,
    /// Added, times this.
    AddScaled(f32),
    /// Stored, divided by this.
    Divide(f32),
}

/// Where products go: `y[t * stride + col + row]`.
#[derive(Clone, Copy)]
pub struct Output<'a> {
    /// `[n, stride]`.
    pub y: Shared<'a, f32>,
    /// Length of a token's row.
    pub stride: usize,
    /// Of the first product in it.
    pub col: usize,
    /// What becomes of them.
    pub then: Then,
}

impl Output<'_> {
    /// Products of token `t` with the rows from `row` on.
    ///
    /// # Safety
    /// Nobody else may have them.
    #[inline(always)]
    pub unsafe fn put(&self, t: usize, row: usize, values: &[f32]) {
        // SAFETY: the same contract.
        let y = unsafe { self.y.part(t * self.stride + self.col + row, values.len()) };
        match self.then {
            Then::Store => y.copy_from_slice(values),
            Then::AddScaled(scale) => y.iter_mut().zip(values).for_each(|(y, v)| *y += scale * v),
            Then::Divide(by) => y.iter_mut().zip(values).for_each(|(y, v)| *y = v / by),
        }
    }
}

impl<K: Kernels> CpuBackend<K> {
    /// `inputs[t] = rms(x[first + t])` for `n` tokens.
    fn prepare_normed(&mut self, x: Buf, norm: Norm, first: usize, n: usize, ws: &[Mat]) {
        let d = x.n_cols as usize;
        let xs = &self.bufs[x.id as usize][first * d..];
        let gamma = &self.vectors[norm.gamma.id as usize];
        let mats = ws.iter().map(|w| &self.mats[w.id as usize]);
        self.inputs.prepare(&self.pool, n, d, mats, |t, row| {
            K::rms_norm(&xs[t * d..][..d], gamma, norm.eps, row)
        });
    }

    /// See [`crate::backend::Backend::norm_matmul`].
    pub(super) fn normed_products(&mut self, x: Buf, norm: Norm, ws: &[Mat], y: Buf) {
        self.prepare_normed(x, norm, 0, self.n(), ws);
        let (mats, inputs) = (&self.mats, &self.inputs);
        let y_values = Shared::new(&mut self.bufs[y.id as usize]);
        on_rows(&self.pool, &mut self.row, |share| {
            let mut col = 0;
            for w in ws {
                let out = Output {
                    y: y_values,
                    stride: y.n_cols as usize,
                    col,
                    then: Then::Store,
                };
                share.products::<K>(&mats[w.id as usize], inputs, &out);
                col += w.n_rows as usize;
            }
        });
    }

    /// See [`crate::backend::Backend::matmul_add`].
    pub(super) fn added_products(&mut self, w: Mat, y: Buf, scale: f32, x: Buf) {
        let (mat, n, n_cols) = (&self.mats[w.id as usize], self.n(), w.n_cols as usize);
        let ys = &self.bufs[y.id as usize];
        self.inputs.prepare(&self.pool, n, n_cols, std::iter::once(mat), |t, row| {
            row.copy_from_slice(&ys[t * y.n_cols as usize..][..n_cols]);
        });
        let inputs = &self.inputs;
        let out = Output {
            y: Shared::new(&mut self.bufs[x.id as usize]),
            stride: x.n_cols as usize,
            col: 0,
            then: Then::AddScaled(scale),
        };
        on_rows(&self.pool, &mut self.row, |share| share.products::<K>(mat, inputs, &out));
    }

    /// See [`crate::backend::Backend::swiglu`].
    pub(super) fn gated_products(&mut self, x: Buf, norm: Norm, gate: Mat, up: Mat, h: Buf) {
        let (n, n_ff, h_cols) = (self.n(), gate.n_rows as usize, h.n_cols as usize);
        self.prepare_normed(x, norm, 0, n, &[gate, up]);
        let (gate, up, inputs) = (&self.mats[gate.id as usize], &self.mats[up.id as usize], &self.inputs);
        let gated = Output {
            y: Shared::new(&mut self.bufs[h.id as usize]),
            stride: h_cols,
            col: 0,
            then: Then::Store,
        };
        let product = Output {
            y: Shared::new(&mut self.product),
            stride: n_ff,
            ..gated
        };
        on_rows(&self.pool, &mut self.row, |share| {
            share.products::<K>(gate, inputs, &gated);
            share.products::<K>(up, inputs, &product);
            let rows = share.rows(n_ff);
            for t in 0..n {
                // SAFETY: a participant's own rows, as above.
                let (h, x) = unsafe {
                    (
                        gated.y.part(t * h_cols + rows.start, rows.len()),
                        product.y.part(t * n_ff + rows.start, rows.len()),
                    )
                };
                K::silu_mul(h, x);
            }
        });
    }

    /// See [`crate::backend::Backend::pick`].
    pub(super) fn head_products(&mut self, x: Buf, norm: Norm, head: Mat, logit_scale: f32) {
        let (first, n) = match self.want {
            Want::Nothing | Want::Chosen(_) => return,
            Want::Token | Want::Logits => (self.n() - 1, 1),
            Want::AllLogits => (0, self.n()),
        };
        self.prepare_normed(x, norm, first, n, &[head]);
        let (mat, inputs) = (&self.mats[head.id as usize], &self.inputs);
        self.logits.resize(n * mat.n_rows, 0.0); // there is room: `begin`
        let out = Output {
            y: Shared::new(&mut self.logits),
            stride: mat.n_rows,
            col: 0,
            then: Then::Divide(logit_scale),
        };
        on_rows(&self.pool, &mut self.row, |share| share.products::<K>(mat, inputs, &out));
    }
}

/// A participant's share of products: the same part of every matrix's rows.
struct Share<'a> {
    i: usize,
    n_threads: usize,
    row: &'a mut [f32],
}

impl Share<'_> {
    fn rows(&self, n_rows: usize) -> Range<usize> {
        part_of_units(n_rows, tiles::ROWS, self.i, self.n_threads)
    }

    fn products<K: Kernels>(&mut self, w: &Matrix, inputs: &Inputs, out: &Output) {
        // SAFETY: `on_rows` makes one share for each participant, and rows are split between them.
        unsafe { K::matmul(w, inputs, self.rows(w.n_rows), out, self.row) }
    }
}

/// `f` of each participant's share. `scratch`: a row for each.
fn on_rows(pool: &Pool, scratch: &mut [f32], f: impl Fn(&mut Share) + Sync) {
    let n_threads = pool.n_threads();
    let width = scratch.len() / n_threads;
    let scratch = Shared::new(scratch);
    pool.run(|i| {
        // SAFETY: a participant has its own.
        let row = unsafe { scratch.part(i * width, width) };
        f(&mut Share { i, n_threads, row });
    });
}
