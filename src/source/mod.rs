//! Where a model's bytes come from: the network, IndexedDB or a local file; always front to back, in one pass.
//!
//! This file is the pure part: how a file is cut into chunks, what is written down about a stored model, and when that is
//! enough to load it again without a request. The rest is [`progress`] (rates and times), [`file`] for native programs, and for the
//! web `http` (fetch), `blob` (a picked file), `store` (IndexedDB) and `web`, which chooses among them.
//!
//! Bytes are handed on as they arrive and are never gathered: a two-gigabyte model passes through a few chunks of memory.

#[cfg(target_arch = "wasm32")]
pub(crate) mod blob;
#[cfg(not(target_arch = "wasm32"))]
pub mod file;
#[cfg(target_arch = "wasm32")]
pub(crate) mod http;
pub mod progress;
#[cfg(all(target_arch = "wasm32", feature = "webgpu"))]
pub(crate) mod notes;
#[cfg(target_arch = "wasm32")]
pub(crate) mod store;
#[cfg(target_arch = "wasm32")]
pub(crate) mod tasks;
#[cfg(target_arch = "wasm32")]
pub(crate) mod web;

use serde::{Deserialize, Serialize};

use crate::Result;

/// Bytes in a stored chunk. Blobs of 16 MiB are written and read near the disk's speed; much smaller ones are not, and larger ones
/// hold more memory while they are under way.
pub const CHUNK_BYTES: u64 = 16 << 20;

/// Version of [`Manifest`] and of what the chunks hold. A manifest of another version is not read.
pub const SCHEMA: u32 = 1;

/// Who takes the bytes of a file as they arrive.
pub trait Sink {
    /// Before the first byte: the length of the file in bytes, if it is known by then.
    fn begin(&mut self, len: Option<u64>) -> Result<()>;
    /// The next bytes of the file; the first call has offset 0, and there are no gaps.
    fn push(&mut self, offset: u64, bytes: &[u8]) -> Result<()>;
    /// Bytes that the file must have by its own account, as soon as enough of it was seen to tell.
    fn needs(&self) -> Option<u64>;
    /// After the last byte: an error if the file is not whole. A download is marked as complete only after this.
    fn end(&mut self, len: u64) -> Result<()>;
}

/// The key under which a model is stored: its address without the fragment, which servers never see.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ModelId(String);

impl ModelId {
    /// `url` must be absolute, or two pages would mean different files by one key.
    pub fn from_url(url: &str) -> Self {
        Self(url.split('#').next().unwrap_or_default().to_owned())
    }

    /// As it is written in the store.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is written down about a stored model.
///
/// Written twice: before the first chunk, with `complete: false`, and after the last one has arrived on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA`] at the time of writing.
    pub schema: u32,
    /// Key of this manifest, first half of its chunks' keys.
    pub id: ModelId,
    /// The address that was asked.
    pub url: String,
    /// The server's ETag, for resuming and for noticing a newer file.
    pub etag: Option<String>,
    /// Bytes of the whole file; `None` while a server that does not say is still sending.
    pub length: Option<u64>,
    /// Bytes of each chunk but the last.
    pub chunk_bytes: u64,
    /// SHA-256 of each chunk in hexadecimal, index by index; empty: not computed.
    pub hashes: Vec<String>,
    /// The last thing written: all chunks are there.
    pub complete: bool,
}

impl Manifest {
    /// The manifest of a download that is about to start.
    pub fn new(id: ModelId, url: &str, etag: Option<String>, length: Option<u64>) -> Self {
        Self {
            schema: SCHEMA,
            id,
            url: url.to_owned(),
            etag,
            length,
            chunk_bytes: CHUNK_BYTES,
            hashes: Vec::new(),
            complete: false,
        }
    }

    /// Whether the model can be loaded from the store alone.
    ///
    /// `chunks` are the sizes in bytes of the chunks that are really there, by index. Browsers may evict or lose single records, so
    /// a complete manifest is a promise that is checked. Everything else means to download from the start.
    pub fn is_whole(&self, chunks: &[u64]) -> bool {
        let Some(length) = self.length else { return false };
        self.schema == SCHEMA
            && self.complete
            && self.chunk_bytes > 0
            && chunks.len() as u64 == length.div_ceil(self.chunk_bytes)
            && chunks
                .iter()
                .enumerate()
                .all(|(i, &bytes)| bytes == chunk_len(length, self.chunk_bytes, i as u64))
    }
}

