//! What a pass of a model dispatches and moves on WebGPU's default limits, from its header alone.

use crate::{
    Result,
    backend::{
        KvType, Pass, Want,
        gpu::{Cost, Ledger, Shader},
    },
    gguf::Gguf,
    model::Loader,
};

/// The plan of one pass.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What it costs.
    pub cost: Cost,
    /// The shaders it runs, each once.
    pub shaders: Vec<Shader>,
}

/// Counts a pass of `n` tokens after `pos` others.
///
/// # Errors
/// What is wrong with the model, or with it on default limits.
pub async fn plan(gguf: &Gguf, n: u32, pos: u32, kv: KvType, want: Want) -> Result<Plan> {
    let loader = Loader::new(gguf, Ledger::new(n))?;
    let mut model = loader.without_weights();
    let mut state = model.new_state(pos + n, kv)?;
    let ids = vec![0; n as usize];
    let pass = Pass { ids: &ids, pos, want };
    model.forward(&mut state, &pass, &mut Vec::new()).await?;
    Ok(Plan {
        cost: model.backend.cost(),
        shaders: model.backend.shaders(),
    })
}
