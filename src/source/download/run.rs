//! The loop of a download: reads, requests and writes under way at once, and the sink fed in order.

use std::{collections::BTreeSet, future::poll_fn, pin::Pin, task::Poll};

use futures_util::{StreamExt, stream::FuturesUnordered};

use super::{
    Outcome, SHARE_MS,
    state::Slot,
    storing::MOST_PUTS,
    stream::Stream,
    take_lease,
    transfer::{Came, Transfer},
    world::{Bytes, Elsewhere, Shelf, World},
};
use crate::{
    Error, Result,
    source::{
        Sink,
        digest::{Digest, Hasher},
        manifest::ModelId,
        progress::Phase,
    },
};

/// Bytes that are handed to a sink in one go: what passes through the engine's memory.
const PIECE_BYTES: usize = 4 << 20;
/// Chunks that are read from the store at once.
const READ_AHEAD: usize = 3;

type Fetches<'a, W> = FuturesUnordered<Pin<Box<dyn Future<Output = Result<Came<<W as World>::Body>>> + 'a>>>;
pub(super) type Chores<'a, W> = FuturesUnordered<Pin<Box<dyn Future<Output = Chore<<W as World>::Bytes>> + 'a>>>;

/// What does not need the network.
pub(super) enum Chore<B> {
    /// Chunk `i` from the store, if it is what it should be, and its digest.
    Read(usize, Option<(B, Digest)>),
    /// Chunk `i` is on the disk, or not.
    Put(usize, Result<()>),
}

enum Event<W: World> {
    Came(Came<W::Body>),
    Chore(Chore<W::Bytes>),
    /// How long the file is.
    Learned,
    /// Paused, unpaused or aborted.
    Changed,
}

/// The loop's own: what its futures need not see.
pub(super) struct Run<'t, 'a, W: World, S> {
    pub(super) transfer: &'t Transfer<'a, W>,
    pub(super) shelf: Option<&'t S>,
    pub(super) sink: &'t mut dyn Sink,
    /// Of the whole file, unless that is known.
    pub(super) hasher: Option<Hasher>,
    /// The sink knows that a file is coming.
    pub(super) introduced: bool,
    scratch: Vec<u8>,
    lease: Option<W::Lease>,
    /// Chunks on their way to the disk.
    pub(super) puts: BTreeSet<usize>,
    shared_ms: f64,
}

impl<'t, 'a, W: World, S: Shelf<Bytes = W::Bytes>> Run<'t, 'a, W, S> {
    pub(super) fn new(
        transfer: &'t Transfer<'a, W>,
        shelf: Option<&'t S>,
        sink: &'t mut dyn Sink,
        lease: Option<W::Lease>,
        hash: bool,
    ) -> Self {
        Self {
            transfer,
            shelf,
            sink,
            hasher: hash.then(Hasher::default),
            introduced: false,
            scratch: Vec::new(),
            lease,
            puts: BTreeSet::new(),
            shared_ms: f64::NEG_INFINITY,
        }
    }

    pub(super) async fn run(&mut self, id: &ModelId) -> Result<Outcome> {
        let mut chores = Chores::<W>::new();
        let received = self.receive(&mut chores).await;
        // Whatever happened, chunks on their way to the disk arrive there.
        while let Some(chore) = chores.next().await {
            if let Chore::Put(i, put) = chore {
                self.was_put(i, put);
            }
        }
        let done = match received {
            Ok(()) => self.finish().await,
            Err(e) => Err(e),
        };
        if let (Err(e), Some(shelf)) = (&done, self.shelf) {
            let (begun, complete) = {
                let state = self.transfer.state.borrow();
                (state.begun, state.manifest.complete)
            };
            let other = matches!(e, Error::FileChanged { .. });
            if begun && (other || !complete && spoils_the_file(e)) {
                let _ = shelf.clear(id.as_str()).await;
            }
        }
        done
    }

