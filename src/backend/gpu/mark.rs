//! A state remembered on the device, to go back to. Keys and values need no copy: what is behind a position is never read.

use super::{Gpu, State};
use crate::{Error, Result};

/// Copies of the recurrent layers' state.
#[derive(Default)]
pub(super) struct Mark {
    conv: Vec<wgpu::Buffer>,
    ssm: Vec<wgpu::Buffer>,
    /// To be copied at the start of the next submit.
    due: bool,
    /// There is something to go back to.
    set: bool,
}

impl Gpu {
    pub(super) fn set_mark(&self, state: &mut State) -> Result<()> {
        let like = |buffers: &[wgpu::Buffer]| -> Result<Vec<_>> {
            buffers
                .iter()
                .map(|b| self.storage("a copy of the state", b.size()))
                .collect()
        };
        if state.mark.ssm.len() != state.ssm.len() {
            state.mark.conv = like(&state.conv)?;
            state.mark.ssm = like(&state.ssm)?;
        }
        state.mark.due = true;
        state.mark.set = false;
        self.check()
    }

    /// Copies what is due, before anything else of a submit.
    pub(super) fn encode_mark(encoder: &mut wgpu::CommandEncoder, state: &mut State) {
        if std::mem::take(&mut state.mark.due) {
            let from = state.conv.iter().chain(&state.ssm);
            for (from, to) in from.zip(state.mark.conv.iter().chain(&state.mark.ssm)) {
                encoder.copy_buffer_to_buffer(from, 0, to, 0, from.size());
            }
            state.mark.set = true;
        }
    }

    /// As [`Gpu::encode_mark`], in a submit of its own.
    pub(super) fn flush_mark(&self, state: &mut State) {
        if state.mark.due {
            let mut encoder = self.device.create_command_encoder(&Default::default());
            Gpu::encode_mark(&mut encoder, state);
            self.queue.submit([encoder.finish()]);
        }
    }

    pub(super) fn go_back(&self, state: &mut State) -> Result<()> {
        self.flush_mark(state);
        if !std::mem::take(&mut state.mark.set) {
            return Err(Error::InvalidRequest {
                what: "there is no remembered state to go back to".into(),
            });
        }
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let from = state.mark.conv.iter().chain(&state.mark.ssm);
        for (from, to) in from.zip(state.conv.iter().chain(&state.ssm)) {
            encoder.copy_buffer_to_buffer(from, 0, to, 0, from.size());
        }
        self.queue.submit([encoder.finish()]);
        self.check()
    }
}
