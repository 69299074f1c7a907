//! What a sequence leaves behind, layer by layer.

use super::{Kv, matrix::zeroed};
use crate::{Error, Result, backend::StateShape};

/// State of one sequence.
#[derive(Default)]
pub struct State {
    /// Per recurrent layer `[d_conv - 1, d_xbc]`, oldest first.
    pub(super) conv: Vec<Vec<f32>>,
    /// Per recurrent layer `[H, P, N]`.
    pub(super) ssm: Vec<Vec<f32>>,
    /// Per attention layer, keys and values.
    pub(super) kv: Vec<(Kv, Kv)>,
    kv_len: usize,
}

impl State {
    pub(super) fn new(shape: &StateShape) -> Result<State> {
        let layer = |n: u32, len: u32| {
            (0..n)
                .map(|_| zeroed(u64::from(len), "the state"))
                .collect::<Result<Vec<_>>>()
        };
        let kv = || Kv::new(shape.kv_type, shape.kv_len);
        Ok(State {
            conv: layer(shape.n_recurrent, shape.conv_len)?,
            ssm: layer(shape.n_recurrent, shape.ssm_len)?,
            kv: (0..shape.n_attention).map(|_| (kv(), kv())).collect(),
            kv_len: shape.kv_len as usize,
        })
    }

    pub(super) fn reset(&mut self) {
        for v in self.conv.iter_mut().chain(&mut self.ssm) {
            v.fill(0.0);
        }
        for (k, v) in &mut self.kv {
            k.truncate(0);
            v.truncate(0);
        }
    }

    /// Forgets keys and values from token `pos` on and makes room for `n` more.
    pub(super) fn make_room(&mut self, pos: usize, n: usize) -> Result<()> {
        let more = n * self.kv_len;
        for (k, v) in &mut self.kv {
            k.truncate(pos * self.kv_len);
            v.truncate(pos * self.kv_len);
            if !k.try_reserve(more) || !v.try_reserve(more) {
                return Err(Error::OutOfMemory {
                    what: "the conversation's keys and values",
                    bytes: more as u64 * 8,
                });
            }
        }
        Ok(())
    }

    /// Appends `n` tokens of zeros.
    pub(super) fn skip(&mut self, n: u32) {
        let zeros = vec![0.0; self.kv_len];
        for (k, v) in &mut self.kv {
            for _ in 0..n {
                k.push(&zeros);
                v.push(&zeros);
            }
        }
    }
}
