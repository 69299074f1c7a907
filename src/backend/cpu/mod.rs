//! The CPU backend: the file's weights, activations and state in plain vectors, one thread.
//!
//! [`CpuBackend`] owns the buffers and walks the ops; what it computes with is a [`Kernels`] table. [`Reference`] uses the plain
//! loops of [`reference`] and is the specification. [`Cpu`] overrides the hot ones with SIMD and must agree with it. Made with
//! [`Cpu::int8`] it rounds activations to 8 bits for the matrix products, as llama.cpp's CPU path does: several times as fast, and held to a
//! statistical bound.

pub mod reference;
pub mod kernels;
mod kv;
pub mod pool;
pub mod simd;
pub mod int8;
pub mod tiles;

use super::{Attention, Backend, Buf, Mamba, Mat, Norm, Pass, StateShape, Vector, Want};
use crate::{Error, Result, gguf::GgmlType};
use int8::activations::{Block32, Block256};
pub use kernels::Simd;
pub use kv::Kv;
pub use pool::Pool;
pub use reference::Plain;
use std::marker::PhantomData;

/// Plain loops: the oracle of every other backend.
pub type Reference = CpuBackend<Plain>;
/// SIMD kernels.
pub type Cpu = CpuBackend<Simd>;

/// A weight matrix in memory.
pub struct Matrix {
    /// Type of its blocks.
    pub ty: GgmlType,
    /// Output features.
    pub n_rows: usize,
    /// Input features.
    pub n_cols: usize,
    /// Whether rows are interleaved in [`tiles`].
    pub tiled: bool,
    /// Rows of blocks, as in the file; or tiles of them, the last one filled up with zeros.
    pub data: Vec<u8>,
}

impl Matrix {
    /// The blocks of row `r`; of a matrix that is not tiled.
    pub fn row(&self, r: usize) -> &[u8] {
        debug_assert!(!self.tiled);
        let bytes = self.ty.row_bytes(self.n_cols);
        &self.data[r * bytes..(r + 1) * bytes]
    }

    /// The blocks of row `r`, of any matrix; `scratch` is where they are put together.
    fn any_row<'a>(&'a self, r: usize, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        if !self.tiled {
            return self.row(r);
        }
        let bytes = self.ty.row_bytes(self.n_cols);
        let tile = &self.data[r / tiles::ROWS * tiles::ROWS * bytes..][..tiles::ROWS * bytes];
        scratch.resize(bytes, 0);
        tiles::unpack_row(self.ty, tile, r % tiles::ROWS, scratch);
        scratch
    }

    /// Takes bytes of the file's rows, `offset` bytes from the first; in order, without gaps. Rows become tiles as soon as eight are
    /// there.
    fn write(&mut self, offset: usize, bytes: &[u8], scratch: &mut Vec<u8>) {
        let end = offset + bytes.len();
        self.data[offset..end].copy_from_slice(bytes);
        if !self.tiled || bytes.is_empty() {
            return;
        }
        let row = self.ty.row_bytes(self.n_cols);
        let tile = tiles::ROWS * row;
        let last = if end == self.n_rows * row {
            self.data.len()
        } else {
            end / tile * tile
        };
        for tile in self.data[offset / tile * tile..last].chunks_exact_mut(tile) {
            tiles::pack(self.ty, tile, scratch);
        }
    }
}

/// Room for what a matrix product makes on its way.
#[derive(Default)]
pub struct Scratch {
    /// One dequantised row, `[widest n_cols]`.
    pub row: Vec<f32>,
    /// Activations in 8 bits, for the k-quants.
    pub blocks256: Vec<Block256>,
    /// The same for the quants of 32 columns.
    pub blocks32: Vec<Block32>,
}

/// State of one sequence.
#[derive(Default)]
pub struct State {
    /// Per recurrent layer `[d_conv - 1, d_xbc]`, oldest first.
    conv: Vec<Vec<f32>>,
    /// Per recurrent layer `[H, P, N]`.
    ssm: Vec<Vec<f32>>,
    /// Per attention layer, keys and values.
    kv: Vec<(Kv, Kv)>,
    kv_len: usize,
}

