//! Blobs read front to back: a file that the visitor picked, or chunks that were stored.

use std::collections::VecDeque;

use js_sys::{ArrayBuffer, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::Blob;

use super::manifest::chunk_len;

/// Blobs being read at once: while one is taken, the next is on its way.
const READ_AHEAD: usize = 2;

/// Reads `blobs` one after another, whole.
pub(crate) struct BlobReader<I> {
    blobs: I,
    under_way: VecDeque<JsFuture>,
}

impl<I: Iterator<Item = Blob>> BlobReader<I> {
    /// Starts reading.
    pub(crate) fn new(blobs: I) -> Self {
        let mut reader = Self {
            blobs,
            under_way: VecDeque::new(),
        };
        reader.fill();
        reader
    }

    fn fill(&mut self) {
        while self.under_way.len() < READ_AHEAD {
            match self.blobs.next() {
                Some(blob) => self.under_way.push_back(JsFuture::from(blob.array_buffer())),
                None => break,
            }
        }
    }

    /// The next blob's bytes; `None` after the last. An error is the browser's own: the file was changed, removed or is not readable.
    pub(crate) async fn next(&mut self) -> Result<Option<Uint8Array>, JsValue> {
        let Some(first) = self.under_way.pop_front() else {
            return Ok(None);
        };
        let buffer: ArrayBuffer = first.await?.unchecked_into();
        self.fill();
        Ok(Some(Uint8Array::new(&buffer)))
    }
}

/// Cuts a blob into pieces of so many bytes without reading it.
pub(crate) fn slices(blob: Blob, piece_bytes: u64) -> impl Iterator<Item = Blob> {
    let length = blob.size();
    let n_chunks = (length as u64).div_ceil(piece_bytes);
    (0..n_chunks).map(move |i| {
        let start = i * piece_bytes;
        let end = start + chunk_len(length as u64, piece_bytes, i);
        blob.slice_with_f64_and_f64(start as f64, end as f64)
            .expect("slicing reads nothing and cannot fail")
    })
}
