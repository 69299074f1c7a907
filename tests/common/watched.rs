//! A backend that writes down every pass, and fails when told to.

use std::{cell::RefCell, rc::Rc};

use outcrop::{
    Error, Result,
    backend::{Attention, Backend, Buf, Choice, Made, Mamba, Mat, Norm, Pass, StateShape, Vector, Want},
    gguf::GgmlType,
};

/// What went through, shared with the test.
#[derive(Debug, Default)]
pub struct Log {
    /// Ids, position and want of every pass.
    pub passes: Vec<(Vec<u32>, u32, Want)>,
    /// How often a state was zeroed.
    pub resets: usize,
    /// The pass after this many more fails once, when all of its work is done.
    pub fail_in: Option<usize>,
    /// Logits become NaN at this id.
    pub poison: Option<usize>,
}

pub struct Watched<B> {
    inner: B,
    pub log: Rc<RefCell<Log>>,
}

impl<B> Watched<B> {
    pub fn new(inner: B) -> Self {
        Watched {
            inner,
            log: Rc::default(),
        }
    }
}

impl<B: Backend> Backend for Watched<B> {
    type State = B::State;

    fn matrix(&mut self, name: &str, ty: GgmlType, n_rows: u32, n_cols: u32) -> Result<Mat> {
        self.inner.matrix(name, ty, n_rows, n_cols)
    }
    fn vector(&mut self, name: &str, len: u32) -> Result<Vector> {
        self.inner.vector(name, len)
    }
    fn buffer(&mut self, n_cols: u32) -> Result<Buf> {
        self.inner.buffer(n_cols)
    }
    fn write_matrix(&mut self, w: Mat, offset: u64, bytes: &[u8]) -> Result<()> {
        self.inner.write_matrix(w, offset, bytes)
    }
    fn write_vector(&mut self, v: Vector, values: &[f32]) -> Result<()> {
        self.inner.write_vector(v, values)
    }
    async fn finish_loading(&mut self) -> Result<()> {
        self.inner.finish_loading().await
    }
    fn new_state(&mut self, shape: &StateShape) -> Result<Self::State> {
        self.inner.new_state(shape)
    }
    fn reset_state(&mut self, state: &mut Self::State) -> Result<()> {
        self.log.borrow_mut().resets += 1;
        self.inner.reset_state(state)
    }
    fn n_ubatch(&self) -> u32 {
        self.inner.n_ubatch()
    }
    fn begin(&mut self, state: &mut Self::State, pass: &Pass) -> Result<bool> {
        self.log.borrow_mut().passes.push((pass.ids.to_vec(), pass.pos, pass.want));
        self.inner.begin(state, pass)
    }
    fn embed(&mut self, table: Mat, scale: f32, x: Buf) {
        self.inner.embed(table, scale, x);
    }
    fn norm_matmul(&mut self, x: Buf, norm: Norm, ws: &[Mat], y: Buf) {
        self.inner.norm_matmul(x, norm, ws, y);
    }
    fn mamba_mix(&mut self, p: Buf, m: &Mamba, y: Buf) {
        self.inner.mamba_mix(p, m, y);
    }
    fn attend(&mut self, qkv: Buf, a: &Attention, y: Buf) {
        self.inner.attend(qkv, a, y);
    }
    fn matmul_add(&mut self, w: Mat, y: Buf, scale: f32, x: Buf) {
        self.inner.matmul_add(w, y, scale, x);
    }
    fn swiglu(&mut self, x: Buf, norm: Norm, gate: Mat, up: Mat, h: Buf) {
        self.inner.swiglu(x, norm, gate, up, h);
    }
    fn pick(&mut self, x: Buf, norm: Norm, head: Mat, logit_scale: f32) {
        self.inner.pick(x, norm, head, logit_scale);
    }
    async fn begin_reply(&mut self, state: &mut Self::State, choice: &Choice<'_>) -> Result<bool> {
        self.inner.begin_reply(state, choice).await
    }
    async fn fetch(&mut self, made: &mut Vec<Made>) -> Result<()> {
        self.inner.fetch(made).await
    }
    fn depth(&self) -> usize {
        self.inner.depth()
    }
    fn mark(&mut self, state: &mut Self::State) -> Result<()> {
        self.inner.mark(state)
    }
    fn rewind(&mut self, state: &mut Self::State) -> Result<()> {
        self.inner.rewind(state)
    }
    async fn end(&mut self, state: &mut Self::State, pass: &Pass<'_>, logits: &mut Vec<f32>) -> Result<Option<u32>> {
        let token = self.inner.end(state, pass, logits).await?;
        let mut log = self.log.borrow_mut();
        if let Some(id) = log.poison
            && matches!(pass.want, Want::Logits | Want::AllLogits)
        {
            logits[id] = f32::NAN;
        }
        match log.fail_in {
            Some(0) => {
                log.fail_in = None;
                Err(Error::GpuLost {
                    what: "a test pulled the plug".into(),
                })
            }
            Some(n) => {
                log.fail_in = Some(n - 1);
                Ok(token)
            }
            None => Ok(token),
        }
    }
}
