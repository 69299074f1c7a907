//! What a device has to say that is no result: errors of the calls of a scope, errors at any time, and that it is gone.

use super::Gpu;
use crate::{Error, Result};
use std::sync::{Arc, Mutex, PoisonError};

/// Something the device reported outside of any call.
#[derive(Debug)]
pub(super) enum Fault {
    Error(String),
    OutOfMemory,
    Lost(String),
}

impl Gpu {
    /// The device is gone for good.
    pub fn is_lost(&self) -> bool {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(&*fault, Some(Fault::Lost(_)))
    }

    /// A fault reported since the last call; a lost device stays lost.
    pub(super) fn check(&self) -> Result<()> {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        match &*fault {
            None => Ok(()),
            Some(Fault::Lost(what)) => Err(Error::GpuLost { what: what.clone() }),
            Some(Fault::OutOfMemory) => {
                *fault = None;
                Err(Error::OutOfMemory {
                    what: "buffers on the GPU, weights alone",
                    bytes: self.weight_bytes(),
                })
            }
            Some(Fault::Error(what)) => {
                let what = what.clone();
                *fault = None;
                Err(Error::Gpu { what })
            }
        }
    }
}

/// Catches what the device has against the calls between [`Scopes::push`] and [`Scopes::pop`].
pub(super) struct Scopes {
    internal: wgpu::ErrorScopeGuard,
    validation: wgpu::ErrorScopeGuard,
}

impl Scopes {
    pub(super) fn push(device: &wgpu::Device) -> Scopes {
        Scopes {
            internal: device.push_error_scope(wgpu::ErrorFilter::Internal),
            validation: device.push_error_scope(wgpu::ErrorFilter::Validation),
        }
    }

    /// Ends them at once; the answer may be waited for later.
    pub(super) fn pop(self) -> impl Future<Output = Result<()>> + use<> {
        let (validation, internal) = (self.validation.pop(), self.internal.pop());
        async move {
            match validation.await.or(internal.await) {
                Some(error) => Err(gpu_error(error)),
                None => Ok(()),
            }
        }
    }
}

pub(super) fn gpu_error(e: impl ToString) -> Error {
    Error::Gpu { what: e.to_string() }
}

/// Catches what the device reports outside of calls. wgpu would panic.
pub(super) fn watch(device: &wgpu::Device) -> Arc<Mutex<Option<Fault>>> {
    let fault = Arc::new(Mutex::new(None));
    let set = |slot: &Mutex<Option<Fault>>, new: Fault| {
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        // The first error explains those after it; a loss explains all.
        if slot.is_none() || matches!(new, Fault::Lost(_)) {
            *slot = Some(new);
        }
    };
    let slot = fault.clone();
    device.on_uncaptured_error(Arc::new(move |error| {
        let new = match error {
            wgpu::Error::OutOfMemory { .. } => Fault::OutOfMemory,
            other => Fault::Error(other.to_string()),
        };
        set(&slot, new);
    }));
    let slot = fault.clone();
    device.set_device_lost_callback(move |_, message| {
        let message = if message.is_empty() {
            "no reason was given".into()
        } else {
            message
        };
        set(&slot, Fault::Lost(message));
    });
    fault
}
