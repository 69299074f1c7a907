//! A load from the caller's options to a session: which backend, where the bytes come from, what is told on the way.

use std::cell::Cell;

use serde::{Deserialize, Serialize};
use wasm_bindgen::JsValue;
use web_sys::AbortSignal;

#[cfg(feature = "webgpu")]
pub(crate) use super::device::GpuStats;
#[cfg(feature = "webgpu")]
use super::device::{self, Debug};
use super::host::{EventLoop, WebHost};
#[cfg(feature = "webgpu")]
use crate::backend::gpu::Gpu;
use crate::{
    Error, Result,
    backend::{
        Backend, KvType,
        cpu::{Activations, Cpu, Pool},
    },
    generate::{About, Options, Received, Receiver, Session},
    gguf::HeaderReader,
    source::{
        Sink,
        download::{Outcome, Spec},
        progress::{Phase, Progress},
        web::{Origin, Reading, after_reading, now_ms},
    },
};

/// Nothing can be told of a GPU.
#[cfg(not(feature = "webgpu"))]
pub(crate) type GpuStats = ();

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Device {
    WebGpu,
    Cpu,
}

/// What the caller asks for.
pub(crate) struct Request {
    pub(crate) origin: Origin,
    pub(crate) device: Device,
    /// A GPU that the CPU plays will do: it is slower than the CPU, so only whoever asks for a GPU by name gets it.
    #[cfg(feature = "webgpu")]
    pub(crate) software: bool,
    /// Threads of the CPU; helpers for them have started.
    pub(crate) threads: usize,
    /// Why there are no more of them.
    pub(crate) threads_why: Option<String>,
    /// Why this is the CPU although the GPU was welcome.
    pub(crate) fallback: Option<String>,
    /// Milliseconds that were lost on that GPU.
    pub(crate) spent_ms: f64,
    pub(crate) n_ctx: Option<u32>,
    pub(crate) kv: Option<KvType>,
    /// What the CPU multiplies weights with.
    pub(crate) activations: Activations,
    /// Read the model from IndexedDB if it is there, and keep it there.
    pub(crate) use_store: bool,
    /// What pauses the download.
    pub(crate) gate: JsValue,
    /// What a download's waits are divided by, in tests.
    pub(crate) speedup: f64,
    #[cfg(feature = "webgpu")]
    pub(crate) debug: Debug,
}

/// A session on either backend.
pub(crate) enum AnySession {
    #[cfg(feature = "webgpu")]
    Gpu(Session<Gpu>),
    Cpu(Session<Cpu>),
}

/// A loaded model and how it came about.
pub(crate) struct Loaded {
    pub(crate) session: AnySession,
    pub(crate) device: Device,
    pub(crate) adapter: Option<String>,
    pub(crate) gpu: Option<GpuStats>,
    /// Threads of the CPU.
    pub(crate) threads: usize,
    /// Why there are no more of them.
    pub(crate) threads_why: Option<String>,
    /// On the CPU.
    pub(crate) activations: Option<Activations>,
    /// Why the CPU was taken although the GPU was welcome.
    pub(crate) fallback: Option<String>,
    pub(crate) about: About,
    pub(crate) tokenizer: std::rc::Rc<crate::text::Tokenizer>,
    pub(crate) n_ctx: u32,
    pub(crate) n_ubatch: u32,
    pub(crate) kv: KvType,
    pub(crate) outcome: Outcome,
    pub(crate) times: Times,
}

/// Milliseconds of a load, part by part.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Times {
    /// Until the device was there.
    pub(crate) device_ms: f64,
    /// From then until the header was understood and the tokenizer built.
    pub(crate) header_ms: f64,
    /// From then until the last byte was read; uploads overlap with it.
    pub(crate) read_ms: f64,
    /// From then until all was on the device.
    pub(crate) upload_ms: f64,
    /// The kernels that were not ready by then, and the first pass.
    pub(crate) compile_ms: f64,
    /// All of it, a first try on another device included.
    pub(crate) total_ms: f64,
}

/// A progress event as the caller sees it.
#[derive(Serialize)]
pub(crate) struct Event {
    pub(crate) backend: Device,
    #[serde(flatten)]
    pub(crate) progress: Progress,
}

/// Contexts by default, in tokens: what a long chat needs, at 16 KiB of f32 keys and values a token in the largest model. The
/// CPU's share of memory is tighter, and a prompt that long would take it many minutes.
const N_CTX_GPU: u32 = 16384;
const N_CTX_CPU: u32 = 8192;

