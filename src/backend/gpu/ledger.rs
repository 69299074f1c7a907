//! A GPU backend without a GPU: it records a pass as the real one does, and counts it.
//!
//! Counts are of WebGPU's default limits. Traffic is what each dispatch must move at least, so caches between dispatches are not
//! believed in, and those inside one are: a weight counts once for every tile of tokens, an activation once for each dispatch that
//! binds it.

use super::{
    Gpu,
    pipelines::{Access, Kernel, Shader},
    record::{Recorder, Tables},
    step::{Bind, Class, Grid, Step},
    uniforms, weights,
};
use crate::{
    Result,
    backend::{Attention, Backend, Buf, Mamba, Mat, Norm, Pass, StateShape, Vector, Want},
    gguf::GgmlType,
};
use serde::Serialize;

/// Bytes that a pass moves between memory and the device's cores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Matrices, norm weights and the mixers' small parameters.
    pub weights: u64,
    /// Conv and SSM state, read and written.
    pub state: u64,
    /// Keys and values, read and appended.
    pub kv: u64,
    /// Everything between two dispatches.
    pub activations: u64,
}

/// What one pass costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Dispatches.
    pub dispatches: u32,
    /// Compute passes.
    pub passes: u32,
    /// Submits.
    pub submits: u32,
    /// Traffic.
    pub bytes: Traffic,
    /// Most storage buffers that one dispatch binds.
    pub storage_buffers_max: u32,
    /// Largest binding.
    pub binding_bytes_max: u64,
}

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
                ..Default::default()
            },
            recorder: None,
            shape: None,
            n: 0,
            pos: 0,
            want: Want::Nothing,
        }
    }

    /// The steps that the last pass dispatched.
    pub(super) fn steps(&self) -> impl Iterator<Item = &Step> {
        let head = self.want != Want::Nothing;
        let (n, pos) = (self.n, self.pos);
        let r = self.recorder.as_ref();
        let body = r
            .into_iter()
            .flat_map(|r| &r.body)
            .filter(move |s| s.grid.size(n, pos)[0] > 0);
        let head = r.filter(|_| head).into_iter().flat_map(|r| &r.head);
        body.chain(head)
    }

    /// The shaders of the last pass, each once.
    pub fn shaders(&self) -> Vec<Shader> {
        let mut kernels: Vec<Kernel> = Vec::new();
        for step in self.steps() {
            if !kernels.contains(&step.kernel) {
                kernels.push(step.kernel);
            }
        }
        kernels.into_iter().map(Kernel::shader).collect()
    }

    /// What the last pass costs.
    pub fn cost(&self) -> Cost {
        let mut cost = Cost {
            passes: Gpu::submits(self.n, self.recorder.as_ref().map_or(0, |r| r.body.len())),
            ..Default::default()
        };
        cost.submits = cost.passes;
        cost.bytes.weights = self.tables.vectors_len as u64 * 4;
        for step in self.steps() {
            cost.dispatches += 1;
            cost.storage_buffers_max = cost.storage_buffers_max.max(step.binds.len() as u32);
            for (bind, access) in step.binds.iter().zip(step.kernel.storage()) {
                cost.binding_bytes_max = cost.binding_bytes_max.max(self.bound(*bind));
                self.count(step, *bind, *access, &mut cost.bytes);
            }
        }
        cost
    }

    fn shape(&self) -> StateShape {
        self.shape.expect("a state comes before a pass")
    }

    /// Bytes that a binding makes visible.
    fn bound(&self, bind: Bind) -> u64 {
        let shape = self.shape();
        let r = self.recorder.as_ref().expect("a pass was recorded");
        match bind {
            Bind::Weights { bytes, .. } => bytes,
            Bind::Vectors => self.tables.vectors_len as u64 * 4,
            Bind::Buf(i) => self.tables.bufs[i as usize] as u64 * 4 * self.tables.n_ubatch as u64,
            Bind::Ids => self.tables.n_ubatch as u64 * 4,
            Bind::Logits => r.n_vocab as u64 * 4,
            Bind::Best | Bind::Chosen => 16,
            Bind::Mixed => r.scratch.mixed * 4,
            Bind::Up => r.scratch.up * 4,
            Bind::Spans => r.scratch.spans * 4,
            Bind::Conv(_) => shape.conv_len as u64 * 8,
            Bind::Ssm(_) => shape.ssm_len as u64 * 4,
            Bind::Keys(_) | Bind::Values(_) => shape.token_bytes() * shape.n_ctx as u64,
        }
    }

    /// Bytes of table that an `embed` reads: a row for each token, counted with the first slab.
    fn looked_up(&self, step: &Step, ty: GgmlType) -> u64 {
        let op: &uniforms::Embed = bytemuck::from_bytes(&step.params);
        match op.row0 {
            0 => ty.row_bytes(op.n_chunks as usize * 32) as u64 * self.n as u64,
            _ => 0,
        }
    }

    fn count(&self, step: &Step, bind: Bind, access: Access, to: &mut Traffic) {
        let (shape, n) = (self.shape(), self.n as u64);
        // What is updated in place is read and written.
        let ways = if access == Access::Write { 2 } else { 1 };
        match bind {
            Bind::Weights { bytes, .. } => {
                to.weights += match (step.kernel, step.grid) {
                    (Kernel::Embed(ty), _) => self.looked_up(step, ty),
                    (_, Grid::TokenTiles { tile, .. }) => bytes * n.div_ceil(tile as u64),
                    _ => bytes,
                }
            }
            // Counted once for the whole pass.
            Bind::Vectors => {}
            Bind::Conv(_) => to.state += shape.conv_len as u64 * 4 * ways,
            Bind::Ssm(_) => to.state += shape.ssm_len as u64 * 4 * ways,
            Bind::Keys(_) | Bind::Values(_) if access == Access::Write => to.kv += shape.token_bytes() * n,
            Bind::Keys(_) | Bind::Values(_) => to.kv += shape.token_bytes() * (self.pos as u64 + n),
            Bind::Buf(i) => to.activations += self.tables.bufs[i as usize] as u64 * 4 * n,
            Bind::Mixed | Bind::Up => to.activations += self.bound(bind) / self.tables.n_ubatch as u64 * n,
            Bind::Spans if step.grid.size(self.n, self.pos)[2] == 1 && step.kernel != Kernel::AttendJoin => {}
            Bind::Ids | Bind::Logits | Bind::Best | Bind::Chosen | Bind::Spans => to.activations += self.bound(bind).min(4 << 20),
        }
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
