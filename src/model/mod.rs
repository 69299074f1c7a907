//! From GGUF metadata and tensors to a model that can run a pass.
//!
//! [`Hparams`] is what the file declares; [`Loader`] checks it against the tensor table, reserves everything on the backend and
//! then takes the file's bytes as they arrive; [`Model::forward`] runs tokens. Nothing here knows where bytes come from.

mod hparams;
mod granite_hybrid;
mod loader;

pub use granite_hybrid::GraniteHybrid;
pub use hparams::{Hparams, LayerKind};
pub use loader::Loader;

use crate::{
    Error, Result,
    backend::{Backend, KvType, Pass, StateShape, Want},
};

/// A loaded model and the device it lives on.
pub struct Model<B: Backend> {
    /// What the file declares.
    pub hparams: Hparams,
    /// Where the weights are.
    pub backend: B,
    net: GraniteHybrid,
}

impl<B: Backend> Model<B> {
    /// Sizes of one sequence's state.
    pub fn state_shape(&self, n_ctx: u32, kv_type: KvType) -> StateShape {
        self.hparams.state_shape(n_ctx, kv_type)
    }

    /// A zeroed state for a sequence of up to `n_ctx` tokens.
    pub fn new_state(&mut self, n_ctx: u32, kv_type: KvType) -> Result<B::State> {
        let shape = self.state_shape(n_ctx, kv_type);
        self.backend.new_state(&shape)
    }

    /// Zeroes a state, for another sequence.
    pub fn reset(&mut self, state: &mut B::State) -> Result<()> {
        self.backend.reset_state(state)
    }

    /// The ops of a pass and what runs them: for measuring.
    pub(crate) fn parts(&mut self) -> (&GraniteHybrid, &mut B) {
        (&self.net, &mut self.backend)
    }

    /// Runs `pass.ids` (at most [`Backend::n_ubatch`] of them) on top of `state`; see [`Backend::end`] for what comes back.
    pub async fn forward(&mut self, state: &mut B::State, pass: &Pass<'_>, logits: &mut Vec<f32>) -> Result<Option<u32>> {
        let n_vocab = self.hparams.n_vocab;
        let known = matches!(pass.want, Want::Chosen(_)); // to the device
        if (pass.ids.is_empty() && !known) || pass.ids.len() > self.backend.n_ubatch() as usize {
            let what = format!("a pass takes 1 to {} tokens, not {}", self.backend.n_ubatch(), pass.ids.len());
            return Err(Error::InvalidRequest { what });
        }
        if let Some(id) = pass.ids.iter().find(|&&id| id >= n_vocab) {
            let what = format!("token {id} is not in the vocabulary of {n_vocab}");
            return Err(Error::InvalidRequest { what });
        }
        if self.backend.begin(state, pass)? {
            self.net.record(&mut self.backend);
        }
        self.backend.end(state, pass, logits).await
    }
}
