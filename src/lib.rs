//! Outcrop runs IBM's Granite 4.0 H in a browser tab.
//!
//! A byte's journey is the module list, left to right; each module knows only those before it:
//!
//! ```text
//! CDN / file ──► source ──► gguf ──► backend (weights on the device) ──┐
//!                  │                                                   ▼
//!             IndexedDB        text (tokens, template) ──► generate (model forward, sampler) ──► api ──► www
//! ```
//!
//! Everything but the web halves of [`source`] and the JS bindings compiles and is tested natively.
#![warn(unreachable_pub)]

pub mod error;
pub mod source;
pub mod gguf;
pub mod text;
pub mod backend;
pub mod model;
pub mod generate;
pub mod bench;
#[cfg(target_arch = "wasm32")]
pub mod api;

pub use error::{Error, Result};
