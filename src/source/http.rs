//! A model over HTTP: one streaming `fetch`, its pieces handed out as they arrive.
//!
//! What is checked here is the transfer: the status, and that as many bytes came as were announced. What the bytes mean is for the
//! [`Sink`](super::Sink) to judge.

use js_sys::{Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortSignal, ReadableStreamDefaultReader, ReferrerPolicy, Request, RequestCache, RequestInit, Response};

use super::{
    tasks::spawn,
    web::{describe, scope},
};
use crate::{Error, Result};

/// A response whose body is being read.
pub(crate) struct Download {
    url: String,
    signal: AbortSignal,
    reader: ReadableStreamDefaultReader,
    /// The server's ETag, if it sends one and lets this site see it.
    pub(crate) etag: Option<String>,
    /// Bytes that the server announced; `None` if it did not, or if they are those of a compressed body.
    pub(crate) length: Option<u64>,
    received: u64,
    ended: bool,
}

impl Download {
    /// Asks for `url` and waits for the headers.
    ///
    /// # Errors
    /// [`Error::Network`] if there is no answer, [`Error::HttpStatus`] if it is not 200, [`Error::Aborted`].
    pub(crate) async fn start(url: &str, signal: &AbortSignal) -> Result<Self> {
        let init = RequestInit::new();
        init.set_signal(Some(signal));
        // The model has a store of its own; two gigabytes more in the HTTP cache would only push other things out.
        init.set_cache(RequestCache::NoStore);
        init.set_referrer_policy(ReferrerPolicy::NoReferrer);
        let request = Request::new_with_str_and_init(url, &init).map_err(|e| Error::InvalidRequest {
            what: format!("{url} is not an address to download from: {}", describe(&e)),
        })?;
        let response: Response = JsFuture::from(scope().fetch_with_request(&request))
            .await
            .map_err(|e| unreachable(url, signal, &e))?
            .unchecked_into();
        // 206 and 204 are successes too, but not the whole file.
        if response.status() != 200 {
            return Err(Error::HttpStatus {
                url: url.to_owned(),
                status: response.status(),
            });
        }
        let headers = response.headers();
        let header = |name| headers.get(name).ok().flatten();
        // `Content-Length` counts what is on the wire; `fetch` has decoded that already.
        let encoded = header("content-encoding").is_some_and(|e| !e.trim().eq_ignore_ascii_case("identity"));
        let length = header("content-length")
            .filter(|_| !encoded)
            .and_then(|text| text.trim().parse().ok());
        let body = response.body().ok_or_else(|| network(url, "the answer is empty"))?;
        Ok(Self {
            url: url.to_owned(),
            signal: signal.clone(),
            reader: body.get_reader().unchecked_into(),
            etag: header("etag"),
            length,
            received: 0,
            ended: false,
        })
    }

    /// The next piece, of any length; `None` after the last one.
    ///
    /// # Errors
    /// [`Error::Network`] if the transfer breaks or ends before the announced length, [`Error::Aborted`].
    pub(crate) async fn next(&mut self) -> Result<Option<Uint8Array>> {
        let result = JsFuture::from(self.reader.read()).await.map_err(|e| {
            self.ended = true;
            match self.signal.aborted() {
                true => Error::Aborted,
                false => network(
                    &self.url,
                    format!("the transfer broke after {}: {}", self.so_far(), describe(&e)),
                ),
            }
        })?;
        if Reflect::get(&result, &"done".into()).is_ok_and(|done| done.is_truthy()) {
            self.ended = true;
            return match self.length {
                Some(length) if length != self.received => {
                    Err(network(&self.url, format!("the transfer ended after {}", self.so_far())))
                }
                _ => Ok(None),
            };
        }
        let piece: Uint8Array = Reflect::get(&result, &"value".into())
            .unwrap_or(JsValue::UNDEFINED)
            .unchecked_into();
        self.received += u64::from(piece.length());
        if self.length.is_some_and(|length| self.received > length) {
            return Err(network(
                &self.url,
                format!("the server sends more than it announced ({})", self.so_far()),
            ));
        }
        Ok(Some(piece))
    }

    fn so_far(&self) -> String {
        match self.length {
            Some(length) => format!("{} of {length} bytes", self.received),
            None => format!("{} bytes", self.received),
        }
    }
}

impl Drop for Download {
    /// Whoever loses interest half-way must not leave the rest downloading.
    fn drop(&mut self) {
        if !self.ended {
            let cancelled = self.reader.cancel();
            spawn(async move {
                let _ = JsFuture::from(cancelled).await; // a body that broke meanwhile says so here: of no interest
            });
        }
    }
}

/// `fetch` gave no response. Browsers hide the reason from scripts, so the words name the likely ones.
fn unreachable(url: &str, signal: &AbortSignal, e: &JsValue) -> Error {
    if signal.aborted() {
        return Error::Aborted;
    }
    if !scope().navigator().on_line() {
        return network(url, "the browser is offline");
    }
    let origin = |address: &str| web_sys::Url::new(address).map(|u| u.origin()).ok();
    let what = match origin(url) == origin(&scope().location().href()) {
        true => "the server cannot be reached",
        false => "the server cannot be reached, or does not let other sites read its files (CORS)",
    };
    network(url, format!("{what} ({})", describe(e)))
}

fn network(url: &str, what: impl Into<String>) -> Error {
    Error::Network {
        url: url.to_owned(),
        what: what.into(),
    }
}
