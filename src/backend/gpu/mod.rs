//! The GPU backend: wgpu, so WebGPU in a browser and Vulkan or Metal in native tests, from one source.
//!
//! The first pass of each batch size is recorded ([`record`]) and made into pipelines and bind groups ([`plan`]); every later one is
//! a replay: one encoder, one compute pass, one submit, and for a greedy token 16 bytes read back. Weights, activations and state
//! never leave the device. The base path needs nothing beyond WebGPU's default limits, and no f16 or subgroups: all arithmetic is
//! f32.
//!
//! The device reports errors through callbacks, at any time; they are kept in [`Fault`] and returned by the next call that can.

mod ahead;
mod check;
mod choose;
mod cost;
mod decode;
mod device;
mod fault;
mod forms;
mod ledger;
mod mark;
mod mixers;
mod pace;
mod pieces;
mod kernels;
mod pipelines;
mod plan;
mod prepare;
mod probe;
mod profile;
mod readback;
mod record;
mod state;
mod step;
mod tune;
mod uniforms;
mod weights;
#[cfg(target_arch = "wasm32")]
mod web;
#[cfg(test)]
mod counted;

pub use cost::{Cost, Traffic};
pub use device::{Gpu, GpuInfo, GpuOptions};
pub use forms::{Forms, MatmulForm, MatvecForm};
pub use kernels::{Shader, shaders};
pub use ledger::Ledger;
pub use mixers::Scan;
pub use prepare::Dropped;
pub use probe::{Probe, product};
pub use profile::OpTime;
pub use state::State;
pub use tune::Tuning;

use super::{Attention, Backend, Buf, Choice, Made, Mamba, Mat, Norm, Pass, StateShape, Vector, Want};
use crate::{Error, Result, gguf::GgmlType};
use plan::{Part, Plan, SLOT};
use record::Recorder;
use step::Class;
use uniforms::Run;

/// Bytes written before the queue is flushed: wgpu keeps a copy of what is written until then.
const FLUSH: u64 = 32 << 20;
/// Most bytes of logits in one read back.
const LOGITS_BYTES: u64 = 16 << 20;

impl Backend for Gpu {
    type State = State;

    fn matrix(&mut self, name: &str, ty: GgmlType, n_rows: u32, n_cols: u32) -> Result<Mat> {
        self.tables.matrix(name, ty, n_rows, n_cols)
    }

    fn vector(&mut self, _name: &str, len: u32) -> Result<Vector> {
        self.tables.vector(len)
    }

    fn buffer(&mut self, n_cols: u32) -> Result<Buf> {
        let buf = self.tables.buffer(n_cols);
        let row = self.tables.bufs[buf.id as usize] as u64 * 4;
        let buffer = self.storage("activations", row * self.tables.n_ubatch as u64)?;
        self.bufs.push(buffer);
        Ok(buf)
    }

    fn write_matrix(&mut self, w: Mat, _offset: u64, bytes: &[u8]) -> Result<()> {
        self.seal()?;
        let (arenas, queue) = (&self.arenas, &self.queue);
        let mut put = |arena: u32, offset: u64, bytes: &[u8]| queue.write_buffer(&arenas[arena as usize], offset, bytes);
        self.tables.mats[w.id as usize].write(bytes, &mut self.split, &mut put)?;
        self.unflushed += bytes.len() as u64;
        if self.unflushed >= FLUSH {
            self.unflushed = 0;
            self.queue.submit([]);
            self.poll(false)?;
        }
        self.check()
    }

    fn write_vector(&mut self, v: Vector, values: &[f32]) -> Result<()> {
        self.seal()?;
        let at = self.tables.vectors[v.id as usize] as u64 * 4;
        self.queue.write_buffer(&self.vectors, at, bytemuck::cast_slice(values));
        self.check()
    }

    async fn finish_loading(&mut self) -> Result<()> {
        self.seal()?;
        if let Some(m) = self.tables.mats.iter().find(|m| !m.is_complete()) {
            return Err(Error::MissingTensor { name: m.name.clone() });
        }
        self.queue.submit([]);
        self.idle().await?;
        self.check()
    }

    fn prepare(&mut self, shape: &StateShape, ops: impl FnMut(&mut Self)) -> Result<()> {
        self.begin_ahead(shape, ops)
    }

    async fn ready(&mut self) -> Result<()> {
        self.settle_forms().await
    }

    fn new_state(&mut self, shape: &StateShape) -> Result<State> {
        self.make_state(shape)
    }

