//! The CPU backend: the file's weights, activations and state in plain vectors, work split over a [`Pool`].
//!
//! [`CpuBackend`] owns the buffers; `products` and `mixers` walk the ops, a whole batch at a time, and cut each into parts. What they
//! compute with is a [`Kernels`] table. [`Reference`] uses the plain loops of [`reference`] and is the specification. [`Cpu`] overrides
//! the hot ones with SIMD and must agree with it. Made with [`Cpu::int8`] it rounds activations to 8 bits for the matrix products, as
//! llama.cpp's CPU path does: several times as fast, and held to a statistical bound.
//!
//! Results have the same bits for any number of threads, for a token alone as in a batch, and in every build.

mod bandwidth;
pub mod reference;
pub mod kernels;
pub mod rows;
mod kv;
mod matrix;
mod mixers;
pub mod pool;
pub mod products;
mod share;
mod state;
pub mod simd;
pub mod int8;
pub mod tiles;

use super::{Attention, Backend, Buf, Mamba, Mat, Norm, Pass, StateShape, Vector, Want};
use crate::{Error, Result, gguf::GgmlType};
pub use kernels::{Kernels, Simd};
pub use kv::Kv;
pub use matrix::Matrix;
use matrix::{room, zeroed};
pub use pool::Pool;
use products::Inputs;
pub use reference::Plain;
pub use state::State;
use std::marker::PhantomData;

/// Plain loops: the oracle of every other backend.
pub type Reference = CpuBackend<Plain>;
/// SIMD kernels.
pub type Cpu = CpuBackend<Simd>;
/// The same without this processor's own instructions for the integer kernels: what [`Cpu`] is where they are missing.
pub type PortableCpu = CpuBackend<Simd<true>>;

/// A CPU backend over one table of kernels.
pub struct CpuBackend<K> {
    n_ubatch: usize,
    /// Activations are rounded to 8 bits where matrices can be tiled.
    int8: bool,
    pool: Pool,
    mats: Vec<Matrix>,
    vectors: Vec<Vec<f32>>,
    bufs: Vec<Vec<f32>>,
    inputs: Inputs,
    /// `[n_ubatch, widest second product]` of `swiglu`.
    product: Vec<f32>,
    /// A dequantised row of each participant.
    row: Vec<f32>,
    /// What each participant of a mixer makes on its way.
    work: Vec<f32>,
    /// A tile or a row of blocks on its way into or out of `mats`.
    bytes: Vec<u8>,
    /// Rows of the tallest matrix, at least those of a head.
    most_rows: usize,
    /// Columns of the widest activations, and of the widest matrix.
    most_cols: usize,
    // the pass in progress
    live: State,
    ids: Vec<u32>,
    want: Want,
    logits: Vec<f32>,
    kernels: PhantomData<K>,
}

impl<K: Kernels> CpuBackend<K> {
    /// A backend for passes of up to `n_ubatch` tokens, on the caller's thread.
    pub fn new(n_ubatch: u32) -> Self {
        Self::with(n_ubatch, false)
    }

    fn with(n_ubatch: u32, int8: bool) -> Self {
        CpuBackend {
            n_ubatch: n_ubatch.max(1) as usize,
            int8,
            pool: Pool::inline(),
            mats: Vec::new(),
            vectors: Vec::new(),
            bufs: Vec::new(),
            inputs: Inputs::default(),
            product: Vec::new(),
            row: Vec::new(),
            work: Vec::new(),
            bytes: Vec::new(),
            most_rows: 0,
            most_cols: 0,
            live: State::default(),
            ids: Vec::new(),
            want: Want::Nothing,
            logits: Vec::new(),
            kernels: PhantomData,
        }
    }

    /// The same, its next passes split over `pool`.
    pub fn with_pool(mut self, pool: Pool) -> Self {
        self.pool = pool;
        self
    }

    /// Threads that share a pass.
    pub fn n_threads(&self) -> usize {
        self.pool.n_threads()
    }

    /// What an activation buffer holds, `[n_ubatch, n_cols]`: for looking inside a pass.
    pub fn activations(&self, buf: Buf) -> &[f32] {
        &self.bufs[buf.id as usize]
    }

    /// Fills an activation buffer from its first row on.
    #[cfg(feature = "webgpu")]
    pub(crate) fn fill(&mut self, buf: Buf, values: &[f32]) {
        self.bufs[buf.id as usize][..values.len()].copy_from_slice(values);
    }

    /// The logits of the last pass that wanted any.
    #[cfg(feature = "webgpu")]
    pub(crate) fn last_logits(&self) -> &[f32] {
        &self.logits
    }

    /// Makes a fresh state one that has seen `n` tokens, of which nothing but zeros is left.
    pub(crate) fn skip(&self, state: &mut State, n: u32) {
        state.skip(n);
    }

    fn n(&self) -> usize {
        self.ids.len()
    }
}

impl<const PORTABLE: bool> CpuBackend<Simd<PORTABLE>> {
    /// As [`Cpu::new`], with activations rounded to 8 bits for the products of [`tiles`].
    pub fn int8(n_ubatch: u32) -> Self {
        Self::with_activations(n_ubatch, Activations::Int8)
    }

    /// As [`Cpu::new`] or [`Cpu::int8`].
    pub fn with_activations(n_ubatch: u32, activations: Activations) -> Self {
        Self::with(n_ubatch, activations == Activations::Int8)
    }
}

/// What matrix products multiply weights with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Activations {
    /// Rounded to 8 bits, as llama.cpp's CPU path does, and several times as fast.
    #[default]
    Int8,
    /// As they are.
    F32,
}

