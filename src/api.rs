//! The JavaScript binding: everything that `www/worker.js` calls, and the only place with `#[wasm_bindgen]` items.
//!
//! Methods take `&self` and hand out promises that own what they need: a page may stop, ask or free at any moment, while an
//! answer is being written. Answers are made one at a time, in the order in which they were asked for.
//!
//! Errors cross as JavaScript `Error`s with a `code`, see [`Error::code`]. Panics trap; the worker tells the page.

mod bench;
#[cfg(feature = "webgpu")]
mod device;
mod host;
mod load;
mod memory;
mod request;
mod source;
mod turns;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use js_sys::{Function, JSON, Promise, Reflect};
use serde::Serialize;
use wasm_bindgen::prelude::*;
use web_sys::AbortSignal;

use self::{
    host::{EventLoop, WebHost},
    load::{AnySession, Device, GpuStats, Loaded, Times},
    turns::Turns,
};
use crate::{
    Error, Result,
    backend::cpu::Activations,
    generate::{About, Options, Reply, Timings},
    gguf::HeaderReader,
    source::{digest::Digest, progress::Phase, stored, tasks, web},
    text::{ChatRequest, Detokenizer, ReplyPart, Tokenizer, ToolCalls},
};

/// The name under which a panic's message is left for the worker: the trap that follows carries none.
const PANIC: &str = "outcropPanic";

/// The name under which a panic's error code is left, if it has one of its own.
const PANIC_CODE: &str = "outcropPanicCode";

#[wasm_bindgen(start)]
fn start() {
    std::panic::set_hook(Box::new(|info| {
        let error = info.payload().downcast_ref::<Error>();
        let text = error.map_or_else(|| info.to_string(), Error::to_string);
        let _ = Reflect::set(&js_sys::global(), &PANIC.into(), &text.into());
        let _ = Reflect::set(&js_sys::global(), &PANIC_CODE.into(), &error.map(Error::code).into());
        console_error_panic_hook::hook(info);
    }));
}

/// How long after an error of the GPU's it may turn out to be lost.
#[cfg(feature = "webgpu")]
const LOSS_MS: f64 = 500.0;

/// A loaded model.
#[wasm_bindgen]
pub struct Engine(Rc<Inner>);

struct Inner {
    session: Turns<Box<AnySession>>,
    /// The session's own, for use while it is busy.
    tokenizer: Rc<Tokenizer>,
    event_loop: EventLoop,
    /// Freed: whatever still runs ends at its next token.
    closed: Cell<bool>,
    stats: RefCell<Stats>,
}

/// What `stats()` tells; described in worker.js.
#[derive(Clone, Serialize)]
struct Stats {
    backend: Device,
    adapter: Option<String>,
    gpu: Option<GpuStats>,
    fallback: Option<String>,
    build: &'static str,
    threads: usize,
    threads_why: Option<String>,
    activations: Option<Activations>,
    kv: &'static str,
    n_ctx: u32,
    n_ubatch: u32,
    model: ModelStats,
    source: SourceStats,
    load: Times,
    tokens: TokenStats,
    last: Option<Timings>,
    heap_bytes: u64,
}

#[derive(Clone, Serialize)]
struct ModelStats {
    #[serde(flatten)]
    about: About,
    bytes: u64,
}

#[derive(Clone, Serialize)]
struct SourceStats {
    kind: &'static str,
    url: Option<String>,
    stored: bool,
    why: Option<String>,
    sha256: Option<Digest>,
    checked: bool,
}

#[derive(Clone, Default, Serialize)]
struct TokenStats {
    prompt: usize,
    completion: usize,
    cached: usize,
}

/// The instruction sets that this file was compiled with.
const BUILD: &str = if cfg!(target_feature = "relaxed-simd") {
    "relaxed-simd"
} else if cfg!(target_feature = "simd128") {
    "simd128"
} else {
    "base"
};

/// The engine's memory, which never shrinks.
fn heap_bytes() -> u64 {
    core::arch::wasm32::memory_size::<0>() as u64 * 65536
}