    fn reset_state(&mut self, state: &mut State) -> Result<()> {
        self.clear_state(state)
    }

    fn n_ubatch(&self) -> u32 {
        self.tables.n_ubatch
    }

    fn begin(&mut self, state: &mut State, pass: &Pass) -> Result<bool> {
        self.check()?;
        let n = match pass.want {
            Want::Chosen(n) if pass.ids.is_empty() => n,
            _ => pass.ids.len() as u32,
        };
        if n == 0 || n > self.tables.n_ubatch {
            return Err(Error::InvalidRequest {
                what: format!("a pass of {n} tokens, this device takes 1 to {}", self.tables.n_ubatch),
            });
        }
        let end = pass.pos as usize + n as usize;
        if end > state.shape.n_ctx as usize {
            return Err(Error::ContextFull {
                needed: end,
                n_ctx: state.shape.n_ctx as usize,
            });
        }
        state.need(end as u32);
        let class = Gpu::class_of(pass);
        if state.plans[class as usize].is_some() {
            self.recording = None;
            return Ok(false);
        }
        self.recording = Some(Recorder::new(class, state.shape.kv_type, state.shape.n_ctx));
        Ok(true)
    }

    fn embed(&mut self, table: Mat, scale: f32, x: Buf) {
        self.note(|c| c.embed(table));
        self.record(|r, t| r.embed(t, table, scale, x));
    }

    fn norm_matmul(&mut self, x: Buf, norm: Norm, ws: &[Mat], y: Buf) {
        self.note(|c| c.norm_matmul(ws));
        self.record(|r, t| r.norm_matmul(t, x, norm, ws, y));
    }

    fn mamba_mix(&mut self, p: Buf, m: &Mamba, y: Buf) {
        self.note(|c| c.mamba_mix(m, y));
        self.record(|r, t| r.mamba_mix(t, p, m, y));
    }

    fn attend(&mut self, qkv: Buf, a: &Attention, y: Buf) {
        self.note(|c| c.attend(a));
        self.record(|r, t| r.attend(t, qkv, a, y));
    }

    fn matmul_add(&mut self, w: Mat, y: Buf, scale: f32, x: Buf) {
        self.note(|c| c.matmul_add(w, y));
        self.record(|r, t| r.matmul_add(t, w, y, scale, x));
    }

    fn swiglu(&mut self, x: Buf, norm: Norm, gate: Mat, up: Mat, h: Buf) {
        self.note(|c| c.swiglu(gate, up));
        self.record(|r, t| r.swiglu(t, x, norm, gate, up, h));
    }

    fn pick(&mut self, x: Buf, norm: Norm, head: Mat, logit_scale: f32) {
        self.note(|c| c.pick(head));
        self.record(|r, t| r.pick(t, x, norm, head, logit_scale));
    }

    async fn end(&mut self, state: &mut State, pass: &Pass<'_>, logits: &mut Vec<f32>) -> Result<Option<u32>> {
        self.grow_kv(state).await?;
        let class = Gpu::class_of(pass);
        if let Some(recorder) = self.recording.take() {
            state.plans[class as usize] = Some(self.build(recorder, state).await?);
        }
        if !pass.ids.is_empty() {
            self.flush_mark(state);
        }
        if let Want::Chosen(n) = pass.want {
            return self.queue_tokens(state, pass, n).await.map(|()| None);
        }
        let plan = state.plans[class as usize].as_ref().expect("recorded by the first pass");
        plan.check_ids(pass.ids)?;
        self.dispatched = 0;
        let (n, pos) = (pass.ids.len() as u32, pass.pos);
        self.queue.write_buffer(&self.ids, 0, bytemuck::cast_slice(pass.ids));
        self.write_run(0, n, pos, 0);
        // The head's form for one row reads the last one.
        self.write_run(SLOT, 1, pos, n - 1);
        match pass.want {
            Want::Nothing => {
                // One pass may be in flight while the next is encoded; more would only pile up work that nobody can cancel.
                self.idle().await?;
                self.submit_body(plan, n, pos, None);
                self.mark_work();
                self.check()?;
                Ok(None)
            }
            Want::Token => {
                self.submit_body(plan, n, pos, Some(16));
                let [id, broken, ..] = self.read::<u32>(4).await?[..] else {
                    return Err(Error::Gpu {
                        what: "the read back was cut short".into(),
                    });
                };
                if broken != 0 || id >= plan.n_vocab {
                    return Err(Error::NonFiniteLogits);
                }
                Ok(Some(id))
            }
            Want::Logits => {
                self.fit_staging(plan.n_vocab as u64 * 4)?;
                self.submit_body(plan, n, pos, Some(plan.n_vocab as u64 * 4));
                *logits = self.read(plan.n_vocab as usize).await?;
                finite(logits)
            }
            Want::Chosen(_) => unreachable!("queued above"),
            Want::AllLogits => {
                logits.clear();
                self.submit_body(plan, n, pos, None);
                let part = if class == Class::One { Part::Head } else { Part::HeadRows };
                for row0 in (0..n).step_by(self.head.rows as usize) {
                    let rows = self.head.rows.min(n - row0);
                    let bytes = rows as u64 * plan.n_vocab as u64 * 4;
                    self.fit_staging(bytes)?;
                    self.write_run(SLOT, rows, pos, row0);
                    let mut encoder = self.device.create_command_encoder(&Default::default());
                    {
                        let mut compute = encoder.begin_compute_pass(&Default::default());
                        self.dispatched += plan.encode(&mut compute, part, 0..plan.len(part), rows, pos);
                    }
                    encoder.copy_buffer_to_buffer(&self.head.logits, 0, &self.staging, 0, bytes);
                    self.queue.submit([encoder.finish()]);
                    logits.extend(self.read::<f32>(rows as usize * plan.n_vocab as usize).await?);
                }
                finite(logits)
            }
        }
    }

