//! How much of a batch goes into one submit.
//!
//! A device runs a submit to its end. One that takes seconds freezes the page that shares the device, cannot be cancelled, and in the
//! end is killed by a watchdog of the driver's or the browser's. So a batch is cut where its steps add up to about [`TARGET_MS`], by
//! the speed of the passes before it. What is cut is a list of steps, never a step.

use super::{
    kernels::Kernel,
    step::{CHUNK, Step},
    uniforms,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Aim of a submit. The bound that matters is 100 ms; the rest is for steps that are slower than the average.
const TARGET_MS: f64 = 70.0;
/// Speed to begin with, multiply-adds a millisecond: what a slow integrated device does. A fast one is known after the first pass.
const START: f64 = 50e6;
/// At most so much faster after one pass: a device that has just woken says little.
const STEP_UP: f64 = 4.0;
/// Shorter measurements are noise of the clock.
const SHORTEST_MS: f64 = 2.0;

#[derive(Debug)]
struct Speed {
    /// Multiply-adds a millisecond.
    macs_per_ms: f64,
    /// Passes under way.
    under_way: u32,
    /// Their multiply-adds, and when the first of them began.
    macs: u64,
    since_ms: f64,
}

/// The device's speed, and the cuts that follow from it.
#[derive(Debug, Clone)]
pub(super) struct Pace(Arc<Mutex<Speed>>);

impl Pace {
    pub(super) fn new() -> Pace {
        Pace(Arc::new(Mutex::new(Speed {
            macs_per_ms: START,
            under_way: 0,
            macs: 0,
            since_ms: 0.0,
        })))
    }

    fn speed(&self) -> MutexGuard<'_, Speed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many of the steps left go into the next submit; at least one, if there is one.
    pub(super) fn take(&self, steps: &[Step], n: u32, pos: u32) -> usize {
        let budget = self.speed().macs_per_ms * TARGET_MS;
        let mut sum = 0.0;
        let fits = steps.iter().take_while(|step| {
            sum += step.macs(n, pos) as f64;
            sum <= budget
        });
        fits.count().max(1).min(steps.len())
    }

    /// Submits of a pass.
    pub(super) fn submits(&self, mut steps: &[Step], n: u32, pos: u32) -> u32 {
        let mut submits = 0;
        while submits == 0 || !steps.is_empty() {
            // A single token is never cut.
            let taken = if n == 1 { steps.len() } else { self.take(steps, n, pos) };
            steps = &steps[taken..];
            submits += 1;
        }
        submits
    }

    /// A pass of so many multiply-adds begins to be submitted.
    pub(super) fn begin(&self, macs: u64, now_ms: f64) {
        let mut speed = self.speed();
        if speed.under_way == 0 {
            (speed.macs, speed.since_ms) = (0, now_ms);
        }
        speed.under_way += 1;
        speed.macs += macs;
    }

    /// A pass is done. Learns when the device has nothing left of them, since before that nobody knows whose the time was.
    pub(super) fn end(&self, now_ms: f64) {
        let mut speed = self.speed();
        speed.under_way = speed.under_way.saturating_sub(1);
        let ms = now_ms - speed.since_ms;
        if speed.under_way == 0 && ms >= SHORTEST_MS && speed.macs > 0 {
            let seen = speed.macs as f64 / ms;
            speed.macs_per_ms = seen.min(speed.macs_per_ms * STEP_UP);
        }
    }
}

impl Step {
    /// Multiply-adds for `n` tokens after `pos`, near enough to tell a long step from a short one.
    pub(super) fn macs(&self, n: u32, pos: u32) -> u64 {
        if let Some((n_cols, n_rows)) = self.product() {
            return n_cols as u64 * n_rows as u64 * n as u64;
        }
        let [x, y, z] = self.grid.size(n, pos).map(u64::from);
        match self.kernel {
            // Each query of a workgroup with each key, twice.
            Kernel::Attend(_) | Kernel::AttendBatch(_) => {
                let op: &uniforms::Attention = bytemuck::from_bytes(&self.params);
                let heads = x * op.n_head.div_ceil(op.n_head_kv) as u64;
                2 * heads * op.d_head as u64 * 4 * n as u64 * (pos as u64 + n as u64)
            }
            Kernel::MambaStep(d_state) | Kernel::MambaScan(d_state) if x > 0 => self.states(d_state) * 3 * n as u64,
            Kernel::SsdState(d_state, _) if x > 0 => self.states(d_state) * n as u64,
            Kernel::SsdOut(d_state, _) if x > 0 => self.states(d_state + CHUNK) * n as u64,
            _ => x * y * z * 64 * 4,
        }
    }

    fn states(&self, d_state: u32) -> u64 {
        let op: &uniforms::Mamba = bytemuck::from_bytes(&self.params);
        op.n_head as u64 * op.d_head as u64 * d_state as u64
    }
}

/// Milliseconds of a clock that never steps back.
#[cfg(target_arch = "wasm32")]
pub(super) fn now_ms() -> f64 {
    crate::source::web::now_ms()
}

/// Milliseconds of a clock that never steps back.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn now_ms() -> f64 {
    use std::{sync::OnceLock, time::Instant};
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::super::step::Grid;
    use super::*;

    /// Steps of `macs` multiply-adds for one token, or the nearest multiple of 256 above.
    fn steps(macs: &[u64]) -> Vec<Step> {
        let step = |&macs: &u64| Step {
            kernel: Kernel::Glu,
            binds: Vec::new(),
            params: Vec::new(),
            grid: Grid::Tokens(macs.div_ceil(256) as u32),
        };
        macs.iter().map(step).collect()
    }

    /// A device of `macs_per_ms` under `pace`: runs a pass of 100 equal steps and returns the longest submit, ms.
    fn pass(pace: &Pace, clock: &mut f64, macs_per_ms: f64) -> f64 {
        let list = steps(&[(START * 30.0) as u64; 100]);
        let (mut left, mut longest) = (&list[..], 0f64);
        pace.begin(list.iter().map(|s| s.macs(1, 0)).sum(), *clock);
        while !left.is_empty() {
            let taken = pace.take(left, 1, 0);
            let macs: u64 = left[..taken].iter().map(|s| s.macs(1, 0)).sum();
            longest = longest.max(macs as f64 / macs_per_ms);
            *clock += macs as f64 / macs_per_ms;
            left = &left[taken..];
        }
        pace.end(*clock);
        longest
    }

    #[test]
    fn a_submit_is_cut_at_its_target() {
        let pace = Pace::new();
        let list = steps(&[START as u64 * 30; 5]);
        assert_eq!(pace.take(&list, 1, 0), 2);
        assert_eq!(pace.take(&list[4..], 1, 0), 1);
        // Longer than a submit should be, but it cannot be cut.
        assert_eq!(pace.take(&steps(&[START as u64 * 1000, 1]), 1, 0), 1);
        assert_eq!(pace.take(&[], 1, 0), 0);
        assert_eq!(pace.submits(&steps(&[START as u64 * 30; 5]), 2, 0), 5);
        assert_eq!(pace.submits(&[], 2, 0), 1);
    }

    /// Of whatever speed the device is, after a few passes submits are near the target: from far below it, or from above at once.
    #[test]
    fn any_device_is_learnt() {
        for times in [0.5, 1.0, 7.0, 400.0] {
            let (pace, mut clock) = (Pace::new(), 0.0);
            for _ in 0..6 {
                pass(&pace, &mut clock, START * times);
                clock += 1e4; // what nobody computes counts for nothing
            }
            let longest = pass(&pace, &mut clock, START * times);
            // A whole pass takes 3000 / times ms.
            let most = (3000.0 / times).min(100.0);
            assert!(longest <= most && longest >= most * 0.4, "{times}: {longest} ms");
        }
    }

    #[test]
    fn a_device_that_slows_down_is_noticed_after_one_pass() {
        let (pace, mut clock) = (Pace::new(), 0.0);
        for _ in 0..4 {
            pass(&pace, &mut clock, START * 50.0);
        }
        pass(&pace, &mut clock, START * 2.0);
        assert!(pass(&pace, &mut clock, START * 2.0) <= 100.0);
    }

    /// The second of two passes in flight must not look as if it had taken no time, nor the first as if it had taken all.
    #[test]
    fn passes_in_flight_are_counted_together() {
        let pace = Pace::new();
        pace.begin(START as u64 * 100, 0.0);
        pace.begin(START as u64 * 100, 5.0);
        pace.end(200.0);
        assert_eq!(pace.speed().macs_per_ms, START);
        pace.end(200.0);
        assert_eq!(pace.speed().macs_per_ms, START);
        pace.begin(START as u64 * 100, 1000.0);
        pace.end(1000.1);
        assert_eq!(pace.speed().macs_per_ms, START, "too short to say anything");
    }
}