/// Tokens in a pass on the CPU: enough to use a weight many times once it is read, few enough that a stop button is heard soon.
pub(super) const N_UBATCH_CPU: u32 = 32;

/// Loads a model.
///
/// # Errors
/// [`Error::NoGpu`] if the GPU is asked for by name and absent; what the source, the file or the device say; [`Error::Aborted`].
pub(crate) async fn load(request: Request, signal: &AbortSignal, report: &mut dyn FnMut(Event)) -> Result<Loaded> {
    let (mut changes, mut mismatches) = (0, 0);
    loop {
        // What had come is no part of the file that the server has now, or wrong somewhere, and gone: a device that was given some of it
        // begins anew.
        match load_once(&request, signal, report).await {
            _ if signal.aborted() => return Err(Error::Aborted),
            Err(Error::FileChanged { .. }) if changes < MOST_CHANGES => changes += 1,
            Err(Error::DigestMismatch { .. }) if mismatches < MOST_MISMATCHES => mismatches += 1,
            done => return done,
        }
    }
}

/// How often a file may become another one while it is downloaded.
const MOST_CHANGES: u32 = 2;
/// How often a whole file may be wrong: once is chance, twice is the host.
const MOST_MISMATCHES: u32 = 1;

async fn load_once(request: &Request, signal: &AbortSignal, report: &mut dyn FnMut(Event)) -> Result<Loaded> {
    let start_ms = now_ms();
    let mut loaded = match request.device {
        Device::WebGpu => load_gpu(request, signal, report).await?,
        Device::Cpu => load_cpu(request, signal, report).await?,
    };
    loaded.times.total_ms = request.spent_ms + now_ms() - start_ms;
    Ok(loaded)
}

/// The CPU, nothing on it yet; helpers for its threads have started.
///
/// # Errors
/// As [`Pool::new`].
pub(super) fn open_cpu(threads: usize, activations: Activations) -> Result<Cpu> {
    Ok(Cpu::with_activations(N_UBATCH_CPU, activations).with_pool(Pool::new(threads)?))
}

async fn load_cpu(request: &Request, signal: &AbortSignal, report: &mut dyn FnMut(Event)) -> Result<Loaded> {
    let cpu = open_cpu(request.threads, request.activations)?;
    let threads = cpu.n_threads();
    let mut loaded = load_on(
        cpu,
        Device::Cpu,
        AnySession::Cpu,
        now_ms(),
        request,
        signal,
        &mut |mut event| {
            // The reason goes with every event: a page may show only the latest.
            let why = request.fallback.as_ref().map(|why| format!("running on the CPU: {why}"));
            event.progress.note = [why, event.progress.note]
                .into_iter()
                .flatten()
                .reduce(|a, b| format!("{a}; {b}"));
            report(event);
        },
    )
    .await?;
    loaded.activations = Some(request.activations);
    loaded.threads = threads;
    Ok(loaded)
}

#[cfg(not(feature = "webgpu"))]
pub(super) fn no_gpu() -> Error {
    Error::NoGpu {
        what: "this build has none of it".into(),
    }
}

#[cfg(not(feature = "webgpu"))]
async fn load_gpu(_: &Request, _: &AbortSignal, _: &mut dyn FnMut(Event)) -> Result<Loaded> {
    Err(no_gpu())
}

#[cfg(feature = "webgpu")]
async fn load_gpu(request: &Request, signal: &AbortSignal, report: &mut dyn FnMut(Event)) -> Result<Loaded> {
    let start_ms = now_ms();
    let (gpu, adapter, findings) = device::open(&request.debug, request.software).await?;
    let mut loaded = load_on(gpu, Device::WebGpu, AnySession::Gpu, start_ms, request, signal, report).await?;
    loaded.adapter = Some(adapter);
    if let AnySession::Gpu(session) = &loaded.session {
        loaded.gpu = Some(findings.tell(&session.model().backend).await);
    }
    Ok(loaded)
}

/// Whether another device may do better.
pub(crate) fn is_the_gpus_fault(e: &Error) -> bool {
    matches!(
        e,
        Error::NoGpu { .. }
            | Error::Gpu { .. }
            | Error::GpuLost { .. }
            | Error::OutOfMemory { .. }
            | Error::UnsupportedHere { .. }
    )
}

