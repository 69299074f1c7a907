//! What can be asked of the store alone: which models are there, and bringing them in and out.

use std::{collections::BTreeMap, pin::pin};

use futures_util::StreamExt;
use js_sys::Array;
use wasm_bindgen::JsValue;
use web_sys::{AbortSignal, Blob};

use super::{
    Beginning,
    blob::pieces,
    buffers::free_idle,
    digest::{Digest, Hasher},
    download::world::{Bytes, Shelf, World},
    manifest::{CHUNK_BYTES, Manifest, ModelId, part_of},
    progress::{Meter, Phase, Progress},
    store::Store,
    tabs::Tabs,
    web::{describe, head_of, now_ms, unreadable},
    world::WebWorld,
};
use crate::{Error, Result};

/// A model in the store: one file, or all parts that are there of a split one.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct StoredModel {
    pub(crate) id: String,
    url: String,
    name: Option<String>,
    /// Stored so far.
    bytes: u64,
    total: Option<u64>,
    pub(crate) complete: bool,
    used_ms: Option<f64>,
    parts: usize,
    sha256: Option<Digest>,
}

/// The files of a model, in order: parts of a split one are called so that their names sort.
fn group_of(manifests: &[Manifest], id: &str) -> Vec<Manifest> {
    let of =
        |manifest: &&Manifest| manifest.id.as_str() == id || manifest.group.as_ref().is_some_and(|group| group.as_str() == id);
    let mut group: Vec<_> = manifests.iter().filter(of).cloned().collect();
    group.sort_by(|a, b| a.id.as_str().cmp(b.id.as_str()));
    group
}

/// The keys of a model's files, in order.
///
/// # Errors
/// [`Error::NotStored`], [`Error::Storage`].
pub(super) async fn files_of(id: &str) -> Result<Vec<String>> {
    let group = group_of(&Store::open().await?.manifests().await?, id);
    match group.is_empty() {
        true => Err(Error::NotStored { id: id.to_owned() }),
        false => Ok(group.into_iter().map(|manifest| manifest.id.as_str().to_owned()).collect()),
    }
}

