//! The requests of a download: one chunk's, again and again until it is there, or one stream from a server that does not know ranges.

use std::{cell::RefCell, ops::Range};

use futures_util::future::{Either, select};

use super::{
    Report, Spec,
    answer::{Ask, Headers, Verdict, judge},
    mirrors::Target,
    patience::MOST_RETRY_AFTER_MS,
    state::{Slot, State},
    stream::Stream,
    world::{Answer, Body, Broken, Bytes, World},
};
use crate::{
    Error, Result,
    source::{digest::Digest, manifest::MOST_CHUNKS, progress::Waiting},
};

/// A transfer that gives nothing for so long is given up: connections that died in silence, as after sleep.
const STALL_MS: f64 = 20_000.0;
/// While the browser believes to be offline, it is tried all the same after this.
const OFFLINE_MS: f64 = 15_000.0;
/// Answers of no use in a row after which an address is given up.
const MOST_BAD_ANSWERS: u32 = 4;
/// So often, a server that knows ranges may send the whole file instead before it is taken at its word.
const MOST_WHOLES: u32 = 3;
/// How often a chunk is asked of one address before its being wrong is that address's fault.
const MOST_BAD_CHUNKS: u32 = 3;

/// A download under way, as its futures see it. Borrows of `state` never last over an `await`.
pub(super) struct Transfer<'a, W: World> {
    pub(super) world: &'a W,
    pub(super) spec: &'a Spec,
    pub(super) state: RefCell<State<W::Bytes>>,
    pub(super) report: Report<'a>,
}

/// What a request came to.
pub(super) enum Came<B> {
    /// Chunk `i` is whole and checked.
    Chunk(usize, Digest),
    /// The server sends everything.
    Whole(Stream<B>),
    /// A stream gave these chunks; they are not checked yet.
    Streamed(Stream<B>, Vec<usize>),
    /// A stream is over; what is missing must be asked for.
    StreamEnded,
    /// A chunk of a stream was wrong.
    Nothing,
}

/// What an answer's head says of its body.
enum Heard<B> {
    Part(Range<u64>),
    Whole,
    Nothing(Attempt<B>),
}

enum Attempt<B> {
    Filled,
    Whole(Stream<B>),
    /// At once, elsewhere.
    Again,
    /// After a while.
    Missed(String),
    Busy(Option<f64>),
    BadAnswer(String),
    Refused(u16),
}

