//! Where a download stands: its chunks, whom to ask, what to tell. No future lives here, and nothing waits.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};

use super::{
    Spec,
    mirrors::Mirrors,
    patience::{Breadth, Patience},
    world::Bytes,
};
use crate::{
    Error, Result,
    source::{
        digest::Digest,
        manifest::{Manifest, chunk_len},
        progress::{Meter, Phase, Problem, Progress, Waiting},
    },
};

/// A chunk on its way.
pub(super) enum Slot<B> {
    /// It must come from the network.
    Missing,
    /// It is in the store, of the right size.
    Stored,
    /// It is being read from there.
    Reading,
    /// It has come, and is being checked.
    Checking,
    /// The first `filled` bytes have come.
    Filling { bytes: B, filled: usize },
    /// Whole, and what it should be; waits for its turn.
    Ready(B),
    /// The sink has it.
    Fed,
}

/// Whether chunks are kept.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Storing {
    Yes,
    /// The store is full: each chunk tries again once something was deleted.
    Full(String),
    /// Not at all.
    No(Option<Problem>, String),
}

impl Storing {
    pub(super) fn why(&self) -> Option<&str> {
        match self {
            Storing::Yes => None,
            Storing::Full(why) | Storing::No(_, why) => Some(why),
        }
    }

    pub(super) fn problem(&self) -> Option<Problem> {
        match self {
            Storing::Yes => None,
            Storing::Full(_) => Some(Problem::Quota),
            Storing::No(problem, _) => *problem,
        }
    }
}

pub(super) struct State<B> {
    pub(super) length: Option<u64>,
    /// The loop has not seen it yet, and may ask for more than the first chunk now.
    pub(super) length_is_news: bool,
    pub(super) chunk_bytes: u64,
    pub(super) slots: Vec<Slot<B>>,
    /// Chunks that a request is filling.
    pub(super) asked: Vec<bool>,
    /// Chunks that the store has for sure.
    pub(super) kept: Vec<bool>,
    /// Chunks that the sink has.
    pub(super) fed: usize,
    pub(super) mirrors: Mirrors,
    pub(super) breadth: Breadth,
    patience: HashMap<usize, Patience>,
    /// How often a chunk was not what it should be.
    bad: HashMap<usize, u32>,
    /// Answers in a row that were no use.
    pub(super) bad_answers: u32,
    /// Ask for the whole file, to learn its length or because ranges lead nowhere.
    pub(super) plain: bool,
    /// The server has answered with a part.
    pub(super) has_ranges: bool,
    /// How often it did not all the same.
    pub(super) wholes: u32,
    /// Some server has answered with bytes of the file.
    pub(super) heard: bool,
    /// A server asked for patience, or a stream broke.
    pub(super) not_before_ms: f64,
    pub(super) manifest: Manifest,
    /// The whole file's, from outside.
    pub(super) published: Option<Digest>,
    pub(super) storing: Storing,
    /// The file's length by what was published, before its server has said a word.
    published_length: Option<u64>,
    /// Bytes that the browser would have stored when the load began, unless it did not say, or something was deleted since.
    pub(super) room: Option<u64>,
    /// Something of this run is in the store.
    pub(super) begun: bool,
    /// The sink has taken the first chunk: it is a model's.
    pub(super) accepted: bool,

    pub(super) phase: Phase,
    pub(super) meter: Meter,
    /// Bytes that were in the store when this began.
    pub(super) resumed: u64,
    /// Bytes that are there, in the store or here.
    pub(super) loaded: u64,
    pub(super) fed_bytes: u64,
    /// What the file itself says that it needs.
    pub(super) needs: Option<u64>,
    /// Requests that are not waiting.
    pub(super) open: usize,
    pub(super) waits: BTreeMap<usize, (Waiting, f64)>,
    pub(super) paused: bool,
    told_ms: f64,
    told_waiting: Option<Waiting>,
    told_problem: Option<Problem>,
}