impl Activations {
    /// What a caller asks for by name, or by saying nothing; `None` for other names.
    pub fn asked(name: Option<&str>) -> Option<Activations> {
        match name {
            None => Some(Activations::default()),
            Some("int8") => Some(Activations::Int8),
            Some("f32") => Some(Activations::F32),
            Some(_) => None,
        }
    }
}

/// Makes scratch at least `len` long, in the middle of a pass, within what [`Backend::begin`] made room for.
fn grow(v: &mut Vec<f32>, len: usize) {
    debug_assert!(len <= v.capacity(), "no room was made for {len} floats of scratch");
    if v.len() < len {
        v.resize(len, 0.0);
    }
}

/// Makes scratch at least `len` long, while loading or before a pass.
fn reserve<T: Clone + Default>(v: &mut Vec<T>, len: u64) -> Result<()> {
    if (v.len() as u64) < len {
        *v = Vec::new(); // before there are two of them
        *v = zeroed(len, "activations")?;
    }
    Ok(())
}

impl<K: Kernels> Backend for CpuBackend<K> {
    type State = State;

    fn expect(&mut self, bytes: u64) -> Result<()> {
        match usize::try_from(bytes) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::OutOfMemory { what: "weights", bytes }),
        }
    }

    fn matrix(&mut self, _name: &str, ty: GgmlType, n_rows: u32, n_cols: u32) -> Result<Mat> {
        let id = self.mats.len() as u32;
        let tiled = self.int8 && K::is_tiled(ty);
        if tiled {
            self.inputs.reserve(ty, self.n_ubatch as u64, u64::from(n_cols))?;
        }
        room(
            &mut self.bytes,
            tiles::ROWS as u64 * ty.row_bytes(n_cols as usize) as u64,
            "weights",
        )?;
        self.most_rows = self.most_rows.max(n_rows as usize);
        self.most_cols = self.most_cols.max(n_cols as usize);
        self.mats.push(Matrix::new(ty, n_rows as usize, n_cols as usize, tiled)?);
        Ok(Mat { id, n_rows, n_cols, ty })
    }

    fn vector(&mut self, _name: &str, len: u32) -> Result<Vector> {
        self.vectors.push(zeroed(u64::from(len), "weights")?);
        Ok(Vector {
            id: self.vectors.len() as u32 - 1,
            len,
        })
    }

    fn buffer(&mut self, n_cols: u32) -> Result<Buf> {
        let len = self.n_ubatch as u64 * u64::from(n_cols);
        self.bufs.push(zeroed(len, "activations")?);
        reserve(&mut self.inputs.floats, len)?;
        reserve(&mut self.product, len)?;
        self.most_cols = self.most_cols.max(n_cols as usize);
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
        State::new(shape)
    }

    fn reset_state(&mut self, state: &mut State) -> Result<()> {
        state.reset();
        Ok(())
    }

    fn n_ubatch(&self) -> u32 {
        self.n_ubatch as u32
    }

    fn begin(&mut self, state: &mut State, pass: &Pass) -> Result<bool> {
        let n_rows = match pass.want {
            Want::Nothing | Want::Chosen(_) => 0,
            Want::Token | Want::Logits => 1,
            Want::AllLogits => pass.ids.len(),
        };
        room(&mut self.logits, n_rows as u64 * self.most_rows as u64, "logits")?;
        reserve(&mut self.row, self.most_cols as u64 * self.pool.n_threads() as u64)?;
        let work = self.most_work(pass.pos as usize + pass.ids.len());
        room(&mut self.work, work, "activations")?;
        state.make_room(pass.pos as usize, pass.ids.len())?;
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
        self.normed_products(x, norm, ws, y);
    }

    fn mamba_mix(&mut self, p: Buf, m: &Mamba, y: Buf) {
        self.mix_heads(p, m, y);
    }

    fn attend(&mut self, qkv: Buf, a: &Attention, y: Buf) {
        self.attend_heads(qkv, a, y);
    }

    fn matmul_add(&mut self, w: Mat, y: Buf, scale: f32, x: Buf) {
        self.added_products(w, y, scale, x);
    }

    fn swiglu(&mut self, x: Buf, norm: Norm, gate: Mat, up: Mat, h: Buf) {
        self.gated_products(x, norm, gate, up, h);
    }

    fn pick(&mut self, x: Buf, norm: Norm, head: Mat, logit_scale: f32) {
        self.head_products(x, norm, head, logit_scale);
    }

    async fn end(&mut self, state: &mut State, pass: &Pass<'_>, logits: &mut Vec<f32>) -> Result<Option<u32>> {
        *state = std::mem::take(&mut self.live);
        match pass.want {
            Want::Nothing | Want::Chosen(_) => Ok(None),
            Want::Token => reference::argmax(&self.logits).map(Some),
            Want::Logits | Want::AllLogits => {
                logits.clear();
                room(logits, self.logits.len() as u64, "logits")?;
                logits.extend_from_slice(&self.logits);
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activations_are_rounded_unless_it_is_asked_otherwise() {
        assert_eq!(Activations::asked(None), Some(Activations::Int8));
        assert_eq!(Activations::asked(Some("int8")), Some(Activations::Int8));
        assert_eq!(Activations::asked(Some("f32")), Some(Activations::F32));
        for name in ["", "f16", "INT8"] {
            assert_eq!(Activations::asked(Some(name)), None, "{name}");
        }
        assert!(Cpu::with_activations(1, Activations::Int8).int8 && !Cpu::with_activations(1, Activations::F32).int8);
    }
}
