//! A file from network and store to whoever needs it, in order, every chunk checked; and into the store on the way.
//!
//! One loop serves all cases: a chunk that is in the store is read and checked against its digest, any other is asked of the network, and so is
//! one that went bad. So a first download, a resumed one, a warm start and a repair differ only in which chunks are there.
//!
//! [`answer`] judges what a server says, [`mirrors`] knows whom to ask, [`patience`] when; `state` is where a download stands, `transfer` its
//! requests, `stream` those for everything at once, `run` the loop. [`world`] is what it needs from outside.

pub mod answer;
pub mod mirrors;
pub mod patience;
mod run;
mod state;
mod storing;
mod stream;
mod transfer;
pub mod world;

use std::{cell::RefCell, collections::BTreeMap, pin::pin};

use futures_util::future::{Either, select};

use self::{
    run::Run,
    state::{State, Storing, storing_failed},
    transfer::Transfer,
    world::{Shelf, World},
};
use super::{
    Sink,
    digest::Digest,
    manifest::{CHUNK_BYTES, MOST_CHUNKS, Manifest, ModelId},
    progress::{Phase, Problem, Progress, Waiting},
};
use crate::{Error, Result};

/// How often another tab's download is looked at, and this one's told.
const SHARE_MS: f64 = 500.0;

/// Digests of a file's chunks, published beside it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct ChunkDigests {
    /// Of each chunk but the last.
    pub bytes: u64,
    /// By index.
    pub sha256: Vec<Digest>,
}

/// What to download, and what is known of it.
#[derive(Debug, Clone, Default)]
pub struct Spec {
    /// Absolute addresses of one and the same file; the first is also its key in the store.
    pub urls: Vec<String>,
    /// Of the whole file, if it was published.
    pub sha256: Option<Digest>,
    /// Bytes of the whole file, if that was published.
    pub bytes: Option<u64>,
    /// Of its chunks, if they were published.
    pub chunks: Option<ChunkDigests>,
    /// For people.
    pub name: Option<String>,
    /// Of a part of a split model: the first part's key.
    pub group: Option<ModelId>,
    /// Bytes in a chunk of a new download, unless `chunks` says.
    pub chunk_bytes: Option<u64>,
    /// Requests at once; else that adapts.
    pub parallel: Option<u32>,
    /// From the store alone.
    pub stored_only: bool,
}

impl Spec {
    /// The key in the store.
    pub fn id(&self) -> ModelId {
        ModelId::from_url(&self.urls[0])
    }

    /// Whether bytes of different addresses may be put together: something would notice if they were of different files.
    fn has_digest(&self) -> bool {
        self.sha256.is_some() || self.chunks.is_some()
    }

    fn new_manifest(&self, now_ms: f64) -> Manifest {
        let chunk_bytes = self.chunks.as_ref().map(|chunks| chunks.bytes).or(self.chunk_bytes);
        let mut manifest = Manifest::new(&self.urls[0], chunk_bytes.unwrap_or(CHUNK_BYTES).max(1), now_ms);
        manifest.name = self.name.clone();
        manifest.group = self.group.clone();
        manifest
    }

    /// Whether what is stored can be a part of what is wanted.
    fn may_resume(&self, manifest: &Manifest) -> bool {
        let same = |wanted: Option<u64>, found: Option<u64>| wanted.is_none() || found.is_none() || wanted == found;
        same(self.bytes, manifest.length)
            && same(self.chunks.as_ref().map(|chunks| chunks.bytes), Some(manifest.chunk_bytes))
            && self
                .sha256
                .is_none_or(|wanted| manifest.sha256.is_none_or(|found| found == wanted))
    }
}

/// How a file was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// [`Phase::Download`], [`Phase::Cache`] or [`Phase::File`].
    pub phase: Phase,
    /// Whether it is in the store now.
    pub stored: bool,
    /// Why it is not.
    pub why: Option<String>,
    /// [`Progress::problem`].
    pub problem: Option<Problem>,
    /// [`Progress::resumed`].
    pub resumed: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Of the whole file, if it was computed, now or when it was stored.
    pub sha256: Option<Digest>,
    /// That digest was published, and met.
    pub checked: bool,
}

/// What to tell a visitor whose model is not kept.
pub fn not_kept(why: &str) -> String {
    format!("the model is not kept for the next visit: {why}")
}

