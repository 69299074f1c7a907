//! The whole file in one answer, from a server that does not know ranges: chunks are filled in order, and what was there is passed over.

use super::{
    mirrors::Target,
    state::Slot,
    transfer::{Came, Transfer},
    world::{Body, Broken, Bytes, World},
};
use crate::Result;

/// The whole file, being read from its first byte on.
pub(super) struct Stream<B> {
    body: B,
    at: u64,
    target: Target,
}

impl<B> Stream<B> {
    /// At its first byte.
    pub(super) fn new(body: B, target: Target) -> Self {
        Self { body, at: 0, target }
    }

    /// Bytes that have come.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }
}

impl<W: World> Transfer<'_, W> {
    /// Reads a stream until it has filled a chunk or more.
    pub(super) async fn stream(&self, mut stream: Stream<W::Body>) -> Result<Came<W::Body>> {
        self.state.borrow_mut().open += 1;
        let came = self.read_on(&mut stream).await;
        self.state.borrow_mut().open -= 1;
        match came? {
            Ok(chunks) => Ok(Came::Streamed(stream, chunks)),
            Err(None) => Ok(Came::StreamEnded),
            Err(Some(why)) => {
                let i = (stream.at / self.state.borrow().chunk_bytes) as usize;
                let target = &stream.target;
                self.state.borrow_mut().mirrors.strike(target.mirror);
                self.miss(i, target, why).await?;
                Ok(Came::StreamEnded)
            }
        }
    }

    /// Chunks that were filled, or the end: in order, or why not.
    async fn read_on(&self, stream: &mut Stream<W::Body>) -> Result<Result<Vec<usize>, Option<String>>> {
        let chunk_bytes = self.state.borrow().chunk_bytes;
        loop {
            let piece = match self.in_time(stream.body.next()).await {
                None => return Ok(Err(Some("the transfer stands still".into()))),
                Some(Err(Broken(why))) => return Ok(Err(Some(format!("the transfer broke: {why}")))),
                Some(Ok(None)) => return self.stream_ended(stream.at),
                Some(Ok(Some(piece))) => piece,
            };
            let mut filled = Vec::new();
            let mut start = 0;
            while start < piece.len() {
                if self.state.borrow().length.is_some_and(|length| stream.at >= length) {
                    // As where it compresses, which another site's script cannot see.
                    let what = "the server sends more than it announced";
                    self.was_bad_answer(&stream.target, what)?;
                    return Ok(Err(Some(what.into())));
                }
                let i = (stream.at / chunk_bytes) as usize;
                let n = (piece.len() - start).min(((i as u64 + 1) * chunk_bytes - stream.at) as usize);
                self.state.borrow_mut().grow(i + 1);
                self.take(i, stream.at, &piece, start..start + n, &stream.target)?;
                start += n;
                stream.at += n as u64;
                if self.state.borrow().is_filled(i) {
                    filled.push(i);
                }
            }
            if !filled.is_empty() {
                return Ok(Ok(filled));
            }
        }
    }

    /// A stream without a next byte: only now may the file's length be known.
    fn stream_ended(&self, at: u64) -> Result<Result<Vec<usize>, Option<String>>> {
        let mut state = self.state.borrow_mut();
        match state.length {
            Some(length) if at < length => Ok(Err(Some(format!("the transfer ended after {at} of {length} bytes")))),
            Some(_) => Ok(Err(None)),
            None => {
                state.set_length(at);
                let Some(last) = state.slots.len().checked_sub(1) else {
                    return Ok(Err(None));
                };
                if let Slot::Filling { bytes, filled } = &mut state.slots[last] {
                    bytes.truncate(*filled);
                    return Ok(Ok(vec![last]));
                }
                Ok(Err(None))
            }
        }
    }

    /// Checks a chunk that a stream filled.
    pub(super) async fn checked(&self, i: usize, target: Target) -> Result<Came<W::Body>> {
        match self.check(i).await? {
            Ok(hash) => Ok(Came::Chunk(i, hash)),
            Err(what) => {
                self.miss(i, &target, what).await?;
                Ok(Came::Nothing)
            }
        }
    }
}
