//! A network, a server and a store in which time passes only when nothing else happens, and everything random comes from a seed.

mod disk;
mod memory;
mod scene;
mod server;
mod time;

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    ops::Range,
    rc::Rc,
    task::{Poll, Waker},
};

use outcrop::source::{
    digest::Digest,
    download::world::{Answer, Broken, Elsewhere, World},
};

pub use {
    disk::SimShelf,
    memory::{Collect, MEMORY, MOST_MEMORY, Mem, most_memory_begins_anew},
    scene::Scene,
    server::{Fault, Server, SimBody},
    time::{Time, run_until},
};

pub const URL: &str = "https://models.example/m.gguf";
pub const MIRROR: &str = "https://mirror.example/m.gguf";
pub const CHUNK: u64 = 1000;

pub struct Sim {
    pub time: Rc<Time>,
    pub server: Server,
    pub rng: RefCell<fastrand::Rng>,
    pub aborted: Cell<bool>,
    pub paused: Cell<bool>,
    pub online: Cell<bool>,
    pub freed: Cell<bool>,
    /// What the browser says that it would still store.
    pub room: Cell<Option<u64>>,
    /// Another tab has the lease until then, and tells this.
    pub leased_until_ms: Cell<f64>,
    pub elsewhere: Cell<Option<Elsewhere>>,
    pub changes: RefCell<Vec<Waker>>,
}

impl Sim {
    pub fn new(seed: u64, file: Vec<u8>) -> Rc<Self> {
        Rc::new(Self {
            time: Rc::default(),
            server: Server::new(file),
            rng: RefCell::new(fastrand::Rng::with_seed(seed)),
            aborted: Cell::new(false),
            paused: Cell::new(false),
            online: Cell::new(true),
            freed: Cell::new(false),
            room: Cell::new(None),
            leased_until_ms: Cell::new(0.0),
            elsewhere: Cell::new(None),
            changes: RefCell::default(),
        })
    }

    pub fn change(&self, what: impl FnOnce(&Self)) {
        what(self);
        self.changes.take().into_iter().for_each(Waker::wake);
    }
}

#[derive(Clone)]
pub struct SimWorld(pub Rc<Sim>);

impl World for SimWorld {
    type Bytes = Mem;
    type Body = SimBody;
    type Lease = ();

    fn get(
        &self,
        url: &str,
        range: Option<Range<u64>>,
        strong_etag: Option<&str>,
    ) -> impl Future<Output = Result<Answer<SimBody>, Broken>> + use<> {
        let sim = self.0.clone();
        let (url, strong_etag) = (url.to_owned(), strong_etag.map(str::to_owned));
        async move { sim.answer(url, range, strong_etag).await }
    }

    fn digest(&self, bytes: &Mem) -> impl Future<Output = Digest> + use<> {
        let (time, digest) = (self.0.time.clone(), Digest::of(&bytes.0));
        async move {
            time.sleep(1.0).await;
            digest
        }
    }

    fn sleep(&self, ms: f64) -> impl Future<Output = ()> + use<> {
        self.0.time.sleep(ms)
    }
    fn now_ms(&self) -> f64 {
        self.0.time.now_ms()
    }
    fn date_ms(&self) -> f64 {
        self.0.time.now_ms()
    }
    fn chance(&self) -> f64 {
        self.0.rng.borrow_mut().f64()
    }
    fn is_online(&self) -> bool {
        self.0.online.get()
    }
    fn online(&self) -> impl Future<Output = ()> + use<> {
        let sim = self.0.clone();
        poll_fn(move |cx| match sim.online.get() {
            true => Poll::Ready(()),
            false => {
                sim.changes.borrow_mut().push(cx.waker().clone());
                Poll::Pending
            }
        })
    }
    fn is_aborted(&self) -> bool {
        self.0.aborted.get()
    }
    fn is_paused(&self) -> bool {
        self.0.paused.get()
    }
    fn changed(&self) -> impl Future<Output = ()> + use<> {
        let sim = self.0.clone();
        let was = (sim.aborted.get(), sim.paused.get());
        poll_fn(move |cx| match was != (sim.aborted.get(), sim.paused.get()) {
            true => Poll::Ready(()),
            false => {
                sim.changes.borrow_mut().push(cx.waker().clone());
                Poll::Pending
            }
        })
    }
    fn try_lease(&self, _: &str) -> impl Future<Output = Option<()>> + use<> {
        std::future::ready((self.now_ms() >= self.0.leased_until_ms.get()).then_some(()))
    }
    fn lease(&self, _: &str) -> impl Future<Output = ()> + use<> {
        self.0.time.sleep(self.0.leased_until_ms.get() - self.now_ms())
    }
    fn elsewhere(&self, _: &str) -> Option<Elsewhere> {
        self.0.elsewhere.get()
    }
    fn tell_others(&self, _: &str, here: &Elsewhere) {
        self.0.elsewhere.set(Some(*here));
    }
    fn room(&self) -> impl Future<Output = Option<u64>> + use<> {
        std::future::ready(self.0.room.get())
    }
    fn was_freed(&self) -> bool {
        self.0.freed.replace(false)
    }
}
