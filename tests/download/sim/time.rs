//! A clock that jumps.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

/// A clock that jumps to the next thing that somebody waits for.
#[derive(Default)]
pub struct Time {
    now_ms: Cell<f64>,
    /// By time, in ms as bits (positive floats sort so), and order.
    timers: RefCell<BTreeMap<(u64, u64), Waker>>,
    n_timers: Cell<u64>,
}

impl Time {
    pub fn now_ms(&self) -> f64 {
        self.now_ms.get()
    }

    pub fn sleep(self: &Rc<Self>, ms: f64) -> Sleep {
        self.n_timers.set(self.n_timers.get() + 1);
        Sleep {
            time: self.clone(),
            key: ((self.now_ms() + ms.max(0.0)).to_bits(), self.n_timers.get()),
        }
    }
}

pub struct Sleep {
    time: Rc<Time>,
    key: (u64, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.time.now_ms() >= f64::from_bits(self.key.0) {
            return Poll::Ready(());
        }
        self.time.timers.borrow_mut().insert(self.key, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.time.timers.borrow_mut().remove(&self.key);
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Runs a future until it is done; `None` if `until_ms` comes first, and the future is dropped where it is, like a tab that crashes.
pub fn run_until<T>(time: &Rc<Time>, until_ms: f64, future: impl Future<Output = T>) -> Option<T> {
    let flag = Arc::new(Flag(AtomicBool::new(true)));
    let waker = Waker::from(flag.clone());
    let mut future = pin!(future);
    loop {
        while flag.0.swap(false, Ordering::SeqCst) {
            if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Some(done);
            }
        }
        let mut timers = time.timers.borrow_mut();
        let next = timers
            .first_entry()
            .expect("somebody waits for something that will never come");
        let at = next.key().0;
        if f64::from_bits(at) > until_ms {
            return None;
        }
        let waker = next.remove();
        drop(timers);
        time.now_ms.set(f64::from_bits(at).max(time.now_ms()));
        waker.wake();
    }
}
