//! The server, and what befalls its answers.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::pending,
    ops::Range,
    rc::Rc,
};

use outcrop::{
    Result,
    source::download::{
        answer::Headers,
        world::{Answer, Body, Broken},
    },
};

use super::{CHUNK, MIRROR, Mem, Sim, URL};

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

impl Sim {
    pub async fn answer(
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