#[wasm_bindgen]
impl Engine {
    /// Loads a model. `options` and the events given to `on_progress` are described in worker.js, but the backend is named, and threads
    /// have started; `gate` is a `DownloadControl`. An error has `elsewhere: true` if another backend may do better.
    #[wasm_bindgen(unchecked_return_type = "Promise<Engine>")]
    pub fn load(options: JsValue, on_progress: Function, signal: AbortSignal, gate: JsValue) -> Promise {
        tasks::promise(async move { Ok(Self::loaded(options, on_progress, signal, gate).await?.into()) })
    }

    /// Answers a conversation: `request` is OpenAI's. Resolves to the reply.
    ///
    /// `on_part` is called with each piece of text, or with `undefined` and a tool call, `{name, arguments}`. Calls are looked for
    /// only if the request has tools.
    pub fn chat(&self, request: JsValue, on_part: Function, signal: Option<AbortSignal>) -> Promise {
        let inner = self.0.clone();
        promise(async move {
            let json = JSON::stringify(&request).ok().and_then(|text| text.as_string());
            let json = json.ok_or_else(|| Error::InvalidRequest {
                what: "the request is no JSON".into(),
            })?;
            let (request, options) = (ChatRequest::from_json(&json)?, Options::from_json(&json)?);
            let reply = inner.chat(&request, &options, &on_part, signal.as_ref()).await?;
            Ok(to_object(&reply))
        })
    }

    /// The logits after each of `ids`, from an empty state: a Float32Array `[ids.length, n_vocab]`.
    pub fn score(&self, ids: Vec<u32>, signal: Option<AbortSignal>) -> Promise {
        let inner = self.0.clone();
        promise(async move {
            let mut session = inner.session.take().await;
            let host = inner.host(signal.as_ref());
            let logits = match &mut **session {
                #[cfg(feature = "webgpu")]
                AnySession::Gpu(session) => session.score(&host, &ids).await,
                AnySession::Cpu(session) => session.score(&host, &ids).await,
            };
            let logits = inner.or_lost(&session, logits).await?;
            Ok(js_sys::Float32Array::from(&logits[..]).into())
        })
    }

    /// A text's tokens. Control tokens are never parsed out of it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, JsValue> {
        self.0.tokenizer.encode(text).map_err(to_js)
    }

    /// The text of some tokens.
    pub fn decode(&self, ids: &[u32]) -> Result<String, JsValue> {
        let tokenizer = &self.0.tokenizer;
        if let Some(id) = ids.iter().find(|&&id| id as usize >= tokenizer.n_vocab()) {
            let what = format!("token {id} is not in the vocabulary of {}", tokenizer.n_vocab());
            return Err(to_js(Error::InvalidRequest { what }));
        }
        let mut detokenizer = Detokenizer::new(tokenizer);
        let mut text: String = ids.iter().map(|&id| detokenizer.push(id)).collect();
        text += &detokenizer.finish();
        Ok(text)
    }

    /// Measures the model where it is; see [`bench()`].
    pub fn bench(&self, options: JsValue, signal: Option<AbortSignal>) -> Promise {
        let inner = self.0.clone();
        promise(async move {
            let request = bench::Request::read(options)?;
            let mut session = inner.session.take().await;
            let host = inner.host(signal.as_ref());
            Ok(match &mut **session {
                #[cfg(feature = "webgpu")]
                AnySession::Gpu(session) => to_object(&request.loaded(&host, session).await?),
                AnySession::Cpu(session) => to_object(&request.on_cpu(&host, session).await?),
            })
        })
    }

    /// What runs, where and how fast.
    pub fn stats(&self) -> JsValue {
        let mut stats = self.0.stats.borrow_mut();
        stats.heap_bytes = heap_bytes();
        to_object(&*stats)
    }
}

impl Engine {
    async fn loaded(options: JsValue, on_progress: Function, signal: AbortSignal, gate: JsValue) -> Result<Engine, JsValue> {
        let (request, url, name) = request::read(&options, gate).map_err(to_js)?;
        let loaded = load::load(request, &signal, &mut |event| {
            // A page that throws at a progress event has no bearing on the load.
            let _ = on_progress.call1(&JsValue::NULL, &to_object(&event));
        })
        .await
        .map_err(to_js_elsewhere)?;
        Ok(Engine(Rc::new(Inner::new(loaded, url, name))))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.0.closed.set(true);
    }
}

