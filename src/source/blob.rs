//! Blobs read front to back: a file that the visitor picked, or chunks that were stored.

use futures_util::{Stream, StreamExt, stream};
use wasm_bindgen::JsValue;
use web_sys::Blob;

use super::{
    buffers::{Reader, WebBytes},
    manifest::chunk_len,
};

/// Pieces being read at once: while one is taken, the next is on its way.
const READ_AHEAD: usize = 2;

/// All bytes of a blob.
///
/// # Errors
/// The browser's own: the file was changed, removed or is not readable.
pub(super) async fn read(blob: &Blob) -> Result<WebBytes, JsValue> {
    let reader = Reader::of(&blob.stream());
    reader.fill(blob.size() as u32).await
}

/// The bytes of a blob in pieces of so many.
pub(super) fn pieces(blob: &Blob, piece_bytes: u64) -> impl Stream<Item = Result<WebBytes, JsValue>> {
    stream::iter(slices(blob.clone(), piece_bytes))
        .map(|slice| async move { read(&slice).await })
        .buffered(READ_AHEAD)
}

/// Cuts a blob into pieces of so many bytes without reading it.
fn slices(blob: Blob, piece_bytes: u64) -> impl Iterator<Item = Blob> {
    let length = blob.size();
    let n_chunks = (length as u64).div_ceil(piece_bytes);
    (0..n_chunks).map(move |i| {
        let start = i * piece_bytes;
        let end = start + chunk_len(length as u64, piece_bytes, i);
        blob.slice_with_f64_and_f64(start as f64, end as f64)
            .expect("slicing reads nothing and cannot fail")
    })
}
