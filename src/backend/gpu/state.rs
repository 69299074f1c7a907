//! A sequence's state on the device.

use super::{Gpu, mark::Mark, plan::Plan, step::Class};
use crate::{
    Error, Result,
    backend::{KvType, StateShape},
};

/// Tokens of the smallest key/value bucket.
const BUCKET: u32 = 1024;

/// Conv, SSM and key/value state of one sequence, and the plans recorded on its buffers.
///
/// The layouts are the kernels': conv state is a ring of `d_conv` columns `[d_conv, d_xbc]`, the input at position `t` in slot
/// `t % d_conv` (mamba.wgsl); SSM state is `[H, N, P]`, P fastest (mamba_step.wgsl). Keys and values are
/// `[capacity, n_head_kv * d_head]`; the capacity doubles as the sequence grows, and only that re-records the plans.
pub struct State {
    pub(super) shape: StateShape,
    pub(super) conv: Vec<wgpu::Buffer>,
    pub(super) ssm: Vec<wgpu::Buffer>,
    pub(super) kv: Vec<(wgpu::Buffer, wgpu::Buffer)>,
    /// Tokens that `kv` holds.
    pub(super) capacity: u32,
    pub(super) plans: [Option<Plan>; Class::COUNT],
    pub(super) mark: Mark,
}

impl StateShape {
    /// Bytes of one token's keys (and as many of values) in a layer.
    pub(super) fn token_bytes(&self) -> u64 {
        match self.kv_type {
            KvType::F32 => self.kv_len as u64 * 4,
            KvType::F16 => (self.kv_len as u64 * 2).next_multiple_of(4),
        }
    }
}

impl Gpu {
    pub(super) fn make_state(&mut self, shape: &StateShape) -> Result<State> {
        let longest = shape.token_bytes() * shape.n_ctx as u64;
        if shape.n_attention > 0 && longest > self.tables.max_binding {
            return Err(Error::OutOfMemory {
                what: "the keys of one layer at this context length",
                bytes: longest,
            });
        }
        // A ring has one column more than what is saved; twice the saved ones are always enough, and need no d_conv.
        let conv = self.layers("conv state", shape.n_recurrent, shape.conv_len as u64 * 8)?;
        let ssm = self.layers("ssm state", shape.n_recurrent, shape.ssm_len as u64 * 4)?;
        let mut state = State {
            shape: *shape,
            conv,
            ssm,
            kv: Vec::new(),
            capacity: 0,
            plans: Default::default(),
            mark: Mark::default(),
        };
        self.grow_kv(&mut state, 1)?;
        self.check()?;
        Ok(state)
    }

    fn layers(&mut self, what: &'static str, n: u32, bytes: u64) -> Result<Vec<wgpu::Buffer>> {
        (0..n).map(|_| self.storage(what, bytes)).collect()
    }

    pub(super) fn clear_state(&mut self, state: &mut State) -> Result<()> {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        for buffer in state.conv.iter().chain(&state.ssm) {
            encoder.clear_buffer(buffer, 0, None);
        }
        self.queue.submit([encoder.finish()]);
        self.check()
    }

    /// Makes room for `n` tokens: copies the cache into buffers twice as long, or more. Plans bind the old ones and go.
    pub(super) fn grow_kv(&mut self, state: &mut State, n: u32) -> Result<()> {
        if n <= state.capacity {
            return Ok(());
        }
        let capacity = n.next_power_of_two().max(BUCKET).min(state.shape.n_ctx.max(n));
        let token = state.shape.token_bytes();
        for layer in 0..state.shape.n_attention as usize {
            let new = (
                self.storage("keys", token * capacity as u64)?,
                self.storage("values", token * capacity as u64)?,
            );
            match state.kv.get_mut(layer) {
                None => state.kv.push(new),
                Some(old) => {
                    let mut encoder = self.device.create_command_encoder(&Default::default());
                    encoder.copy_buffer_to_buffer(&old.0, 0, &new.0, 0, token * state.capacity as u64);
                    encoder.copy_buffer_to_buffer(&old.1, 0, &new.1, 0, token * state.capacity as u64);
                    self.queue.submit([encoder.finish()]);
                    *old = new;
                }
            }
        }
        state.capacity = capacity;
        state.plans = Default::default();
        self.check()
    }
}