/// What a CPU backend computes with. Every method defaults to the specification in [`reference`], so the overrides in
/// [`kernels`] *are* the list of what is accelerated.
pub trait Kernels {
    /// Whether `matmul` wants matrices of this type in [`tiles`].
    fn is_tiled(_ty: GgmlType) -> bool {
        false
    }
    /// `y[t][col..col + n_rows] = W x[t]`. `x: [n, n_cols]`, `y: [n, y_stride]`.
    fn matmul(w: &Matrix, x: &[f32], y: &mut [f32], y_stride: usize, col: usize, scratch: &mut Scratch) {
        reference::matmul(w, x, y, y_stride, col, &mut scratch.row);
    }
    /// `y = x / sqrt(mean(x^2) + eps) * gamma`. All `[n_cols]`.
    fn rms_norm(x: &[f32], gamma: &[f32], eps: f32, y: &mut [f32]) {
        reference::rms_norm(x, gamma, eps, y);
    }
    /// One token of the causal convolution and SiLU; see [`reference::conv_silu`].
    fn conv_silu(state: &mut [f32], x: &[f32], w: &[f32], b: &[f32], y: &mut [f32]) {
        reference::conv_silu(state, x, w, b, y);
    }
    /// One token of one head's state update; see [`reference::ssm_update`].
    #[allow(clippy::too_many_arguments, reason = "the formula's letters")]
    fn ssm_update(s: &mut [f32], x: &[f32], dt: f32, a: f32, b: &[f32], c: &[f32], d: f32, y: &mut [f32]) {
        reference::ssm_update(s, x, dt, a, b, c, d, y);
    }
    /// `y = silu(y) * x`.
    fn silu_mul(y: &mut [f32], x: &[f32]) {
        reference::silu_mul(y, x);
    }
    /// One head of one token; see [`reference::attend_head`].
    #[allow(clippy::too_many_arguments, reason = "as the specification")]
    fn attend_head(
        q: &[f32],
        k: &Kv,
        v: &Kv,
        n: usize,
        stride: usize,
        first: usize,
        scale: f32,
        work: &mut Vec<f32>,
        y: &mut [f32],
    ) {
        reference::attend_head(q, k, v, n, stride, first, scale, work, y);
    }
}

/// A CPU backend over one table of kernels.
pub struct CpuBackend<K> {
    n_ubatch: usize,
    /// Activations are rounded to 8 bits where matrices can be tiled.
    int8: bool,
    mats: Vec<Matrix>,
    vectors: Vec<Vec<f32>>,
    bufs: Vec<Vec<f32>>,
    /// `[n_ubatch, widest normed row]`.
    normed: Vec<f32>,
    /// `[n_ubatch, widest second product]` of `swiglu` and `matmul_add`.
    product: Vec<f32>,
    scratch: Scratch,
    /// A tile or a row of blocks on its way into or out of `mats`.
    bytes: Vec<u8>,
    xbc: Vec<f32>,
    work: Vec<f32>,
    // the pass in progress
    live: State,
    ids: Vec<u32>,
    want: Want,
    logits: Vec<f32>,
    kernels: PhantomData<K>,
}

impl<K: Kernels> CpuBackend<K> {
    /// A backend for passes of up to `n_ubatch` tokens.
    pub fn new(n_ubatch: u32) -> Self {
        Self::with(n_ubatch, false)
    }

    fn with(n_ubatch: u32, int8: bool) -> Self {
        CpuBackend {
            n_ubatch: n_ubatch.max(1) as usize,
            int8,
            mats: Vec::new(),
            vectors: Vec::new(),
            bufs: Vec::new(),
            normed: Vec::new(),
            product: Vec::new(),
            scratch: Scratch::default(),
            bytes: Vec::new(),
            xbc: Vec::new(),
            work: Vec::new(),
            live: State::default(),
            ids: Vec::new(),
            want: Want::Nothing,
            logits: Vec::new(),
            kernels: PhantomData,
        }
    }

    /// What an activation buffer holds, `[n_ubatch, n_cols]`: for looking inside a pass.
    pub fn activations(&self, buf: Buf) -> &[f32] {
        &self.bufs[buf.id as usize]
    }

    /// Fills an activation buffer from its first row on.
    pub(crate) fn fill(&mut self, buf: Buf, values: &[f32]) {
        self.bufs[buf.id as usize][..values.len()].copy_from_slice(values);
    }

    /// The logits of the last pass that wanted any.
    pub(crate) fn last_logits(&self) -> &[f32] {
        &self.logits
    }

