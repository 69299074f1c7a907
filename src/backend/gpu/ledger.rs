//! A GPU backend without a GPU: it records a pass as the real one does, and counts it ([`super::cost`]), on WebGPU's default limits.

use super::{
    GpuOptions,
    cost::{Account, Cost},
    kernels::{Kernel, Shader},
    record::{Recorder, Tables},
    step::Class,
    weights,
};
use crate::{
    Result,
    backend::{Attention, Backend, Buf, Mamba, Mat, Norm, Pass, StateShape, Vector, Want},
    gguf::GgmlType,
};

/// Records and counts.
pub struct Ledger {
    tables: Tables,
    recorder: Option<Recorder>,
    shape: Option<StateShape>,
    n: u32,
    pos: u32,
    want: Want,
}

impl Ledger {
    /// Passes of up to `n_ubatch` tokens.
    pub fn new(n_ubatch: u32) -> Ledger {
        Ledger {
            tables: Tables {
                n_ubatch,
                max_binding: 128 << 20,
                far: GpuOptions::default().far,
                ..Default::default()
            },
            recorder: None,
            shape: None,
            n: 0,
            pos: 0,
            want: Want::Nothing,
        }
    }

    /// The shaders of the last pass, each once.
    pub fn shaders(&self) -> Vec<Shader> {
        let mut kernels: Vec<Kernel> = Vec::new();
        for step in self.account().steps() {
            if !kernels.contains(&step.kernel) {
                kernels.push(step.kernel);
            }
        }
        kernels.into_iter().map(Kernel::shader).collect()
    }

    /// What the last pass costs.
    pub fn cost(&self) -> Cost {
        self.account().cost()
    }

    fn account(&self) -> Account<'_> {
        Account {
            tables: &self.tables,
            recorder: self.recorder.as_ref().expect("a pass was recorded"),
            shape: self.shape(),
            n: self.n,
            pos: self.pos,
            head: self.want != Want::Nothing,
        }
    }

    fn shape(&self) -> StateShape {
        self.shape.expect("a state comes before a pass")
    }
}

impl Backend for Ledger {
    type State = StateShape;

    fn matrix(&mut self, name: &str, ty: GgmlType, n_rows: u32, n_cols: u32) -> Result<Mat> {
        self.tables.matrix(name, ty, n_rows, n_cols)
    }
    fn vector(&mut self, _name: &str, len: u32) -> Result<Vector> {
        self.tables.vector(len)
    }
    fn buffer(&mut self, n_cols: u32) -> Result<Buf> {
        Ok(self.tables.buffer(n_cols))
    }
    fn write_matrix(&mut self, _w: Mat, _offset: u64, _bytes: &[u8]) -> Result<()> {
        Ok(())
    }
    fn write_vector(&mut self, _v: Vector, _values: &[f32]) -> Result<()> {
        Ok(())
    }
    async fn finish_loading(&mut self) -> Result<()> {
        Ok(())
    }

    fn new_state(&mut self, shape: &StateShape) -> Result<StateShape> {
        weights::place(&mut self.tables.mats, 0, 0, self.tables.max_binding);
        self.shape = Some(*shape);
        Ok(*shape)
    }
    fn reset_state(&mut self, _state: &mut StateShape) -> Result<()> {
        Ok(())
    }

    fn n_ubatch(&self) -> u32 {
        self.tables.n_ubatch
    }
    fn begin(&mut self, _state: &mut StateShape, pass: &Pass) -> Result<bool> {
        (self.n, self.pos, self.want) = (pass.ids.len() as u32, pass.pos, pass.want);
        let shape = self.shape();
        self.recorder = Some(Recorder::new(Class::of(self.n), shape.kv_type, shape.n_ctx));
        Ok(true)
    }
    fn embed(&mut self, table: Mat, scale: f32, x: Buf) {
        self.record(|r, t| r.embed(t, table, scale, x));
    }
    fn norm_matmul(&mut self, x: Buf, norm: Norm, ws: &[Mat], y: Buf) {
        self.record(|r, t| r.norm_matmul(t, x, norm, ws, y));
    }
    fn mamba_mix(&mut self, p: Buf, m: &Mamba, y: Buf) {
        self.record(|r, t| r.mamba_mix(t, p, m, y));
    }
    fn attend(&mut self, qkv: Buf, a: &Attention, y: Buf) {
        self.record(|r, t| r.attend(t, qkv, a, y));
    }
    fn matmul_add(&mut self, w: Mat, y: Buf, scale: f32, x: Buf) {
        self.record(|r, t| r.matmul_add(t, w, y, scale, x));
    }
    fn swiglu(&mut self, x: Buf, norm: Norm, gate: Mat, up: Mat, h: Buf) {
        self.record(|r, t| r.swiglu(t, x, norm, gate, up, h));
    }
    fn pick(&mut self, x: Buf, norm: Norm, head: Mat, logit_scale: f32) {
        self.record(|r, t| r.pick(t, x, norm, head, logit_scale));
    }
    async fn end(&mut self, _state: &mut StateShape, _pass: &Pass<'_>, _logits: &mut Vec<f32>) -> Result<Option<u32>> {
        match self.recorder.as_mut().and_then(|r| r.error.take()) {
            Some(error) => Err(error),
            None => Ok(None),
        }
    }
}

impl Ledger {
    fn record(&mut self, op: impl FnOnce(&mut Recorder, &Tables)) {
        op(self.recorder.as_mut().expect("ops come between begin and end"), &self.tables);
    }
}
