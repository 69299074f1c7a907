//! The web's sources put together: files from network and store, or picked ones.

use std::pin::pin;

use futures_util::StreamExt;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{AbortSignal, Blob, WorkerGlobalScope};

use super::{
    Beginning, Sink,
    blob::pieces,
    buffers::free_idle,
    download::{
        self, Outcome, Spec, not_kept,
        world::{Bytes, Shelf},
    },
    manifest::CHUNK_BYTES,
    progress::{Meter, Phase, Problem, Progress},
    store::Store,
    stored::files_of,
    world::WebWorld,
};
use crate::{Error, Result};

/// Bytes that are handed to a sink in one go: what passes through the wasm heap.
const PIECE_BYTES: usize = 4 << 20;

/// Bytes that are asked for at once where only a header is wanted.
const HEAD_BYTES: u64 = 1 << 20;

/// Bytes that are asked for where only the length is wanted.
const LOOK_BYTES: u64 = 64 << 10;

/// Where to read a model.
pub(crate) enum Origin {
    /// One file, or all parts of a split model in order; kept in IndexedDB if their addresses last (http, https).
    Remote(Vec<Spec>),
    /// The same from the disk; read where they lie, not kept.
    Files(Vec<Blob>),
    /// A stored model by its id.
    Stored(String),
}

/// A load as the source sees it.
pub(crate) struct Reading<'a> {
    pub(crate) origin: &'a Origin,
    /// Read from the store and write to it.
    pub(crate) use_store: bool,
    /// What pauses it, see `www/control.js`.
    pub(crate) gate: &'a JsValue,
    /// Waits are divided by it.
    pub(crate) speedup: f64,
    pub(crate) signal: &'a AbortSignal,
}

/// The worker that this runs in.
pub(crate) fn scope() -> WorkerGlobalScope {
    js_sys::global().unchecked_into()
}

/// Milliseconds of a clock that never steps back.
pub(crate) fn now_ms() -> f64 {
    scope().performance().expect("workers have a clock").now()
}

/// A thrown value in words.
pub(crate) fn describe(e: &JsValue) -> String {
    match e.dyn_ref::<js_sys::Error>() {
        Some(e) => format!("{}: {}", e.name(), e.message()),
        // DOMExceptions are errors too, but of another class.
        None => match e.dyn_ref::<web_sys::DomException>() {
            Some(e) => format!("{}: {}", e.name(), e.message()),
            None if e.is_undefined() || e.is_null() => "the browser gives no reason".into(),
            None => format!("{e:?}"),
        },
    }
}

/// The store, or why there is none.
async fn open_store(use_store: bool, url: &str) -> Result<Store, (Option<Problem>, String)> {
    if !use_store {
        return Err((None, "that was not wanted".to_owned()));
    }
    if !is_lasting(url) {
        return Err((Some(Problem::Temporary), "its address is good for this visit only".to_owned()));
    }
    Store::open().await.map_err(|e| (Some(Problem::Blocked), e.to_string()))
}

/// Addresses that mean the same tomorrow, and keys of what was imported without one.
fn is_lasting(url: &str) -> bool {
    ["http:", "https:", "file:"].iter().any(|scheme| url.starts_with(scheme))
}