    /// Makes a fresh state one that has seen `n` tokens, of which nothing but zeros is left.
    pub(crate) fn skip(&self, state: &mut State, n: u32) {
        let zeros = vec![0.0; state.kv_len];
        for (k, v) in &mut state.kv {
            for _ in 0..n {
                k.push(&zeros);
                v.push(&zeros);
            }
        }
    }

    fn n(&self) -> usize {
        self.ids.len()
    }

    /// `self.normed[t] = rms(x[t])` for rows `first..first + n`.
    fn norm_rows(&mut self, x: Buf, norm: Norm, first: usize, n: usize) {
        let d = x.n_cols as usize;
        let xs = &self.bufs[x.id as usize];
        let gamma = &self.vectors[norm.gamma.id as usize];
        for t in 0..n {
            let row = &xs[(first + t) * d..(first + t + 1) * d];
            K::rms_norm(row, gamma, norm.eps, &mut self.normed[t * d..(t + 1) * d]);
        }
    }
}

impl Cpu {
    /// As [`Cpu::new`], with activations rounded to 8 bits for the products of [`tiles`].
    pub fn int8(n_ubatch: u32) -> Self {
        Self::with(n_ubatch, true)
    }
}

/// A zeroed vector, or an error where the allocator would have aborted.
fn zeroed<T: Clone + Default>(len: usize, what: &'static str) -> Result<Vec<T>> {
    let mut v = Vec::new();
    v.try_reserve_exact(len).map_err(|_| Error::OutOfMemory {
        what,
        bytes: (len * size_of::<T>()) as u64,
    })?;
    v.resize(len, T::default());
    Ok(v)
}

/// Makes scratch at least `len` long.
fn grow(v: &mut Vec<f32>, len: usize) -> Result<()> {
    if v.len() < len {
        *v = zeroed(len, "activations")?;
    }
    Ok(())
}

impl<K: Kernels> Backend for CpuBackend<K> {
    type State = State;

    fn matrix(&mut self, _name: &str, ty: GgmlType, n_rows: u32, n_cols: u32) -> Result<Mat> {
        let id = self.mats.len() as u32;
        let tiled = self.int8 && K::is_tiled(ty);
        let rows = (n_rows as usize).next_multiple_of(if tiled { tiles::ROWS } else { 1 });
        let data = zeroed(rows * ty.row_bytes(n_cols as usize), "weights")?;
        grow(&mut self.scratch.row, n_cols as usize)?;
        self.mats.push(Matrix {
            ty,
            n_rows: n_rows as usize,
            n_cols: n_cols as usize,
            tiled,
            data,
        });
        Ok(Mat { id, n_rows, n_cols, ty })
    }

    fn vector(&mut self, _name: &str, len: u32) -> Result<Vector> {
        self.vectors.push(zeroed(len as usize, "weights")?);
        Ok(Vector {
            id: self.vectors.len() as u32 - 1,
            len,
        })
    }

    fn buffer(&mut self, n_cols: u32) -> Result<Buf> {
        let len = self.n_ubatch * n_cols as usize;
        self.bufs.push(zeroed(len, "activations")?);
        grow(&mut self.normed, len)?;
        grow(&mut self.product, len)?;
        Ok(Buf {
            id: self.bufs.len() as u32 - 1,
            n_cols,
        })
    }

    fn write_matrix(&mut self, w: Mat, offset: u64, bytes: &[u8]) -> Result<()> {
        self.mats[w.id as usize].write(offset as usize, bytes, &mut self.bytes);
        Ok(())
    }

    fn write_vector(&mut self, v: Vector, values: &[f32]) -> Result<()> {
        self.vectors[v.id as usize].copy_from_slice(values);
        Ok(())
    }

    async fn finish_loading(&mut self) -> Result<()> {
        Ok(())
    }

    fn new_state(&mut self, shape: &StateShape) -> Result<State> {
        let layer = |n: u32, len: u32| (0..n).map(|_| zeroed(len as usize, "the state")).collect::<Result<Vec<_>>>();
        Ok(State {
            conv: layer(shape.n_recurrent, shape.conv_len)?,
            ssm: layer(shape.n_recurrent, shape.ssm_len)?,
            kv: (0..shape.n_attention)
                .map(|_| (Kv::new(shape.kv_type, shape.kv_len), Kv::new(shape.kv_type, shape.kv_len)))
                .collect(),
            kv_len: shape.kv_len as usize,
        })
    }

