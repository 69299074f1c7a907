//! What a download needs of the world around it: a network, a clock, a place to keep chunks. The browser's is `source/web`'s; tests play one
//! in which time passes only when they let it.
//!
//! Futures of these traits borrow nothing and have begun when they are returned, so that many can be under way at once.

use std::{collections::BTreeMap, ops::Range};

use super::answer::Headers;
use crate::{
    Result,
    source::{digest::Digest, manifest::Manifest},
};

/// Bytes where the network left them: on the web outside of the engine's memory. Dropping them gives the memory back now, not when a collector
/// comes.
pub trait Bytes: Sized {
    /// Room for so many, with anything in it.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    fn with_len(len: usize) -> Result<Self>;
    /// How many.
    fn len(&self) -> usize;
    /// None at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Writes `piece[range]` to `at`.
    fn set(&mut self, at: usize, piece: &Self, range: Range<usize>);
    /// Leaves only the first `len`.
    fn truncate(&mut self, len: usize);
    /// Reads from `at` on until `to` is full.
    fn copy_to(&self, at: usize, to: &mut [u8]);
}

/// The body of an answer. Dropping it ends the transfer.
pub trait Body {
    /// Its bytes.
    type Bytes: Bytes;
    /// The next ones; `None` after the last.
    fn next(&mut self) -> impl Future<Output = Result<Option<Self::Bytes>, Broken>>;
}

/// A transfer that broke, or a request without an answer; in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken(pub String);

/// A server's answer.
pub struct Answer<B> {
    /// HTTP's.
    pub status: u16,
    /// What can be seen of them.
    pub headers: Headers,
    /// The address that gave the answer in the end, if that was another one.
    pub redirected_to: Option<String>,
    /// What follows.
    pub body: B,
}

/// Another tab's download of the same file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Elsewhere {
    /// Bytes that are there.
    pub loaded: u64,
    /// Of so many, if that is known.
    pub total: Option<u64>,
    /// Its rate.
    pub bytes_per_second: Option<f64>,
}

/// Network, clock and the visitor's wishes.
pub trait World {
    /// Where bytes are.
    type Bytes: Bytes;
    /// An answer's body.
    type Body: Body<Bytes = Self::Bytes>;
    /// As long as it lives, no other tab downloads this file.
    type Lease;

    /// Asks for bytes of `url`. `strong_etag` goes with it as `If-Range` where that needs nobody's permission.
    fn get(
        &self,
        url: &str,
        range: Option<Range<u64>>,
        strong_etag: Option<&str>,
    ) -> impl Future<Output = Result<Answer<Self::Body>, Broken>> + use<Self>;
    /// SHA-256.
    fn digest(&self, bytes: &Self::Bytes) -> impl Future<Output = Digest> + use<Self>;

    /// Waits.
    fn sleep(&self, ms: f64) -> impl Future<Output = ()> + use<Self>;
    /// Of a clock that never steps back.
    fn now_ms(&self) -> f64;
    /// When a sleep of so long will be over, by that clock.
    fn after_ms(&self, ms: f64) -> f64 {
        self.now_ms() + ms
    }
    /// Since 1970.
    fn date_ms(&self) -> f64;
    /// From 0 up to 1.
    fn chance(&self) -> f64;

    /// Whether the browser believes that it has a network. It can be wrong both ways.
    fn is_online(&self) -> bool;
    /// Waits until it says that it has one again.
    fn online(&self) -> impl Future<Output = ()> + use<Self>;

    /// The visitor gave up.
    fn is_aborted(&self) -> bool;
    /// The visitor asks to stand still.
    fn is_paused(&self) -> bool;
    /// Waits until one of those two changes.
    fn changed(&self) -> impl Future<Output = ()> + use<Self>;

    /// The lease of a file, if no other tab has it.
    fn try_lease(&self, id: &str) -> impl Future<Output = Option<Self::Lease>> + use<Self>;
    /// Waits for it.
    fn lease(&self, id: &str) -> impl Future<Output = Self::Lease> + use<Self>;
    /// What the tab that has it tells of its download.
    fn elsewhere(&self, id: &str) -> Option<Elsewhere>;
    /// Tells other tabs.
    fn tell_others(&self, id: &str, here: &Elsewhere);
    /// Bytes that the browser says it would still store, if it says so.
    fn room(&self) -> impl Future<Output = Option<u64>> + use<Self>;
    /// Whether something was deleted, here or in another tab, since this was asked last: there may be room again.
    fn was_freed(&self) -> bool;
}

/// Where chunks are kept.
pub trait Shelf {
    /// As the world's.
    type Bytes: Bytes;
    /// What is written down about a file, and the sizes of the chunks that are there, by index. Reads none of their bytes.
    fn list(&self, id: &str) -> impl Future<Output = Result<(Option<Manifest>, BTreeMap<u32, u64>)>>;
    /// A chunk's bytes.
    fn read(&self, id: &str, index: u32) -> impl Future<Output = Result<Self::Bytes>> + use<Self>;
    /// Writes a chunk and the manifest, both or neither.
    fn put(&self, index: u32, bytes: &Self::Bytes, manifest: &Manifest) -> impl Future<Output = Result<()>> + use<Self>;
    /// Writes the manifest.
    fn write(&self, manifest: &Manifest) -> impl Future<Output = Result<()>> + use<Self>;
    /// Removes a file, manifest first.
    fn clear(&self, id: &str) -> impl Future<Output = Result<()>> + use<Self>;
}
