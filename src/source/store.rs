//! Chunk store: models' bytes in IndexedDB, so that a second visit needs no network, and an interrupted one goes on where it stopped.
//!
//! Database `outcrop`; store `manifests`: model id -> [`Manifest`]; store `chunks`: [model id, index] -> Blob. A chunk and the manifest with its
//! digest are written in one transaction, so what is written down is there; `complete` comes last. Blobs, because they are two to four
//! times faster than array buffers both ways, and because listing them reads none of their bytes.
//!
//! Any of this may be refused (private windows, blocked cookies, a full disk): every error is [`Error::Storage`] or [`Error::StorageFull`], and
//! callers go on without a store.

use std::{collections::BTreeMap, rc::Rc};

use js_sys::{Array, Promise};
use serde::Serialize;
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    Blob, IdbDatabase, IdbKeyRange, IdbObjectStore, IdbOpenDbRequest, IdbRequest, IdbTransaction, IdbTransactionMode,
    IdbVersionChangeEvent,
};

use super::{
    blob,
    buffers::WebBytes,
    download::world::Shelf,
    manifest::{Manifest, SCHEMA},
    web::{describe, scope},
};
use crate::{Error, Result};

const DATABASE: &str = "outcrop";
const MANIFESTS: &str = "manifests";
const CHUNKS: &str = "chunks";

/// The open database.
#[derive(Clone)]
pub(crate) struct Store(Rc<Connection>);

struct Connection(IdbDatabase);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.set_onversionchange(None);
        self.0.close(); // takes effect after the transactions under way
    }
}

impl Store {
    /// Opens the database, making it if need be, or bringing an older version's up to date.
    pub(crate) async fn open() -> Result<Self> {
        let db = open_database(DATABASE, SCHEMA, &[MANIFESTS, CHUNKS], upgrade_manifests).await?;
        Ok(Self(Rc::new(Connection(db))))
    }

    /// All manifests that can be understood.
    pub(crate) async fn manifests(&self) -> Result<Vec<Manifest>> {
        let [manifests] = self.transaction([MANIFESTS], IdbTransactionMode::Readonly)?.1;
        let values: Array = result(&manifests.get_all().map_err(failed)?).await?.unchecked_into();
        Ok(values.iter().filter_map(parse).collect())
    }

    /// The chunks of `id` by index. Reads none of their bytes.
    pub(crate) async fn chunks(&self, id: &str) -> Result<BTreeMap<u32, Blob>> {
        let [chunks] = self.transaction([CHUNKS], IdbTransactionMode::Readonly)?.1;
        let range = chunk_keys(id)?;
        let keys = chunks.get_all_keys_with_key(&range).map_err(failed)?;
        let values = chunks.get_all_with_key(&range).map_err(failed)?;
        let (keys, values) = (result(&keys), result(&values));
        let keys: Array = keys.await?.unchecked_into();
        let values: Array = values.await?.unchecked_into();
        let index = |key: JsValue| {
            key.dyn_ref::<Array>()?
                .get(1)
                .as_f64()
                .filter(|i| i.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(i))
        };
        // What is no Blob, or has a key that nobody here wrote, is as good as absent.
        let chunk = |(key, value): (JsValue, JsValue)| Some((index(key)? as u32, value.dyn_into::<Blob>().ok()?));
        Ok(keys.iter().zip(values.iter()).filter_map(chunk).collect())
    }

    /// A transaction over some of the stores, and these. It has begun: what is asked of it first is done before any later one's.
    fn transaction<const N: usize>(
        &self,
        names: [&str; N],
        mode: IdbTransactionMode,
    ) -> Result<(IdbTransaction, [IdbObjectStore; N])> {
        let list: Array = names.iter().map(|&name| JsValue::from_str(name)).collect();
        let transaction = self.0.0.transaction_with_str_sequence_and_mode(&list, mode).map_err(failed)?;
        let mut stores = Vec::with_capacity(N);
        for name in names {
            stores.push(transaction.object_store(name).map_err(failed)?);
        }
        Ok((transaction, stores.try_into().expect("one for each name")))
    }

    fn written(&self, chunk: Option<(u32, &Blob)>, manifest: &Manifest) -> Result<impl Future<Output = Result<()>> + use<>> {
        let value = to_value(manifest)?;
        let id = JsValue::from_str(manifest.id.as_str());
        let (transaction, [manifests, chunks]) = self.transaction([MANIFESTS, CHUNKS], IdbTransactionMode::Readwrite)?;
        if let Some((index, blob)) = chunk {
            chunks.put_with_key(blob, &Array::of2(&id, &index.into())).map_err(failed)?;
        }
        manifests.put_with_key(&value, &id).map_err(failed)?;
        Ok(committed(&transaction))
    }
}

/// Waits for what could be begun.
fn begun(begun: Result<impl Future<Output = Result<()>>>) -> impl Future<Output = Result<()>> {
    async move { begun?.await }
}

impl Shelf for Store {
    type Bytes = WebBytes;