    fn reset_state(&mut self, state: &mut State) -> Result<()> {
        for v in state.conv.iter_mut().chain(&mut state.ssm) {
            v.fill(0.0);
        }
        for (k, v) in &mut state.kv {
            k.truncate(0);
            v.truncate(0);
        }
        Ok(())
    }

    fn n_ubatch(&self) -> u32 {
        self.n_ubatch as u32
    }

    fn begin(&mut self, state: &mut State, pass: &Pass) -> Result<bool> {
        let more = pass.ids.len() * state.kv_len;
        for (k, v) in &mut state.kv {
            k.truncate(pass.pos as usize * state.kv_len);
            v.truncate(pass.pos as usize * state.kv_len);
            if !k.try_reserve(more) || !v.try_reserve(more) {
                return Err(Error::OutOfMemory {
                    what: "the conversation's keys and values",
                    bytes: more as u64 * 8,
                });
            }
        }
        self.live = std::mem::take(state);
        self.ids.clear();
        self.ids.extend_from_slice(pass.ids);
        self.want = pass.want;
        Ok(true)
    }

    fn embed(&mut self, table: Mat, scale: f32, x: Buf) {
        let table = &self.mats[table.id as usize];
        let rows = self.bufs[x.id as usize].chunks_exact_mut(x.n_cols as usize);
        for (&id, row) in self.ids.iter().zip(rows) {
            let blocks = table.any_row(id as usize, &mut self.bytes);
            reference::embed(table.ty, blocks, scale, row);
        }
    }

    fn norm_matmul(&mut self, x: Buf, norm: Norm, ws: &[Mat], y: Buf) {
        let (n, d) = (self.n(), x.n_cols as usize);
        self.norm_rows(x, norm, 0, n);
        let mut col = 0;
        for w in ws {
            let (mat, out) = (&self.mats[w.id as usize], &mut self.bufs[y.id as usize]);
            K::matmul(mat, &self.normed[..n * d], out, y.n_cols as usize, col, &mut self.scratch);
            col += mat.n_rows;
        }
    }

    fn mamba_mix(&mut self, p: Buf, m: &Mamba, y: Buf) {
        let (n, p_cols, y_cols) = (self.n(), p.n_cols as usize, y.n_cols as usize);
        let (h, d_head, d_state, n_group) = (m.n_head as usize, m.d_head as usize, m.d_state as usize, m.n_group as usize);
        let (d_inner, d_xbc) = (m.d_inner() as usize, m.d_xbc() as usize);
        let v = |v: Vector| &self.vectors[v.id as usize];
        let (conv_w, conv_b, dt_bias, a, d, gamma) = (v(m.conv_w), v(m.conv_b), v(m.dt_bias), v(m.a), v(m.d), v(m.norm.gamma));
        self.xbc.resize(d_xbc, 0.0);
        self.work.resize(d_inner, 0.0);
        let (conv, ssm) = (&mut self.live.conv[m.slot as usize], &mut self.live.ssm[m.slot as usize]);
        for t in 0..n {
            let row = &self.bufs[p.id as usize][t * p_cols..][..m.d_proj() as usize];
            let (z, rest) = row.split_at(d_inner);
            let (xbc_in, dt) = rest.split_at(d_xbc);
            K::conv_silu(conv, xbc_in, conv_w, conv_b, &mut self.xbc);
            let (x, bc) = self.xbc.split_at(d_inner);
            let (b, c) = bc.split_at(n_group * d_state);
            for head in 0..h {
                let g = head / (h / n_group);
                K::ssm_update(
                    &mut ssm[head * d_head * d_state..][..d_head * d_state],
                    &x[head * d_head..][..d_head],
                    reference::softplus(dt[head] + dt_bias[head]),
                    a[head],
                    &b[g * d_state..][..d_state],
                    &c[g * d_state..][..d_state],
                    d[head],
                    &mut self.work[head * d_head..][..d_head],
                );
            }
            // Gate first, then norm (Mamba-2's norm_before_gate = false): g = silu(z) * y.
            let gated = &mut self.normed[..d_inner];
            gated.copy_from_slice(z);
            K::silu_mul(gated, &self.work);
            let out = &mut self.bufs[y.id as usize][t * y_cols..][..d_inner];
            let group = d_inner / n_group;
            for g in (0..d_inner).step_by(group) {
                K::rms_norm(&gated[g..][..group], &gamma[g..][..group], m.norm.eps, &mut out[g..][..group]);
            }
        }
    }

