//! The options of [`Engine::load`](super::Engine::load), read from what JavaScript gave.

use js_sys::Reflect;
use wasm_bindgen::prelude::*;

#[cfg(feature = "webgpu")]
use super::device::{Debug, parse_forms};
use super::{
    load::{Device, Request},
    source,
};
use crate::{
    Error, Result,
    backend::{KvType, cpu::Activations},
};

/// The request, the address and the caller's name for the model.
///
/// # Errors
/// [`Error::InvalidRequest`] names what is wrong.
pub(super) fn read(options: &JsValue, gate: JsValue) -> Result<(Request, Option<String>, Option<String>)> {
    let invalid = |what: String| Error::InvalidRequest { what };
    let field = |name: &str| {
        Reflect::get(options, &name.into())
            .ok()
            .filter(|v| !v.is_undefined() && !v.is_null())
    };
    let text = |name: &str| match field(name) {
        None => Ok(None),
        Some(v) => v
            .as_string()
            .map(Some)
            .ok_or_else(|| invalid(format!("{name} must be a string"))),
    };
    let name = text("name")?;
    let source = source::read(options)?;
    let device = match text("backend")?.as_deref() {
        Some("webgpu") => Device::WebGpu,
        Some("cpu") => Device::Cpu,
        other => {
            return Err(invalid(format!(
                "backend is {:?}, it must be \"auto\", \"webgpu\" or \"cpu\"",
                other.unwrap_or_default()
            )));
        }
    };
    let kv = match text("kv")?.as_deref() {
        None => None,
        Some(name) => match KvType::from_name(name) {
            None => {
                return Err(invalid(format!("kv is {name:?}, it must be \"f32\", \"f16\" or \"q8_0\"")));
            }
            known => known,
        },
    };
    let activations = text("activations")?;
    let activations = Activations::asked(activations.as_deref()).ok_or_else(|| {
        invalid(format!(
            "activations is {:?}, it must be \"int8\" or \"f32\"",
            activations.unwrap_or_default()
        ))
    })?;
    let count = |name: &str, of: &str| match field(name) {
        None => Ok(None),
        Some(v) => match v.as_f64() {
            Some(n) if n.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(&n) => Ok(Some(n as u32)),
            _ => Err(invalid(format!("{name} is {v:?}, it must be a number of {of}"))),
        },
    };
    let n_ctx = count("n_ctx", "tokens")?;
    let threads = count("threads", "threads")?.unwrap_or(1) as usize;
    #[cfg(feature = "webgpu")]
    let debug = match field("debug") {
        None => Debug::default(),
        Some(debug) => {
            let field = |name: &str| Reflect::get(&debug, &name.into()).ok();
            Debug {
                software: field("software").is_some_and(|v| v.is_truthy()),
                default_limits: field("default_limits").is_some_and(|v| v.is_truthy()),
                forms: field("forms")
                    .and_then(|v| v.as_string())
                    .map(|text| parse_forms(&text))
                    .transpose()?,
                tune: field("tune").is_some_and(|v| v.is_truthy()),
                sabotage: field("sabotage").and_then(|v| v.as_string()),
            }
        }
    };
    Ok((
        Request {
            origin: source.origin,
            gate,
            speedup: source.speedup,
            use_store: source.use_store,
            device,
            #[cfg(feature = "webgpu")]
            software: field("software").is_some_and(|v| v.is_truthy()),
            threads,
            threads_why: text("threads_why")?,
            fallback: text("fallback")?,
            spent_ms: field("spent_ms").and_then(|v| v.as_f64()).unwrap_or(0.0),
            n_ctx,
            kv,
            activations,
            #[cfg(feature = "webgpu")]
            debug,
        },
        source.url,
        name,
    ))
}
