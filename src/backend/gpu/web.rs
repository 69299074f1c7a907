//! A feature that browsers have and wgpu does not ask them for: `subgroups`, which wgpu knows on native devices only
//! (gfx-rs/wgpu#5555). An adapter that is requested through here asks for it by itself when a device is requested of it. Shaders reach
//! the browser as they are, so nothing else has to know.

use js_sys::{Array, Function, Object, Promise, Reflect};
use std::{cell::Cell, rc::Rc};
use wasm_bindgen::{JsCast, JsValue, closure::Closure};

const NAME: &str = "subgroups";

fn get(of: &JsValue, name: &str) -> Option<JsValue> {
    Reflect::get(of, &name.into())
        .ok()
        .filter(|v| !v.is_undefined() && !v.is_null())
}

fn method(of: &JsValue, name: &str) -> Option<Function> {
    get(of, name)?.dyn_into().ok()
}

/// While it lives, `navigator.gpu` gives adapters that ask for subgroups.
pub(super) struct Watch {
    gpu: JsValue,
    /// The last adapter has them.
    found: Rc<Cell<bool>>,
    _request: Closure<dyn FnMut(JsValue) -> Result<JsValue, JsValue>>,
}

impl Watch {
    /// `None` where there is no WebGPU.
    pub(super) fn new() -> Option<Watch> {
        let gpu = get(&get(&js_sys::global(), "navigator")?, "gpu")?;
        let original = method(&gpu, "requestAdapter")?;
        let found = Rc::new(Cell::new(false));
        let (of, seen) = (gpu.clone(), found.clone());
        let request = Closure::new(move |options: JsValue| -> Result<JsValue, JsValue> {
            let promise: Promise = original.call1(&of, &options)?.dyn_into()?;
            let seen = seen.clone();
            let asked = Closure::once(move |adapter: JsValue| {
                seen.set(ask(&adapter).is_some());
                adapter
            });
            let then = method(&promise, "then").ok_or(JsValue::UNDEFINED)?;
            then.call1(&promise, &asked.into_js_value())
        });
        Reflect::set(&gpu, &"requestAdapter".into(), request.as_ref()).ok()?;
        Some(Watch {
            gpu,
            found,
            _request: request,
        })
    }

    /// Whether devices of the last adapter have subgroups.
    pub(super) fn found(&self) -> bool {
        self.found.get()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The own property goes, the prototype's method is back.
        let _ = Reflect::delete_property(self.gpu.unchecked_ref::<Object>(), &"requestAdapter".into());
    }
}

/// Makes the adapter's devices ask for subgroups; `None` if it has none.
fn ask(adapter: &JsValue) -> Option<()> {
    let features = get(adapter, "features")?;
    let has = method(&features, "has")?.call1(&features, &NAME.into()).ok()?;
    if has != JsValue::TRUE {
        return None;
    }
    let original = method(adapter, "requestDevice")?;
    let of = adapter.clone();
    let request = Closure::<dyn FnMut(JsValue) -> Result<JsValue, JsValue>>::new(move |descriptor: JsValue| {
        let wanted = get(&descriptor, "requiredFeatures").map_or_else(Array::new, |list| Array::from(&list));
        wanted.push(&NAME.into());
        Reflect::set(&descriptor, &"requiredFeatures".into(), &wanted)?;
        original.call1(&of, &descriptor)
    });
    Reflect::set(adapter, &"requestDevice".into(), &request.into_js_value()).ok()?;
    Some(())
}
