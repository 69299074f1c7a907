//! Runs futures in the engine's worker.
//!
//! wasm-bindgen's own executor does this too, but in a build with threads it wakes tasks by `Atomics.waitAsync`, so that any thread may;
//! after some visits to a page in one tab, Chromium then loses a wake now and then, and a load stands still for ever. Here all futures live
//! on the engine's thread, helpers never see a waker, and a microtask is all it takes.

use std::{
    cell::{Cell, RefCell},
    mem::ManuallyDrop,
    pin::Pin,
    rc::Rc,
    task::{Context, RawWaker, RawWakerVTable, Waker},
};

use js_sys::{Function, Promise};
use wasm_bindgen::{JsCast, JsValue, closure::Closure};

use super::web::scope;

struct Task {
    /// `None` once it is done.
    future: RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>>,
    /// It will run anyway.
    queued: Cell<bool>,
}

/// Runs a future to its end, beginning soon.
pub(crate) fn spawn(future: impl Future<Output = ()> + 'static) {
    Rc::new(Task {
        future: RefCell::new(Some(Box::pin(future))),
        queued: Cell::new(false),
    })
    .queue();
}

/// A promise of what a future gives.
pub(crate) fn promise(future: impl Future<Output = Result<JsValue, JsValue>> + 'static) -> Promise {
    let mut future = Some(future);
    Promise::new(&mut |resolve, reject| {
        let Some(future) = future.take() else { return };
        spawn(async move {
            let _ = match future.await {
                Ok(value) => resolve.call1(&JsValue::UNDEFINED, &value),
                Err(error) => reject.call1(&JsValue::UNDEFINED, &error),
            };
        });
    })
}

impl Task {
    fn queue(self: Rc<Self>) {
        if !self.queued.replace(true) {
            let run: Function = Closure::once_into_js(move || self.run()).unchecked_into();
            scope().queue_microtask(&run);
        }
    }

    fn run(self: Rc<Self>) {
        self.queued.set(false);
        let waker = waker(self.clone());
        let mut future = self.future.borrow_mut();
        if let Some(pending) = &mut *future
            && pending.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
        {
            *future = None;
        }
    }
}

fn waker(task: Rc<Task>) -> Waker {
    const TABLE: RawWakerVTable = RawWakerVTable::new(
        |task| {
            // SAFETY: every waker's pointer is a strong count of a task's.
            let task = ManuallyDrop::new(unsafe { Rc::from_raw(task.cast::<Task>()) });
            RawWaker::new(Rc::into_raw(Rc::clone(&task)).cast(), &TABLE)
        },
        // SAFETY: as above; this takes the count.
        |task| unsafe { Rc::from_raw(task.cast::<Task>()) }.queue(),
        // SAFETY: as above; this leaves it.
        |task| Rc::clone(&ManuallyDrop::new(unsafe { Rc::from_raw(task.cast::<Task>()) })).queue(),
        // SAFETY: as above; this takes it.
        |task| drop(unsafe { Rc::from_raw(task.cast::<Task>()) }),
    );
    // SAFETY: the table keeps the counts. Wakers may be sent to other threads, says their type; nothing here does, and the engine's futures
    // are polled and woken by the worker's event loop alone.
    unsafe { Waker::from_raw(RawWaker::new(Rc::into_raw(task).cast(), &TABLE)) }
}
