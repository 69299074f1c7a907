//! Generation: a prompt's ids -> prefill -> decode loop -> reply, one conversation at a time.
//!
//! [`Sequence`] keeps a model's state and the exact ids that it has consumed; [`Sampler`] picks tokens; [`Session`] puts text around
//! both: template and tokenizer before, detokeniser and stop texts after. What the surroundings must provide is a [`Host`].
//!
//! Where the device can choose tokens by itself, no logits are read back and nothing waits for the host (`tokens.rs`). Between
//! passes, and nowhere else, a reply can be cancelled.

mod host;
mod options;
mod parameters;
mod receiver;
mod reply;
mod rng;
mod sampler;
mod sequence;
mod session;
mod stop;
mod timer;
mod tokens;
#[cfg(not(target_arch = "wasm32"))]
mod native;

pub use host::Host;
#[cfg(not(target_arch = "wasm32"))]
pub use host::NativeHost;
#[cfg(not(target_arch = "wasm32"))]
pub use native::{load_file, read_header};
pub use options::Options;
pub use receiver::{About, Received, Receiver};
pub use reply::{FinishReason, Logprob, Reply, Timings, TokenLogprob, Usage};
pub use rng::{pcg4d, uniform};
pub use sampler::Sampler;
pub use sequence::Sequence;
pub use session::Session;
pub use stop::StopTexts;
pub use timer::{Timer, Timing};
pub use tokens::TOKENS_PER_SUBMIT;