async fn load_on<B: Backend>(
    backend: B,
    device: Device,
    wrap: impl FnOnce(Session<B>) -> AnySession,
    start_ms: f64,
    request: &Request,
    signal: &AbortSignal,
    report: &mut dyn FnMut(Event),
) -> Result<Loaded> {
    let device_ms = now_ms();
    let n_ubatch = backend.n_ubatch();
    let mut report = |progress: Progress| {
        report(Event {
            backend: device,
            progress,
        })
    };
    let reading = Reading {
        origin: &request.origin,
        use_store: request.use_store,
        gate: &request.gate,
        speedup: request.speedup,
        signal,
    };
    let specs: Vec<Spec> = reading.specs().await?;
    let heads = reading.heads::<HeaderReader>(&specs).await?;
    let mut intake = Intake {
        receiver: Receiver::with_parts(backend, heads),
        n_ctx: request.n_ctx,
        usual: if device == Device::Cpu { N_CTX_CPU } else { N_CTX_GPU },
        kv: request.kv.unwrap_or_default(),
        header_ms: device_ms,
    };
    let outcome = reading.read(&specs, &mut report, &mut intake).await?;
    let Intake {
        receiver,
        n_ctx,
        kv,
        header_ms,
        ..
    } = intake;
    let n_ctx = n_ctx.expect("the header came");
    let read_ms = now_ms();

    let mut phase = |phase: Phase| report(after_reading(&outcome, phase));
    phase(Phase::Upload);
    let mut received = receiver.finish().await?;
    let upload_ms = now_ms();

    phase(Phase::Compile);
    let (about, tokenizer) = (received.about.clone(), received.tokenizer.clone());
    received.ready().await?;
    let session = first_pass(received, n_ctx, kv, device, signal).await?;
    let end_ms = now_ms();
    phase(Phase::Ready);

    Ok(Loaded {
        session: wrap(session),
        device,
        adapter: None,
        gpu: None,
        activations: None,
        threads: 1,
        threads_why: request.threads_why.clone(),
        fallback: request.fallback.clone(),
        about,
        tokenizer,
        n_ctx,
        n_ubatch,
        kv,
        outcome,
        times: Times {
            device_ms: device_ms - start_ms,
            header_ms: header_ms - device_ms,
            read_ms: read_ms - header_ms,
            upload_ms: upload_ms - read_ms,
            compile_ms: end_ms - upload_ms,
            total_ms: 0.0,
        },
    })
}

/// Makes the session. A GPU then answers prompts of no meaning: browsers compile shaders when they are first used, and
/// the first answer should not wait for that.
async fn first_pass<B: Backend>(
    received: Received<B>,
    n_ctx: u32,
    kv: KvType,
    device: Device,
    signal: &AbortSignal,
) -> Result<Session<B>> {
    let mut session = received.session(n_ctx, kv)?;
    if device == Device::WebGpu {
        let host = WebHost {
            event_loop: &EventLoop::new(),
            signal: Some(signal),
            closed: &Cell::new(false),
        };
        let options = Options {
            max_tokens: Some(2),
            ignore_eos: true,
            ..Options::default()
        };
        // Long prompts, short ones and single tokens have kernels of their own.
        for n in [17, 2] {
            session
                .generate(&host, &[0; 17][..n.min(n_ctx as usize)], &options, &mut |_| {})
                .await?;
        }
    }
    match signal.aborted() {
        true => Err(Error::Aborted),
        false => Ok(session),
    }
}

/// A [`Receiver`] that notes when the header was complete, and checks against it what was asked.
struct Intake<B: Backend> {
    receiver: Receiver<B>,
    /// What was asked; from the header on what will be.
    n_ctx: Option<u32>,
    /// Unless asked otherwise.
    usual: u32,
    kv: KvType,
    header_ms: f64,
}

impl<B: Backend> Sink for Intake<B> {
    fn begin(&mut self, len: Option<u64>) -> Result<()> {
        self.receiver.begin(len)
    }

    fn push(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let header = self.receiver.about().is_none();
        self.receiver.push(offset, bytes)?;
        if let (true, Some(about)) = (header, self.receiver.about()) {
            self.header_ms = now_ms();
            let most = about.n_ctx_train;
            let n_ctx = self.n_ctx.unwrap_or(most.min(self.usual));
            if !(1..=most).contains(&n_ctx) {
                let what = format!("n_ctx is {n_ctx}, it must be from 1 to {most}, which this model was trained for");
                return Err(Error::InvalidRequest { what });
            }
            self.n_ctx = Some(n_ctx);
            self.receiver.prepare(n_ctx, self.kv)?;
        }
        Ok(())
    }

    fn needs(&self) -> Option<u64> {
        self.receiver.needs()
    }

    fn end(&mut self, len: u64) -> Result<()> {
        self.receiver.end(len)
    }
}
