//! Kernels compiled while the weights are still on their way.
//!
//! What a model dispatches follows from its header, so its kernels need not wait for the last byte: they are compiled by a thread, or
//! in a browser by `createComputePipelineAsync`, which neither the worker nor the browser's GPU process waits for.

use super::{fault::Scopes, kernels::Kernel, pipelines::Pipeline};
use crate::Result;

pub(super) use place::Ahead;

/// A kernel and what became of it.
type Made = (Kernel, Result<Pipeline>);

#[cfg(not(target_arch = "wasm32"))]
mod place {
    use super::*;
    use std::thread::{self, JoinHandle};

    /// Kernels under way.
    pub(in super::super) struct Ahead(JoinHandle<Vec<Made>>);

    impl Ahead {
        pub(in super::super) fn start(device: &wgpu::Device, kernels: Vec<Kernel>, sabotage: Option<&str>) -> Ahead {
            let (device, sabotage) = (device.clone(), sabotage.map(str::to_owned));
            let compile = move |kernel: Kernel| {
                // Scopes are a thread's own.
                let scopes = Scopes::push(&device);
                let pipeline = kernel.draft(&device, sabotage.as_deref()).compile(&device);
                (kernel, pollster::block_on(scopes.pop()).map(|()| pipeline))
            };
            Ahead(thread::spawn(move || kernels.into_iter().map(compile).collect()))
        }

        /// Waits for them.
        pub(in super::super) async fn finish(self, _: &wgpu::Device) -> Result<Vec<Made>> {
            Ok(self.0.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        }
    }
}

#[cfg(target_arch = "wasm32")]
mod place {
    use super::{super::pipelines::Draft, *};
    use crate::Error;
    use js_sys::{Function, Object, Promise, Reflect};
    use std::{cell::RefCell, pin::Pin, rc::Rc};
    use wasm_bindgen::{JsCast, JsValue, closure::Closure};
    use wasm_bindgen_futures::JsFuture;

    /// The call by which wgpu makes every pipeline; it knows no other.
    const MAKE: &str = "createComputePipeline";

    /// Kernels under way.
    pub(in super::super) struct Ahead {
        drafts: Vec<(Draft, Promise)>,
        /// What the device had against the drafts.
        checked: Pin<Box<dyn Future<Output = Result<()>>>>,
    }

    impl Ahead {
        pub(in super::super) fn start(device: &wgpu::Device, kernels: Vec<Kernel>, sabotage: Option<&str>) -> Ahead {
            let scopes = Scopes::push(device);
            let drafts: Vec<Draft> = kernels.into_iter().map(|k| k.draft(device, sabotage)).collect();
            let asked = Rc::new(RefCell::new(Vec::new()));
            let raw = raw(device);
            let later: Option<Function> = Reflect::get(&raw, &"createComputePipelineAsync".into())
                .ok()
                .and_then(|f| f.dyn_into().ok());
            if let Some(later) = later {
                let (asked, on) = (asked.clone(), raw.clone());
                let note = Closure::<dyn FnMut(JsValue) -> JsValue>::new(move |descriptor: JsValue| {
                    let promise = later.call1(&on, &descriptor).unwrap_or_else(|e| Promise::reject(&e).into());
                    asked.borrow_mut().push(promise.unchecked_into::<Promise>());
                    Object::new().into()
                });
                instead(&raw, note.as_ref(), || drafts.iter().for_each(|d| drop(d.make(device))));
            }
            let promises = asked.take();
            // A browser without the call: the kernels are compiled when they are first used.
            Ahead {
                drafts: drafts.into_iter().zip(promises).collect(),
                checked: Box::pin(scopes.pop()),
            }
        }

        /// Waits for them.
        pub(in super::super) async fn finish(self, device: &wgpu::Device) -> Result<Vec<Made>> {
            let raw = raw(device);
            let mut made = Vec::with_capacity(self.drafts.len());
            for (draft, promise) in self.drafts {
                match JsFuture::from(promise).await {
                    Ok(pipeline) => {
                        let give = Closure::<dyn FnMut(JsValue) -> JsValue>::new(move |_| pipeline.clone());
                        instead(&raw, give.as_ref(), || made.push((draft.kernel, Ok(draft.compile(device)))));
                    }
                    Err(e) => {
                        let what = crate::source::web::describe(&e);
                        made.push((draft.kernel, Err(Error::Gpu { what })));
                    }
                }
            }
            self.checked.await?;
            Ok(made)
        }
    }

    fn raw(device: &wgpu::Device) -> JsValue {
        device.as_webgpu().expect("the browser's device").into()
    }

    /// Runs `what` with another function in the place of [`MAKE`] on this one device.
    fn instead(raw: &JsValue, function: &JsValue, what: impl FnOnce()) {
        let _ = Reflect::set(raw, &MAKE.into(), function);
        what();
        let _ = Reflect::delete_property(raw.unchecked_ref::<Object>(), &MAKE.into());
    }
}