    async fn receive(&mut self, chores: &mut Chores<'t, W>) -> Result<()> {
        let (transfer, world) = (self.transfer, self.transfer.world);
        let mut fetches = Fetches::<W>::new();
        let mut changed = Box::pin(world.changed());
        // A server without ranges: what it sends, until somebody has room for it.
        let mut stream: Option<Stream<W::Body>> = None;
        let mut streaming = false;
        transfer.tell(true);
        loop {
            if world.is_aborted() {
                return Err(Error::Aborted);
            }
            self.feed(chores)?;
            if transfer.state.borrow().is_fed() {
                return Ok(());
            }
            let paused = world.is_paused();
            if transfer.state.borrow().paused != paused {
                if paused {
                    fetches.clear();
                    (stream, streaming) = (None, false);
                    transfer.state.borrow_mut().forget_requests();
                }
                transfer.state.borrow_mut().paused = paused;
                transfer.tell(true);
            }
            self.start_reads(chores);
            if !paused && transfer.state.borrow().needs_network() {
                if self.lease.is_none() && self.shelf.is_some() {
                    self.lease = take_lease(world, transfer.spec.id().as_str(), transfer.report).await?.0;
                }
                match stream.take() {
                    Some(more) if self.has_room(&more) => {
                        fetches.push(Box::pin(transfer.stream(more)));
                        streaming = true;
                    }
                    Some(more) => stream = Some(more),
                    None if !streaming => self.start_fetches(&fetches),
                    None => {}
                }
            }
            let event = poll_fn(|cx| {
                if let Poll::Ready(Some(came)) = fetches.poll_next_unpin(cx) {
                    return Poll::Ready(came.map(Event::<W>::Came));
                }
                if let Poll::Ready(Some(chore)) = chores.poll_next_unpin(cx) {
                    return Poll::Ready(Ok(Event::Chore(chore)));
                }
                if std::mem::take(&mut transfer.state.borrow_mut().length_is_news) {
                    return Poll::Ready(Ok(Event::Learned));
                }
                changed.as_mut().poll(cx).map(|()| Ok(Event::Changed))
            })
            .await?;
            match event {
                Event::Changed => changed = Box::pin(world.changed()),
                Event::Learned | Event::Came(Came::Nothing) => {}
                Event::Came(Came::Chunk(i, hash)) => self.came(i, hash, chores),
                Event::Came(Came::Whole(whole)) => {
                    // It sends everything, so nothing else need be asked for.
                    fetches.clear();
                    transfer.state.borrow_mut().forget_requests();
                    stream = Some(whole);
                }
                Event::Came(Came::Streamed(more, chunks)) => {
                    streaming = false;
                    for i in chunks {
                        fetches.push(Box::pin(transfer.checked(i, more.target().clone())));
                    }
                    stream = transfer.state.borrow().needs_network().then_some(more);
                }
                Event::Came(Came::StreamEnded) => streaming = false,
                Event::Chore(Chore::Read(i, read)) => self.was_read(i, read)?,
                Event::Chore(Chore::Put(i, put)) => {
                    self.was_put(i, put);
                    self.put_ready(&mut transfer.state.borrow_mut(), chores);
                }
            }
            transfer.tell(false);
            self.share();
        }
    }

    /// Hands on what is ready, in order.
    fn feed(&mut self, chores: &mut Chores<'t, W>) -> Result<()> {
        let transfer = self.transfer;
        loop {
            let mut state = transfer.state.borrow_mut();
            let i = state.fed;
            if !matches!(state.slots.get(i), Some(Slot::Ready(_))) {
                return Ok(());
            }
            let Slot::Ready(bytes) = std::mem::replace(&mut state.slots[i], Slot::Fed) else {
                unreachable!()
            };
            let offset = i as u64 * state.chunk_bytes;
            let length = state.length;
            drop(state);
            if !std::mem::replace(&mut self.introduced, true) {
                self.sink.begin(length)?;
            }
            for at in (0..bytes.len()).step_by(PIECE_BYTES) {
                if transfer.world.is_aborted() {
                    return Err(Error::Aborted);
                }
                let n = (bytes.len() - at).min(PIECE_BYTES);
                if self.scratch.len() < n {
                    self.scratch.resize(n, 0);
                }
                let piece = &mut self.scratch[..n];
                bytes.copy_to(at, piece);
                if let Some(hasher) = &mut self.hasher {
                    hasher.update(piece);
                }
                self.sink.push(offset + at as u64, piece)?;
            }
            let mut state = transfer.state.borrow_mut();
            state.fed = i + 1;
            state.fed_bytes += bytes.len() as u64;
            state.needs = self.sink.needs();
            if state.phase == Phase::Cache {
                let now = transfer.world.now_ms();
                state.meter.add(bytes.len() as u64, now);
            }
            let first = !std::mem::replace(&mut state.accepted, true);
            if first {
                state.mirrors.accepted();
            }
            // What is no model is never stored, so everything waited for this.
            self.put(&mut state, i, &bytes, chores);
            if first {
                self.put_ready(&mut state, chores);
            }
            drop(state);
            transfer.tell(false);
        }
    }

