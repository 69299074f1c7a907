//! Measuring: what a pass costs, counted and timed.
//!
//! [`Shape`] stands in for a published model: its exact shapes and types, with random weights, so that a device can be measured without
//! a download. [`plan`] counts the recorded plan of any model without a device; [`speed`] times a model on one.

mod pace;
mod plan;
mod shape;
mod speed;
mod weights;

pub use pace::{Loop, token_loop};
pub use plan::{Plan, plan};
pub use shape::Shape;
pub use speed::{Report, Work, speed, stand_in};
pub use weights::{Feed, feed};
