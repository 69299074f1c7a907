//! The browser as a download's [`World`].

use std::{
    cell::RefCell,
    ops::Range,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use futures_channel::oneshot;
use js_sys::{ArrayBuffer, Function, Promise, Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortSignal, EventTarget};

use super::{
    buffers::WebBytes,
    digest::Digest,
    download::world::{Answer, Broken, Elsewhere, World},
    http::{self, WebBody},
    tabs::{self, Lease, Tabs},
    web::{now_ms, scope},
};
use crate::Result;

/// Waits for events, any number at once.
#[derive(Default)]
struct Bell(RefCell<Vec<oneshot::Sender<()>>>);

impl Bell {
    fn ring(&self) {
        for waiting in self.0.take() {
            let _ = waiting.send(());
        }
    }

    fn heard(&self) -> impl Future<Output = ()> + use<> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.0.borrow_mut();
        waiting.retain(|sender| !sender.is_canceled());
        waiting.push(sender);
        async move {
            let _ = receiver.await;
        }
    }
}

/// Rings a bell at an event, as long as it lives.
struct Listener {
    target: EventTarget,
    event: &'static str,
    closure: Closure<dyn FnMut()>,
}

impl Listener {
    fn new(target: EventTarget, event: &'static str, bell: &Rc<Bell>) -> Self {
        let bell = bell.clone();
        let closure = Closure::<dyn FnMut()>::new(move || bell.ring());
        let _ = target.add_event_listener_with_callback(event, closure.as_ref().unchecked_ref());
        Self { target, event, closure }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self
            .target
            .remove_event_listener_with_callback(self.event, self.closure.as_ref().unchecked_ref());
    }
}

/// One load's.
pub(super) struct WebWorld {
    signal: AbortSignal,
    /// `{paused, changed}`, see `www/worker.js`; undefined for loads that cannot be paused.
    gate: JsValue,
    /// Waits are divided by it, in tests.
    speedup: f64,
    tabs: Tabs,
    changed: Rc<Bell>,
    online: Rc<Bell>,
    _listeners: Vec<Listener>,
}

impl WebWorld {
    pub(super) fn new(signal: &AbortSignal, gate: &JsValue, speedup: f64) -> Self {
        let (changed, online) = (Rc::new(Bell::default()), Rc::new(Bell::default()));
        let mut listeners = vec![
            Listener::new(signal.clone().into(), "abort", &changed),
            Listener::new(scope().into(), "online", &online),
        ];
        if let Some(target) = Reflect::get(gate, &"changed".into())
            .ok()
            .and_then(|t| t.dyn_into::<EventTarget>().ok())
        {
            listeners.push(Listener::new(target, "change", &changed));
        }
        Self {
            signal: signal.clone(),
            gate: gate.clone(),
            speedup: speedup.max(1.0),
            tabs: Tabs::open(),
            changed,
            online,
            _listeners: listeners,
        }
    }

    pub(super) fn tabs(&self) -> &Tabs {
        &self.tabs
    }
}

impl World for WebWorld {
    type Bytes = WebBytes;
    type Body = WebBody;
    type Lease = Lease;

    fn get(
        &self,
        url: &str,
        range: Option<Range<u64>>,
        strong_etag: Option<&str>,
    ) -> impl Future<Output = Result<Answer<WebBody>, Broken>> + use<> {
        http::get(url.to_owned(), range, strong_etag.map(Into::into))
    }

    fn digest(&self, bytes: &WebBytes) -> impl Future<Output = Digest> + use<> {
        // The browser's own is native and on another thread, but pages without TLS have none.
        let crypto = scope().crypto().ok().map(JsValue::from).unwrap_or_default();
        let subtle = Reflect::get(&crypto, &"subtle".into())
            .ok()
            .filter(|subtle| subtle.is_object());
        let digest = subtle.and_then(|_| {
            let subtle = scope().crypto().ok()?.subtle();
            subtle.digest_with_str_and_buffer_source("SHA-256", bytes.array()).ok()
        });
        let bytes = bytes.array().clone();
        async move {
            let digested = match digest {
                Some(digest) => JsFuture::from(digest).await.ok(),
                None => None,
            };
            let sha256 = digested
                .and_then(|buffer| buffer.dyn_into::<ArrayBuffer>().ok())
                .and_then(|buffer| Uint8Array::new(&buffer).to_vec().try_into().ok());
            match sha256 {
                Some(sha256) => Digest::from_bytes(sha256),
                None => Digest::of(&bytes.to_vec()),
            }
        }
    }

