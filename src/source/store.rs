//! Chunk store: models' bytes in IndexedDB, so that a second visit needs no network.
//!
//! Database `outcrop`; store `manifests`: model id -> [`Manifest`]; store `chunks`: [model id, index] -> Blob. The manifest says
//! `complete` only after the last chunk is on the disk: a torn download is seen as absent, never as whole. Blobs, because they are
//! two to four times faster than array buffers both ways, and because listing them reads none of their bytes.
//!
//! Any of this may be refused (private windows, blocked cookies, a full disk): every error is [`Error::Storage`], and callers go on
//! without a store.

use std::collections::VecDeque;

use js_sys::{Array, Promise, Uint8Array};
use serde::Serialize;
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, IdbDatabase, IdbKeyRange, IdbOpenDbRequest, IdbRequest, IdbTransaction, IdbTransactionMode};

use super::{
    Cutter, Manifest, ModelId, SCHEMA,
    web::{describe, release, scope},
};
use crate::{Error, Result};

const DATABASE: &str = "outcrop";
const MANIFESTS: &str = "manifests";
const CHUNKS: &str = "chunks";

/// Chunks on their way to the disk at once; more would only hold memory.
const PUTS_UNDER_WAY: usize = 2;

/// The open database.
pub(crate) struct Store {
    db: IdbDatabase,
}

impl Drop for Store {
    fn drop(&mut self) {
        self.db.set_onversionchange(None);
        self.db.close(); // takes effect after the transactions under way
    }
}

impl Store {
    /// Opens the database, making it if need be.
    pub(crate) async fn open() -> Result<Self> {
        let db = open_database(DATABASE, SCHEMA, &[MANIFESTS, CHUNKS]).await?;
        Ok(Self { db })
    }

    /// What is written down about `id`. A manifest that cannot be understood is as good as none.
    pub(crate) async fn manifest(&self, id: &ModelId) -> Result<Option<Manifest>> {
        let (store, _) = self.transaction(MANIFESTS, IdbTransactionMode::Readonly)?;
        let value = result(&store.get(&id.as_str().into()).map_err(failed)?).await?;
        Ok(serde_wasm_bindgen::from_value(value).ok())
    }

    /// All manifests that can be understood.
    pub(crate) async fn manifests(&self) -> Result<Vec<Manifest>> {
        let (store, _) = self.transaction(MANIFESTS, IdbTransactionMode::Readonly)?;
        let values: Array = result(&store.get_all().map_err(failed)?).await?.unchecked_into();
        Ok(values
            .iter()
            .filter_map(|value| serde_wasm_bindgen::from_value(value).ok())
            .collect())
    }

    /// Writes a manifest and waits until it is there.
    pub(crate) async fn put_manifest(&self, manifest: &Manifest) -> Result<()> {
        let value = manifest
            .serialize(&serde_wasm_bindgen::Serializer::json_compatible())
            .map_err(|e| Error::Storage { what: e.to_string() })?;
        let (store, transaction) = self.transaction(MANIFESTS, IdbTransactionMode::Readwrite)?;
        store.put_with_key(&value, &manifest.id.as_str().into()).map_err(failed)?;
        committed(&transaction).await
    }

    /// The chunks of `id` from index 0 up to the first gap. Reads none of their bytes.
    pub(crate) async fn chunks(&self, id: &ModelId) -> Result<Vec<Blob>> {
        let (store, _) = self.transaction(CHUNKS, IdbTransactionMode::Readonly)?;
        let range = chunk_keys(id)?;
        let keys = store.get_all_keys_with_key(&range).map_err(failed)?;
        let values = store.get_all_with_key(&range).map_err(failed)?;
        let keys: Array = result(&keys).await?.unchecked_into();
        let values: Array = result(&values).await?.unchecked_into();
        let in_order = |(i, key): &(usize, JsValue)| key.unchecked_ref::<Array>().get(1).as_f64() == Some(*i as f64);
        let n = keys.iter().enumerate().take_while(in_order).count();
        values
            .iter()
            .take(n)
            .map(|value| {
                value.dyn_into().map_err(|_| Error::Storage {
                    what: "a chunk is no Blob".into(),
                })
            })
            .collect()
    }

