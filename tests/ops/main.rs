//! Every op on every backend against `reference`, on random weights and odd shapes.
//!
//! A backend shows no buffer but the logits, so a case ends by copying the op's result through an F32 identity into a row that also
//! holds a constant 1, and reads that row through an identity head: the constant undoes the head's norm exactly enough (1e-7).
//! Weights are random *bytes* (tests/common/blocks.rs); a third of the rows has f16-subnormal scales and is judged by itself.

#[path = "../common/mod.rs"]
mod common;
mod attention;
mod case;
mod hostile;
mod mamba;
mod products;
mod run;
