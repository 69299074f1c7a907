//! What a download leaves in the store: chunks on their way to the disk, and the file's last word.

use super::{
    Outcome,
    run::{Chore, Chores, Run},
    state::{Slot, State, Storing, storing_failed},
    world::{Shelf, World},
};
use crate::{
    Error, Result,
    source::{digest::Hasher, progress::Problem},
};

/// Chunks on their way to the disk at once, of those that wait for their turn besides; more would only hold memory.
pub(super) const MOST_PUTS: usize = 3;

impl<'t, 'a, W: World, S: Shelf<Bytes = W::Bytes>> Run<'t, 'a, W, S> {
    /// Starts writing chunks that wait for their turn, a few at a time: their bytes are in memory twice then.
    pub(super) fn put_ready(&mut self, state: &mut State<W::Bytes>, chores: &mut Chores<'t, W>) {
        for i in state.fed..state.slots.len() {
            if !state.accepted || self.puts.len() >= MOST_PUTS {
                return;
            }
            if !matches!(state.slots[i], Slot::Ready(_)) {
                continue;
            }
            if let Slot::Ready(bytes) = std::mem::replace(&mut state.slots[i], Slot::Missing) {
                self.put(state, i, &bytes, chores);
                state.slots[i] = Slot::Ready(bytes);
            }
        }
    }

    /// Starts writing a chunk to the store, if it is not there.
    pub(super) fn put(&mut self, state: &mut State<W::Bytes>, i: usize, bytes: &W::Bytes, chores: &mut Chores<'t, W>) {
        let Some(shelf) = self.shelf.filter(|_| !state.kept[i] && !self.puts.contains(&i)) else {
            return;
        };
        if state.problem() == Some(Problem::Quota) && self.transfer.world.was_freed() {
            (state.storing, state.room) = (Storing::Yes, None);
        }
        if state.storing != Storing::Yes {
            return;
        }
        let (mirror, version) = state.mirrors.provenance();
        let (mirror, version) = (mirror.to_owned(), version.map(Into::into));
        state.manifest.mirror = Some(mirror);
        state.manifest.etag = version;
        state.manifest.length = state.length;
        state.manifest.complete = false; // until the last word: this very moment another tab may delete it
        // What a former version left goes first.
        let clear = (!std::mem::replace(&mut state.begun, true)).then(|| shelf.clear(state.manifest.id.as_str()));
        let put = shelf.put(i as u32, bytes, &state.manifest);
        self.puts.insert(i);
        chores.push(Box::pin(async move {
            if let Some(clear) = clear {
                let _ = clear.await;
            }
            Chore::Put(i, put.await)
        }));
    }

    pub(super) fn was_put(&mut self, i: usize, put: Result<()>) {
        self.puts.remove(&i);
        let mut state = self.transfer.state.borrow_mut();
        match put {
            Ok(()) => state.kept[i] = true,
            Err(e) => {
                state.storing = storing_failed(&e);
                drop(state);
                self.transfer.tell(true);
            }
        }
    }

    /// All bytes have come: the file's digest, the sink's last word, and only then the store's.
    pub(super) async fn finish(&mut self) -> Result<Outcome> {
        let transfer = self.transfer;
        let (length, url) = {
            let state = transfer.state.borrow();
            (state.length.unwrap_or(0), state.mirrors.provenance().0.to_owned())
        };
        let computed = self.hasher.take().map(Hasher::finish);
        let (sha256, published) = {
            let state = transfer.state.borrow();
            (computed.or(state.manifest.sha256), state.published)
        };
        if let (Some(published), Some(sha256)) = (published, sha256)
            && published != sha256
        {
            // No telling which of its bytes are wrong.
            if let Some(shelf) = self.shelf {
                let _ = shelf.clear(transfer.spec.id().as_str()).await;
            }
            let what = format!("its SHA-256 is {sha256}, it should be {published}");
            return Err(Error::DigestMismatch { url, what });
        }
        if !std::mem::replace(&mut self.introduced, true) {
            self.sink.begin(Some(length))?;
        }
        self.sink.end(length)?;

        // Another tab may have deleted it meanwhile.
        let there = match self.shelf {
            Some(shelf) => shelf.list(transfer.spec.id().as_str()).await.ok(),
            None => None,
        };
        let there = there.map_or(0, |(_, sizes)| sizes.len());

        let checked = published.is_some();
        let last = {
            let mut state = transfer.state.borrow_mut();
            let kept = state.kept.iter().all(|&kept| kept);
            let all = kept && there >= state.kept.len();
            if kept && !all {
                state.storing = Storing::No(None, "it was deleted in another tab".into());
            }
            if all && matches!(state.storing, Storing::Full(_)) {
                state.storing = Storing::Yes;
            }
            state.room = None; // what fits is known now
            let manifest = &mut state.manifest;
            manifest.length = Some(length);
            manifest.sha256 = sha256;
            manifest.published |= checked;
            manifest.complete = true;
            manifest.used_ms = transfer.world.date_ms();
            if manifest.name.is_none() {
                manifest.name = transfer.spec.name.clone();
            }
            let write = self.shelf.filter(|_| all && length > 0).map(|shelf| shelf.write(manifest));
            if !all && state.storing == Storing::Yes {
                state.storing = Storing::Full("there was not enough space for all of the model".into());
            }
            write
        };
        if let Some(write) = last
            && let Err(e) = write.await
        {
            transfer.state.borrow_mut().storing = storing_failed(&e);
        }
        transfer.tell(true);
        let state = transfer.state.borrow();
        Ok(Outcome {
            phase: state.phase,
            stored: state.storing == Storing::Yes && self.shelf.is_some(),
            why: state.storing.why().map(Into::into),
            problem: state.storing.problem(),
            resumed: state.resumed,
            bytes: length,
            sha256,
            checked: checked || state.manifest.published,
        })
    }
}