impl<W: World> Transfer<'_, W> {
    pub(super) fn tell(&self, must: bool) {
        let progress = self.state.borrow_mut().tell(self.world.now_ms(), must);
        if let Some(progress) = progress {
            (self.report)(progress);
        }
    }

    /// Gets chunk `i`, however long that takes.
    pub(super) async fn fetch(&self, i: usize) -> Result<Came<W::Body>> {
        loop {
            self.hold(i).await;
            let target = self.state.borrow().mirrors.target();
            self.state.borrow_mut().open += 1;
            let attempt = self.attempt(i, &target).await;
            self.state.borrow_mut().open -= 1;
            match attempt? {
                Attempt::Whole(stream) => return Ok(Came::Whole(stream)),
                Attempt::Filled => match self.check(i).await? {
                    Ok(hash) => return Ok(Came::Chunk(i, hash)),
                    Err(what) => {
                        self.state.borrow_mut().mirrors.strike(target.mirror);
                        self.miss(i, &target, what).await?;
                    }
                },
                Attempt::Again => {}
                Attempt::Missed(why) => {
                    self.trouble(&target);
                    self.miss(i, &target, why).await?;
                }
                Attempt::Busy(after_ms) => {
                    self.trouble(&target);
                    self.busy(i, &target, after_ms).await?;
                }
                Attempt::BadAnswer(what) => match self.was_bad_answer(&target, &what)? {
                    true => {}
                    false => self.miss(i, &target, what).await?,
                },
                Attempt::Refused(status) => {
                    let mut state = self.state.borrow_mut();
                    let url = target.url.clone();
                    self.bury(&mut state, &target, Error::HttpStatus { url, status })?;
                }
            }
        }
    }

    /// A connection broke, or the server had no answer.
    fn trouble(&self, target: &Target) {
        let mut state = self.state.borrow_mut();
        state.mirrors.strike(target.mirror);
        state.breadth.trouble();
    }

    /// Whether another address is to be asked instead.
    pub(super) fn was_bad_answer(&self, target: &Target, what: &str) -> Result<bool> {
        let mut state = self.state.borrow_mut();
        state.bad_answers += 1;
        if state.bad_answers < MOST_BAD_ANSWERS {
            return Ok(false);
        }
        state.bad_answers = 0;
        let (url, what) = (target.url.clone(), what.to_owned());
        self.bury(&mut state, target, Error::BadResponse { url, what })?;
        Ok(true)
    }

    /// An address is of no use. Bytes of another one may not follow its own without a digest: then all begins again, if there is another.
    fn bury(&self, state: &mut State<W::Bytes>, target: &Target, why: Error) -> Result<()> {
        let others = state.mirrors.others_may_do();
        match state.mirrors.bury(target.mirror, why) {
            Err(_) if others => Err(Error::FileChanged { url: target.url.clone() }),
            done => done,
        }
    }

    /// Waits until the server's patience, or a stream's back-off, is over.
    async fn hold(&self, i: usize) {
        loop {
            let (now, until) = (self.world.now_ms(), self.state.borrow().not_before_ms);
            if now >= until {
                return;
            }
            self.wait(i, Waiting::Busy, until - now).await;
        }
    }

    async fn wait(&self, i: usize, waiting: Waiting, ms: f64) {
        let until = self.world.now_ms() + ms;
        self.state.borrow_mut().waits.insert(i, (waiting, until));
        self.tell(true);
        match waiting {
            Waiting::Offline => {
                let (online, late) = (std::pin::pin!(self.world.online()), std::pin::pin!(self.world.sleep(ms)));
                select(online, late).await;
            }
            _ => self.world.sleep(ms).await,
        }
        self.state.borrow_mut().waits.remove(&i);
    }

    /// A try for chunk `i` came to nothing: waits before the next.
    ///
    /// # Errors
    /// [`Error::Network`] once there is no more patience.
    pub(super) async fn miss(&self, i: usize, target: &Target, why: String) -> Result<()> {
        if !self.world.is_online() {
            self.wait(i, Waiting::Offline, OFFLINE_MS).await;
            return Ok(());
        }
        let ms = self.after_miss(i).ok_or_else(|| self.given_up(target, &why))?;
        self.wait(i, Waiting::Retry, ms).await;
        Ok(())
    }

    async fn busy(&self, i: usize, target: &Target, after_ms: Option<f64>) -> Result<()> {
        let ms = self
            .after_miss(i)
            .ok_or_else(|| self.given_up(target, "the server has too much to do"))?;
        let ms = after_ms.unwrap_or(0.0).clamp(ms, MOST_RETRY_AFTER_MS);
        // Whatever else would be asked of it waits too.
        let until = self.world.after_ms(ms);
        let before = self.state.borrow().not_before_ms;
        self.state.borrow_mut().not_before_ms = before.max(until);
        self.wait(i, Waiting::Busy, ms).await;
        Ok(())
    }

    /// How long to wait after a miss; `None` if there is no more patience.
    fn after_miss(&self, i: usize) -> Option<f64> {
        let mut state = self.state.borrow_mut();
        let heard = state.heard;
        state.patience(i).miss(heard, self.world.chance())
    }

    fn given_up(&self, target: &Target, why: &str) -> Error {
        let state = self.state.borrow();
        let kept = match state.begun && state.storing.why().is_none() {
            true => "; what arrived is kept, and the next load goes on from there",
            false => "",
        };
        Error::Network {
            url: target.url.clone(),
            what: format!("{why}{kept}"),
        }
    }

    /// One request for what is missing of chunk `i`, and its bytes as far as they come.
    async fn attempt(&self, i: usize, target: &Target) -> Result<Attempt<W::Body>> {
        if self.state.borrow().is_filled(i) {
            return Ok(Attempt::Filled); // it was not checked before a pause
        }
        let ask = match self.state.borrow() {
            state if state.plain => Ask::Whole,
            state => Ask::Range(state.missing(i)),
        };
        let range = match &ask {
            Ask::Range(range) => Some(range.clone()),
            Ask::Whole => None,
        };
        let Some(answer) = self
            .in_time(self.world.get(&target.url, range, target.strong_etag.as_deref()))
            .await
        else {
            return Ok(Attempt::Missed("the server does not answer".into()));
        };
        let Answer {
            status,
            headers,
            redirected_to,
            body,
        } = match answer {
            Ok(answer) => answer,
            Err(Broken(why)) => {
                // Browsers hide why. It may be the range: some hosts are asked first whether they allow it, and some compress all the same.
                let mut state = self.state.borrow_mut();
                let may_be = !state.has_ranges && !state.begun && (state.length.is_none() || state.wholes > 0);
                state.plain = may_be && !state.plain;
                return Ok(Attempt::Missed(why));
            }
        };
        self.state.borrow_mut().mirrors.answered(target, redirected_to.as_deref());
        match self.heard(target, judge(&ask, status, &headers), status, &headers)? {
            Heard::Part(range) => self.part(i, body, range, target).await,
            Heard::Whole => Ok(Attempt::Whole(Stream::new(body, target.clone()))),
            Heard::Nothing(attempt) => Ok(attempt),
        }
    }

    /// What an answer's head says: about the file, and about its body.
    fn heard(&self, target: &Target, verdict: Verdict, status: u16, headers: &Headers) -> Result<Heard<W::Body>> {
        let mut state = self.state.borrow_mut();
        let (Verdict::Part { total, .. } | Verdict::Whole { total } | Verdict::Beyond { total }) = verdict else {
            return Ok(Heard::Nothing(match verdict {
                Verdict::Busy { after_ms } => Attempt::Busy(after_ms),
                Verdict::Bad(what) => {
                    state.heard = true; // the server is there
                    Attempt::BadAnswer(what)
                }
                // A signed address has its time; the one that led to it gives a new one.
                Verdict::Refused if state.mirrors.expired(target) => match target.resolved {
                    true => Attempt::Again,
                    false => Attempt::Missed(format!("the server answered {status}")),
                },
                Verdict::Refused => Attempt::Refused(status),
                _ => Attempt::Missed(format!("the server answered {status}")),
            }));
        };
        // Where the range is hidden, a short part may be the file's end, but once the length is known it is just short.
        let guessed = matches!(verdict, Verdict::Part { .. }) && headers.content_range.is_none();
        let total = total.filter(|_| !guessed || state.length.is_none());
        let url = || target.url.clone();
        if let Some(found) = headers.linked_etag.as_deref().and_then(Digest::in_linked_etag) {
            let published = *state.published.get_or_insert(found);
            if published != found {
                let what = format!("its server says that its SHA-256 is {found}, it should be {published}");
                self.bury(&mut state, target, Error::DigestMismatch { url: url(), what })?;
                return Ok(Heard::Nothing(Attempt::Again));
            }
            state.mirrors.vouched();
        }
        // Without a digest, the address may well lead to a newer file by now.
        if let (Some(published), Some(total), true) = (self.spec.bytes, total, self.spec.has_digest())
            && published != total
        {
            let what = format!("it has {total} bytes, and should have {published}");
            self.bury(&mut state, target, Error::BadResponse { url: url(), what })?;
            return Ok(Heard::Nothing(Attempt::Again));
        }
        if let Some(total) = total
            && total.div_ceil(state.chunk_bytes) > MOST_CHUNKS
        {
            let what = format!("its server says that it has {total} bytes, which no model has");
            return Err(Error::BadResponse { url: url(), what });
        }
        let as_long = state.length.is_none() || total.is_none() || state.length == total;
        if !as_long && state.mirrors.is_new(target.mirror) {
            let (found, wanted) = (total.unwrap_or(0), state.length.unwrap_or(0));
            let what = format!("it has {found} bytes, and what came from elsewhere is part of {wanted}");
            self.bury(&mut state, target, Error::BadResponse { url: url(), what })?;
            return Ok(Heard::Nothing(Attempt::Again));
        }
        if !state.mirrors.is_same_version(target.mirror, headers) || !as_long {
            return Err(Error::FileChanged { url: url() });
        }
        state.heard = true;
        Ok(match verdict {
            Verdict::Whole { total } => {
                let plain = std::mem::take(&mut state.plain);
                if let (Some(total), None) = (total, state.length) {
                    state.set_length(total);
                    if state.has_ranges {
                        return Ok(Heard::Nothing(Attempt::Again)); // that was all we wanted to know
                    }
                }
                state.wholes += 1;
                if plain && state.wholes == 1 && total.is_some() {
                    return Ok(Heard::Nothing(Attempt::Again)); // the server is there; perhaps ranges work after all
                }
                if state.has_ranges && state.wholes < MOST_WHOLES {
                    let why = "the server sends all of the file where a part was asked for".to_owned();
                    return Ok(Heard::Nothing(Attempt::Missed(why)));
                }
                Heard::Whole
            }
            Verdict::Part { range, total } => {
                state.has_ranges = true;
                match total.or(self.spec.bytes) {
                    Some(total) if state.length.is_none() => state.set_length(total),
                    None if state.length.is_none() => {
                        // The server's words are hidden from this site, but for the length of what it sends.
                        state.plain = true;
                        return Ok(Heard::Nothing(Attempt::Again));
                    }
                    _ => {}
                }
                Heard::Part(range)
            }
            _ if total == Some(0) => {
                state.set_length(0);
                Heard::Nothing(Attempt::Filled)
            }
            // An empty file has no first byte either.
            _ if state.length.is_none() && !state.plain => {
                state.plain = true;
                Heard::Nothing(Attempt::Again)
            }
            _ => Heard::Nothing(Attempt::Missed(format!("the server answered {status}"))),
        })
    }

    /// Reads a part into chunk `i`.
    async fn part(&self, i: usize, mut body: W::Body, range: Range<u64>, target: &Target) -> Result<Attempt<W::Body>> {
        let mut at = range.start;
        self.tell(false); // the file's length may be news
        loop {
            if self.state.borrow().is_filled(i) {
                return Ok(Attempt::Filled);
            }
            let piece = match self.in_time(body.next()).await {
                None => return Ok(Attempt::Missed("the transfer stands still".into())),
                Some(Err(Broken(why))) => return Ok(Attempt::Missed(format!("the transfer broke: {why}"))),
                Some(Ok(None)) => return Ok(Attempt::Missed("the transfer ended early".into())),
                Some(Ok(Some(piece))) => piece,
            };
            let n = piece.len();
            if n as u64 > range.end - at {
                return Ok(Attempt::BadAnswer("the server sends more than it announced".into()));
            }
            self.take(i, at, &piece, 0..n, target)?;
            at += n as u64;
        }
    }

    /// Bytes of chunk `i` came.
    pub(super) fn take(&self, i: usize, at: u64, piece: &W::Bytes, range: Range<usize>, target: &Target) -> Result<()> {
        let mut state = self.state.borrow_mut();
        let fresh = state.fill(i, at, piece, range)?;
        if fresh > 0 {
            state.loaded += fresh as u64;
            state.meter.add(fresh as u64, self.world.now_ms());
            state.mirrors.progress(target.mirror);
            state.patience(i).progress();
            state.bad_answers = 0;
        }
        drop(state);
        self.tell(false);
        Ok(())
    }

    /// The digest of a chunk that is filled, which is ready then; or in words that it is not what it should be, and is to be asked for again.
    pub(super) async fn check(&self, i: usize) -> Result<Result<Digest, String>> {
        if self.state.borrow().slots.get(i).is_none() {
            return Ok(Ok(Digest::of(&[]))); // the file is empty
        }
        let slot = std::mem::replace(&mut self.state.borrow_mut().slots[i], Slot::Checking);
        let Slot::Filling { bytes, filled } = slot else {
            unreachable!("only what is filled is checked")
        };
        let hash = self.world.digest(&bytes).await;
        let mut state = self.state.borrow_mut();
        let Some((expected, published)) = state.expected(self.spec, i).filter(|(expected, _)| *expected != hash) else {
            state.slots[i] = Slot::Ready(bytes);
            state.breadth.good();
            return Ok(Ok(hash));
        };
        state.slots[i] = Slot::Filling { bytes, filled };
        state.lose(i);
        let target = state.mirrors.target();
        if state.was_bad(i).is_multiple_of(MOST_BAD_CHUNKS) {
            let what = format!("the SHA-256 of its chunk {i} is {hash}, it should be {expected}");
            let url = target.url.clone();
            match published {
                true => self.bury(&mut state, &target, Error::DigestMismatch { url, what })?,
                // What was stored once was of another version.
                false => return Err(Error::FileChanged { url }),
            }
        }
        Ok(Err(format!("chunk {i} is not what it should be")))
    }

    /// `None` if it takes longer than a living connection ever does.
    pub(super) async fn in_time<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let (future, late) = (std::pin::pin!(future), std::pin::pin!(self.world.sleep(STALL_MS)));
        match select(future, late).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    }
}
