//! A network, a server and a store in which time passes only when nothing else happens, and everything random comes from a seed.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::{pending, poll_fn},
    ops::Range,
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use outcrop::{
    Error, Result,
    source::{
        Sink,
        digest::Digest,
        download::{
            Outcome, Spec,
            answer::Headers,
            receive,
            world::{Answer, Body, Broken, Bytes, Elsewhere, Shelf, World},
        },
        manifest::Manifest,
        progress::Progress,
    },
};

pub const URL: &str = "https://models.example/m.gguf";
pub const MIRROR: &str = "https://mirror.example/m.gguf";
pub const CHUNK: u64 = 1000;

// ---- time ----

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

    fn sleep(self: &Rc<Self>, ms: f64) -> Sleep {
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

// ---- bytes ----

thread_local! {
    /// Bytes that downloads hold.
    pub static MEMORY: Cell<usize> = const { Cell::new(0) };
    /// The most that they held.
    pub static MOST_MEMORY: Cell<usize> = const { Cell::new(0) };
}

/// Counts anew what they hold at most.
pub fn most_memory_begins_anew() {
    MOST_MEMORY.set(MEMORY.get());
}

pub struct Mem(Vec<u8>);

impl Mem {
    fn new(bytes: Vec<u8>) -> Self {
        MEMORY.set(MEMORY.get() + bytes.len());
        MOST_MEMORY.set(MOST_MEMORY.get().max(MEMORY.get()));
        Self(bytes)
    }
}

impl Drop for Mem {
    fn drop(&mut self) {
        MEMORY.set(MEMORY.get() - self.0.len());
    }
}

impl Bytes for Mem {
    fn with_len(len: usize) -> Result<Self> {
        Ok(Self::new(vec![0xa5; len]))
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn set(&mut self, at: usize, piece: &Self, range: Range<usize>) {
        self.0[at..at + range.len()].copy_from_slice(&piece.0[range]);
    }
    fn truncate(&mut self, len: usize) {
        *self = Self::new(self.0[..len].to_vec());
    }
    fn copy_to(&self, at: usize, to: &mut [u8]) {
        to.copy_from_slice(&self.0[at..at + to.len()]);
    }
}

/// Takes a file and keeps it.
#[derive(Default)]
pub struct Collect {
    pub len: Option<u64>,
    pub bytes: Vec<u8>,
    pub refuse: bool,
    pub ended: bool,
}

impl Sink for Collect {
    fn begin(&mut self, len: Option<u64>) -> Result<()> {
        self.len = len;
        Ok(())
    }
    fn push(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        assert_eq!(offset, self.bytes.len() as u64, "no gaps");
        if self.refuse {
            return Err(Error::NotGguf {
                found: bytes[..4].to_vec(),
            });
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
    fn needs(&self) -> Option<u64> {
        None
    }
    fn end(&mut self, len: u64) -> Result<()> {
        assert_eq!(len, self.bytes.len() as u64);
        self.ended = true;
        Ok(())
    }
}

// ---- the server ----

/// What may go wrong with one answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    NoAnswer,
    Silence,
    Status(u16),
    Whole,
    Compressed,
    WrongRange,
    /// After so much of the answer, from 0 to 1.
    Drop(f64),
    Stall(f64),
    Short(f64),
    /// One byte of it is another one.
    Flip(f64),
}

/// One request as it was asked and answered.
#[derive(Debug, Clone)]
pub struct Asked {
    pub at_ms: f64,
    pub url: String,
    pub range: Option<Range<u64>>,
    pub strong_etag: Option<String>,
    pub fault: Option<Fault>,
}

/// What befalls a request, by chance.
pub type Dice = Box<dyn FnMut(&mut fastrand::Rng) -> Option<Fault>>;

/// How the server and the network behave.
pub struct Server {
    pub file: RefCell<Vec<u8>>,
    pub etag: RefCell<Option<String>>,
    pub ranges: Cell<bool>,
    pub says_length: Cell<bool>,
    /// Requests for ranges get no answer, as where a host must first allow them and does not.
    pub ranges_break: Cell<bool>,
    /// The mirror has a file of half the length.
    pub shorter_at_the_mirror: Cell<bool>,
    /// What another origin's script may see of the headers: `Content-Length` alone.
    pub hides: Cell<bool>,
    pub retry_after_ms: Cell<Option<f64>>,
    /// Addresses that answer with this status.
    pub refuses: RefCell<BTreeMap<String, u16>>,
    /// Asks to go to an address that works for so many requests.
    pub signs_for: Cell<Option<u32>>,
    pub linked_etag: RefCell<Option<String>>,
    signed: Cell<u32>,
    /// What befalls the next requests; then `random`.
    pub faults: RefCell<Vec<Option<Fault>>>,
    pub random: RefCell<Option<Dice>>,
    /// When the file becomes another one: after so many requests.
    pub changes_after: Cell<Option<usize>>,
    pub log: RefCell<Vec<Asked>>,
    pub open: Cell<usize>,
    pub most_open: Cell<usize>,
    pub sent: Cell<u64>,
    pub ms_a_piece: Cell<f64>,
}

impl Server {
    pub fn new(file: Vec<u8>) -> Self {
        Self {
            file: RefCell::new(file),
            etag: RefCell::new(Some("\"one\"".into())),
            ranges: Cell::new(true),
            says_length: Cell::new(true),
            ranges_break: Cell::new(false),
            shorter_at_the_mirror: Cell::new(false),
            hides: Cell::new(false),
            retry_after_ms: Cell::new(None),
            refuses: RefCell::default(),
            signs_for: Cell::new(None),
            linked_etag: RefCell::default(),
            signed: Cell::new(0),
            faults: RefCell::default(),
            random: RefCell::new(None),
            changes_after: Cell::new(None),
            log: RefCell::default(),
            open: Cell::new(0),
            most_open: Cell::new(0),
            sent: Cell::new(0),
            ms_a_piece: Cell::new(1.0),
        }
    }

    pub fn n_requests(&self) -> usize {
        self.log.borrow().len()
    }

    /// The ranges that were asked for, in chunks.
    pub fn chunks_asked(&self) -> Vec<u64> {
        let mut chunks: Vec<_> = self
            .log
            .borrow()
            .iter()
            .filter_map(|asked| Some(asked.range.as_ref()?.start / CHUNK))
            .collect();
        chunks.sort_unstable();
        chunks
    }
}

pub struct SimBody {
    sim: Rc<Sim>,
    pieces: Vec<Vec<u8>>,
    end: End,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Clean,
    Broken,
    Never,
}

impl Body for SimBody {
    type Bytes = Mem;

    async fn next(&mut self) -> Result<Option<Mem>, Broken> {
        self.sim.time.sleep(self.sim.server.ms_a_piece.get()).await;
        match self.pieces.pop() {
            Some(piece) => {
                self.sim.server.sent.set(self.sim.server.sent.get() + piece.len() as u64);
                Ok(Some(Mem::new(piece)))
            }
            None if self.end == End::Clean => Ok(None),
            None if self.end == End::Broken => Err(Broken("reset".into())),
            None => pending().await,
        }
    }
}

impl Drop for SimBody {
    fn drop(&mut self) {
        self.sim.server.open.set(self.sim.server.open.get() - 1);
    }
}

// ---- the world ----

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

impl Sim {
    async fn answer(
        self: Rc<Self>,
        url: String,
        range: Option<Range<u64>>,
        strong_etag: Option<String>,
    ) -> Result<Answer<SimBody>, Broken> {
        let server = &self.server;
        let scripted = match server.faults.borrow_mut() {
            mut faults if !faults.is_empty() => Some(faults.remove(0)),
            _ => None,
        };
        let fault = scripted.unwrap_or_else(|| {
            server
                .random
                .borrow_mut()
                .as_mut()
                .and_then(|random| random(&mut self.rng.borrow_mut()))
        });
        server.log.borrow_mut().push(Asked {
            at_ms: self.time.now_ms(),
            url: url.clone(),
            range: range.clone(),
            strong_etag: strong_etag.clone(),
            fault,
        });
        if server.changes_after.get().is_some_and(|n| server.n_requests() > n) {
            server.changes_after.set(None);
            *server.etag.borrow_mut() = Some("\"two\"".into());
            server.file.borrow_mut().iter_mut().for_each(|byte| *byte = !*byte);
        }
        let latency = 5.0 + 20.0 * self.rng.borrow_mut().f64();
        self.time.sleep(latency).await;
        let broken = server.ranges_break.get() && range.is_some();
        if !self.online.get() || broken || fault == Some(Fault::NoAnswer) {
            return Err(Broken("no answer".into()));
        }
        if fault == Some(Fault::Silence) {
            return pending().await;
        }
        let mut redirected_to = None;
        if let Some(n) = server.signs_for.get() {
            if url == URL {
                server.signed.set(0);
                redirected_to = Some("https://cdn.example/signed".to_owned());
            } else {
                server.signed.set(server.signed.get() + 1);
                if server.signed.get() > n {
                    return Ok(self.plain(403));
                }
            }
        }
        if let Some(&status) = server.refuses.borrow().get(&url) {
            return Ok(self.plain(status));
        }
        if let Some(Fault::Status(status)) = fault {
            return Ok(self.plain(status));
        }
        let mut file = server.file.borrow().clone();
        if server.shorter_at_the_mirror.get() && url == MIRROR {
            file.truncate(file.len() / 2);
        }
        let etag = server.etag.borrow().clone();
        let total = file.len() as u64;
        let changed = strong_etag.is_some() && strong_etag != etag;
        let part = range.filter(|_| server.ranges.get() && !changed && fault != Some(Fault::Whole));
        if let Some(part) = &part
            && part.start >= total
        {
            return Ok(self.plain(416));
        }
        let sent = part.clone().map_or(0..total, |part| part.start..part.end.min(total));
        let mut body = file[sent.start as usize..sent.end as usize].to_vec();
        let cut = |share: f64| ((body.len() as f64 * share) as usize).min(body.len().saturating_sub(1));
        let (len, end) = match fault {
            Some(Fault::Drop(share)) => (cut(share), End::Broken),
            Some(Fault::Stall(share)) => (cut(share), End::Never),
            Some(Fault::Short(share)) => (cut(share), End::Clean),
            _ => (body.len(), End::Clean),
        };
        if let Some(Fault::Flip(share)) = fault {
            let at = cut(share);
            body[at] ^= 0x40;
        }
        let content_length = server.says_length.get().then_some(body.len() as u64);
        body.truncate(len);
        let shift = u64::from(fault == Some(Fault::WrongRange));
        let hides = server.hides.get();
        let seen = |text: Option<String>| text.filter(|_| !hides);
        let headers = Headers {
            etag: seen(etag),
            content_length,
            content_range: seen(
                part.as_ref()
                    .map(|_| format!("bytes {}-{}/{total}", sent.start + shift, sent.end - 1 + shift)),
            ),
            content_encoding: seen((fault == Some(Fault::Compressed)).then(|| "gzip".into())),
            linked_etag: seen(server.linked_etag.borrow().clone()),
            ..Headers::default()
        };
        let mut pieces = Vec::new();
        while !body.is_empty() {
            let n = self.rng.borrow_mut().usize(1..=body.len().min(400));
            pieces.push(body.drain(..n).collect());
        }
        pieces.reverse();
        Ok(Answer {
            status: if part.is_some() { 206 } else { 200 },
            headers,
            redirected_to,
            body: self.body(pieces, end),
        })
    }

    fn body(self: &Rc<Self>, pieces: Vec<Vec<u8>>, end: End) -> SimBody {
        let open = self.server.open.get() + 1;
        self.server.open.set(open);
        self.server.most_open.set(self.server.most_open.get().max(open));
        SimBody {
            sim: self.clone(),
            pieces,
            end,
        }
    }

    fn plain(self: &Rc<Self>, status: u16) -> Answer<SimBody> {
        Answer {
            status,
            headers: Headers {
                retry_after_ms: self.server.retry_after_ms.get(),
                ..Headers::default()
            },
            redirected_to: None,
            body: self.body(Vec::new(), End::Clean),
        }
    }
}

// ---- the store ----

pub struct Disk {
    pub manifests: BTreeMap<String, Manifest>,
    pub chunks: BTreeMap<(String, u32), Vec<u8>>,
    /// Most bytes of chunks.
    pub quota: Option<u64>,
    pub n_puts: usize,
    pub ms_a_put: f64,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            manifests: BTreeMap::new(),
            chunks: BTreeMap::new(),
            quota: None,
            n_puts: 0,
            ms_a_put: 4.0,
        }
    }
}

impl Disk {
    /// A file's chunks in a row.
    pub fn contents(&self, id: &str) -> Vec<u8> {
        self.chunks
            .iter()
            .filter(|((of, _), _)| of == id)
            .flat_map(|(_, bytes)| bytes.clone())
            .collect()
    }

    fn used(&self) -> u64 {
        self.chunks.values().map(|chunk| chunk.len() as u64).sum()
    }
}

#[derive(Clone)]
pub struct SimShelf {
    pub time: Rc<Time>,
    pub disk: Rc<RefCell<Disk>>,
}

impl Shelf for SimShelf {
    type Bytes = Mem;

    async fn list(&self, id: &str) -> Result<(Option<Manifest>, BTreeMap<u32, u64>)> {
        self.time.sleep(1.0).await;
        let disk = self.disk.borrow();
        let manifest = disk.manifests.get(id).cloned().and_then(Manifest::upgraded);
        let sizes = disk
            .chunks
            .iter()
            .filter(|((of, _), _)| of == id)
            .map(|((_, i), bytes)| (*i, bytes.len() as u64))
            .collect();
        Ok((manifest, sizes))
    }

    fn read(&self, id: &str, index: u32) -> impl Future<Output = Result<Mem>> + use<> {
        let (shelf, id) = (self.clone(), id.to_owned());
        async move {
            shelf.time.sleep(3.0).await;
            let chunk = shelf.disk.borrow().chunks.get(&(id, index)).cloned();
            chunk.map(Mem::new).ok_or_else(|| Error::Storage { what: "gone".into() })
        }
    }

    fn put(&self, index: u32, bytes: &Mem, manifest: &Manifest) -> impl Future<Output = Result<()>> + use<> {
        // A copy is under way, as a Blob is.
        let (shelf, bytes, manifest) = (self.clone(), Mem::new(bytes.0.clone()), manifest.clone());
        let ms = shelf.disk.borrow().ms_a_put;
        async move {
            shelf.time.sleep(ms).await;
            let mut disk = shelf.disk.borrow_mut();
            if disk.quota.is_some_and(|quota| disk.used() + bytes.len() as u64 > quota) {
                return Err(Error::StorageFull { what: "full".into() });
            }
            disk.n_puts += 1;
            disk.chunks.insert((manifest.id.as_str().to_owned(), index), bytes.0.clone());
            disk.manifests.insert(manifest.id.as_str().to_owned(), manifest);
            Ok(())
        }
    }

    fn write(&self, manifest: &Manifest) -> impl Future<Output = Result<()>> + use<> {
        let (shelf, manifest) = (self.clone(), manifest.clone());
        async move {
            shelf.time.sleep(1.0).await;
            shelf
                .disk
                .borrow_mut()
                .manifests
                .insert(manifest.id.as_str().to_owned(), manifest);
            Ok(())
        }
    }

    fn clear(&self, id: &str) -> impl Future<Output = Result<()>> + use<> {
        // Begun at once: later puts come after it.
        let mut disk = self.disk.borrow_mut();
        disk.manifests.remove(id);
        disk.chunks.retain(|(of, _), _| of != id);
        std::future::ready(Ok(()))
    }
}

// ---- a whole load ----

/// A visitor's browser in front of one server.
pub struct Scene {
    pub sim: Rc<Sim>,
    pub shelf: SimShelf,
    pub spec: Spec,
    pub progress: RefCell<Vec<Progress>>,
}

impl Scene {
    pub fn new(seed: u64, len: usize) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0xF11E);
        let sim = Sim::new(seed, (0..len).map(|_| rng.u8(..)).collect());
        Self {
            shelf: SimShelf {
                time: sim.time.clone(),
                disk: Rc::default(),
            },
            spec: Spec {
                urls: vec![URL.into()],
                chunk_bytes: Some(CHUNK),
                ..Spec::default()
            },
            progress: RefCell::default(),
            sim,
        }
    }

    pub fn file(&self) -> Vec<u8> {
        self.sim.server.file.borrow().clone()
    }

    pub fn digest(&self) -> Digest {
        Digest::of(&self.file())
    }

    /// Loads, as long as it takes.
    pub fn load(&self) -> (Result<Outcome>, Collect) {
        self.load_until(f64::INFINITY).expect("it takes as long as it takes")
    }

    /// The load that went well, the bytes those of the file.
    pub fn loads(&self) -> Outcome {
        let (outcome, sink) = self.load();
        let outcome = outcome.unwrap();
        assert!(
            sink.bytes == self.file() && sink.ended,
            "{} bytes of {}",
            sink.bytes.len(),
            self.file().len()
        );
        assert_eq!(self.sim.server.open.get(), 0, "transfers that nobody wants any more");
        outcome
    }

    /// Loads until a time; `None` if it came first.
    pub fn load_until(&self, until_ms: f64) -> Option<(Result<Outcome>, Collect)> {
        self.load_into(Collect::default(), until_ms)
    }

    pub fn load_into(&self, mut sink: Collect, until_ms: f64) -> Option<(Result<Outcome>, Collect)> {
        self.progress.borrow_mut().clear();
        let world = SimWorld(self.sim.clone());
        let mut report = |progress: Progress| self.progress.borrow_mut().push(progress);
        let load = receive(&world, Ok(&self.shelf), &self.spec, &mut report, &mut sink);
        let outcome = run_until(&self.sim.time, until_ms, load)?;
        Some((outcome, sink))
    }

    /// What the store holds is the whole file, checked.
    pub fn is_kept(&self) {
        let disk = self.shelf.disk.borrow();
        assert!(disk.contents(URL) == self.file());
        let manifest = &disk.manifests[URL];
        assert!(manifest.complete);
        assert_eq!(manifest.sha256, Some(self.digest()));
        for (i, chunk) in self.file().chunks(CHUNK as usize).enumerate() {
            assert_eq!(manifest.hash(i), Some(Digest::of(chunk)));
        }
    }
}