impl Reading<'_> {
    fn world(&self) -> WebWorld {
        WebWorld::new(self.signal, self.gate, self.speedup)
    }

    /// The files to read: those that were asked for, or all of a stored model.
    ///
    /// # Errors
    /// [`Error::NotStored`].
    pub(crate) async fn specs(&self) -> Result<Vec<Spec>> {
        match self.origin {
            Origin::Remote(specs) => Ok(specs.clone()),
            Origin::Files(_) => Ok(Vec::new()),
            Origin::Stored(id) => {
                let spec = |id: String| Spec {
                    urls: vec![id],
                    stored_only: true,
                    ..Spec::default()
                };
                Ok(files_of(id).await?.into_iter().map(spec).collect())
            }
        }
    }

    /// The beginnings of all parts but the first of a split model; none of one that is not split.
    ///
    /// # Errors
    /// As [`Reading::read`], for what is read of them.
    pub(crate) async fn heads<B: Beginning>(&self, specs: &[Spec]) -> Result<Vec<B::Found>> {
        let mut heads = Vec::new();
        if let Origin::Files(files) = self.origin {
            for file in files.iter().skip(1) {
                heads.push(head_of::<B>(file).await?);
            }
        }
        for spec in specs.iter().skip(1) {
            heads.push(self.head::<B>(spec).await?);
        }
        Ok(heads)
    }

    /// The beginning of a part: out of its first stored chunks, else from the network.
    async fn head<B: Beginning>(&self, spec: &Spec) -> Result<B::Found> {
        let id = spec.id();
        let mut sink = HeadSink {
            reader: B::of(None),
            head: None,
        };
        if let Ok(store) = open_store(self.use_store, id.as_str()).await
            && let Ok((Some(_), sizes)) = store.list(id.as_str()).await
        {
            for (index, _) in (0..).zip(sizes.keys()).take_while(|(i, index)| i == *index) {
                let Ok(bytes) = store.read(id.as_str(), index).await else {
                    break;
                };
                let read = sink.push(0, &bytes.array().to_vec());
                if let Some(head) = sink.head.take() {
                    return Ok(head);
                }
                read?;
            }
            sink.reader = B::of(None);
        }
        // A short look at the file's beginning, of which nothing is kept.
        let look = Spec {
            chunk_bytes: Some(HEAD_BYTES),
            chunks: None,
            sha256: None,
            parallel: Some(1),
            ..spec.clone()
        };
        let read = download::receive::<_, Store>(&self.world(), Err((None, String::new())), &look, &mut |_| {}, &mut sink).await;
        match (sink.head, read) {
            (Some(head), _) => Ok(head),
            (None, Err(e)) => Err(e),
            (None, Ok(_)) => Err(sink.reader.too_short()),
        }
    }

    /// Reads a model front to back into `sink`, part after part.
    ///
    /// # Errors
    /// Whatever the network, the files or the sink say; see [`download::receive`]. That a model cannot be *stored* is no error: it is told in
    /// [`Progress`] and [`Outcome`].
    pub(crate) async fn read(&self, specs: &[Spec], report: &mut dyn FnMut(Progress), sink: &mut dyn Sink) -> Result<Outcome> {
        let read = self.read_parts(specs, report, sink).await;
        free_idle();
        read
    }

    async fn read_parts(&self, specs: &[Spec], report: &mut dyn FnMut(Progress), sink: &mut dyn Sink) -> Result<Outcome> {
        if let Origin::Files(files) = self.origin {
            return read_files(files, self.signal, report, sink).await;
        }
        let mut all: Option<Outcome> = None;
        for (i, spec) in specs.iter().enumerate() {
            let (before, resumed) = all.as_ref().map_or((0, 0), |all| (all.bytes, all.resumed));
            // What the others will have is known only where it was published.
            let others: Option<u64> = specs.iter().skip(i + 1).map(|spec| spec.bytes).sum();
            let mut of_all = |mut progress: Progress| {
                progress.loaded += before;
                progress.resumed += resumed;
                progress.total = progress.total.zip(others).map(|(total, others)| before + total + others);
                report(progress);
            };
            let id = spec.id();
            let store = open_store(self.use_store, id.as_str()).await;
            let world = self.world();
            let part = download::receive(&world, store.as_ref().map_err(Clone::clone), spec, &mut of_all, sink).await?;
            if part.stored && part.phase == Phase::Download {
                world.tabs().tell_stored(id.as_str());
            }
            all = Some(match all {
                None => part,
                Some(all) => join(all, part),
            });
        }
        all.ok_or_else(|| Error::InvalidRequest {
            what: "a load needs a model".into(),
        })
    }
}

/// Two parts of a model as one.
fn join(all: Outcome, part: Outcome) -> Outcome {
    Outcome {
        // Had one of them to be downloaded, it was no load from the store.
        phase: if all.phase == part.phase { all.phase } else { Phase::Download },
        stored: all.stored && part.stored,
        why: all.why.or(part.why),
        problem: all.problem.or(part.problem),
        resumed: all.resumed + part.resumed,
        bytes: all.bytes + part.bytes,
        sha256: None, // each part has its own
        checked: all.checked && part.checked,
    }
}

/// Takes a file until its beginning is complete, and then no more.
struct HeadSink<B: Beginning> {
    reader: B,
    head: Option<B::Found>,
}

impl<B: Beginning> Sink for HeadSink<B> {
    fn begin(&mut self, len: Option<u64>) -> Result<()> {
        self.reader = B::of(len);
        Ok(())
    }

    fn push(&mut self, _: u64, bytes: &[u8]) -> Result<()> {
        self.head = self.reader.push(bytes)?;
        match self.head {
            Some(_) => Err(Error::Aborted), // that is all
            None => Ok(()),
        }
    }

    fn needs(&self) -> Option<u64> {
        None
    }

    fn end(&mut self, _: u64) -> Result<()> {
        Ok(())
    }
}

/// The beginning of a picked file.
pub(super) async fn head_of<B: Beginning>(file: &Blob) -> Result<B::Found> {
    let mut reader = B::of(Some(file.size() as u64));
    let mut pieces = pin!(pieces(file, HEAD_BYTES));
    while let Some(bytes) = pieces.next().await {
        let bytes = bytes.map_err(|e| unreadable(file, &e))?;
        if let Some(head) = reader.push(&bytes.array().to_vec())? {
            return Ok(head);
        }
    }
    Err(reader.too_short())
}

