//! Measuring: what a pass costs, counted and timed.
//!
//! [`Shape`] stands in for a published model: its exact shapes and types, with random weights, so that a device can be measured without
//! a download. [`plan`] counts the recorded plan of any model without a device; [`speed`] times a model on one,
//! [`cpu_speed`] on the CPU.

mod cpu;
#[cfg(feature = "webgpu")]
mod pace;
#[cfg(feature = "webgpu")]
mod plan;
mod shape;
#[cfg(feature = "webgpu")]
mod speed;
mod stand_in;
mod weights;
mod work;

pub use cpu::{CpuOp, CpuReport, cpu_speed};
#[cfg(feature = "webgpu")]
pub use pace::{Loop, token_loop};
#[cfg(feature = "webgpu")]
pub use plan::{Plan, plan};
pub use shape::Shape;
#[cfg(feature = "webgpu")]
pub use speed::{Report, speed};
pub use stand_in::stand_in;
pub use weights::{Feed, feed};
pub use work::Work;
