//! What a recorded pass dispatches and moves.
//!
//! Traffic is what each dispatch must move at least, so caches between dispatches are not believed in, and those inside one are: a weight
//! counts once for every tile of tokens, an activation once for each dispatch that binds it.

use super::{
    choose::WORK_HEAD,
    kernels::{Access, Kernel},
    pace::Pace,
    record::{Recorder, Tables},
    step::{Bind, CHUNK, Grid, Step},
    uniforms,
};
use crate::{backend::StateShape, gguf::GgmlType};
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
    /// Submits; of a batch, on a device of unknown speed.
    pub submits: u32,
    /// Traffic.
    pub bytes: Traffic,
    /// Most storage buffers that one dispatch binds.
    pub storage_buffers_max: u32,
    /// Largest binding.
    pub binding_bytes_max: u64,
}

impl Traffic {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights + self.state + self.kv + self.activations
    }
}

/// A recorded pass of `n` tokens after `pos`, with what is needed to count it.
pub(super) struct Account<'a> {
    pub(super) tables: &'a Tables,
    pub(super) recorder: &'a Recorder,
    pub(super) shape: StateShape,
    pub(super) n: u32,
    pub(super) pos: u32,
    /// It ends with the head.
    pub(super) head: bool,
}

impl<'a> Account<'a> {
    /// The steps that are dispatched.
    pub(super) fn steps(&self) -> impl Iterator<Item = &'a Step> + use<'a> {
        let (r, n, pos) = (self.recorder, self.n, self.pos);
        let (head, pick): (&[Step], &[Step]) = if self.head { (&r.head, &r.pick) } else { (&[], &[]) };
        r.body
            .iter()
            .filter(move |s| s.grid.size(n, pos)[0] > 0)
            .chain(head)
            .chain(pick)
    }

    pub(super) fn cost(&self) -> Cost {
        let submits = Pace::new().submits(&self.recorder.body, self.n, self.pos);
        let mut cost = Cost {
            passes: submits,
            submits,
            ..Default::default()
        };
        cost.bytes.weights = self.tables.vectors_len as u64 * 4;
        for step in self.steps() {
            cost.dispatches += 1;
            cost.storage_buffers_max = cost.storage_buffers_max.max(step.binds.len() as u32);
            for bind in &step.binds {
                cost.binding_bytes_max = cost.binding_bytes_max.max(self.bound(*bind));
            }
            self.count(step, &mut cost.bytes);
        }
        cost
    }

    /// Adds what a step moves, but for the parameter arena: that counts once for the whole pass.
    pub(super) fn count(&self, step: &Step, to: &mut Traffic) {
        for (bind, access) in step.binds.iter().zip(step.kernel.storage()) {
            self.count_bind(step, *bind, *access, to);
        }
    }

    /// Bytes that a binding makes visible.
    fn bound(&self, bind: Bind) -> u64 {
        let (shape, r) = (self.shape, self.recorder);
        match bind {
            Bind::Weights { bytes, .. } => bytes,
            Bind::Vectors => self.tables.vectors_len as u64 * 4,
            Bind::Buf(i) => self.tables.bufs[i as usize] as u64 * 4 * self.tables.n_ubatch as u64,
            Bind::Ids => self.tables.n_ubatch as u64 * 4,
            Bind::Logits => r.n_vocab as u64 * 4,
            Bind::Best | Bind::Chosen | Bind::Tape | Bind::Choice => 16,
            Bind::Runs => 512,
            Bind::Counts | Bind::Weighed => r.n_vocab as u64 * 8,
            Bind::Work | Bind::PlaceParts | Bind::Places => WORK_HEAD,
            Bind::Mixed => r.scratch.mixed * 4,
            Bind::Chunks => r.scratch.chunks * 4,
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

    /// Bytes of a chunk of the Mamba recurrence that a step moves: its C . B, its states, the states twice, both.
    fn chunks(&self, step: &Step) -> u64 {
        let op: &uniforms::Mamba = bytemuck::from_bytes(&step.params);
        let cb = op.n_group as u64 * (CHUNK * CHUNK * 4) as u64;
        let all = self.bound(Bind::Chunks) / self.tables.n_ubatch.div_ceil(CHUNK) as u64;
        match step.kernel {
            Kernel::SsdCb(_) => cb,
            Kernel::SsdState(..) => all - cb,
            Kernel::SsdPass(_) => 2 * (all - cb),
            _ => all,
        }
    }

    fn count_bind(&self, step: &Step, bind: Bind, access: Access, to: &mut Traffic) {
        let (shape, n) = (self.shape, self.n as u64);
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
            Bind::Chunks => to.activations += self.chunks(step) * n.div_ceil(CHUNK as u64),
            Bind::Spans if step.grid.size(self.n, self.pos)[2] == 1 && step.kernel != Kernel::AttendJoin => {}
            Bind::Ids
            | Bind::Logits
            | Bind::Best
            | Bind::Chosen
            | Bind::Runs
            | Bind::Tape
            | Bind::Choice
            | Bind::Counts
            | Bind::Weighed
            | Bind::Work
            | Bind::PlaceParts
            | Bind::Places
            | Bind::Spans => to.activations += self.bound(bind).min(4 << 20),
        }
    }
}
