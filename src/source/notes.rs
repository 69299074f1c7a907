//! Small texts by key, in a database beside the models': what was found out about a device, so that it need not be found out again.

use wasm_bindgen::{JsCast, JsValue};
use web_sys::{IdbDatabase, IdbObjectStore, IdbTransaction, IdbTransactionMode};

use super::store::{committed, failed, open_database, result};
use crate::Result;

const DATABASE: &str = "outcrop-notes";
const NOTES: &str = "notes";
const VERSION: u32 = 1;

struct Notes(IdbDatabase);

impl Drop for Notes {
    fn drop(&mut self) {
        self.0.set_onversionchange(None);
        self.0.close();
    }
}

impl Notes {
    async fn open() -> Result<Notes> {
        open_database(DATABASE, VERSION, &[NOTES], |_| Ok(())).await.map(Notes)
    }

    fn transaction(&self, mode: IdbTransactionMode) -> Result<(IdbObjectStore, IdbTransaction)> {
        let transaction = self.0.transaction_with_str_and_mode(NOTES, mode).map_err(failed)?;
        Ok((transaction.object_store(NOTES).map_err(failed)?, transaction))
    }
}

/// The note of `key`, if there is one.
///
/// # Errors
/// [`crate::Error::Storage`].
pub(crate) async fn get(key: &str) -> Result<Option<String>> {
    let notes = Notes::open().await?;
    let (store, _) = notes.transaction(IdbTransactionMode::Readonly)?;
    let value = result(&store.get(&key.into()).map_err(failed)?).await?;
    Ok(value.dyn_into::<js_sys::JsString>().ok().map(String::from))
}

/// Writes a note and waits until it is there.
///
/// # Errors
/// [`crate::Error::Storage`].
pub(crate) async fn put(key: &str, text: &str) -> Result<()> {
    let notes = Notes::open().await?;
    let (store, transaction) = notes.transaction(IdbTransactionMode::Readwrite)?;
    store.put_with_key(&JsValue::from_str(text), &key.into()).map_err(failed)?;
    committed(&transaction).await
}