/// Reads a file front to back into `sink`, from the store as far as it is there.
///
/// `shelf` is the store, or why there is none.
///
/// # Errors
/// What the network, the server or the sink say, once there is no more hope; what arrived until then is kept.
/// [`Error::FileChanged`], [`Error::DigestMismatch`]: what was stored is gone, and a new start, with a new sink, may do better.
/// That a file cannot be *stored* is no error.
pub async fn receive<W: World, S: Shelf<Bytes = W::Bytes>>(
    world: &W,
    shelf: Result<&S, (Option<Problem>, String)>,
    spec: &Spec,
    report: &mut dyn FnMut(Progress),
    sink: &mut dyn Sink,
) -> Result<Outcome> {
    let report = RefCell::new(report);
    let report = |progress| (report.borrow_mut())(progress);
    let (shelf, mut storing) = match shelf {
        Ok(shelf) => (Some(shelf), Storing::Yes),
        Err((problem, why)) => (None, Storing::No(problem, why)),
    };
    let id = spec.id();
    let mut found = look(shelf, spec, world, &mut storing).await;
    // Asked while the lease is; a start from the store need not know.
    let room = (shelf.is_some() && !found.whole).then(|| world.room());
    let mut lease = None;
    if !found.whole && !spec.stored_only && shelf.is_some() {
        let waited;
        (lease, waited) = take_lease(world, id.as_str(), &report).await?;
        if waited {
            found = look(shelf, spec, world, &mut storing).await;
        }
    }
    if spec.stored_only && !found.whole {
        return Err(Error::NotStored {
            id: id.as_str().to_owned(),
        });
    }
    let sizes = std::mem::take(&mut found.sizes);
    let mut state = State::new(spec, found.manifest.clone(), &sizes, storing, world.now_ms());
    if let (Some(room), false) = (room, found.whole) {
        state.room = room.await;
    }
    if !sizes.is_empty() {
        let mirror = found.manifest.mirror.as_deref().unwrap_or(&spec.urls[0]);
        state.mirrors.resume(mirror, found.manifest.etag.as_deref());
    }
    let transfer = Transfer {
        world,
        spec,
        state: RefCell::new(state),
        report: &report,
    };
    let hashed = found.manifest.complete && found.manifest.sha256.is_some();
    let mut run = Run::new(&transfer, shelf, sink, lease, !hashed);
    run.run(&id).await
}

/// What is in the store of a file.
struct Found {
    manifest: Manifest,
    /// Of chunks that can be used.
    sizes: BTreeMap<u32, u64>,
    whole: bool,
}

async fn look<S: Shelf>(shelf: Option<&S>, spec: &Spec, world: &impl World, storing: &mut Storing) -> Found {
    let found = match shelf {
        None => None,
        Some(shelf) => match shelf.list(spec.id().as_str()).await {
            Ok((manifest, sizes)) => manifest
                .filter(|manifest| spec.may_resume(manifest))
                .map(|manifest| (manifest, sizes)),
            Err(e) => {
                *storing = storing_failed(&e);
                None
            }
        },
    };
    if let Some((mut manifest, sizes)) = found {
        manifest.id = spec.id(); // whatever it says
        let whole = manifest.is_whole(&sizes);
        let sizes = manifest.usable(sizes);
        if whole || may_go_on(spec, &manifest, &sizes) {
            return Found { manifest, sizes, whole };
        }
    }
    Found {
        manifest: spec.new_manifest(world.date_ms()),
        sizes: BTreeMap::new(),
        whole: false,
    }
}

/// Whether chunks that come now would be noticed if they were of another file than those that are there: by a digest, by the server's word for
/// this version, or by digests of just these chunks from when all were there.
fn may_go_on(spec: &Spec, manifest: &Manifest, sizes: &BTreeMap<u32, u64>) -> bool {
    let known = || {
        let n = manifest.n_chunks().unwrap_or(u64::MAX).min(MOST_CHUNKS);
        (0..n as u32).all(|i| sizes.contains_key(&i) || manifest.hash(i as usize).is_some())
    };
    !sizes.is_empty() && (spec.has_digest() || manifest.etag.is_some() || known())
}

/// Waits until no other tab downloads this file; whether one did.
async fn take_lease<W: World>(world: &W, id: &str, report: Report<'_>) -> Result<(Option<W::Lease>, bool)> {
    if let Some(lease) = world.try_lease(id).await {
        return Ok((Some(lease), false));
    }
    let mut lease = pin!(world.lease(id));
    loop {
        let other = world.elsewhere(id);
        let progress = Progress {
            waiting: Some(Waiting::OtherTab),
            bytes_per_second: other.and_then(|other| other.bytes_per_second),
            stored: true,
            ..Progress::at(
                Phase::Download,
                other.map_or(0, |other| other.loaded),
                other.and_then(|other| other.total),
            )
        };
        report(progress);
        let (sleep, changed) = (pin!(world.sleep(SHARE_MS)), pin!(world.changed()));
        match select(lease.as_mut(), select(sleep, changed)).await {
            Either::Left((lease, _)) => return Ok((Some(lease), true)),
            Either::Right(_) if world.is_aborted() => return Err(Error::Aborted),
            Either::Right(_) => {}
        }
    }
}

/// Who is told how far it is.
type Report<'a> = &'a dyn Fn(Progress);
