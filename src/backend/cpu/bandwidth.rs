//! What this machine's memory can do at most, to measure kernels by.

use super::{
    CpuBackend,
    share::{Shared, part},
    zeroed,
};
use crate::Result;

/// Floats of the copy's source: 64 MiB, more than most caches.
const FLOATS: usize = 16 << 20;
/// The fastest of so many copies counts.
const COPIES: usize = 5;

impl<K> CpuBackend<K> {
    /// Bytes a second, read and written, of a plain copy that the pool's threads share.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`]: it needs 128 MiB.
    pub fn copy_bandwidth(&mut self, now_ms: &dyn Fn() -> f64) -> Result<f64> {
        let mut from: Vec<f32> = zeroed(FLOATS as u64, "a copy to measure")?;
        let mut to: Vec<f32> = zeroed(FLOATS as u64, "a copy to measure")?;
        let mut least = f64::INFINITY;
        // One more than counts: the first takes the pages.
        for run in 0..=COPIES {
            from.fill(run as f32); // nobody can know the result beforehand
            let start = now_ms();
            let n = self.pool.n_threads();
            let target = Shared::new(&mut to);
            self.pool.run(|i| {
                let range = part(FLOATS, i, n);
                // SAFETY: parts of one cut do not overlap.
                unsafe { target.part(range.start, range.len()) }.copy_from_slice(&from[range]);
            });
            if run > 0 {
                least = least.min(now_ms() - start);
            }
            std::hint::black_box(&to);
        }
        Ok(2.0 * size_of_val(&from[..]) as f64 / least * 1e3)
    }
}
