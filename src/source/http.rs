//! One request over `fetch`: the answer's head as far as this site may see it, its body piece by piece.

use std::ops::Range;

use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortController, ReferrerPolicy, Request, RequestCache, RequestInit, Response};

use super::{
    buffers::{Reader, WebBytes},
    download::{
        answer::Headers,
        patience,
        world::{Answer, Body, Broken},
    },
    tasks::spawn,
    web::{describe, scope},
};

/// A request or a body under way: whoever loses interest drops it, and the transfer ends.
struct Transfer {
    controller: AbortController,
    over: bool,
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if !self.over {
            self.controller.abort();
        }
    }
}

/// A response whose body is being read.
pub(super) struct WebBody {
    transfer: Transfer,
    /// `None`: there is no body at all.
    reader: Option<Reader>,
}

/// Asks for `url`, or for some bytes of it, and waits for the headers.
///
/// # Errors
/// In words, if there is no answer.
pub(super) async fn get(url: String, range: Option<Range<u64>>, strong_etag: Option<String>) -> Result<Answer<WebBody>, Broken> {
    let controller = AbortController::new().map_err(|e| Broken(describe(&e)))?;
    let init = RequestInit::new();
    init.set_signal(Some(&controller.signal()));
    // The model has a store of its own; two gigabytes more in the HTTP cache would only push other things out.
    init.set_cache(RequestCache::NoStore);
    init.set_referrer_policy(ReferrerPolicy::NoReferrer);
    let request = Request::new_with_str_and_init(&url, &init)
        .map_err(|e| Broken(format!("{url} is no address to download from: {}", describe(&e))))?;
    if let Some(Range { start, end }) = range {
        let _ = request.headers().set("Range", &format!("bytes={start}-{}", end - 1));
        // Other origins would first have to be asked whether this header may be sent; of their answers the ETag is compared instead.
        if let Some(etag) = strong_etag.filter(|_| is_same_origin(&url)) {
            let _ = request.headers().set("If-Range", &etag);
        }
    }
    let mut transfer = Transfer { controller, over: false };
    let fetched = JsFuture::from(scope().fetch_with_request(&request)).await;
    let response: Response = match fetched {
        Ok(response) => response.unchecked_into(),
        Err(e) => {
            transfer.over = true;
            return Err(unreachable(&url, &e));
        }
    };
    let headers = response.headers();
    let header = |name| headers.get(name).ok().flatten();
    Ok(Answer {
        status: response.status(),
        redirected_to: response.redirected().then(|| response.url()),
        headers: Headers {
            etag: header("etag"),
            last_modified: header("last-modified"),
            content_length: header("content-length").and_then(|text| text.trim().parse().ok()),
            content_range: header("content-range"),
            content_encoding: header("content-encoding"),
            retry_after_ms: header("retry-after").and_then(|text| {
                let date = |text: &str| Some(js_sys::Date::parse(text));
                patience::retry_after_ms(&text, js_sys::Date::now(), date)
            }),
            linked_etag: header("x-linked-etag"),
        },
        body: WebBody {
            transfer,
            reader: response.body().map(|body| Reader::of(&body)),
        },
    })
}

impl Body for WebBody {
    type Bytes = WebBytes;

    async fn next(&mut self) -> Result<Option<WebBytes>, Broken> {
        let Some(reader) = &self.reader else {
            self.transfer.over = true;
            return Ok(None);
        };
        let piece = reader.next().await;
        self.transfer.over = !matches!(piece, Ok(Some(_)));
        piece.map_err(|e| Broken(describe(&e)))
    }
}

impl Drop for WebBody {
    fn drop(&mut self) {
        if let (Some(reader), false) = (&self.reader, self.transfer.over) {
            let cancelled = reader.cancel();
            spawn(async move {
                let _ = cancelled.await; // a body that broke meanwhile says so here: of no interest
            });
        }
    }
}

fn is_same_origin(url: &str) -> bool {
    let origin = |address: &str| web_sys::Url::new(address).map(|u| u.origin()).ok();
    origin(url) == origin(&scope().location().href())
}

/// `fetch` gave no response. Browsers hide the reason from scripts, so the words name the likely ones.
fn unreachable(url: &str, e: &JsValue) -> Broken {
    let what = match is_same_origin(url) {
        _ if !scope().navigator().on_line() => "the browser is offline",
        true => "the server cannot be reached",
        false => "the server cannot be reached, or does not let other sites read its files (CORS)",
    };
    Broken(format!("{what} ({})", describe(e)))
}
