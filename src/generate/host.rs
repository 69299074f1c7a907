//! What generation needs from the place it runs in: a clock, a stop button and, in a browser, a turn for the event loop.

#[cfg(not(target_arch = "wasm32"))]
use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

/// The place that a reply is made in.
#[allow(
    async_fn_in_trait,
    reason = "used with static dispatch on one thread; no Send bound is wanted"
)]
pub trait Host {
    /// Milliseconds from any fixed point in time, with fractions.
    fn now_ms(&self) -> f64;
    /// Whether the reply is no longer wanted. Asked before every pass.
    fn cancelled(&self) -> bool;
    /// Lets others run before the next pass: without it a worker would never hear that it should stop.
    async fn breathe(&self);
    /// A seed for a request that brings none. By default from the clock's fractions, which differ from call to call.
    fn seed(&self) -> u64 {
        self.now_ms().to_bits().wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// An ordinary process: the system's clock, and a flag that any thread or a signal handler may set.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Debug, Clone)]
pub struct NativeHost {
    start: Instant,
    /// Set it to stop the reply; clear it before the next one.
    pub stop: Arc<AtomicBool>,
}

#[cfg(not(target_arch = "wasm32"))]
impl NativeHost {
    /// A host that nobody has stopped yet.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            stop: Arc::default(),
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl Default for NativeHost {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl Host for NativeHost {
    fn now_ms(&self) -> f64 {
        self.start.elapsed().as_secs_f64() * 1e3
    }
    fn cancelled(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
    async fn breathe(&self) {}
    fn seed(&self) -> u64 {
        // The standard library seeds its hash maps from the system's randomness.
        RandomState::new().hash_one(self.now_ms().to_bits())
    }
}