impl Inner {
    fn new(loaded: Loaded, url: Option<String>, name: Option<String>) -> Self {
        let Loaded {
            session,
            device,
            adapter,
            gpu,
            threads,
            threads_why,
            activations,
            fallback,
            mut about,
            tokenizer,
            n_ctx,
            n_ubatch,
            kv,
            outcome,
            times,
        } = loaded;
        if let Some(name) = name {
            about.name = name;
        }
        let stats = Stats {
            backend: device,
            adapter,
            gpu,
            fallback,
            build: BUILD,
            threads,
            threads_why,
            activations,
            kv: kv.name(),
            n_ctx,
            n_ubatch,
            model: ModelStats {
                about,
                bytes: outcome.bytes,
            },
            source: SourceStats {
                kind: match outcome.phase {
                    Phase::Cache => "cache",
                    Phase::File => "file",
                    _ => "network",
                },
                url,
                stored: outcome.stored,
                why: outcome.why,
                sha256: outcome.sha256,
                checked: outcome.checked,
            },
            load: times,
            tokens: TokenStats::default(),
            last: None,
            heap_bytes: 0,
        };
        Self {
            session: Turns::new(Box::new(session)),
            tokenizer,
            event_loop: EventLoop::new(),
            closed: Cell::new(false),
            stats: RefCell::new(stats),
        }
    }

    fn host<'a>(&'a self, signal: Option<&'a AbortSignal>) -> WebHost<'a> {
        WebHost {
            event_loop: &self.event_loop,
            signal,
            closed: &self.closed,
        }
    }

    /// When a GPU goes, whatever waits for it may fail before the browser says why: waits a little for that.
    #[cfg(feature = "webgpu")]
    async fn or_lost<T>(&self, session: &AnySession, result: Result<T>) -> Result<T> {
        if let (Err(Error::Gpu { what }), AnySession::Gpu(session)) = (&result, session) {
            let gpu = &session.model().backend;
            let start_ms = crate::source::web::now_ms();
            while !gpu.is_lost() && crate::source::web::now_ms() - start_ms < LOSS_MS {
                self.event_loop.turn().await;
            }
            if gpu.is_lost() {
                return Err(Error::GpuLost { what: what.clone() });
            }
        }
        result
    }

    #[cfg(not(feature = "webgpu"))]
    async fn or_lost<T>(&self, _: &AnySession, result: Result<T>) -> Result<T> {
        result
    }

    async fn chat(
        &self,
        request: &ChatRequest,
        options: &Options,
        on_part: &Function,
        signal: Option<&AbortSignal>,
    ) -> Result<Reply> {
        let mut session = self.session.take().await;
        let host = self.host(signal);
        let pass_on = |part: ReplyPart| {
            let _ = match part {
                ReplyPart::Content(text) => on_part.call1(&JsValue::NULL, &text.into()),
                ReplyPart::ToolCall(call) => on_part.call2(&JsValue::NULL, &JsValue::UNDEFINED, &to_object(&call)),
            };
        };
        let has_tools = request.tools.as_ref().is_some_and(|tools| !tools.is_empty());
        let mut calls = has_tools.then(ToolCalls::new);
        let on_text = &mut |text: &str| match &mut calls {
            Some(calls) => calls.push(text).into_iter().for_each(pass_on),
            None => pass_on(ReplyPart::Content(text.to_owned())),
        };
        let reply = match &mut **session {
            #[cfg(feature = "webgpu")]
            AnySession::Gpu(session) => session.chat(&host, request, options, on_text).await,
            AnySession::Cpu(session) => session.chat(&host, request, options, on_text).await,
        };
        let reply = self.or_lost(&session, reply).await?;
        if let Some(mut calls) = calls {
            calls.finish().into_iter().for_each(pass_on);
        }
        let mut stats = self.stats.borrow_mut();
        stats.tokens.prompt += reply.usage.prompt_tokens;
        stats.tokens.completion += reply.usage.completion_tokens;
        stats.tokens.cached += reply.usage.cached_tokens;
        stats.last = Some(reply.timings);
        Ok(reply)
    }
}

