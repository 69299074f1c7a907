//! Threads that share one piece of work.
//!
//! The split is static: what participant `i` of `n` computes depends on `i` and `n` alone, so results do not depend on who is late.
//! Who *runs* a share does: a helper that has not begun its share when the caller is done with its own loses it to the caller. So a busy
//! machine costs little, and a helper that is gone costs speed, not the answer.
//!
//! One word a helper is all they talk through, and both sides first look at it for a while before they sleep:
//!
//! ```text
//!         post            take             done
//! IDLE ─────────► POSTED ──────► TAKEN ──────────► IDLE      ASLEEP: idle, wake it after posting
//!                   └── the caller takes it back ──► IDLE    AWAITED: taken, wake the caller when done
//! ```
//!
//! Natively helpers are threads of std. In WebAssembly they are workers that `www/` started and that called `help`; std's `park` there
//! is the engine's own wait instruction. The caller must be a worker too: a page's main thread may not wait.

#![cfg_attr(
    all(target_arch = "wasm32", not(target_feature = "atomics")),
    allow(dead_code, reason = "this build has no helpers")
)]

use std::{
    any::Any,
    cell::{Cell, UnsafeCell},
    hint::spin_loop,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread::{self, Thread},
};

use crate::{Error, Result};

/// Has nothing to do, and looks.
const IDLE: u32 = 0;
/// Has nothing to do, and must be woken.
const ASLEEP: u32 = 1;
/// A share waits to be taken.
const POSTED: u32 = 2;
/// The helper runs its share.
const TAKEN: u32 = 3;
/// The same, and the caller sleeps until it is done.
const AWAITED: u32 = 4;
/// To end.
const QUIT: u32 = 5;
/// It trapped within its share: written by `www/helper.js`.
const FAILED: u32 = 6;

/// Looks at a word before sleeping, some 50 to 100 µs: longer than what lies between two shares of a token, shorter than anyone minds.
/// x86's `pause` takes 40 cycles and more, WebAssembly has none.
const LOOKS: u32 = if cfg!(target_arch = "wasm32") { 40_000 } else { 3_000 };

type Share<'a> = dyn Fn(usize) + Sync + 'a;
type Payload = Box<dyn Any + Send>;

/// The caller and its helpers.
pub struct Pool {
    n_threads: usize,
    shared: Option<Arc<Shared>>,
    /// Not `Sync`: one caller at a time, and no share may use the pool.
    one_caller: PhantomData<Cell<()>>,
    #[cfg(not(target_arch = "wasm32"))]
    threads: Vec<thread::JoinHandle<()>>,
}

/// What caller and helpers both see.
struct Shared {
    /// Written before a share is posted, read after it is taken; all shares are done before [`Pool::run`] returns.
    job: UnsafeCell<Option<*const Share<'static>>>,
    /// Who sleeps; written before [`AWAITED`], read after it.
    caller: UnsafeCell<Option<Thread>>,
    /// The first panic of a helper.
    panic: Mutex<Option<Payload>>,
    slots: Vec<Slot>,
}

// SAFETY: both cells are written by the caller alone, and ordered by the slots' words as said beside them.
unsafe impl Sync for Shared {}
// SAFETY: the pointer leads to something `Sync`.
unsafe impl Send for Shared {}

/// One helper's; a cache line (two, on some) for itself.
#[repr(C, align(128))]
struct Slot {
    state: AtomicU32,
    thread: OnceLock<Thread>,
}

impl Pool {
    /// Only the caller's thread.
    pub fn inline() -> Pool {
        Pool::over(1, None)
    }