impl<B: Bytes> State<B> {
    pub(super) fn new(spec: &Spec, manifest: Manifest, sizes: &BTreeMap<u32, u64>, storing: Storing, now_ms: f64) -> Self {
        let length = manifest.length;
        let n = manifest
            .n_chunks()
            .unwrap_or(0)
            .max(sizes.keys().last().map_or(0, |&i| u64::from(i) + 1)) as usize;
        let mut slots: Vec<_> = (0..n).map(|_| Slot::Missing).collect();
        let mut kept = vec![false; n];
        for &index in sizes.keys() {
            slots[index as usize] = Slot::Stored;
            kept[index as usize] = true;
        }
        let whole = length.is_some() && kept.iter().all(|&kept| kept);
        let resumed = sizes.values().sum();
        Self {
            length,
            length_is_news: false,
            chunk_bytes: manifest.chunk_bytes,
            slots,
            asked: vec![false; n],
            kept,
            fed: 0,
            mirrors: Mirrors::new(&spec.urls, spec.has_digest()),
            breadth: Breadth::new(spec.parallel),
            patience: HashMap::new(),
            bad: HashMap::new(),
            bad_answers: 0,
            plain: false,
            has_ranges: false,
            wholes: 0,
            heard: false,
            not_before_ms: f64::NEG_INFINITY,
            published: spec.sha256,
            storing,
            published_length: spec.bytes,
            room: None,
            begun: !sizes.is_empty(),
            accepted: !sizes.is_empty(),
            phase: if whole { Phase::Cache } else { Phase::Download },
            meter: Meter::new(now_ms),
            resumed,
            loaded: resumed,
            fed_bytes: 0,
            needs: None,
            open: 0,
            waits: BTreeMap::new(),
            paused: false,
            told_ms: f64::NEG_INFINITY,
            told_waiting: None,
            told_problem: None,
            manifest,
        }
    }

    /// The file's length is known now.
    pub(super) fn set_length(&mut self, length: u64) {
        self.length = Some(length);
        self.length_is_news = true;
        let n = length.div_ceil(self.chunk_bytes) as usize;
        self.slots.truncate(n);
        self.asked.truncate(n);
        self.kept.truncate(n);
        self.grow(n);
    }

    /// Makes slots up to `n`.
    pub(super) fn grow(&mut self, n: usize) {
        while self.slots.len() < n {
            self.slots.push(Slot::Missing);
            self.asked.push(false);
            self.kept.push(false);
        }
    }

    /// Bytes of chunk `i`, the whole chunk while the file's length is not known.
    pub(super) fn bytes_of(&self, i: usize) -> u64 {
        chunk_len(self.length.unwrap_or(u64::MAX), self.chunk_bytes, i as u64)
    }

    /// Whether bytes of chunk `i` are in memory.
    pub(super) fn holds(&self, i: usize) -> bool {
        !matches!(self.slots[i], Slot::Missing | Slot::Stored | Slot::Fed)
    }

    /// What is missing of chunk `i`, as a range of the file.
    pub(super) fn missing(&self, i: usize) -> Range<u64> {
        let start = i as u64 * self.chunk_bytes;
        let filled = match &self.slots[i] {
            Slot::Filling { filled, .. } => *filled as u64,
            _ => 0,
        };
        start + filled..start + self.bytes_of(i)
    }

    /// Whether the network still has to give something.
    pub(super) fn needs_network(&self) -> bool {
        self.length.is_none()
            || self
                .slots
                .iter()
                .any(|slot| matches!(slot, Slot::Missing | Slot::Filling { .. }))
    }

