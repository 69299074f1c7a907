//! A published model's stand-in on a device: its exact shapes, random weights.

use super::{Shape, feed};
use crate::{
    Error, Result,
    backend::{Backend, KvType},
    generate::{Host, Sequence},
    gguf::HeaderReader,
    model::Loader,
};

/// A stand-in for a published model on `backend`: random weights, no tokenizer. `progress` is told bytes done and bytes in all.
///
/// # Errors
/// What the device says; [`Error::Aborted`] if the host cancels.
pub async fn stand_in<B: Backend, H: Host>(
    host: &H,
    backend: B,
    shape: Shape,
    n_ctx: u32,
    kv: KvType,
    mut progress: impl FnMut(u64, u64),
) -> Result<Sequence<B>> {
    let mut reader = HeaderReader::new(None);
    let gguf = reader.push(&shape.header())?.ok_or_else(|| reader.finish())?;
    let end = gguf.end();
    let mut loader = Loader::new(&gguf, backend)?;
    let mut weights = feed(&gguf);
    while let Some((offset, bytes)) = weights.next() {
        loader.push(offset, bytes)?;
        progress(offset + bytes.len() as u64, end);
        host.breathe().await;
        if host.cancelled() {
            return Err(Error::Aborted);
        }
    }
    Sequence::new(loader.finish().await?, n_ctx, kv)
}
