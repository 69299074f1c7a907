//! The browser's worker as a [`Host`]: its clock, the caller's signal, and a turn for its event loop.

use std::cell::Cell;

use js_sys::Promise;
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortSignal, MessageChannel};

use crate::{generate::Host, source::web::now_ms};

/// Lets waiting messages be received.
///
/// A message to oneself queues behind those that others have sent. A timer would do the same, but browsers hold nested timers back
/// for 4 ms; a scheduler's `yield` comes back *before* other tasks.
pub(crate) struct EventLoop {
    channel: MessageChannel,
}

impl EventLoop {
    pub(crate) fn new() -> Self {
        Self {
            channel: MessageChannel::new().expect("browsers with WebAssembly have MessageChannel"),
        }
    }

    pub(crate) async fn turn(&self) {
        let back = Promise::new(&mut |resolve, _| self.channel.port2().set_onmessage(Some(&resolve)));
        let sent = self.channel.port1().post_message(&JsValue::NULL);
        if sent.is_ok() {
            let _ = JsFuture::from(back).await;
        }
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        self.channel.port1().close();
    }
}

/// What one request runs in.
pub(crate) struct WebHost<'a> {
    pub(crate) event_loop: &'a EventLoop,
    /// The caller's.
    pub(crate) signal: Option<&'a AbortSignal>,
    /// The engine was freed.
    pub(crate) closed: &'a Cell<bool>,
}

impl Host for WebHost<'_> {
    fn now_ms(&self) -> f64 {
        now_ms()
    }

    fn cancelled(&self) -> bool {
        self.closed.get() || self.signal.is_some_and(AbortSignal::aborted)
    }

    async fn breathe(&self) {
        self.event_loop.turn().await;
    }

    fn seed(&self) -> u64 {
        // Two numbers below 1: a page may be opened many times within the clock's coarseness.
        let half = || (js_sys::Math::random() * 4_294_967_296.0) as u64;
        half() << 32 | half()
    }
}
