//! Where a model's bytes come from: the network, IndexedDB or a local file; always front to back, in one pass.
//!
//! [`download`] gets a file from network and store at once; [`manifest`] is what is written down about a stored one, [`digest`] how its bytes are
//! known again, [`progress`] rates and times. All of that is pure. The rest is [`file`] for native programs, and for the web `http` (fetch), `store`
//! (IndexedDB), `tabs` (locks and word from other tabs), `world` (those put together), `blob` (a picked file), `buffers` (the memory that all of it passes through), `web`, which chooses among them, and `stored`: what the store alone can tell.
//!
//! Bytes are handed on as they arrive and are never gathered: a two-gigabyte model passes through a few chunks of memory.

#[cfg(target_arch = "wasm32")]
mod blob;
#[cfg(target_arch = "wasm32")]
mod buffers;
pub mod digest;
pub mod download;
#[cfg(not(target_arch = "wasm32"))]
pub mod file;
#[cfg(target_arch = "wasm32")]
mod http;
pub mod manifest;
#[cfg(all(target_arch = "wasm32", feature = "webgpu"))]
pub(crate) mod notes;
pub mod progress;
#[cfg(target_arch = "wasm32")]
pub(crate) mod store;
#[cfg(target_arch = "wasm32")]
pub(crate) mod stored;
#[cfg(target_arch = "wasm32")]
mod tabs;
#[cfg(target_arch = "wasm32")]
pub(crate) mod tasks;
#[cfg(target_arch = "wasm32")]
pub(crate) mod web;
#[cfg(target_arch = "wasm32")]
mod world;

use crate::{Error, Result};

/// Who takes the bytes of a file as they arrive. Of a model that is split into several files the parts come one after another: all
/// methods are of the current one, from its `begin` to its `end`.
pub trait Sink {
    /// Before the first byte: the length of the file in bytes, if it is known by then.
    fn begin(&mut self, len: Option<u64>) -> Result<()>;
    /// The next bytes of the file; the first call has offset 0, and there are no gaps.
    fn push(&mut self, offset: u64, bytes: &[u8]) -> Result<()>;
    /// Bytes that the file must have by its own account, as soon as enough of it was seen to tell.
    fn needs(&self) -> Option<u64>;
    /// After the last byte: an error if the file is not whole. A download is marked as complete only after this.
    fn end(&mut self, len: u64) -> Result<()>;
}

/// Reads a file's beginning until it has seen enough of it.
pub trait Beginning {
    /// What it wants to know.
    type Found;
    /// At the first byte of a file of so many bytes, if that is known.
    fn of(len: Option<u64>) -> Self;
    /// The next bytes; what was found, once they complete it.
    fn push(&mut self, bytes: &[u8]) -> Result<Option<Self::Found>>;
    /// Why the file's end came too soon.
    fn too_short(&self) -> Error;
    /// Bytes that the file must have by what was found.
    fn needs(found: &Self::Found) -> u64;
}
