//! Tabs of one site that share its store: only one at a time downloads a file (Web Locks), and all know how far that is and when something was
//! deleted (a BroadcastChannel).

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
};

use js_sys::{Function, Object, Promise, Reflect};
use serde::{Deserialize, Serialize};
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortController, BroadcastChannel, MessageEvent};

use super::{
    download::world::Elsewhere,
    tasks::spawn,
    web::{now_ms, scope},
};

const CHANNEL: &str = "outcrop";
/// Word from a tab that is older than this says nothing any more.
const STALE_MS: f64 = 5000.0;

/// What tabs tell each other.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Message {
    #[serde(rename_all = "camelCase")]
    Progress {
        id: String,
        loaded: u64,
        total: Option<u64>,
        bytes_per_second: Option<f64>,
    },
    /// It is whole.
    Stored {
        id: String,
    },
    Deleted {
        id: String,
    },
}

struct Heard {
    /// What is told of downloads elsewhere, and when.
    elsewhere: RefCell<HashMap<String, (Elsewhere, f64)>>,
    freed: Cell<bool>,
}

/// A worker's end of the channel.
pub(crate) struct Tabs {
    /// `None` where there is no such thing: tabs then know nothing of each other.
    channel: Option<BroadcastChannel>,
    heard: Rc<Heard>,
    _listener: Closure<dyn FnMut(MessageEvent)>,
}

impl Tabs {
    pub(crate) fn open() -> Self {
        let heard = Rc::new(Heard {
            elsewhere: RefCell::new(HashMap::new()),
            freed: Cell::new(false),
        });
        let listener = {
            let heard = heard.clone();
            Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
                match serde_wasm_bindgen::from_value(event.data()) {
                    Ok(Message::Progress {
                        id,
                        loaded,
                        total,
                        bytes_per_second,
                    }) => {
                        let elsewhere = Elsewhere {
                            loaded,
                            total,
                            bytes_per_second,
                        };
                        heard.elsewhere.borrow_mut().insert(id, (elsewhere, now_ms()));
                    }
                    Ok(Message::Deleted { .. }) => heard.freed.set(true),
                    Ok(Message::Stored { .. }) | Err(_) => {} // another version's words may be others
                }
            })
        };
        let channel = BroadcastChannel::new(CHANNEL).ok();
        if let Some(channel) = &channel {
            channel.set_onmessage(Some(listener.as_ref().unchecked_ref()));
        }
        Self {
            channel,
            heard,
            _listener: listener,
        }
    }

    /// The latest of another tab's download.
    pub(super) fn elsewhere(&self, id: &str) -> Option<Elsewhere> {
        let heard = self.heard.elsewhere.borrow();
        heard
            .get(id)
            .filter(|(_, at)| now_ms() - at < STALE_MS)
            .map(|(elsewhere, _)| *elsewhere)
    }

    /// Whether something was deleted since this was asked last.
    pub(super) fn was_freed(&self) -> bool {
        self.heard.freed.replace(false)
    }

    pub(super) fn tell_progress(&self, id: &str, here: &Elsewhere) {
        self.tell(&Message::Progress {
            id: id.to_owned(),
            loaded: here.loaded,
            total: here.total,
            bytes_per_second: here.bytes_per_second,
        });
    }

    pub(crate) fn tell_stored(&self, id: &str) {
        self.tell(&Message::Stored { id: id.to_owned() });
    }

    pub(crate) fn tell_deleted(&self, id: &str) {
        self.tell(&Message::Deleted { id: id.to_owned() });
    }

    fn tell(&self, message: &Message) {
        if let Some(channel) = &self.channel
            && let Ok(value) = message.serialize(&serde_wasm_bindgen::Serializer::json_compatible())
        {
            let _ = channel.post_message(&value);
        }
    }
}

impl Drop for Tabs {
    fn drop(&mut self) {
        if let Some(channel) = &self.channel {
            channel.set_onmessage(None);
            channel.close();
        }
    }
}

/// The right to download a file; dropping it lets the next tab. A tab that dies loses it too.
pub(crate) struct Lease {
    release: Option<Function>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(release) = &self.release {
            let _ = release.call0(&JsValue::UNDEFINED);
        }
    }
}

/// A request for a lease. Dropped before its turn, it is taken back.
struct Queued {
    controller: Option<AbortController>,
    lease: Option<Lease>,
}

impl Drop for Queued {
    fn drop(&mut self) {
        if let (Some(controller), Some(_)) = (&self.controller, &self.lease) {
            controller.abort();
        }
    }
}

/// The lease of `id`, at once or not at all; or, if `wait`, when its turn comes.
///
/// Where the browser has no locks (pages without TLS), everybody gets one: two tabs then may download the same file, as without all this.
pub(super) async fn lease(id: String, wait: bool) -> Option<Lease> {
    let locks = Reflect::get(&scope().navigator(), &"locks".into()).unwrap_or(JsValue::UNDEFINED);
    let request = Reflect::get(&locks, &"request".into())
        .ok()
        .and_then(|f| f.dyn_into::<Function>().ok());
    let Some(request) = request else {
        return Some(Lease { release: None });
    };

    // The lock is held until a promise settles that the callback gives back.
    let mut release = None;
    let held = Promise::new(&mut |resolve, _| release = Some(resolve));
    let mut granted = None;
    let turn = Promise::new(&mut |resolve, _| granted = Some(resolve));
    let granted = granted.expect("promises call back at once");
    let callback = Closure::once_into_js(move |lock: JsValue| -> JsValue {
        let has = !lock.is_null();
        let _ = granted.call1(&JsValue::UNDEFINED, &has.into());
        if has { held.into() } else { JsValue::UNDEFINED }
    });
    let options = Object::new();
    let controller = wait.then(|| AbortController::new().ok()).flatten();
    match &controller {
        Some(controller) => Reflect::set(&options, &"signal".into(), &controller.signal()),
        None => Reflect::set(&options, &"ifAvailable".into(), &true.into()),
    }
    .expect("a plain object takes any property");
    let mut queued = Queued {
        controller,
        lease: Some(Lease { release }),
    };
    let asked = request.call3(&locks, &format!("outcrop:{id}").into(), &options, &callback);
    match asked {
        // An abort rejects it, when nobody listens any more.
        Ok(promise) => spawn(async move {
            let _ = JsFuture::from(promise.unchecked_into::<Promise>()).await;
        }),
        Err(_) => return Some(Lease { release: None }), // the browser does not let this page have locks
    }
    let has = JsFuture::from(turn).await.is_ok_and(|has| has.is_truthy());
    let lease = queued.lease.take();
    lease.filter(|_| has)
}