    async fn list(&self, id: &str) -> Result<(Option<Manifest>, BTreeMap<u32, u64>)> {
        let [manifests] = self.transaction([MANIFESTS], IdbTransactionMode::Readonly)?.1;
        let value = result(&manifests.get(&id.into()).map_err(failed)?).await?;
        let Some(manifest) = parse(value) else {
            return Ok((None, BTreeMap::new()));
        };
        let chunks = self.chunks(id).await?;
        Ok((
            Some(manifest),
            chunks
                .into_iter()
                .map(|(index, chunk)| (index, chunk.size() as u64))
                .collect(),
        ))
    }

    fn read(&self, id: &str, index: u32) -> impl Future<Output = Result<WebBytes>> + use<> {
        let request = self
            .transaction([CHUNKS], IdbTransactionMode::Readonly)
            .and_then(|(_, [chunks])| chunks.get(&Array::of2(&id.into(), &index.into())).map_err(failed))
            .map(|request| result(&request));
        async move {
            let absent = |_| Error::Storage {
                what: format!("chunk {index} is not there"),
            };
            let blob: Blob = request?.await?.dyn_into().map_err(absent)?;
            blob::read(&blob).await.map_err(failed)
        }
    }

    fn put(&self, index: u32, bytes: &WebBytes, manifest: &Manifest) -> impl Future<Output = Result<()>> + use<> {
        let blob = Blob::new_with_u8_array_sequence(&Array::of1(bytes.array())).map_err(failed);
        begun(blob.and_then(|blob| self.written(Some((index, &blob)), manifest)))
    }

    fn write(&self, manifest: &Manifest) -> impl Future<Output = Result<()>> + use<> {
        begun(self.written(None, manifest))
    }

    fn clear(&self, id: &str) -> impl Future<Output = Result<()>> + use<> {
        begun(self.transaction([MANIFESTS, CHUNKS], IdbTransactionMode::Readwrite).and_then(
            |(transaction, [manifests, chunks])| {
                manifests.delete(&id.into()).map_err(failed)?;
                chunks.delete(&chunk_keys(id)?.into()).map_err(failed)?;
                Ok(committed(&transaction))
            },
        ))
    }
}

/// A manifest as it was found. One that cannot be understood is as good as none.
fn parse(value: JsValue) -> Option<Manifest> {
    serde_wasm_bindgen::from_value::<Manifest>(value).ok()?.upgraded()
}

fn to_value(manifest: &Manifest) -> Result<JsValue> {
    manifest
        .serialize(&serde_wasm_bindgen::Serializer::json_compatible())
        .map_err(|e| Error::Storage { what: e.to_string() })
}

/// Version 1's manifests, brought to this one's: within the upgrade, so that no tab ever sees the half of it.
fn upgrade_manifests(transaction: &IdbTransaction) -> std::result::Result<(), JsValue> {
    let manifests = transaction.object_store(MANIFESTS)?;
    let all = manifests.get_all()?;
    let upgrade = {
        let all = all.clone();
        Closure::once_into_js(move || {
            let values: Array = all.result().map(JsCast::unchecked_into).unwrap_or_default();
            for manifest in values.iter().filter_map(parse) {
                if let Ok(value) = to_value(&manifest) {
                    let _ = manifests.put_with_key(&value, &manifest.id.as_str().into());
                }
            }
        })
    };
    all.set_onsuccess(Some(upgrade.unchecked_ref()));
    Ok(())
}

/// All chunks of a model: arrays sort by element, and an array sorts after every number.
fn chunk_keys(id: &str) -> Result<IdbKeyRange> {
    let id = JsValue::from_str(id);
    IdbKeyRange::bound(&Array::of1(&id), &Array::of2(&id, &Array::new())).map_err(failed)
}

/// Opens a database with these stores, making what is missing; `migrate` is called for one that an older version made.
pub(super) async fn open_database(
    name: &str,
    version: u32,
    stores: &'static [&'static str],
    migrate: fn(&IdbTransaction) -> std::result::Result<(), JsValue>,
) -> Result<IdbDatabase> {
    let factory = scope().indexed_db().map_err(failed)?;
    let factory = factory.ok_or_else(|| Error::Storage {
        what: "this browser has no IndexedDB".into(),
    })?;
    let request: IdbOpenDbRequest = factory.open_with_u32(name, version).map_err(failed)?;
    let upgrade = {
        let request = request.clone();
        Closure::<dyn FnMut(IdbVersionChangeEvent)>::new(move |event: IdbVersionChangeEvent| {
            let db: IdbDatabase = request.result().expect("an upgrade has a database").unchecked_into();
            for &store in stores {
                if !db.object_store_names().contains(store) {
                    // A failure here aborts the upgrade, which fails the request: it is told there.
                    let _ = db.create_object_store(store);
                }
            }
            if let (true, Some(transaction)) = (event.old_version() > 0.0, request.transaction()) {
                let _ = migrate(&transaction);
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
        Some("QuotaExceededError") => {
            return Error::StorageFull {
                what: "there is not enough space for the model".to_owned(),
            };
        }
        Some("SecurityError") => "this site may not store anything in this browser".to_owned(),
        _ => describe(&e),
    };
    Error::Storage { what }
}