/// All models in the store.
///
/// # Errors
/// [`Error::Storage`].
pub(crate) async fn stored_models() -> Result<Vec<StoredModel>> {
    let store = Store::open().await?;
    let manifests = store.manifests().await?;
    let first = |manifest: &Manifest| manifest.group.clone().unwrap_or_else(|| manifest.id.clone());
    let mut ids: Vec<ModelId> = Vec::new();
    for id in manifests.iter().map(first) {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    let mut models = Vec::new();
    for id in ids {
        models.push(stored_model(&store, &manifests, id.as_str()).await?);
    }
    Ok(models)
}

async fn stored_model(store: &Store, manifests: &[Manifest], id: &str) -> Result<StoredModel> {
    let group = group_of(manifests, id);
    let (mut bytes, mut complete) = (0, !group.is_empty());
    for manifest in &group {
        let sizes: BTreeMap<u32, u64> = sizes_of(store, manifest.id.as_str()).await?;
        complete &= manifest.is_whole(&sizes);
        bytes += sizes.values().sum::<u64>();
    }
    let [first, rest @ ..] = &group[..] else {
        return Err(Error::NotStored { id: id.to_owned() });
    };
    // Parts that have not been begun are not written down, but their number is part of every part's name.
    let expected = first.group.as_ref().and_then(|group| part_of(group.as_str()));
    let n_parts = expected.map_or(1, |(_, count)| count).max(group.len());
    Ok(StoredModel {
        id: id.to_owned(),
        url: id.to_owned(),
        name: first.name.clone(),
        bytes,
        total: group
            .iter()
            .map(|manifest| manifest.length)
            .sum::<Option<u64>>()
            .filter(|_| n_parts == group.len()),
        complete: complete && n_parts == group.len(),
        used_ms: group
            .iter()
            .map(|manifest| manifest.used_ms)
            .reduce(f64::max)
            .filter(|&ms| ms > 0.0),
        parts: n_parts,
        sha256: first.sha256.filter(|_| rest.is_empty()),
    })
}

async fn sizes_of(store: &Store, id: &str) -> Result<BTreeMap<u32, u64>> {
    Ok(store
        .chunks(id)
        .await?
        .into_iter()
        .map(|(index, chunk)| (index, chunk.size() as u64))
        .collect())
}

/// Removes a model, all its parts, whole or torn.
///
/// # Errors
/// [`Error::Storage`].
pub(crate) async fn delete(id: &str) -> Result<()> {
    let store = Store::open().await?;
    for manifest in group_of(&store.manifests().await?, id) {
        store.clear(manifest.id.as_str()).await?;
    }
    store.clear(id).await?; // also chunks that nothing is written down about
    Tabs::open().tell_deleted(id);
    Ok(())
}

/// A stored file as one Blob, made of its chunks: nothing is copied.
///
/// # Errors
/// [`Error::NotStored`], [`Error::InvalidRequest`] of a split model, [`Error::Storage`].
pub(crate) async fn export(id: &str) -> Result<(String, Blob)> {
    let store = Store::open().await?;
    let (manifest, sizes) = store.list(id).await?;
    let Some(manifest) = manifest.filter(|manifest| manifest.is_whole(&sizes)) else {
        return Err(Error::NotStored { id: id.to_owned() });
    };
    let chunks: Array = store.chunks(id).await?.into_values().collect();
    let blob = Blob::new_with_blob_sequence(&chunks).map_err(|e| Error::Storage { what: describe(&e) })?;
    let path = manifest.url.split(['?', '#']).next().unwrap_or_default();
    let last = path.rsplit(['/', ':']).next().unwrap_or_default();
    let name = match last.to_ascii_lowercase().ends_with(".gguf") {
        true => last.to_owned(),
        false => format!("{}.gguf", manifest.name.as_deref().unwrap_or(last)),
    };
    Ok((name, blob))
}

/// What a file is imported as.
pub(crate) struct Import {
    /// Its key, as if it had come from there.
    pub(crate) url: String,
    pub(crate) name: Option<String>,
    pub(crate) sha256: Option<Digest>,
}

/// Stores a picked file. What is no GGUF, or not the one that it should be, is not kept.
///
/// # Errors
/// What is wrong with the file, [`Error::DigestMismatch`], [`Error::StorageFull`], [`Error::Storage`], [`Error::Aborted`].
pub(crate) async fn import<B: Beginning>(
    file: &Blob,
    import: &Import,
    signal: &AbortSignal,
    report: &mut dyn FnMut(Progress),
) -> Result<StoredModel> {
    let store = Store::open().await?;
    let world = WebWorld::new(signal, &JsValue::UNDEFINED, 1.0);
    let id = ModelId::from_url(&import.url);
    let _lease = world.try_lease(id.as_str()).await.ok_or_else(|| Error::InvalidRequest {
        what: "another tab is downloading this model".into(),
    })?;
    let total = file.size() as u64;
    let needed = B::needs(&head_of::<B>(file).await?);
    if needed > total {
        return Err(Error::Truncated {
            section: "the whole file",
            needed,
            offset: 0,
            len: total,
        });
    }
    store.clear(id.as_str()).await?;
    let mut manifest = Manifest::new(&import.url, CHUNK_BYTES, world.date_ms());
    manifest.name = import.name.clone();
    manifest.length = Some(total);
    manifest.group = part_of(&import.url).filter(|&(_, count)| count > 1).map(|(first, _)| first);
    let stored = keep(file, &store, &world, &mut manifest, signal, report).await;
    free_idle();
    let stored = stored.and_then(|sha256| match import.sha256 {
        Some(wanted) if wanted != sha256 => Err(Error::DigestMismatch {
            url: import.url.clone(),
            what: format!("its SHA-256 is {sha256}, it should be {wanted}"),
        }),
        wanted => Ok((sha256, wanted.is_some())),
    });
    let (sha256, published) = match stored {
        Ok(stored) => stored,
        Err(e) => {
            let _ = store.clear(id.as_str()).await;
            return Err(e);
        }
    };
    manifest.sha256 = Some(sha256);
    manifest.published = published;
    manifest.complete = true;
    store.write(&manifest).await?;
    world.tabs().tell_stored(id.as_str());
    stored_model(&store, &[manifest], id.as_str()).await
}

/// Writes all chunks of a file; its digest.
async fn keep(
    file: &Blob,
    store: &Store,
    world: &WebWorld,
    manifest: &mut Manifest,
    signal: &AbortSignal,
    report: &mut dyn FnMut(Progress),
) -> Result<Digest> {
    let total = file.size() as u64;
    let mut hasher = Hasher::default();
    let mut meter = Meter::new(now_ms());
    let mut loaded = 0;
    let mut chunks = pin!(pieces(file, CHUNK_BYTES));
    let mut index = 0;
    while let Some(bytes) = chunks.next().await {
        let bytes = bytes.map_err(|e| unreadable(file, &e))?;
        if signal.aborted() {
            return Err(Error::Aborted);
        }
        let digest = world.digest(&bytes).await;
        manifest.set_hash(index as usize, digest);
        let put = store.put(index, &bytes, manifest);
        hasher.update(&bytes.array().to_vec());
        put.await?;
        loaded += bytes.len() as u64;
        meter.add(bytes.len() as u64, now_ms());
        index += 1;
        report(Progress {
            bytes_per_second: meter.rate(),
            seconds_left: meter.seconds_left(total - loaded),
            stored: true,
            ..Progress::at(Phase::File, loaded, Some(total))
        });
    }
    Ok(hasher.finish())
}
