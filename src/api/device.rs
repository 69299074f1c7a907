//! How the GPU is opened for a load, and what is told of it: which forms of its kernels run, and why.

use js_sys::{Function, Object, Promise, Reflect};
use serde::Serialize;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use crate::{
    Error, Result,
    backend::gpu::{Forms, Gpu, GpuOptions},
    source::{notes, web::scope},
};

/// For tests and measurements.
#[derive(Default)]
pub(crate) struct Debug {
    /// Takes a GPU that the CPU plays even if none was asked for by name.
    pub(crate) software: bool,
    /// As in [`GpuOptions`].
    pub(crate) default_limits: bool,
    /// As in [`GpuOptions`].
    pub(crate) forms: Option<Forms>,
    /// Compares forms anew, also on a GPU that the CPU plays.
    pub(crate) tune: bool,
    /// As in [`GpuOptions`].
    pub(crate) sabotage: Option<String>,
}

/// What `stats()` tells of the kernels on a GPU.
#[derive(Clone, Serialize)]
pub(crate) struct GpuStats {
    /// Family of kernels -> form.
    forms: std::collections::BTreeMap<&'static str, &'static str>,
    /// `default`, `forced`, `measured` or `remembered`.
    chosen: &'static str,
    /// Why nothing was measured.
    why_not: Option<&'static str>,
    times: Vec<TimeStats>,
    tuning_ms: f64,
    dropped: Vec<DroppedStats>,
    check_ms: f64,
}

#[derive(Clone, Serialize)]
struct TimeStats {
    form: String,
    ms: f64,
}

#[derive(Clone, Serialize)]
struct DroppedStats {
    form: String,
    why: String,
}

/// Opens the GPU; also its adapter in words. `software`: one that the CPU plays will do.
///
/// # Errors
/// [`Error::NoGpu`].
pub(crate) async fn open(debug: &Debug, software: bool) -> Result<(Gpu, String, Findings)> {
    let words = adapter_words().await;
    // Another driver or browser may have another favourite.
    let browser = scope().navigator().user_agent().unwrap_or_default();
    let key = format!("forms of {} | {browser}", words.as_deref().unwrap_or("an unnamed adapter"));
    let remembered = match debug.tune {
        true => None,
        false => notes::get(&key).await.ok().flatten().and_then(|text| Forms::parse(&text)),
    };
    let gpu = Gpu::new(GpuOptions {
        allow_software: software || debug.software,
        default_limits: debug.default_limits,
        forms: debug.forms,
        remembered,
        tune: debug.tune.then_some(true),
        sabotage: debug.sabotage.clone(),
        ..GpuOptions::default()
    })
    .await?;
    let findings = Findings {
        key,
        forced: debug.forms.is_some(),
        remembered: remembered.filter(|&forms| gpu.forms() == forms),
    };
    let adapter = words.unwrap_or_else(|| gpu.info().name.clone());
    Ok((gpu, adapter, findings))
}

/// The GPU in the browser's words, `nvidia turing`: browsers mask all but maker and family, and wgpu passes on neither.
pub(crate) async fn adapter_words() -> Option<String> {
    let get = |of: &JsValue, name: &str| Reflect::get(of, &name.into()).ok().filter(|v| !v.is_undefined());
    let gpu = get(&scope().navigator(), "gpu")?;
    let request: Function = get(&gpu, "requestAdapter")?.dyn_into().ok()?;
    let options = Object::new();
    Reflect::set(&options, &"powerPreference".into(), &"high-performance".into()).ok()?;
    let promise: Promise = request.call1(&gpu, &options).ok()?.dyn_into().ok()?;
    let info = get(&JsFuture::from(promise).await.ok()?, "info")?;
    let parts = ["vendor", "architecture", "description"].map(|name| get(&info, name).and_then(|v| v.as_string()));
    let words: Vec<String> = parts.into_iter().flatten().filter(|word| !word.is_empty()).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// What to remember of an opened GPU, once a model is ready on it.
pub(crate) struct Findings {
    key: String,
    forced: bool,
    remembered: Option<Forms>,
}

impl Findings {
    /// Warns of forms that were given up, keeps what was measured for the next visit, and tells.
    pub(crate) async fn tell(self, gpu: &Gpu) -> GpuStats {
        let tuning = gpu.tuning();
        let measured = !tuning.times.is_empty();
        if measured {
            // A visitor who lets nothing be stored waits again.
            let _ = notes::put(&self.key, &gpu.forms().to_text()).await;
        }
        let dropped = gpu.dropped().iter().map(|d| {
            web_sys::console::warn_1(&format!("outcrop: {} is not used on this GPU: {}", d.form, d.why).into());
            DroppedStats {
                form: d.form.clone(),
                why: d.why.clone(),
            }
        });
        GpuStats {
            forms: gpu.forms().names().into_iter().collect(),
            chosen: match (self.forced, measured, self.remembered) {
                (true, ..) => "forced",
                (_, true, _) => "measured",
                (_, _, Some(_)) => "remembered",
                _ => "default",
            },
            why_not: tuning.why_not,
            times: tuning
                .times
                .iter()
                .map(|(form, ms)| TimeStats {
                    form: form.clone(),
                    ms: *ms,
                })
                .collect(),
            tuning_ms: tuning.took_ms,
            dropped: dropped.collect(),
            check_ms: gpu.check_ms(),
        }
    }
}

/// Reads [`Debug::forms`].
///
/// # Errors
/// [`Error::InvalidRequest`].
pub(crate) fn parse_forms(text: &str) -> Result<Forms> {
    Forms::parse(text).ok_or_else(|| Error::InvalidRequest {
        what: format!("forms is {text:?}, it must be like {:?}", Forms::default().to_text()),
    })
}
