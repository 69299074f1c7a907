//! The bytes that a download holds, counted, and who takes them.

use std::{cell::Cell, ops::Range};

use outcrop::{
    Error, Result,
    source::{Sink, download::world::Bytes},
};

thread_local! {
    /// Bytes that downloads hold.
    pub static MEMORY: Cell<usize> = const { Cell::new(0) };
    /// The most that they held.
    pub static MOST_MEMORY: Cell<usize> = const { Cell::new(0) };
}

/// Counts anew what they hold at most.
pub fn most_memory_begins_anew() {
    MOST_MEMORY.set(MEMORY.get());
}

pub struct Mem(pub Vec<u8>);

impl Mem {
    pub fn new(bytes: Vec<u8>) -> Self {
        MEMORY.set(MEMORY.get() + bytes.len());
        MOST_MEMORY.set(MOST_MEMORY.get().max(MEMORY.get()));
        Self(bytes)
    }
}

impl Drop for Mem {
    fn drop(&mut self) {
        MEMORY.set(MEMORY.get() - self.0.len());
    }
}

impl Bytes for Mem {
    fn with_len(len: usize) -> Result<Self> {
        Ok(Self::new(vec![0xa5; len]))
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn set(&mut self, at: usize, piece: &Self, range: Range<usize>) {
        self.0[at..at + range.len()].copy_from_slice(&piece.0[range]);
    }
    fn truncate(&mut self, len: usize) {
        *self = Self::new(self.0[..len].to_vec());
    }
    fn copy_to(&self, at: usize, to: &mut [u8]) {
        to.copy_from_slice(&self.0[at..at + to.len()]);
    }
}

/// Takes a file and keeps it.
#[derive(Default)]
pub struct Collect {
    pub len: Option<u64>,
    pub bytes: Vec<u8>,
    pub refuse: bool,
    pub ended: bool,
}

impl Sink for Collect {
    fn begin(&mut self, len: Option<u64>) -> Result<()> {
        self.len = len;
        Ok(())
    }
    fn push(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        assert_eq!(offset, self.bytes.len() as u64, "no gaps");
        if self.refuse {
            return Err(Error::NotGguf {
                found: bytes[..4].to_vec(),
            });
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
    fn needs(&self) -> Option<u64> {
        None
    }
    fn end(&mut self, len: u64) -> Result<()> {
        assert_eq!(len, self.bytes.len() as u64);
        self.ended = true;
        Ok(())
    }
}
