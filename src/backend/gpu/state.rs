//! A sequence's state on the device.

use super::{Gpu, mark::Mark, plan::Plan, step::Class};
use crate::{
    Error, Result,
    backend::{KvType, StateShape},
};

/// Tokens that the smallest key/value cache has room for.
const FIRST: u32 = 1 << 10;
/// Room grows by this many tokens, once there is so much; until then it doubles.
const STEP: u32 = 16 << 10;

/// Conv, SSM and key/value state of one sequence, and the plans recorded on its buffers.
///
/// The layouts are the kernels': conv state is a ring of `d_conv` columns `[d_conv, d_xbc]`, the input at position `t` in slot
/// `t % d_conv` (mamba.wgsl); SSM state is `[H, N, P]`, P fastest (mamba_step.wgsl). Keys and values are
/// `[capacity, n_head_kv * d_head]`; the capacity grows with the sequence, and only that re-records the plans.
pub struct State {
    pub(super) shape: StateShape,
    pub(super) conv: Vec<wgpu::Buffer>,
    pub(super) ssm: Vec<wgpu::Buffer>,
    pub(super) kv: Vec<(wgpu::Buffer, wgpu::Buffer)>,
    /// Tokens that `kv` holds.
    pub(super) capacity: u32,
    /// Tokens that it must hold at the end of the pass.
    pub(super) needed: u32,
    pub(super) plans: [Option<Plan>; Class::COUNT],
    pub(super) mark: Mark,
}

impl State {
    /// The keys and values of `n` tokens will be needed. If there is no room for them, plans go: they bind what is there.
    pub(super) fn need(&mut self, n: u32) {
        self.needed = n;
        if n > self.capacity {
            self.plans = Default::default();
        }
    }
}

impl StateShape {
    /// Bytes of one token's keys (and as many of values) in a layer.
    pub(super) fn token_bytes(&self) -> u64 {
        match self.kv_type {
            KvType::F32 => self.kv_len as u64 * 4,
            KvType::F16 => (self.kv_len as u64 * 2).next_multiple_of(4),
            // A scale and eight words a block.
            KvType::Q8_0 => self.kv_len.div_ceil(32) as u64 * 36,
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
            needed: 0,
            plans: Default::default(),
            mark: Mark::default(),
        };
        state.capacity = room_for(1, shape.n_ctx);
        for _ in 0..shape.n_attention {
            let bytes = shape.token_bytes() * state.capacity as u64;
            state.kv.push((self.storage("keys", bytes)?, self.storage("values", bytes)?));
        }
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

    /// Makes room for what the pass needs. Buffers move one after another, each old one gone before the next new one comes: so what a
    /// growing cache takes is its new size and one buffer. Plans bind the old ones; [`State::need`] has dropped them.
    pub(super) async fn grow_kv(&mut self, state: &mut State) -> Result<()> {
        if state.needed <= state.capacity {
            return Ok(());
        }
        let capacity = room_for(state.needed, state.shape.n_ctx);
        let token = state.shape.token_bytes();
        for (keys, values) in &mut state.kv {
            for (old, what) in [(keys, "keys"), (values, "values")] {
                let new = self.storage(what, token * capacity as u64)?;
                let mut encoder = self.device.create_command_encoder(&Default::default());
                encoder.copy_buffer_to_buffer(old, 0, &new, 0, token * state.capacity as u64);
                self.queue.submit([encoder.finish()]);
                self.mark_work();
                self.idle().await?;
                old.destroy();
                *old = new;
            }
        }
        state.capacity = capacity;
        self.check()
    }
}

/// Tokens that a cache of at least `n` has room for.
fn room_for(n: u32, n_ctx: u32) -> u32 {
    let room = if n <= STEP {
        n.next_power_of_two().max(FIRST)
    } else {
        n.checked_next_multiple_of(STEP).unwrap_or(n)
    };
    room.min(n_ctx.max(n))
}

/// Most bytes that keys and values take while a sequence grows to `n_ctx` tokens.
#[cfg(test)]
fn kv_peak(shape: &StateShape) -> u64 {
    let buffers = 2 * shape.n_attention as u64;
    let (mut room, mut peak) = (room_for(1, shape.n_ctx) as u64, 0);
    loop {
        peak = peak.max(buffers * room);
        if room >= shape.n_ctx as u64 {
            return peak * shape.token_bytes();
        }
        let next = room_for(room as u32 + 1, shape.n_ctx) as u64;
        // The last buffer to move is there twice.
        peak = peak.max(buffers * next + room);
        room = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micro(kv_type: KvType) -> StateShape {
        StateShape {
            n_recurrent: 36,
            conv_len: 3 * 4352,
            ssm_len: 64 * 64 * 128,
            n_attention: 4,
            kv_len: 8 * 64,
            kv_type,
            n_ctx: 1 << 17,
        }
    }

    #[test]
    fn room_grows_by_doubling_and_then_in_steps() {
        let mut rooms = vec![room_for(1, 1 << 17)];
        while *rooms.last().unwrap() < 1 << 17 {
            rooms.push(room_for(rooms.last().unwrap() + 1, 1 << 17));
        }
        let k: Vec<u32> = rooms.iter().map(|r| r >> 10).collect();
        assert_eq!(k, [1, 2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128]);
        assert_eq!(room_for(1, 500), 500);
        assert_eq!(room_for(20_000, 20_001), 20_001);
        assert_eq!(room_for(u32::MAX, u32::MAX), u32::MAX);
    }

    /// 128K tokens of Granite 4.0 H Micro: in f16 the keys of a layer are exactly WebGPU's default binding.
    #[test]
    fn memory_of_a_long_context() {
        let f16 = micro(KvType::F16);
        assert_eq!(f16.token_bytes() << 17, 128 << 20);
        assert_eq!(kv_peak(&f16), 8 * (128 << 20) + (112 << 20));
        let q8_0 = micro(KvType::Q8_0);
        assert_eq!(kv_peak(&q8_0), 8 * (72 << 20) + (63 << 20));
    }
}