    fn attend(&mut self, qkv: Buf, a: &Attention, y: Buf) {
        let (n, d) = (self.n(), a.d_head as usize);
        let (q_len, kv_len) = (a.n_head as usize * d, a.n_head_kv as usize * d);
        let (keys, values) = &mut self.live.kv[a.slot as usize];
        for t in 0..n {
            let row = &self.bufs[qkv.id as usize][t * qkv.n_cols as usize..][..q_len + 2 * kv_len];
            let (q, kv) = row.split_at(q_len);
            keys.push(&kv[..kv_len]);
            values.push(&kv[kv_len..]);
            let seen = keys.len() / kv_len;
            let out = &mut self.normed[..q_len];
            for head in 0..a.n_head as usize {
                let first = head / (a.n_head / a.n_head_kv) as usize * d;
                let q = &q[head * d..][..d];
                K::attend_head(
                    q,
                    keys,
                    values,
                    seen,
                    kv_len,
                    first,
                    a.scale,
                    &mut self.work,
                    &mut out[head * d..][..d],
                );
            }
            self.bufs[y.id as usize][t * y.n_cols as usize..][..q_len].copy_from_slice(&self.normed[..q_len]);
        }
    }

    fn matmul_add(&mut self, w: Mat, y: Buf, scale: f32, x: Buf) {
        let n = self.n();
        let mat = &self.mats[w.id as usize];
        let product = &mut self.product[..n * mat.n_rows];
        if y.n_cols as usize == mat.n_cols {
            K::matmul(
                mat,
                &self.bufs[y.id as usize][..n * mat.n_cols],
                product,
                mat.n_rows,
                0,
                &mut self.scratch,
            );
        } else {
            for t in 0..n {
                let src = &self.bufs[y.id as usize][t * y.n_cols as usize..][..mat.n_cols];
                self.normed[t * mat.n_cols..][..mat.n_cols].copy_from_slice(src);
            }
            K::matmul(mat, &self.normed[..n * mat.n_cols], product, mat.n_rows, 0, &mut self.scratch);
        }
        for t in 0..n {
            let row = &mut self.bufs[x.id as usize][t * x.n_cols as usize..][..mat.n_rows];
            reference::add_scaled(row, scale, &product[t * mat.n_rows..][..mat.n_rows]);
        }
    }

    fn swiglu(&mut self, x: Buf, norm: Norm, gate: Mat, up: Mat, h: Buf) {
        let (n, d, n_ff) = (self.n(), x.n_cols as usize, gate.n_rows as usize);
        self.norm_rows(x, norm, 0, n);
        let (xs, hs) = (&self.normed[..n * d], &mut self.bufs[h.id as usize]);
        K::matmul(&self.mats[gate.id as usize], xs, hs, h.n_cols as usize, 0, &mut self.scratch);
        K::matmul(&self.mats[up.id as usize], xs, &mut self.product, n_ff, 0, &mut self.scratch);
        for t in 0..n {
            K::silu_mul(&mut hs[t * h.n_cols as usize..][..n_ff], &self.product[t * n_ff..][..n_ff]);
        }
    }

    fn pick(&mut self, x: Buf, norm: Norm, head: Mat, logit_scale: f32) {
        let (first, n) = match self.want {
            Want::Nothing | Want::Chosen(_) => return,
            Want::Token | Want::Logits => (self.n() - 1, 1),
            Want::AllLogits => (0, self.n()),
        };
        let d = x.n_cols as usize;
        self.norm_rows(x, norm, first, n);
        let mat = &self.mats[head.id as usize];
        self.logits.resize(n * mat.n_rows, 0.0);
        K::matmul(mat, &self.normed[..n * d], &mut self.logits, mat.n_rows, 0, &mut self.scratch);
        for l in &mut self.logits {
            *l /= logit_scale;
        }
    }

    async fn end(&mut self, state: &mut State, pass: &Pass<'_>, logits: &mut Vec<f32>) -> Result<Option<u32>> {
        *state = std::mem::take(&mut self.live);
        match pass.want {
            Want::Nothing | Want::Chosen(_) => Ok(None),
            Want::Token => reference::argmax(&self.logits).map(Some),
            Want::Logits | Want::AllLogits => {
                logits.clear();
                logits.extend_from_slice(&self.logits);
                Ok(None)
            }
        }
    }
}
