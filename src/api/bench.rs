//! Measuring from JavaScript: a loaded model, or a stand-in with a published one's shapes.

use serde::{Deserialize, Serialize};
use web_sys::AbortSignal;

#[cfg(feature = "webgpu")]
use super::device::adapter_words;
use super::{
    BUILD, heap_bytes,
    host::{EventLoop, WebHost},
    load::{Device, N_UBATCH_CPU, open_cpu},
};
use crate::{
    Error, Result,
    backend::{
        KvType,
        cpu::{Activations, Cpu},
    },
    bench::{self, CpuReport, Shape, Work},
    generate::Session,
    source::web::now_ms,
};
#[cfg(feature = "webgpu")]
use crate::{
    backend::gpu::{Gpu, GpuOptions},
    bench::Report,
};

/// What to run; described in worker.js. Like a load's, the backend is named, and threads have started.
#[derive(Deserialize)]
pub(super) struct Request {
    shape: Option<String>,
    prompt: u32,
    tokens: u32,
    repeats: u32,
    #[serde(default)]
    details: bool,
    backend: Option<Device>,
    #[cfg(feature = "webgpu")]
    #[serde(default)]
    software: bool,
    threads: Option<usize>,
    threads_why: Option<String>,
    fallback: Option<String>,
}

/// What came of a stand-in.
#[derive(Serialize)]
pub(super) struct Answer {
    model: &'static str,
    backend: Device,
    /// Why this is the CPU although the GPU was welcome.
    fallback: Option<String>,
    load_ms: f64,
    #[serde(flatten)]
    measured: Measured,
}

/// What ran, and how fast.
#[derive(Serialize)]
#[serde(untagged)]
enum Measured {
    #[cfg(feature = "webgpu")]
    Gpu {
        adapter: String,
        software: bool,
        #[serde(flatten)]
        report: Box<Report>,
    },
    Cpu {
        build: &'static str,
        activations: Activations,
        threads: usize,
        threads_why: Option<String>,
        heap_bytes: u64,
        #[serde(flatten)]
        report: CpuReport,
    },
}

/// Bytes done and in all.
#[derive(Serialize)]
pub(super) struct Event {
    backend: Device,
    loaded: u64,
    total: u64,
}

impl Request {
    fn work(&self) -> Work {
        Work {
            prompt: self.prompt,
            tokens: self.tokens,
            repeats: self.repeats,
        }
    }

    fn shape(&self) -> Result<Shape> {
        let name = self.shape.as_deref().unwrap_or("h-micro");
        Shape::from_name(name).ok_or_else(|| Error::InvalidRequest {
            what: format!("there is no shape {name:?}, only {}", Shape::ALL.map(Shape::name).join(", ")),
        })
    }

    pub(super) fn read(options: wasm_bindgen::JsValue) -> Result<Request> {
        serde_wasm_bindgen::from_value(options).map_err(|e| Error::InvalidRequest {
            what: format!("the measurement asked for cannot be read: {e}"),
        })
    }

    #[cfg(feature = "webgpu")]
    /// Measures a loaded model; its conversation starts anew afterwards.
    pub(super) async fn loaded(&self, host: &WebHost<'_>, session: &mut Session<Gpu>) -> Result<Report> {
        bench::speed(host, session.sequence_mut(), self.work()).await
    }

    /// Measures a model that was loaded on the CPU; its conversation starts anew afterwards.
    pub(super) async fn on_cpu(&self, host: &WebHost<'_>, session: &mut Session<Cpu>) -> Result<CpuReport> {
        bench::cpu_speed(host, session.sequence_mut(), self.work(), self.details).await
    }

    /// Fills a device with random weights and measures it.
    pub(super) async fn stand_in(&self, signal: &AbortSignal, report: &mut dyn FnMut(Event)) -> Result<Answer> {
        let (event_loop, closed) = (EventLoop::new(), std::cell::Cell::new(false));
        let host = WebHost {
            event_loop: &event_loop,
            signal: Some(signal),
            closed: &closed,
        };
        let (shape, backend) = (self.shape()?, self.backend.unwrap_or(Device::WebGpu));
        let mut progress = |loaded, total| {
            report(Event { backend, loaded, total });
        };
        let (load_ms, measured) = match backend {
            #[cfg(feature = "webgpu")]
            Device::WebGpu => self.stand_in_on_gpu(&host, shape, &mut progress).await?,
            #[cfg(not(feature = "webgpu"))]
            Device::WebGpu => return Err(super::load::no_gpu()),
            Device::Cpu => self.stand_in_on_cpu(&host, shape, &mut progress).await?,
        };
        Ok(Answer {
            model: shape.name(),
            backend,
            fallback: self.fallback.clone(),
            load_ms,
            measured,
        })
    }

    #[cfg(feature = "webgpu")]
    async fn stand_in_on_gpu(
        &self,
        host: &WebHost<'_>,
        shape: Shape,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(f64, Measured)> {
        let start = now_ms();
        let gpu = Gpu::new(GpuOptions {
            allow_software: self.software,
            timestamps: true,
            ..GpuOptions::default()
        })
        .await?;
        let (name, software) = (gpu.info().name.clone(), gpu.info().software);
        let adapter = adapter_words().await.unwrap_or(name);
        let n_ctx = self.prompt + self.tokens.max(48) + 1;
        let mut sequence = bench::stand_in(host, gpu, shape, n_ctx, KvType::F16, progress).await?;
        let load_ms = now_ms() - start;
        let report = bench::speed(host, &mut sequence, self.work()).await;
        sequence.lend().0.backend.destroy();
        let report = Box::new(report?);
        Ok((
            load_ms,
            Measured::Gpu {
                adapter,
                software,
                report,
            },
        ))
    }

    async fn stand_in_on_cpu(
        &self,
        host: &WebHost<'_>,
        shape: Shape,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(f64, Measured)> {
        let start = now_ms();
        let activations = Activations::default();
        let cpu = open_cpu(self.threads.unwrap_or(1), activations)?;
        let threads = cpu.n_threads();
        // Room for the batch that is timed op by op, which begins in the middle of the answer.
        let n_ctx = self.prompt + self.tokens + N_UBATCH_CPU;
        let mut sequence = bench::stand_in(host, cpu, shape, n_ctx, KvType::default(), progress).await?;
        let load_ms = now_ms() - start;
        // Before the copy that is measured takes some, which is no part of the engine.
        let heap_bytes = heap_bytes();
        let report = bench::cpu_speed(host, &mut sequence, self.work(), self.details).await?;
        Ok((
            load_ms,
            Measured::Cpu {
                build: BUILD,
                activations,
                threads,
                threads_why: self.threads_why.clone(),
                heap_bytes,
                report,
            },
        ))
    }
}
