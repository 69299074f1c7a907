//! The web's sources put together: a stored model if it is whole, else the network into store and sink at once; or a picked file.

use js_sys::{Function, Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{AbortSignal, Blob, WorkerGlobalScope};

use super::{
    Manifest, ModelId, Sink,
    blob::{BlobReader, slices},
    http::Download,
    progress::{Meter, Phase, Progress},
    store::{Store, Writer},
};
use crate::{Error, Result};

/// Bytes that are handed to a sink in one go: what passes through the wasm heap.
const PIECE_BYTES: u32 = 4 << 20;

/// Where to read a model.
pub(crate) enum Origin {
    /// An absolute address; kept in IndexedDB if it is one that lasts (http, https).
    Url(String),
    /// A local file; read where it lies, not kept.
    File(Blob),
}

/// How a model was read.
pub(crate) struct Outcome {
    /// [`Phase::Download`], [`Phase::Cache`] or [`Phase::File`].
    pub(crate) phase: Phase,
    /// Whether the model is in IndexedDB now.
    pub(crate) stored: bool,
    /// Why it is not.
    pub(crate) why: Option<String>,
    /// Bytes of the file.
    pub(crate) bytes: u64,
}

impl Outcome {
    /// What to tell the visitor about it.
    pub(crate) fn note(&self) -> Option<String> {
        note(self.why.as_deref())
    }
}

fn note(why: Option<&str>) -> Option<String> {
    why.map(|why| format!("the model is not kept for the next visit: {why}"))
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

/// Gives the memory of an array's buffer back at once. A model passes through buffers of a few megabytes, and a collector lets hundreds of
/// megabytes pile up before it comes.
pub(super) fn release(bytes: &Uint8Array) {
    let buffer = bytes.buffer();
    // Where a browser is too old to have it (before 2024), the collector has to do.
    if let Ok(transfer) = Reflect::get(&buffer, &"transfer".into())
        && let Some(transfer) = transfer.dyn_ref::<Function>()
    {
        let _ = transfer.call1(&buffer, &0.into());
    }
}

/// Reads a model front to back into `sink`.
///
/// `use_store: false` neither reads nor trusts what is stored, for a second try after stored bytes proved unreadable; the download
/// then replaces them.
///
/// # Errors
/// Whatever the network, the file or the sink say; [`Error::Storage`] only when stored chunks that should be there cannot be read.
/// That a model cannot be *stored* is no error: it is told in [`Progress::note`] and [`Outcome::why`].
pub(crate) async fn read(
    origin: &Origin,
    use_store: bool,
    signal: &AbortSignal,
    report: &mut dyn FnMut(Progress),
    sink: &mut dyn Sink,
) -> Result<Outcome> {
    match origin {
        Origin::File(file) => read_file(file, signal, report, sink).await,
        Origin::Url(url) => {
            let id = ModelId::from_url(url);
            let (store, why) = match Store::open().await {
                _ if !url.starts_with("http") => (None, Some("its address is good for this visit only".to_owned())),
                Ok(store) => (Some(store), None),
                Err(e) => (None, Some(e.to_string())),
            };
            if let (Some(store), true) = (&store, use_store)
                && let Some((manifest, chunks)) = whole(store, &id).await
            {
                return read_stored(manifest, chunks, signal, report, sink).await;
            }
            download(url, id, store, why, signal, report, sink).await
        }
    }
}

/// A model that is in the store from the first chunk to the last. Trouble in finding out is as good as its absence.
async fn whole(store: &Store, id: &ModelId) -> Option<(Manifest, Vec<Blob>)> {
    let manifest = store.manifest(id).await.ok()??;
    let chunks = store.chunks(id).await.ok()?;
    let sizes: Vec<u64> = chunks.iter().map(|chunk| chunk.size() as u64).collect();
    manifest.is_whole(&sizes).then_some((manifest, chunks))
}

async fn read_stored(
    manifest: Manifest,
    chunks: Vec<Blob>,
    signal: &AbortSignal,
    report: &mut dyn FnMut(Progress),
    sink: &mut dyn Sink,
) -> Result<Outcome> {
    let mut feed = Feed::new(Phase::Cache, manifest.length, true, None, signal, report, sink)?;
    let mut reader = BlobReader::new(chunks.into_iter());
    while let Some(bytes) = reader.next().await.map_err(|e| Error::Storage { what: describe(&e) })? {
        feed.push(&bytes)?;
        release(&bytes);
    }
    feed.end()
}

async fn read_file(file: &Blob, signal: &AbortSignal, report: &mut dyn FnMut(Progress), sink: &mut dyn Sink) -> Result<Outcome> {
    let mut feed = Feed::new(Phase::File, Some(file.size() as u64), false, None, signal, report, sink)?;
    let mut reader = BlobReader::new(slices(file.clone()));
    let name = file
        .dyn_ref::<web_sys::File>()
        .map_or_else(|| "the file".into(), web_sys::File::name);
    while let Some(bytes) = reader.next().await.map_err(|e| Error::File {
        name: name.clone(),
        what: describe(&e),
    })? {
        feed.push(&bytes)?;
        release(&bytes);
    }
    feed.end()
}

async fn download(
    url: &str,
    id: ModelId,
    store: Option<Store>,
    why: Option<String>,
    signal: &AbortSignal,
    report: &mut dyn FnMut(Progress),
    sink: &mut dyn Sink,
) -> Result<Outcome> {
    let mut download = Download::start(url, signal).await?;
    let length = download.length;
    let manifest = Manifest::new(id, url, download.etag.clone(), length);
    let mut feed = Feed::new(Phase::Download, length, store.is_some(), why, signal, report, sink)?;
    let mut writer = store.map(|store| Writer::new(store, manifest));
    while let Some(piece) = download.next().await? {
        // The sink sees every byte before the store does, and the store waits for a whole chunk: what is no model is never stored.
        feed.push(&piece)?;
        let Some(w) = &mut writer else {
            release(&piece);
            continue;
        };
        if let Err(e) = w.push(&piece).await {
            feed.give_up_storing(&e);
            writer.take().expect("just used").abandon().await;
        }
    }
    feed.sink.end(feed.meter.loaded())?;
    if let Some(mut writer) = writer
        && let Err(e) = writer.finish(feed.meter.loaded()).await
    {
        feed.give_up_storing(&e);
        writer.abandon().await;
    }
    Ok(feed.outcome())
}

/// Copies pieces into the heap and on to the sink, and tells how far they are.
struct Feed<'a> {
    phase: Phase,
    total: Option<u64>,
    stored: bool,
    why: Option<String>,
    meter: Meter,
    scratch: Vec<u8>,
    signal: &'a AbortSignal,
    report: &'a mut dyn FnMut(Progress),
    sink: &'a mut dyn Sink,
}

impl<'a> Feed<'a> {
    fn new(
        phase: Phase,
        total: Option<u64>,
        stored: bool,
        why: Option<String>,
        signal: &'a AbortSignal,
        report: &'a mut dyn FnMut(Progress),
        sink: &'a mut dyn Sink,
    ) -> Result<Self> {
        sink.begin(total)?;
        let meter = Meter::new(now_ms());
        let mut feed = Self {
            phase,
            total,
            stored,
            why,
            meter,
            scratch: Vec::new(),
            signal,
            report,
            sink,
        };
        feed.tell();
        Ok(feed)
    }

    fn push(&mut self, bytes: &Uint8Array) -> Result<()> {
        let mut start = 0;
        while start < bytes.length() {
            if self.signal.aborted() {
                return Err(Error::Aborted);
            }
            let n = (bytes.length() - start).min(PIECE_BYTES);
            if self.scratch.len() < n as usize {
                self.scratch.resize(n as usize, 0);
            }
            let scratch = &mut self.scratch[..n as usize];
            bytes.subarray(start, start + n).copy_to(scratch);
            self.sink.push(self.meter.loaded(), scratch)?;
            start += n;
            if self.meter.add(u64::from(n), now_ms()) {
                self.tell();
            }
        }
        Ok(())
    }

    fn end(mut self) -> Result<Outcome> {
        self.sink.end(self.meter.loaded())?;
        Ok(self.outcome())
    }

    fn outcome(&mut self) -> Outcome {
        self.total = Some(self.meter.loaded());
        self.tell();
        Outcome {
            phase: self.phase,
            stored: self.stored,
            why: self.why.clone(),
            bytes: self.meter.loaded(),
        }
    }

    fn give_up_storing(&mut self, e: &Error) {
        self.stored = false;
        self.why = Some(e.to_string());
        self.tell();
    }

    fn tell(&mut self) {
        // A server that does not announce a length: the model's own account will do, until the last byte has come.
        let total = self.total.or_else(|| self.sink.needs());
        (self.report)(Progress {
            phase: self.phase,
            loaded: self.meter.loaded(),
            total,
            bytes_per_second: self.meter.rate(),
            seconds_left: self.meter.seconds_left(total),
            from_cache: self.phase == Phase::Cache,
            stored: self.stored,
            note: self
                .why
                .as_ref()
                .map(|why| format!("the model is not kept for the next visit: {why}")),
        });
    }
}