    /// Starts writing one chunk; the future tells when it is on the disk.
    fn put_chunk(&self, id: &ModelId, index: u32, chunk: &Blob) -> Result<impl Future<Output = Result<()>> + use<>> {
        let (store, transaction) = self.transaction(CHUNKS, IdbTransactionMode::Readwrite)?;
        store
            .put_with_key(chunk, &Array::of2(&id.as_str().into(), &index.into()))
            .map_err(failed)?;
        Ok(committed(&transaction))
    }

    /// Removes a model, whole or torn.
    pub(crate) async fn delete(&self, id: &ModelId) -> Result<()> {
        // The manifest goes first: chunks without one are never read.
        let (store, transaction) = self.transaction(MANIFESTS, IdbTransactionMode::Readwrite)?;
        store.delete(&id.as_str().into()).map_err(failed)?;
        committed(&transaction).await?;
        let (store, transaction) = self.transaction(CHUNKS, IdbTransactionMode::Readwrite)?;
        store.delete(&chunk_keys(id)?.into()).map_err(failed)?;
        committed(&transaction).await
    }

    fn transaction(&self, store: &str, mode: IdbTransactionMode) -> Result<(web_sys::IdbObjectStore, IdbTransaction)> {
        let transaction = self.db.transaction_with_str_and_mode(store, mode).map_err(failed)?;
        Ok((transaction.object_store(store).map_err(failed)?, transaction))
    }
}

/// Stores a model while it arrives.
pub(crate) struct Writer {
    store: Store,
    manifest: Manifest,
    cutter: Cutter,
    /// Pieces of the chunk that is not full yet, as they came: they never enter the wasm heap.
    pieces: Array,
    index: u32,
    under_way: VecDeque<std::pin::Pin<Box<dyn Future<Output = Result<()>>>>>,
}

impl Writer {
    /// Touches nothing until the first chunk is there.
    pub(crate) fn new(store: Store, manifest: Manifest) -> Self {
        let cutter = Cutter::new(manifest.chunk_bytes);
        Self {
            store,
            manifest,
            cutter,
            pieces: Array::new(),
            index: 0,
            under_way: VecDeque::new(),
        }
    }

