//! Generation: prompt -> prefill -> decode loop -> reply, one conversation at a time.

mod options;
mod rng;
mod sampler;
mod stop;

pub use options::Options;
pub use rng::{pcg4d, uniform};
pub use sampler::Sampler;
pub use stop::StopTexts;
