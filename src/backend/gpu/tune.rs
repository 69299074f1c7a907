//! Which form of a family of products is fastest on this device: measured on the model's own weights, once.
//!
//! The weights are cold: a measurement runs the products of one layer after another until more bytes are read than any cache holds.
//! Of several runs the fastest counts, since other work only slows them down. No run begins after [`BUDGET_MS`]; what was not measured
//! by then is not chosen.

use super::{
    Gpu,
    forms::Forms,
    kernels::Kernel,
    plan::{Ready, encode},
    prepare::now_ms,
    record::Recorder,
    step::{Bind, Step},
};
use crate::{Result, backend::StateShape};

/// Milliseconds that all of it may take.
const BUDGET_MS: f64 = 1500.0;
/// Runs of each form.
const RUNS: usize = 5;
/// Bytes of weights in a run for one token: no cache holds them.
const COLD_BYTES: u64 = 256 << 20;
/// The same for [`MANY`] tokens, which takes much longer for a byte.
const MANY_BYTES: u64 = 32 << 20;
/// Tokens of a batch.
const MANY: u32 = 64;
/// A run lasts some milliseconds, beside which its start and the clock's steps count little.
const RUN_MS: f64 = 6.0;
/// Waiting for an empty submit must not take longer, or nothing can be told: some browsers look at the device every 100 ms.
const COARSE_MS: f64 = 20.0;
/// What a form must win to be taken over the one that is preferred unmeasured.
const WIN: f64 = 0.97;

/// What is known of the forms' speed.
#[derive(Debug, Clone, Default)]
pub struct Tuning {
    /// Form -> milliseconds of its run, as far as measured.
    pub times: Vec<(String, f64)>,
    /// Why nothing was measured.
    pub why_not: Option<&'static str>,
    /// Milliseconds that it took.
    pub took_ms: f64,
}

/// A way to run the model, and what it dispatches for a token and for a batch.
pub(super) struct Candidate {
    pub(super) forms: Forms,
    pub(super) one: Recorder,
    pub(super) many: Recorder,
}

/// The products of a pass up to so many bytes of weights.
fn products(recorder: &Recorder, most: u64) -> Vec<Step> {
    let bytes = |step: &Step| match step.binds.first() {
        Some(Bind::Weights { bytes, .. }) => *bytes,
        _ => 0,
    };
    let mut sum = 0;
    let steps = recorder.body.iter();
    steps
        .filter(|step| matches!(step.kernel, Kernel::Matvec(..) | Kernel::Matmul(..)))
        .take_while(|step| {
            let before = sum;
            sum += bytes(step);
            before < most
        })
        .cloned()
        .collect()
}

impl Gpu {
    /// Measures the candidates, of which the first is what runs now, and takes the fastest.
    pub(super) async fn tune(&mut self, candidates: Vec<Candidate>) -> Result<Tuning> {
        let start_ms = now_ms();
        let mut tuning = Tuning::default();
        let Some(first) = candidates.first().map(|c| c.forms) else {
            return Ok(tuning);
        };
        let latency_ms = self.latency().await?;
        if latency_ms > COARSE_MS {
            tuning.why_not = Some("this browser tells too late that the GPU is done");
            return Ok(tuning);
        }
        let state = self.make_state(&StateShape {
            n_ctx: 1,
            ..StateShape::default()
        })?;
        let mut best = first;
        let many = MANY.min(self.tables.n_ubatch);
        // The two families do not depend on each other.
        for (family, n) in [("matvec", 1), ("matmul", many)] {
            let mut fastest = f64::INFINITY;
            for candidate in &candidates {
                let forms = candidate.forms;
                let (mine, other) = match family {
                    "matvec" => (forms.matvec == first.matvec, forms.matmul == first.matmul),
                    _ => (forms.matmul == first.matmul, forms.matvec == first.matvec),
                };
                // Each form once: beside the first only candidates that differ from it in this family alone.
                if (mine && forms != first) || (!mine && !other) {
                    continue;
                }
                let (recorder, most) = match n {
                    1 => (&candidate.one, COLD_BYTES),
                    _ => (&candidate.many, MANY_BYTES),
                };
                let steps = products(recorder, most);
                if now_ms() - start_ms > BUDGET_MS || steps.iter().any(|step| !self.has(step.kernel)) {
                    continue;
                }
                self.grow_scratch(recorder)?;
                let ready = self.make_ready(&[(&steps, 0)], &state).await?.remove(0);
                let deadline_ms = start_ms + BUDGET_MS;
                let Some(ms) = self.fastest_run(&ready, n, latency_ms, deadline_ms).await? else {
                    continue;
                };
                let name = forms.names().into_iter().find(|(of, _)| *of == family);
                let name = name.map_or(String::new(), |(of, form)| format!("{of} {form}"));
                tuning.times.push((name, ms));
                if ms < fastest * if fastest.is_finite() { WIN } else { 1.0 } {
                    fastest = ms;
                    match family {
                        "matvec" => best.matvec = forms.matvec,
                        _ => best.matmul = forms.matmul,
                    }
                }
            }
        }
        self.tables.forms = best;
        tuning.took_ms = now_ms() - start_ms;
        Ok(tuning)
    }

    /// Milliseconds of an empty submit, at best.
    async fn latency(&mut self) -> Result<f64> {
        let mut best = f64::INFINITY;
        for _ in 0..3 {
            best = best.min(self.run_ms(&[], 1, 0).await?);
        }
        Ok(best)
    }

    /// Milliseconds of the steps for `n` tokens, at best; `None` if there was no time to tell.
    async fn fastest_run(&mut self, steps: &[Ready], n: u32, latency_ms: f64, deadline_ms: f64) -> Result<Option<f64>> {
        // The first run also wakes the device and whatever is made at the first use.
        self.run_ms(steps, n, 1).await?;
        if now_ms() > deadline_ms {
            return Ok(None);
        }
        let once = (self.run_ms(steps, n, 1).await? - latency_ms).max(0.05);
        let times = (RUN_MS / once).ceil().clamp(1.0, 50.0) as u32;
        let mut best = None;
        for _ in 0..RUNS {
            if now_ms() > deadline_ms {
                break;
            }
            let ms = (self.run_ms(steps, n, times).await? - latency_ms).max(0.0) / f64::from(times);
            best = Some(best.map_or(ms, |best: f64| best.min(ms)));
        }
        Ok(best)
    }

    async fn run_ms(&mut self, steps: &[Ready], n: u32, times: u32) -> Result<f64> {
        self.write_run(0, n, 0, 0);
        let start_ms = now_ms();
        let mut encoder = self.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            for _ in 0..times {
                encode(&mut pass, steps, n, 0);
            }
        }
        self.queue.submit([encoder.finish()]);
        self.mark_work();
        self.idle().await?;
        Ok(now_ms() - start_ms)
    }
}