    /// Takes the next piece. Full chunks are written while the next ones arrive; waits if that falls behind.
    pub(crate) async fn push(&mut self, piece: &Uint8Array) -> Result<()> {
        let mut start = 0;
        while start < piece.length() {
            let (n, full) = self.cutter.take(u64::from(piece.length() - start));
            let end = start + n as u32; // at most what is left of the piece
            self.pieces.push(&piece.subarray(start, end));
            start = end;
            if full {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Writes the last chunk, waits for all of them, and only then marks the model as complete.
    pub(crate) async fn finish(&mut self, length: u64) -> Result<()> {
        if self.cutter.rest() > 0 {
            self.flush().await?;
        }
        while let Some(put) = self.under_way.pop_front() {
            put.await?;
        }
        self.manifest.length = Some(length);
        self.manifest.complete = true;
        self.store.put_manifest(&self.manifest).await
    }

    /// Storing failed: makes room again. What cannot even be deleted is never read, having no complete manifest.
    pub(crate) async fn abandon(self) {
        for put in self.under_way {
            let _ = put.await;
        }
        let _ = self.store.delete(&self.manifest.id).await;
    }

    async fn flush(&mut self) -> Result<()> {
        if self.index == 0 {
            // What a former, torn download left goes first; then it is written down that another has begun.
            self.store.delete(&self.manifest.id).await?;
            self.store.put_manifest(&self.manifest).await?;
        }
        let chunk = Blob::new_with_u8_array_sequence(&self.pieces).map_err(failed)?;
        for piece in std::mem::take(&mut self.pieces).iter() {
            let piece: Uint8Array = piece.unchecked_into();
            // The rest of a piece that was cut belongs to the next chunk.
            if piece.byte_offset() + piece.byte_length() == piece.buffer().byte_length() {
                release(&piece);
            }
        }
        let put = self.store.put_chunk(&self.manifest.id, self.index, &chunk)?;
        self.under_way.push_back(Box::pin(put));
        self.index += 1;
        while self.under_way.len() > PUTS_UNDER_WAY {
            self.under_way.pop_front().expect("not empty").await?;
        }
        Ok(())
    }
}

/// All chunks of a model: arrays sort by element, and an array sorts after every number.
fn chunk_keys(id: &ModelId) -> Result<IdbKeyRange> {
    let id = JsValue::from_str(id.as_str());
    IdbKeyRange::bound(&Array::of1(&id), &Array::of2(&id, &Array::new())).map_err(failed)
}

/// Opens a database with these stores, making what is missing.
pub(super) async fn open_database(name: &str, version: u32, stores: &'static [&'static str]) -> Result<IdbDatabase> {
    let factory = scope().indexed_db().map_err(failed)?;
    let factory = factory.ok_or_else(|| Error::Storage {
        what: "this browser has no IndexedDB".into(),
    })?;
    let request: IdbOpenDbRequest = factory.open_with_u32(name, version).map_err(failed)?;
    let upgrade = {
        let request = request.clone();
        Closure::<dyn FnMut()>::new(move || {
            let db: IdbDatabase = request.result().expect("an upgrade has a database").unchecked_into();
            for &store in stores {
                if !db.object_store_names().contains(store) {
                    // A failure here aborts the upgrade, which fails the request: it is told there.
                    let _ = db.create_object_store(store);
                }
            }
        })
    };
    request.set_onupgradeneeded(Some(upgrade.as_ref().unchecked_ref()));
    // Another tab holds an older version open and does not let go: waiting could take for ever.
    let opened = Promise::new(&mut |resolve, reject| {
        request.set_onsuccess(Some(&resolve));
        request.set_onerror(Some(&reject));
        request.set_onblocked(Some(&reject));
    });
    let opened = JsFuture::from(opened).await;
    request.set_onupgradeneeded(None);
    if opened.is_err() {
        return Err(match request.error() {
            Ok(Some(e)) => failed(e.into()),
            _ => Error::Storage {
                what: "another tab holds an older version of it open; close that tab".into(),
            },
        });
    }
    let db: IdbDatabase = request.result().map_err(failed)?.unchecked_into();
    // A newer page wants to upgrade: let it, rather than block it. What is under way here fails and goes on unstored.
    let close = {
        let db = db.clone();
        Closure::once_into_js(move || db.close())
    };
    db.set_onversionchange(Some(close.unchecked_ref()));
    Ok(db)
}

/// Waits for a request and takes its result. Its handlers are set before this returns.
pub(super) fn result(request: &IdbRequest) -> impl Future<Output = Result<JsValue>> + use<> {
    let request = request.clone();
    let done = JsFuture::from(Promise::new(&mut |resolve, reject| {
        request.set_onsuccess(Some(&resolve));
        request.set_onerror(Some(&reject));
    }));
    async move {
        match done.await {
            Ok(_) => request.result().map_err(failed),
            Err(_) => Err(failed(
                request.error().ok().flatten().map_or(JsValue::UNDEFINED, JsValue::from),
            )),
        }
    }
}

/// Waits until a transaction is on the disk. Its handlers are set before this returns.
pub(super) fn committed(transaction: &IdbTransaction) -> impl Future<Output = Result<()>> + use<> {
    let transaction = transaction.clone();
    let done = JsFuture::from(Promise::new(&mut |resolve, reject| {
        transaction.set_oncomplete(Some(&resolve));
        transaction.set_onabort(Some(&reject)); // follows every error; some, like a full disk, come only at the commit
    }));
    async move {
        match done.await {
            Ok(_) => Ok(()),
            Err(_) => Err(failed(transaction.error().map_or(JsValue::UNDEFINED, JsValue::from))),
        }
    }
}

pub(super) fn failed(e: JsValue) -> Error {
    let name = e.dyn_ref::<web_sys::DomException>().map(web_sys::DomException::name);
    let what = match name.as_deref() {
        Some("QuotaExceededError") => "there is not enough space for the model".to_owned(),
        Some("SecurityError") => "this site may not store anything in this browser".to_owned(),
        _ => describe(&e),
    };
    Error::Storage { what }
}