    /// Starts reading stored chunks whose turn is near.
    fn start_reads(&mut self, chores: &mut Chores<'t, W>) {
        let (Some(shelf), Transfer { world, spec, state, .. }) = (self.shelf, self.transfer) else {
            return;
        };
        let world = *world;
        let mut state = state.borrow_mut();
        let id = spec.id();
        let turn = state.fed..state.slots.len().min(state.fed + READ_AHEAD);
        for i in turn {
            if !matches!(state.slots[i], Slot::Stored) {
                continue;
            }
            state.slots[i] = Slot::Reading;
            let read = shelf.read(id.as_str(), i as u32);
            let (len, expected) = (state.bytes_of(i), state.expected(spec, i));
            chores.push(Box::pin(async move {
                let Ok(bytes) = read.await else { return Chore::Read(i, None) };
                if bytes.len() as u64 != len {
                    return Chore::Read(i, None);
                }
                let hash = world.digest(&bytes).await;
                // Of the first version's chunks no digest is known: they are taken as they are, and theirs noted.
                let good = expected.is_none_or(|(expected, _)| expected == hash);
                Chore::Read(i, good.then_some((bytes, hash)))
            }));
        }
    }

    fn was_read(&mut self, i: usize, read: Option<(W::Bytes, Digest)>) -> Result<()> {
        let mut state = self.transfer.state.borrow_mut();
        match read {
            Some((bytes, hash)) => {
                state.slots[i] = Slot::Ready(bytes);
                state.manifest.set_hash(i, hash);
            }
            None if self.transfer.spec.stored_only => {
                let what = format!("chunk {i} of the model is damaged, and there is no address to fetch it from again");
                return Err(Error::Storage { what });
            }
            None => state.lose(i),
        }
        Ok(())
    }

    /// Opens requests for chunks whose turn is near.
    fn start_fetches(&mut self, fetches: &Fetches<'t, W>) {
        let transfer = self.transfer;
        let mut state = transfer.state.borrow_mut();
        let limit = match state.length {
            // A server that has shown no ranges yet sends everything to whoever asks first.
            Some(_) if state.wholes > 0 && !state.has_ranges => 1,
            Some(_) => state.breadth.limit(),
            None => {
                // The first answer tells how many chunks there are.
                let n = state.fed + 1;
                state.grow(n);
                1
            }
        };
        let most = window(state.breadth.limit());
        let turn = state.fed..state.slots.len().min(state.fed + most);
        // What is on its way to the disk is a copy, and takes the place of a chunk.
        let held = turn.clone().filter(|&i| state.asked[i] || state.holds(i)).count() + self.puts.len();
        let mut room = most.saturating_sub(held);
        for i in turn {
            if fetches.len() >= limit {
                return;
            }
            let missing = matches!(state.slots[i], Slot::Missing);
            if state.asked[i] || missing && room == 0 || !(missing || matches!(state.slots[i], Slot::Filling { .. })) {
                continue;
            }
            room -= usize::from(missing);
            state.asked[i] = true;
            fetches.push(Box::pin(transfer.fetch(i)));
        }
    }

    /// Whether a stream may go on: what it gives is not far ahead of its turn.
    fn has_room(&self, stream: &Stream<W::Body>) -> bool {
        let state = self.transfer.state.borrow();
        let i = (stream.at() / state.chunk_bytes) as usize;
        self.puts.len() < MOST_PUTS && i < state.fed + window(state.breadth.limit())
    }

    /// Chunk `i` came from the network.
    fn came(&mut self, i: usize, hash: Digest, chores: &mut Chores<'t, W>) {
        let mut state = self.transfer.state.borrow_mut();
        if i >= state.slots.len() {
            return; // the file is empty
        }
        state.asked[i] = false;
        state.manifest.set_hash(i, hash);
        self.put_ready(&mut state, chores);
    }

    /// Tells other tabs how far it is.
    fn share(&mut self) {
        let (Some(_), Transfer { world, spec, state, .. }) = (&self.lease, self.transfer) else {
            return;
        };
        let now_ms = world.now_ms();
        if now_ms - self.shared_ms < SHARE_MS {
            return;
        }
        self.shared_ms = now_ms;
        let state = state.borrow();
        let here = Elsewhere {
            loaded: state.loaded,
            total: state.length,
            bytes_per_second: state.meter.rate(),
        };
        world.tell_others(spec.id().as_str(), &here);
    }
}

/// How far ahead of the sink chunks may be, while so many requests are open: what comes out of turn waits in memory.
fn window(limit: usize) -> usize {
    limit + 2
}

/// Whether an error says that the file itself is no good, so that what came of it need not be kept.
fn spoils_the_file(e: &Error) -> bool {
    matches!(
        e.code(),
        "not_gguf"
            | "gguf_version"
            | "truncated_file"
            | "malformed_gguf"
            | "bad_metadata"
            | "bad_tensors"
            | "tokenizer"
            | "chat_template"
            | "unsupported_model"
    )
}