/// Measures a stand-in for a published model, with random weights; the options and the answer are described in worker.js.
/// Errors as [`Engine::load`]'s.
#[wasm_bindgen]
pub fn bench(options: JsValue, on_progress: Function, signal: AbortSignal) -> Promise {
    tasks::promise(async move {
        let request = bench::Request::read(options).map_err(to_js)?;
        let report = request
            .stand_in(&signal, &mut |event| {
                let _ = on_progress.call1(&JsValue::NULL, &to_object(&event));
            })
            .await
            .map_err(to_js_elsewhere)?;
        Ok(to_object(&report))
    })
}

/// Makes room for so many helpers of the CPU backend, before they start: the address of each one's word, see `cpu/pool.rs`. Helpers are
/// workers that `www/threads.js` starts, each with an instance of this module over the same memory.
#[cfg(target_feature = "atomics")]
#[wasm_bindgen]
pub fn make_room(n_helpers: usize) -> Vec<u32> {
    crate::backend::cpu::pool::make_room(n_helpers)
}

/// The life of helper `i`, from 1 on. It does not return.
#[cfg(target_feature = "atomics")]
#[wasm_bindgen]
pub fn help(i: usize) {
    crate::backend::cpu::pool::help(i);
}

/// Bytes of the last allocation that failed, 0 if none has. It may be called after a trap: it reads one word.
#[wasm_bindgen]
pub fn missing_bytes() -> usize {
    memory::missing_bytes()
}

/// The models in IndexedDB: an array of worker.js's `StoredModel`.
#[wasm_bindgen]
pub fn models() -> Promise {
    promise(async { Ok(to_object(&stored::stored_models().await?)) })
}

/// Removes a model from IndexedDB; `id` is one of those that [`models`] lists.
#[wasm_bindgen]
pub fn delete_model(id: String) -> Promise {
    promise(async move {
        stored::delete(&id).await?;
        Ok(JsValue::NULL)
    })
}

/// A stored file: `{name, blob}`.
#[wasm_bindgen]
pub fn export_model(id: String) -> Promise {
    promise(async move {
        let (name, blob) = stored::export(&id).await?;
        let file = js_sys::Object::new();
        let _ = Reflect::set(&file, &"name".into(), &name.into());
        let _ = Reflect::set(&file, &"blob".into(), &blob);
        Ok(file.into())
    })
}

/// Stores a picked file; the options, the events and the answer are described in worker.js.
#[wasm_bindgen]
pub fn import_model(file: JsValue, options: JsValue, on_progress: Function, signal: AbortSignal) -> Promise {
    promise(async move {
        let (file, import) = source::import(&file, &options)?;
        let model = stored::import::<HeaderReader>(&file, &import, &signal, &mut |progress| {
            let _ = on_progress.call1(&JsValue::NULL, &to_object(&progress));
        })
        .await?;
        Ok(to_object(&model))
    })
}

/// What is known of a model before it is loaded: worker.js's `Probe`. `options` are a load's.
#[wasm_bindgen]
pub fn probe(options: JsValue, signal: AbortSignal) -> Promise {
    promise(async move {
        let source = source::read(&options)?;
        let reading = web::Reading {
            origin: &source.origin,
            use_store: source.use_store,
            gate: &JsValue::UNDEFINED,
            speedup: source.speedup,
            signal: &signal,
        };
        Ok(to_object(&web::probe(&reading).await?))
    })
}

/// A promise of what a future gives.
fn promise(future: impl Future<Output = Result<JsValue>> + 'static) -> Promise {
    tasks::promise(async move { future.await.map_err(to_js) })
}

/// Plain objects, arrays, numbers and null, as JSON has them.
fn to_object(value: &impl Serialize) -> JsValue {
    value
        .serialize(&serde_wasm_bindgen::Serializer::json_compatible())
        .expect("plain data becomes plain objects")
}

/// An `Error` with a `code`.
fn to_js(e: Error) -> JsValue {
    let error = js_sys::Error::new(&e.to_string());
    let _ = Reflect::set(&error, &"code".into(), &e.code().into());
    error.into()
}

/// The same, with `elsewhere: true` if another backend may do better.
fn to_js_elsewhere(e: Error) -> JsValue {
    let elsewhere = load::is_the_gpus_fault(&e);
    let error = to_js(e);
    let _ = Reflect::set(&error, &"elsewhere".into(), &elsewhere.into());
    error
}