pub(super) fn unreadable(file: &Blob, e: &JsValue) -> Error {
    Error::File {
        name: file
            .dyn_ref::<web_sys::File>()
            .map_or_else(|| "the file".into(), web_sys::File::name),
        what: describe(e),
    }
}

/// Picked files, read where they lie.
async fn read_files(
    files: &[Blob],
    signal: &AbortSignal,
    report: &mut dyn FnMut(Progress),
    sink: &mut dyn Sink,
) -> Result<Outcome> {
    let total: u64 = files.iter().map(|file| file.size() as u64).sum();
    let mut meter = Meter::new(now_ms());
    let mut loaded = 0;
    let mut scratch = Vec::new();
    report(Progress::at(Phase::File, 0, Some(total)));
    for file in files {
        sink.begin(Some(file.size() as u64))?;
        let mut offset = 0;
        let mut chunks = pin!(pieces(file, CHUNK_BYTES));
        while let Some(bytes) = chunks.next().await {
            let bytes = bytes.map_err(|e| unreadable(file, &e))?;
            for start in (0..bytes.len()).step_by(PIECE_BYTES) {
                if signal.aborted() {
                    return Err(Error::Aborted);
                }
                let end = bytes.len().min(start + PIECE_BYTES);
                scratch.resize(end - start, 0);
                bytes.copy_to(start, &mut scratch);
                sink.push(offset, &scratch)?;
                offset += (end - start) as u64;
            }
            loaded += bytes.len() as u64;
            meter.add(bytes.len() as u64, now_ms());
            report(Progress {
                bytes_per_second: meter.rate(),
                seconds_left: meter.seconds_left(total - loaded),
                ..Progress::at(Phase::File, loaded, Some(total))
            });
        }
        sink.end(offset)?;
    }
    Ok(Outcome {
        phase: Phase::File,
        stored: false,
        why: None,
        problem: None,
        resumed: 0,
        bytes: total,
        sha256: None,
        checked: false,
    })
}

/// What to tell about how a model was read, while it is made ready.
pub(crate) fn after_reading(outcome: &Outcome, phase: Phase) -> Progress {
    Progress {
        from_cache: outcome.phase == Phase::Cache,
        stored: outcome.stored,
        note: outcome.why.as_deref().map(not_kept),
        resumed: outcome.resumed,
        problem: outcome.problem,
        ..Progress::at(phase, outcome.bytes, Some(outcome.bytes))
    }
}

/// What is known of a model before it is loaded.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(crate) struct Probe {
    bytes: Option<u64>,
    stored: u64,
    complete: bool,
}

/// A model's size, by the store, by what was published, or by one small request to its server for each of its files.
///
/// # Errors
/// What the server says. A store that cannot be read is as good as an empty one.
pub(crate) async fn probe(reading: &Reading<'_>) -> Result<Probe> {
    if let Origin::Files(files) = reading.origin {
        let bytes = files.iter().map(|file| file.size() as u64).sum();
        return Ok(Probe {
            bytes: Some(bytes),
            stored: 0,
            complete: false,
        });
    }
    let mut all = Probe {
        bytes: Some(0),
        stored: 0,
        complete: true,
    };
    for spec in reading.specs().await? {
        let id = spec.id();
        let mut length = spec.bytes;
        let mut whole = false;
        if let Ok(store) = open_store(reading.use_store, id.as_str()).await
            && let Ok((Some(manifest), sizes)) = store.list(id.as_str()).await
        {
            length = length.or(manifest.length);
            whole = manifest.is_whole(&sizes);
            all.stored += manifest.usable(sizes).values().sum::<u64>();
        }
        if length.is_none() && !spec.stored_only {
            length = ask_length(reading, &spec).await?;
        }
        all.complete &= whole;
        all.bytes = all.bytes.zip(length).map(|(all, length)| all + length);
    }
    Ok(all)
}

async fn ask_length(reading: &Reading<'_>, spec: &Spec) -> Result<Option<u64>> {
    /// Wants nothing: the length comes first.
    struct Length(Option<u64>);
    impl Sink for Length {
        fn begin(&mut self, len: Option<u64>) -> Result<()> {
            self.0 = len;
            Err(Error::Aborted)
        }
        fn push(&mut self, _: u64, _: &[u8]) -> Result<()> {
            Err(Error::Aborted)
        }
        fn needs(&self) -> Option<u64> {
            None
        }
        fn end(&mut self, _: u64) -> Result<()> {
            Ok(())
        }
    }
    let look = Spec {
        chunk_bytes: Some(LOOK_BYTES),
        chunks: None,
        sha256: None,
        parallel: Some(1),
        ..spec.clone()
    };
    let mut sink = Length(None);
    let read = download::receive::<_, Store>(&reading.world(), Err((None, String::new())), &look, &mut |_| {}, &mut sink).await;
    match read {
        Err(Error::Aborted) if !reading.signal.aborted() => Ok(sink.0),
        Err(e) => Err(e),
        Ok(_) => Ok(sink.0),
    }
}
