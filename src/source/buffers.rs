//! Memory of JavaScript's that a model passes through, outside of the engine's. A collector lets gigabytes of it pile up before it comes, and what a
//! browser makes by itself for each piece of a stream cannot be given back sooner. So streams read into buffers of ours, which serve
//! again and again.

use std::{cell::RefCell, ops::Range};

use js_sys::{Array, ArrayBuffer, Function, Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{MessageChannel, ReadableStream, ReadableStreamByobReader, ReadableStreamDefaultReader};

use super::download::world::Bytes;
use crate::{Error, Result};

/// Bytes that are asked of a stream at once: 64 KiB and 1 MiB were slower.
const PIECE_BYTES: u32 = 256 << 10;

thread_local! {
    /// Buffers that nobody uses.
    static IDLE: RefCell<Vec<ArrayBuffer>> = const { RefCell::new(Vec::new()) };
}

/// Gives the memory of all idle buffers back. For when a load ends.
///
/// A message takes them along, and is lost with its channel. Nothing simpler would do: `ArrayBuffer.transfer` leaves the memory with Chromium's own
/// object for a buffer, and a port that is closed already does not take it.
pub(super) fn free_idle() {
    let idle = IDLE.take();
    if let (false, Ok(channel)) = (idle.is_empty(), MessageChannel::new()) {
        let (from, to) = (channel.port1(), channel.port2());
        let _ = from.post_message_with_transferable(&JsValue::NULL, &idle.into_iter().collect::<Array>());
        from.close();
        to.close();
    }
}

fn construct(len: u32) -> Option<ArrayBuffer> {
    // Its constructor throws where there is no memory.
    let constructor: Function = Reflect::get(&js_sys::global(), &"ArrayBuffer".into())
        .expect("every JavaScript has it")
        .unchecked_into();
    let buffer = Reflect::construct(&constructor, &Array::of1(&len.into())).ok()?;
    Some(buffer.unchecked_into())
}

/// A buffer of just so many bytes.
fn take(len: u32) -> Result<ArrayBuffer> {
    let idle = IDLE.with_borrow_mut(|idle| {
        let i = idle.iter().position(|buffer| buffer.byte_length() == len)?;
        Some(idle.swap_remove(i))
    });
    if let Some(buffer) = idle.or_else(|| construct(len)) {
        return Ok(buffer);
    }
    free_idle();
    construct(len).ok_or(Error::OutOfMemory {
        what: "a piece of the model",
        bytes: len.into(),
    })
}

/// Bytes in an array of JavaScript's.
pub(crate) struct WebBytes {
    array: Uint8Array,
    /// In a buffer of ours, which is idle when they are dropped.
    ours: bool,
}

impl WebBytes {
    /// All of a new array's, or of a view into one.
    fn ours(array: Uint8Array) -> Self {
        Self { array, ours: true }
    }

    pub(super) fn array(&self) -> &Uint8Array {
        &self.array
    }
}

impl Drop for WebBytes {
    fn drop(&mut self) {
        if self.ours {
            IDLE.with_borrow_mut(|idle| idle.push(self.array.buffer()));
        }
    }
}

impl Bytes for WebBytes {
    fn with_len(len: usize) -> Result<Self> {
        let len = u32::try_from(len).map_err(|_| Error::OutOfMemory {
            what: "a piece of the model",
            bytes: len as u64,
        })?;
        let buffer: JsValue = take(len)?.into();
        Ok(Self::ours(Uint8Array::new(&buffer)))
    }

    fn len(&self) -> usize {
        self.array.length() as usize
    }

    fn set(&mut self, at: usize, piece: &Self, range: Range<usize>) {
        let part = match range.len() == piece.len() {
            true => &piece.array,
            false => &piece.array.subarray(range.start as u32, range.end as u32),
        };
        self.array.set(part, at as u32);
    }

    fn truncate(&mut self, len: usize) {
        self.array = self.array.subarray(0, len as u32);
    }

    fn copy_to(&self, at: usize, to: &mut [u8]) {
        self.array.subarray(at as u32, (at + to.len()) as u32).copy_to(to);
    }
}

/// Reads a stream front to back.
pub(super) enum Reader {
    /// Into buffers of ours.
    Byob(ReadableStreamByobReader),
    /// Where the browser does not let us.
    Plain(ReadableStreamDefaultReader),
}

impl Reader {
    pub(super) fn of(stream: &ReadableStream) -> Self {
        let options = js_sys::Object::new();
        let _ = Reflect::set(&options, &"mode".into(), &"byob".into());
        // Called by name, since it throws for a stream that is none of bytes.
        let byob = Reflect::get(stream, &"getReader".into())
            .and_then(|get| get.unchecked_into::<Function>().call1(stream, &options))
            .ok()
            .filter(|reader| reader.is_instance_of::<ReadableStreamByobReader>());
        match byob {
            Some(reader) => Self::Byob(reader.unchecked_into()),
            None => Self::Plain(stream.get_reader().unchecked_into()),
        }
    }

    /// The next piece; `None` after the last.
    pub(super) async fn next(&self) -> Result<Option<WebBytes>, JsValue> {
        let piece = match self {
            Self::Byob(reader) => read_into(reader, &take(PIECE_BYTES).map_err(thrown)?, 0)
                .await?
                .map(WebBytes::ours),
            Self::Plain(reader) => value_of(&JsFuture::from(reader.read()).await?).map(|array| WebBytes { array, ours: false }),
        };
        // The end gives the buffer back, with nothing in it.
        Ok(piece.filter(|piece| !piece.is_empty()))
    }

    /// The next `len` bytes together, fewer at the stream's end. A [`Reader::Plain`] one loses what a piece has beyond them.
    pub(super) async fn fill(&self, len: u32) -> Result<WebBytes, JsValue> {
        let mut at = 0;
        let mut bytes = match self {
            Self::Byob(reader) => {
                let mut buffer = take(len).map_err(thrown)?;
                while at < len {
                    let view = read_into(reader, &buffer, at).await?;
                    let Some(view) = view else { break };
                    buffer = view.buffer();
                    if view.length() == 0 {
                        break;
                    }
                    at += view.length();
                }
                WebBytes::ours(Uint8Array::new(&buffer))
            }
            Self::Plain(_) => {
                let mut bytes = WebBytes::with_len(len as usize).map_err(thrown)?;
                while at < len
                    && let Some(piece) = self.next().await?
                {
                    let n = piece.len().min((len - at) as usize);
                    bytes.set(at as usize, &piece, 0..n);
                    at += n as u32;
                }
                bytes
            }
        };
        bytes.truncate(at as usize);
        Ok(bytes)
    }

    /// Gives the rest up.
    pub(super) fn cancel(&self) -> JsFuture {
        JsFuture::from(match self {
            Self::Byob(reader) => reader.cancel(),
            Self::Plain(reader) => reader.cancel(),
        })
    }
}

fn thrown(e: Error) -> JsValue {
    js_sys::Error::new(&e.to_string()).into()
}

/// Lets a stream write into `buffer` from `at` on. What it wrote is a view of the same memory in another buffer: `buffer` itself is of no use any more.
async fn read_into(reader: &ReadableStreamByobReader, buffer: &ArrayBuffer, at: u32) -> Result<Option<Uint8Array>, JsValue> {
    let view = Uint8Array::new_with_byte_offset(buffer, at);
    let read = JsFuture::from(reader.read_with_array_buffer_view(&view)).await?;
    Ok(value_of(&read))
}

/// Of what a reader's promise gives.
fn value_of(read: &JsValue) -> Option<Uint8Array> {
    Reflect::get(read, &"value".into()).ok()?.dyn_into().ok()
}
