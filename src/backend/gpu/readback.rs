//! A ring of small buffers that results are read back through: while one is read, the work that fills the next already runs.

use super::{Gpu, fault::gpu_error};
use crate::{Error, Result};
use std::{
    future::poll_fn,
    sync::{Arc, Mutex, PoisonError},
    task::{Poll, Waker},
};

/// Buffers in the ring. Each is filled by one submit, so this many can be under way: one being read and one behind it.
pub(super) const RING: usize = 2;

/// Set by the device's callback, awaited by the reader.
#[derive(Default)]
struct Signal(Mutex<Wait>);

#[derive(Default)]
struct Wait {
    done: Option<Result<(), wgpu::BufferAsyncError>>,
    waker: Option<Waker>,
}

impl Signal {
    fn set(&self, result: Result<(), wgpu::BufferAsyncError>) {
        let mut wait = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wait.done = Some(result);
        if let Some(waker) = wait.waker.take() {
            drop(wait);
            waker.wake();
        }
    }

    async fn wait(&self) -> Result<(), wgpu::BufferAsyncError> {
        poll_fn(|cx| {
            let mut wait = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match wait.done.take() {
                Some(result) => Poll::Ready(result),
                None => {
                    wait.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

struct Slot {
    buffer: wgpu::Buffer,
    signal: Arc<Signal>,
    submission: Option<wgpu::SubmissionIndex>,
}

/// The buffers, oldest first from `oldest` on.
pub(super) struct Ring {
    slots: [Slot; RING],
    oldest: usize,
    /// Those that are being filled or mapped.
    busy: usize,
}

impl Ring {
    /// A ring of buffers of `bytes` each.
    pub(super) fn new(device: &wgpu::Device, bytes: u64) -> Ring {
        Ring {
            slots: std::array::from_fn(|_| Slot {
                buffer: device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some("read back"),
                    size: bytes,
                    usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                    mapped_at_creation: false,
                }),
                signal: Arc::default(),
                submission: None,
            }),
            oldest: 0,
            busy: 0,
        }
    }

    fn next(&mut self) -> &mut Slot {
        &mut self.slots[(self.oldest + self.busy) % RING]
    }

    pub(super) fn is_full(&self) -> bool {
        self.busy == RING
    }

    /// Copies the first `bytes` of `from` into the next buffer, `at` bytes from its start. That buffer must be free.
    pub(super) fn copy(&mut self, encoder: &mut wgpu::CommandEncoder, from: &wgpu::Buffer, at: u64, bytes: u64) {
        encoder.copy_buffer_to_buffer(from, 0, &self.next().buffer, at, bytes);
    }

    /// Asks for that buffer, once `submission` has run.
    pub(super) fn submitted(&mut self, submission: wgpu::SubmissionIndex, bytes: u64) {
        let slot = self.next();
        slot.submission = Some(submission);
        *slot.signal.0.lock().unwrap_or_else(PoisonError::into_inner) = Wait::default();
        let signal = slot.signal.clone();
        slot.buffer
            .map_async(wgpu::MapMode::Read, 0..bytes, move |result| signal.set(result));
        self.busy += 1;
    }
}

impl Gpu {
    /// Waits for the oldest buffer of the ring and reads it; the ring must not be empty. Later submits are not waited for.
    pub(super) async fn read_ring<T>(&mut self, bytes: u64, read: impl FnOnce(&[u8]) -> T) -> Result<T> {
        let ring = &mut self.reply.ring;
        let slot = &mut ring.slots[ring.oldest];
        ring.oldest = (ring.oldest + 1) % RING;
        ring.busy -= 1;
        if cfg!(not(target_arch = "wasm32")) {
            let poll = wgpu::PollType::Wait {
                submission_index: slot.submission.take(),
                timeout: None,
            };
            self.device.poll(poll).map_err(gpu_error)?;
        }
        let mapped = slot.signal.wait().await;
        if mapped.is_err() {
            slot.buffer.unmap(); // so that it may be asked for again
        }
        let read = match mapped {
            Ok(()) => {
                let view = slot.buffer.get_mapped_range(0..bytes).map_err(gpu_error)?;
                let value = read(&view);
                drop(view);
                slot.buffer.unmap();
                Ok(value)
            }
            Err(e) => Err(gpu_error(e)),
        };
        // Why it could not be read is said by the device.
        self.check()?;
        read
    }

    /// Waits for all of the ring and forgets it: what a reply that was given up has left.
    pub(super) async fn drain_ring(&mut self) -> Result<()> {
        while self.reply.ring.busy > 0 {
            match self.read_ring(4, |_| ()).await {
                Err(Error::Gpu { .. }) => {} // of that reply
                done => done?,
            }
        }
        Ok(())
    }
}
