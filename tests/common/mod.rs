//! What several test files share.
#![allow(dead_code, reason = "each test file uses its own part of this")]

pub mod demo;
pub mod blocks;
pub mod chat;
pub mod gpu;
pub mod oracle;
pub mod sampling;
pub mod tiny;
pub mod watched;