/// Bytes of chunk `index` of a file of `length` bytes; 0 beyond its end.
pub fn chunk_len(length: u64, chunk_bytes: u64, index: u64) -> u64 {
    length.saturating_sub(index.saturating_mul(chunk_bytes)).min(chunk_bytes)
}

/// Cuts a stream of pieces of any length at chunk borders.
#[derive(Debug)]
pub struct Cutter {
    chunk_bytes: u64,
    filled: u64,
}

impl Cutter {
    /// At the start of the first chunk.
    pub fn new(chunk_bytes: u64) -> Self {
        assert!(chunk_bytes > 0, "chunks have bytes");
        Self { chunk_bytes, filled: 0 }
    }

    /// How many of `len` further bytes belong to the current chunk, and whether they fill it. Call it again with the rest.
    pub fn take(&mut self, len: u64) -> (u64, bool) {
        let n = len.min(self.chunk_bytes - self.filled);
        self.filled += n;
        let full = self.filled == self.chunk_bytes;
        if full {
            self.filled = 0;
        }
        (n, full)
    }

    /// Bytes in the chunk that is not full yet.
    pub fn rest(&self) -> u64 {
        self.filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(length: u64, chunk_bytes: u64) -> Manifest {
        let mut m = Manifest::new(
            ModelId::from_url("https://a.example/m.gguf"),
            "https://a.example/m.gguf",
            None,
            Some(length),
        );
        m.chunk_bytes = chunk_bytes;
        m.complete = true;
        m
    }

    #[test]
    fn a_fragment_is_no_part_of_the_key() {
        assert_eq!(
            ModelId::from_url("https://a.example/m.gguf?x=1#frag").as_str(),
            "https://a.example/m.gguf?x=1"
        );
        assert_eq!(
            ModelId::from_url("https://a.example/m.gguf"),
            ModelId::from_url("https://a.example/m.gguf#")
        );
    }

    #[test]
    fn only_a_complete_manifest_with_all_its_chunks_is_whole() {
        let m = whole(25, 10);
        assert!(m.is_whole(&[10, 10, 5]));
        for chunks in [&[][..], &[10, 10], &[10, 10, 4], &[10, 9, 5], &[10, 10, 5, 0], &[10, 10, 10]] {
            assert!(!m.is_whole(chunks), "{chunks:?}");
        }
        assert!(whole(20, 10).is_whole(&[10, 10]), "a last chunk may be full");
        assert!(
            !Manifest {
                complete: false,
                ..m.clone()
            }
            .is_whole(&[10, 10, 5]),
            "torn"
        );
        assert!(
            !Manifest {
                length: None,
                ..m.clone()
            }
            .is_whole(&[10, 10, 5]),
            "length never learnt"
        );
        assert!(
            !Manifest {
                schema: SCHEMA + 1,
                ..m.clone()
            }
            .is_whole(&[10, 10, 5]),
            "a later version's"
        );
        assert!(!Manifest { chunk_bytes: 0, ..m }.is_whole(&[10, 10, 5]), "nonsense");
    }

    #[test]
    fn manifests_survive_being_written() {
        let mut m = whole(25, 10);
        m.etag = Some("\"abc\"".into());
        let text = serde_json::to_string(&m).unwrap();
        assert_eq!(serde_json::from_str::<Manifest>(&text).unwrap(), m);
    }

    #[test]
    fn chunks_add_up_to_the_file() {
        for (length, chunk) in [(0, 10), (1, 10), (9, 10), (10, 10), (11, 10), (100, 7), (u64::MAX, u64::MAX)] {
            let n = u64::div_ceil(length, chunk);
            assert_eq!((0..n).map(|i| chunk_len(length, chunk, i)).sum::<u64>(), length);
            assert_eq!(chunk_len(length, chunk, n), 0);
        }
    }

    #[test]
    fn pieces_are_cut_at_chunk_borders() {
        // Any way of arriving gives the same chunks.
        for pieces in [vec![25], vec![1; 25], vec![10, 10, 5], vec![3, 17, 5], vec![0, 9, 2, 14, 0]] {
            let (mut cutter, mut chunks) = (Cutter::new(10), vec![]);
            for mut len in pieces.clone() {
                while len > 0 {
                    let (n, full) = cutter.take(len);
                    assert!(n > 0 && n <= len);
                    if full {
                        chunks.push(10);
                    }
                    len -= n;
                }
            }
            chunks.push(cutter.rest());
            assert_eq!(chunks, [10, 10, 5], "{pieces:?}");
        }
    }
}