    /// Takes bytes that came at `at`, which chunk `i` is waiting for or has already; how many of them were of use.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(super) fn fill(&mut self, i: usize, at: u64, piece: &B, range: Range<usize>) -> Result<usize> {
        let len = self.bytes_of(i) as usize;
        let offset = (at - i as u64 * self.chunk_bytes) as usize;
        if matches!(self.slots[i], Slot::Missing) {
            self.slots[i] = Slot::Filling {
                bytes: B::with_len(len)?,
                filled: 0,
            };
        }
        let Slot::Filling { bytes, filled } = &mut self.slots[i] else {
            return Ok(0);
        };
        // A stream that began anew passes over what came before.
        let known = filled.saturating_sub(offset).min(range.len());
        if offset > *filled || known == range.len() {
            return Ok(0);
        }
        let fresh = range.start + known..range.end;
        let n = fresh.len();
        bytes.set(*filled, piece, fresh);
        *filled += n;
        Ok(n)
    }

    /// Whether all of chunk `i` has come, or there is no such chunk.
    pub(super) fn is_filled(&self, i: usize) -> bool {
        match self.slots.get(i) {
            Some(Slot::Filling { filled, .. }) => *filled as u64 == self.bytes_of(i),
            Some(_) => false,
            None => self.length.is_some(),
        }
    }

    /// What chunk `i` must be, and whether that was published and not just seen before.
    pub(super) fn expected(&self, spec: &Spec, i: usize) -> Option<(Digest, bool)> {
        let published = spec.chunks.as_ref().and_then(|chunks| chunks.sha256.get(i).copied());
        published
            .map(|hash| (hash, true))
            .or_else(|| self.manifest.hash(i).map(|hash| (hash, false)))
    }

    /// Chunk `i` was not what it should be, for the so manieth time.
    pub(super) fn was_bad(&mut self, i: usize) -> u32 {
        let bad = self.bad.entry(i).or_default();
        *bad += 1;
        *bad
    }

    pub(super) fn patience(&mut self, i: usize) -> &mut Patience {
        self.patience.entry(i).or_default()
    }

    /// A chunk is no longer there, or never was what it should be.
    pub(super) fn lose(&mut self, i: usize) {
        let bytes = match std::mem::replace(&mut self.slots[i], Slot::Missing) {
            Slot::Filling { filled, .. } => filled as u64,
            _ => self.bytes_of(i),
        };
        self.kept[i] = false;
        self.loaded = self.loaded.saturating_sub(bytes);
    }

    /// The requests under way are given up; bytes that came stay, but for those that were just being checked.
    pub(super) fn forget_requests(&mut self) {
        self.open = 0;
        self.waits.clear();
        for i in 0..self.slots.len() {
            self.asked[i] = false;
            if matches!(self.slots[i], Slot::Checking) {
                self.lose(i);
            }
        }
    }

    /// Whether all that was asked for has come and gone where it belongs.
    pub(super) fn is_fed(&self) -> bool {
        self.length.is_some() && self.fed == self.slots.len()
    }

    /// Bytes still to be stored and bytes that there was room for, where those are fewer: known before the first byte.
    fn shortage(&self) -> Option<(u64, u64)> {
        let length = self.length.or(self.published_length).or(self.needs);
        let rest = length.map(|length| length.saturating_sub(self.resumed))?;
        self.room
            .filter(|&room| self.storing == Storing::Yes && room < rest)
            .map(|room| (rest, room))
    }

    /// Why chunks are not kept, or why not all of them will be as far as the browser knows.
    pub(super) fn problem(&self) -> Option<Problem> {
        match self.shortage() {
            Some(_) => Some(Problem::Quota),
            None => self.storing.problem(),
        }
    }

    /// The same in words.
    fn why_not_kept(&self) -> Option<String> {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        let short = |(rest, room)| {
            format!(
                "there is not enough space: it takes {:.1} MB, and there is room for {:.1} MB",
                mb(rest),
                mb(room)
            )
        };
        self.shortage().map(short).or_else(|| self.storing.why().map(Into::into))
    }

    /// How far all this is, for whoever watches; `None` if that was told a moment ago, unless it `must` be, or there is news.
    pub(super) fn tell(&mut self, now_ms: f64, must: bool) -> Option<Progress> {
        const EVENT_MS: f64 = 100.0; // a page redraws no faster
        let wait = match self.open {
            0 => self.waits.values().copied().min_by(|a, b| a.1.total_cmp(&b.1)),
            _ => None,
        };
        let waiting = wait.map(|(waiting, _)| waiting);
        let problem = self.problem();
        let news = must || waiting != self.told_waiting || problem != self.told_problem;
        if !news && now_ms - self.told_ms < EVENT_MS {
            return None;
        }
        (self.told_ms, self.told_waiting, self.told_problem) = (now_ms, waiting, problem);
        let loaded = match self.phase {
            Phase::Cache => self.fed_bytes,
            _ => self.loaded,
        };
        // A server that does not announce a length: the model's own account will do, until the last byte has come.
        let total = self.length.or_else(|| self.needs.map(|needs| needs.max(loaded)));
        let still = wait.is_some() || self.paused;
        let bytes_per_second = self.meter.rate().filter(|_| !still);
        Some(Progress {
            bytes_per_second,
            seconds_left: total
                .filter(|_| !still)
                .and_then(|total| self.meter.seconds_left(total.saturating_sub(loaded))),
            stored: self.storing == Storing::Yes && problem.is_none(),
            note: self.why_not_kept().as_deref().map(super::not_kept),
            resumed: self.resumed,
            paused: self.paused,
            waiting,
            retry_seconds: wait
                .map(|(_, until)| (until - now_ms).max(0.0) / 1000.0)
                .filter(|seconds| seconds.is_finite()),
            problem,
            ..Progress::at(self.phase, loaded, total)
        })
    }
}

/// Storing failed.
pub(super) fn storing_failed(e: &Error) -> Storing {
    match e {
        Error::StorageFull { .. } => Storing::Full(e.to_string()),
        _ => Storing::No(Some(Problem::Blocked), e.to_string()),
    }
}
