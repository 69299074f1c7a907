//! Measuring from JavaScript: a loaded model, or a stand-in with a published one's shapes.

use serde::Deserialize;
#[cfg(feature = "webgpu")]
use serde::Serialize;
#[cfg(feature = "webgpu")]
use web_sys::AbortSignal;

use super::host::WebHost;
#[cfg(feature = "webgpu")]
use super::{device::adapter_words, host::EventLoop};
use crate::{
    Error, Result,
    backend::cpu::Cpu,
    bench::{self, CpuReport, Work},
    generate::Session,
};
#[cfg(feature = "webgpu")]
use crate::{
    backend::{
        KvType,
        gpu::{Gpu, GpuOptions},
    },
    bench::{Report, Shape},
    source::web::now_ms,
};

/// What to run; described in worker.js.
#[derive(Deserialize)]
pub(super) struct Request {
    #[cfg(feature = "webgpu")]
    shape: Option<String>,
    prompt: u32,
    tokens: u32,
    repeats: u32,
    #[serde(default)]
    details: bool,
}

/// What came of it.
#[cfg(feature = "webgpu")]
#[derive(Serialize)]
pub(super) struct Answer {
    model: String,
    adapter: String,
    software: bool,
    load_ms: f64,
    #[serde(flatten)]
    report: Report,
}

/// Bytes done and in all.
#[cfg(feature = "webgpu")]
#[derive(Serialize)]
pub(super) struct Event {
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

    #[cfg(feature = "webgpu")]
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

    #[cfg(feature = "webgpu")]
    /// Fills a GPU with random weights and measures it.
    pub(super) async fn stand_in(&self, signal: &AbortSignal, report: &mut dyn FnMut(Event)) -> Result<Answer> {
        let (event_loop, closed) = (EventLoop::new(), std::cell::Cell::new(false));
        let host = WebHost {
            event_loop: &event_loop,
            signal: Some(signal),
            closed: &closed,
        };
        let shape = self.shape()?;
        let start = now_ms();
        let gpu = Gpu::new(GpuOptions {
            timestamps: true,
            ..GpuOptions::default()
        })
        .await?;
        let (name, software) = (gpu.info().name.clone(), gpu.info().software);
        let adapter = adapter_words().await.unwrap_or(name);
        let n_ctx = self.prompt + self.tokens.max(48) + 1;
        let mut sequence = bench::stand_in(&host, gpu, shape, n_ctx, KvType::F16, |loaded, total| {
            report(Event { loaded, total });
        })
        .await?;
        let load_ms = now_ms() - start;
        let measured = bench::speed(&host, &mut sequence, self.work()).await;
        sequence.lend().0.backend.destroy();
        Ok(Answer {
            model: shape.name().into(),
            adapter,
            software,
            load_ms,
            report: measured?,
        })
    }
}