    async fn begin_reply(&mut self, state: &mut State, choice: &Choice<'_>) -> Result<bool> {
        self.start_reply(state, choice).await
    }

    async fn fetch(&mut self, made: &mut Vec<Made>) -> Result<()> {
        self.fetch_tokens(made).await
    }

    fn depth(&self) -> usize {
        readback::RING
    }

    fn mark(&mut self, state: &mut State) -> Result<()> {
        self.set_mark(state)
    }

    fn rewind(&mut self, state: &mut State) -> Result<()> {
        self.go_back(state)
    }
}

fn finite(logits: &[f32]) -> Result<Option<u32>> {
    if logits.iter().all(|l| l.is_finite()) {
        Ok(None)
    } else {
        Err(Error::NonFiniteLogits)
    }
}

impl Gpu {
    fn note(&mut self, op: impl FnOnce(&mut check::Cases)) {
        if let Some(cases) = &mut self.census {
            op(cases);
        }
    }

    fn record(&mut self, op: impl FnOnce(&mut Recorder, &record::Tables)) {
        let recorder = self.recording.as_mut().expect("ops come between begin and end");
        op(recorder, &self.tables);
    }

    fn write_run(&self, at: u64, n: u32, pos: u32, row0: u32) {
        let run = Run { n, pos, row0, pad: 0 };
        self.queue.write_buffer(&self.run, at, bytemuck::bytes_of(&run));
    }

    /// Runs the body; with `read` also the head of the last row, and copies its first bytes (the token for 16, else the logits) to
    /// the staging buffer. A single token is one submit; a batch is cut ([`pace`]).
    fn submit_body(&mut self, plan: &Plan, n: u32, pos: u32, read: Option<u64>) {
        let len = plan.len(Part::Body);
        let mut start = 0;
        if n > 1 {
            self.pace.begin(plan.macs(n, pos), pace::now_ms());
        }
        loop {
            let end = if n > 1 {
                start + plan.take(&self.pace, start, n, pos)
            } else {
                len
            };
            let mut encoder = self.device.create_command_encoder(&Default::default());
            {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                self.dispatched += plan.encode(&mut pass, Part::Body, start..end, n, pos);
                if end == len && read.is_some() {
                    self.dispatched += plan.encode(&mut pass, Part::Head, 0..plan.len(Part::Head), 1, pos);
                    if read == Some(16) {
                        self.dispatched += plan.encode(&mut pass, Part::Pick, 0..plan.len(Part::Pick), 1, pos);
                    }
                }
            }
            if end == len
                && let Some(bytes) = read
            {
                let from = if bytes == 16 { &self.head.chosen } else { &self.head.logits };
                encoder.copy_buffer_to_buffer(from, 0, &self.staging, 0, bytes);
            }
            self.queue.submit([encoder.finish()]);
            start = end;
            if start == len {
                break;
            }
        }
        if n > 1 {
            let pace = self.pace.clone();
            self.queue.on_submitted_work_done(move || pace.end(pace::now_ms()));
        }
    }
}