    fn sleep(&self, ms: f64) -> impl Future<Output = ()> + use<> {
        Sleep::new(ms / self.speedup)
    }

    fn now_ms(&self) -> f64 {
        now_ms()
    }

    fn after_ms(&self, ms: f64) -> f64 {
        now_ms() + ms / self.speedup
    }

    fn date_ms(&self) -> f64 {
        js_sys::Date::now()
    }

    fn chance(&self) -> f64 {
        js_sys::Math::random()
    }

    fn is_online(&self) -> bool {
        scope().navigator().on_line()
    }

    fn online(&self) -> impl Future<Output = ()> + use<> {
        let (online, is) = (self.online.heard(), self.is_online());
        async move {
            if !is {
                online.await;
            }
        }
    }

    fn is_aborted(&self) -> bool {
        self.signal.aborted()
    }

    fn is_paused(&self) -> bool {
        Reflect::get(&self.gate, &"paused".into()).is_ok_and(|paused| paused.is_truthy())
    }

    fn changed(&self) -> impl Future<Output = ()> + use<> {
        self.changed.heard()
    }

    fn try_lease(&self, id: &str) -> impl Future<Output = Option<Lease>> + use<> {
        tabs::lease(id.to_owned(), false)
    }

    fn lease(&self, id: &str) -> impl Future<Output = Lease> + use<> {
        let lease = tabs::lease(id.to_owned(), true);
        async move { lease.await.expect("who waits gets it") }
    }

    fn elsewhere(&self, id: &str) -> Option<Elsewhere> {
        self.tabs.elsewhere(id)
    }

    fn tell_others(&self, id: &str, here: &Elsewhere) {
        self.tabs.tell_progress(id, here);
    }

    fn room(&self) -> impl Future<Output = Option<u64>> + use<> {
        // Pages without TLS, and some private windows, have none of this.
        let storage = Reflect::get(&scope().navigator(), &"storage".into()).unwrap_or_default();
        let estimate = Reflect::get(&storage, &"estimate".into())
            .and_then(|estimate| estimate.dyn_into::<Function>()?.call0(&storage))
            .ok()
            .and_then(|promise| promise.dyn_into::<Promise>().ok());
        async move {
            let estimate = JsFuture::from(estimate?).await.ok()?;
            let bytes = |key: &str| Reflect::get(&estimate, &key.into()).ok()?.as_f64();
            Some((bytes("quota")? - bytes("usage")?).max(0.0) as u64)
        }
    }

    fn was_freed(&self) -> bool {
        self.tabs.was_freed()
    }
}

/// A timer, which ends with whoever waits for it.
struct Sleep {
    rung: oneshot::Receiver<()>,
    timer: i32,
    _closure: Closure<dyn FnMut()>,
}

impl Sleep {
    fn new(ms: f64) -> Self {
        let (ring, rung) = oneshot::channel();
        let mut ring = Some(ring);
        let closure = Closure::<dyn FnMut()>::new(move || {
            if let Some(ring) = ring.take() {
                let _ = ring.send(());
            }
        });
        let ms = ms.clamp(0.0, f64::from(i32::MAX)) as i32;
        let timer = scope()
            .set_timeout_with_callback_and_timeout_and_arguments_0(closure.as_ref().unchecked_ref(), ms)
            .expect("workers have timers");
        Self {
            rung,
            timer,
            _closure: closure,
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.rung).poll(cx).map(|_| ())
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        scope().clear_timeout_with_handle(self.timer);
    }
}