    /// The caller and `n - 1` helpers.
    ///
    /// # Errors
    /// [`Error::Threads`] if they cannot be had.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(n: usize) -> Result<Pool> {
        if n <= 1 {
            return Ok(Pool::inline());
        }
        let shared = Arc::new(Shared::new(n - 1));
        let mut pool = Pool::over(n, Some(shared.clone()));
        for i in 1..n {
            let shared = shared.clone();
            let thread = thread::Builder::new()
                .name(format!("outcrop-{i}"))
                .spawn(move || shared.help(i))
                .map_err(|e| Error::Threads { what: e.to_string() })?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// The caller and `n - 1` helpers.
    ///
    /// # Errors
    /// [`Error::Threads`] if they cannot be had.
    #[cfg(target_arch = "wasm32")]
    pub fn new(n: usize) -> Result<Pool> {
        if n <= 1 {
            return Ok(Pool::inline());
        }
        let shared = workers().cloned();
        match shared.filter(|shared| shared.slots.len() >= n - 1) {
            Some(shared) => Ok(Pool::over(n, Some(shared))),
            None => Err(Error::Threads {
                what: format!("there are no {n} of them"),
            }),
        }
    }

    fn over(n_threads: usize, shared: Option<Arc<Shared>>) -> Pool {
        Pool {
            n_threads,
            shared,
            one_caller: PhantomData,
            #[cfg(not(target_arch = "wasm32"))]
            threads: Vec::new(),
        }
    }

    /// Participants, the caller included.
    pub fn n_threads(&self) -> usize {
        self.n_threads
    }

    /// Calls `f(i)` once for each participant `i` in `0..n_threads` and returns when all are done; `f(0)` on this thread. They run at
    /// once where helpers are free, so no share may wait for another. No allocation.
    ///
    /// # Panics
    /// If a share does, once all are done.
    pub fn run(&self, f: impl Fn(usize) + Sync) {
        let Some(shared) = &self.shared else { return f(0) };
        if let Err(payload) = shared.run(self.n_threads, &f) {
            resume_unwind(payload);
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl Drop for Pool {
    fn drop(&mut self) {
        let Some(shared) = &self.shared else { return };
        for slot in &shared.slots {
            slot.post(QUIT);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // panics of shares are caught within
        }
    }
}

impl Shared {
    fn new(n_helpers: usize) -> Self {
        Self {
            job: UnsafeCell::new(None),
            caller: UnsafeCell::new(None),
            panic: Mutex::new(None),
            slots: (0..n_helpers).map(|_| Slot::new()).collect(),
        }
    }

    /// Runs `f(0..n)`; the first panic, if there was one.
    fn run(&self, n: usize, f: &Share<'_>) -> std::result::Result<(), Payload> {
        let slots = &self.slots[..n - 1];
        // SAFETY: no share is posted, so nobody reads. The lifetime ends with this function, which leaves no share behind: each is either
        // taken back or waited for, whatever panics.
        unsafe { *self.job.get() = Some(std::mem::transmute::<*const Share<'_>, *const Share<'static>>(f)) };
        slots.iter().for_each(|slot| slot.post(POSTED));
        let mut outcome = catch_unwind(AssertUnwindSafe(|| f(0)));
        for (slot, i) in slots.iter().zip(1..) {
            if slot.turn(POSTED, IDLE) && outcome.is_ok() {
                outcome = catch_unwind(AssertUnwindSafe(|| f(i)));
            }
        }
        slots.iter().for_each(|slot| self.wait_for(slot));
        let panicked = self.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        match panicked {
            Some(payload) if outcome.is_ok() => Err(payload),
            _ => outcome,
        }
    }

    /// Waits until a share that was taken is done.
    fn wait_for(&self, slot: &Slot) {
        if slot
            .look_for(|state| state == IDLE || state == ASLEEP || state == FAILED)
            .is_none()
        {
            // SAFETY: whoever reads it does so after a turn to AWAITED and before the turn away from it; this slot is in neither state,
            // and those that were are done.
            unsafe { *self.caller.get() = Some(thread::current()) };
            if slot.turn(TAKEN, AWAITED) {
                slot.sleep_while_awaited();
            }
        }
        if slot.state.load(Ordering::Acquire) == FAILED {
            give_up("one of them crashed");
        }
    }

    /// A helper's life.
    fn help(&self, i: usize) {
        let slot = &self.slots[i - 1];
        slot.thread.get_or_init(thread::current);
        loop {
            match slot.look_for(|state| state != IDLE) {
                Some(QUIT) => return,
                Some(POSTED) if slot.turn(POSTED, TAKEN) => {
                    // SAFETY: it was written before the share was posted, and what it leads to is there until the share is done.
                    let job = unsafe { (*self.job.get()).map(|job| &*job) };
                    if let Some(job) = job
                        && let Err(payload) = catch_unwind(AssertUnwindSafe(|| job(i)))
                    {
                        self.panic
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .get_or_insert(payload);
                    }
                    if !slot.turn(TAKEN, IDLE) {
                        // SAFETY: the caller wrote it before it turned TAKEN into AWAITED, and waits.
                        let caller = unsafe { (*self.caller.get()).clone() };
                        slot.state.store(IDLE, Ordering::Release);
                        caller.iter().for_each(Thread::unpark);
                    }
                }
                Some(_) => {} // the caller was quicker
                None if slot.turn(IDLE, ASLEEP) => {
                    while slot.state.load(Ordering::Acquire) == ASLEEP {
                        thread::park();
                    }
                }
                None => {}
            }
        }
    }
}

impl Slot {
    fn new() -> Self {
        Self {
            state: AtomicU32::new(IDLE),
            thread: OnceLock::new(),
        }
    }

    /// Gives an idle helper something to do.
    fn post(&self, state: u32) {
        if self.state.swap(state, Ordering::AcqRel) == ASLEEP {
            self.thread.get().expect("nobody sleeps without a name").unpark();
        }
    }

    fn turn(&self, from: u32, to: u32) -> bool {
        let turned = self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        turned.is_ok()
    }

    /// The state, if it becomes one that is `wanted` soon.
    fn look_for(&self, wanted: impl Fn(u32) -> bool) -> Option<u32> {
        for _ in 0..LOOKS {
            let state = self.state.load(Ordering::Acquire);
            if wanted(state) {
                return Some(state);
            }
            spin_loop();
        }
        None
    }

    /// Sleeps until the share is done. A thread of std's does not end without a word.
    #[cfg(not(target_arch = "wasm32"))]
    fn sleep_while_awaited(&self) {
        while self.state.load(Ordering::Acquire) == AWAITED {
            thread::park();
        }
    }

    /// Sleeps until the share is done. A worker that crashes says so in its word, but wakes nobody; one that the browser ended says
    /// nothing. The caller's own share was as long as this one, so one that takes this much longer will never end.
    #[cfg(target_arch = "wasm32")]
    fn sleep_while_awaited(&self) {
        for _ in 0..STALLED_NAPS {
            if self.state.load(Ordering::Acquire) != AWAITED {
                return;
            }
            thread::park_timeout(NAP);
        }
        give_up("one of them does not answer");
    }
}

/// How long the caller sleeps before it looks whether the helper lives. Counted in naps, not by the clock: a laptop's own sleep is one.
#[cfg(target_arch = "wasm32")]
const NAP: std::time::Duration = std::time::Duration::from_millis(250);
#[cfg(target_arch = "wasm32")]
const STALLED_NAPS: u32 = 60;

/// A helper is lost within a share, which still borrows from the caller: nothing in this memory can be trusted from here on. So it is a
/// panic, with the error for whoever catches it or has a hook (`api.rs`).
fn give_up(what: &str) -> ! {
    panic_any(Error::Threads { what: what.into() })
}

/// The workers of this page's engine; they outlive any one pool.
#[cfg(target_arch = "wasm32")]
static WORKERS: OnceLock<Arc<Shared>> = OnceLock::new();

#[cfg(target_arch = "wasm32")]
fn workers() -> Option<&'static Arc<Shared>> {
    WORKERS.get()
}

/// Makes room for helpers, once: the addresses of their words, for `www/` to write [`FAILED`] to.
#[cfg(target_arch = "wasm32")]
pub(crate) fn make_room(n_helpers: usize) -> Vec<u32> {
    let shared = WORKERS.get_or_init(|| Arc::new(Shared::new(n_helpers)));
    shared.slots.iter().map(|slot| slot.state.as_ptr() as u32).collect()
}

/// What helper `i`, from 1, does for ever.
#[cfg(target_arch = "wasm32")]
pub(crate) fn help(i: usize) {
    if let Some(shared) = workers() {
        shared.help(i);
    }
}
