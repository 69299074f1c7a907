//! Making ready: which kernels a model needs, their compiling while its weights arrive, and the forms that stand the self-check.

use super::{
    Gpu,
    ahead::Ahead,
    check::{self, Cases, Wrong},
    forms::Forms,
    kernels::Kernel,
    record::Recorder,
    step::Class,
    tune::{Candidate, Tuning},
};
use crate::{
    Error, Result,
    backend::{KvType, StateShape},
};

/// A form that was given up.
#[derive(Debug, Clone)]
pub struct Dropped {
    /// Its name.
    pub form: String,
    /// What it did.
    pub why: String,
}

/// What is known about the kernels from the header on.
#[derive(Default)]
pub(super) struct Readiness {
    /// What the model asks for, and for which sequences.
    model: Option<(Cases, KvType, u32)>,
    /// Ways to run it that are still to be compared.
    candidates: Vec<Candidate>,
    tuning: Tuning,
    pub(super) dropped: Vec<Dropped>,
    checked: Vec<Kernel>,
    check_ms: f64,
}

/// A clock that never steps back.
#[cfg(target_arch = "wasm32")]
pub(super) use crate::source::web::now_ms;
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn now_ms() -> f64 {
    static START: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    START.elapsed().as_secs_f64() * 1e3
}

impl Gpu {
    pub(super) fn begin_ahead(&mut self, shape: &StateShape, mut ops: impl FnMut(&mut Self)) -> Result<()> {
        self.seal()?;
        self.census = Some(Cases::default());
        let first = self.tables.forms;
        let others = match self.tune {
            true => Forms::candidates(self.info().features, self.info().software),
            false => Vec::new(),
        };
        let mut kernels = [true, false].map(Kernel::choosing).concat();
        let mut record = |gpu: &mut Self, forms, class| -> Result<Recorder> {
            gpu.tables.forms = forms;
            gpu.recording = Some(Recorder::new(class, shape.kv_type, shape.n_ctx));
            ops(gpu);
            let recorder = gpu.recording.take().expect("just set").finish()?;
            for kernel in recorder.kernels() {
                if !kernels.contains(&kernel) {
                    kernels.push(kernel);
                }
            }
            Ok(recorder)
        };
        // What runs if nothing is better comes first, and is compiled first.
        let others = others.into_iter().filter(|&forms| forms != first);
        let mut candidates = Vec::new();
        for forms in [first].into_iter().chain(others) {
            let many = record(self, forms, Class::Many)?;
            record(self, forms, Class::Few)?;
            let one = record(self, forms, Class::One)?;
            candidates.push(Candidate { forms, one, many });
        }
        self.tables.forms = first;
        if candidates.len() > 1 {
            self.readiness.candidates = candidates;
        }
        let cases = self.census.take().expect("set above");
        self.readiness.model = Some((cases, shape.kv_type, shape.n_ctx));
        self.ahead = Some(Ahead::start(&self.device, kernels, self.sabotage.as_deref()));
        Ok(())
    }

    /// Waits for the kernels and checks them. A form that fails is given up for the base form; if that fails, so does the device.
    pub(super) async fn settle_forms(&mut self) -> Result<()> {
        loop {
            let mut wrong = self.join_ahead().await?;
            // A form that is not run need not compile; it is not measured either.
            if wrong
                .as_ref()
                .is_some_and(|wrong| !wrong.kernels.iter().any(|&k| self.tables.forms.run(k)))
            {
                wrong = None;
            }
            let candidates = std::mem::take(&mut self.readiness.candidates);
            if wrong.is_none() && !candidates.is_empty() {
                self.readiness.tuning = self.tune(candidates).await?;
            }
            if let (None, Some((cases, kv, n_ctx))) = (&wrong, self.readiness.model.take()) {
                let start_ms = now_ms();
                wrong = check::run(self, &cases, kv, n_ctx).await?;
                self.readiness.check_ms += now_ms() - start_ms;
                self.readiness.model = Some((cases, kv, n_ctx));
            }
            let Some(Wrong { what, kernels }) = wrong else {
                return self.check();
            };
            let simpler = kernels.iter().find_map(|&kernel| self.tables.forms.without(kernel));
            let Some((forms, form)) = simpler else {
                return Err(Error::Gpu { what });
            };
            self.readiness.dropped.push(Dropped { form, why: what });
            self.tables.forms = forms;
        }
    }

    /// Waits for the kernels that were begun. Those that could not be compiled, if any.
    pub(super) async fn join_ahead(&mut self) -> Result<Option<Wrong>> {
        let Some(ahead) = self.ahead.take() else { return Ok(None) };
        let mut wrong = None;
        for (kernel, made) in ahead.finish(&self.device).await? {
            match made {
                Ok(pipeline) => self.pipelines.push((kernel, pipeline)),
                Err(e) => {
                    let what = format!("{} could not be compiled: {e}", kernel.name());
                    wrong.get_or_insert(Wrong {
                        what,
                        kernels: vec![kernel],
                    });
                }
            }
        }
        Ok(wrong)
    }

    /// Takes over the pipelines that a check compiled, and remembers what it has seen.
    pub(super) fn note_checked(&mut self, kernels: Vec<Kernel>, small: &Gpu) {
        for (kernel, pipeline) in &small.pipelines {
            if !self.has(*kernel) {
                self.pipelines.push((*kernel, pipeline.clone()));
            }
        }
        self.readiness.checked.extend(kernels);
    }

    pub(super) fn has(&self, kernel: Kernel) -> bool {
        self.pipelines.iter().any(|(k, _)| *k == kernel)
    }

    /// Milliseconds that the self-check took.
    pub fn check_ms(&self) -> f64 {
        self.readiness.check_ms
    }

    /// Names of compiled kernels that the self-check has not looked at.
    pub fn unchecked(&self) -> Vec<String> {
        let kernels = self.pipelines.iter().map(|(k, _)| k);
        kernels
            .filter(|k| !self.readiness.checked.contains(k))
            .map(|k| k.name())
            .collect()
    }

    /// As [`super::GpuOptions::sabotage`], from now on: what [`crate::backend::Backend::ready`] then finds, it finds in other kernels.
    pub fn sabotage(&mut self, prefix: Option<&str>) {
        let was = std::mem::replace(&mut self.sabotage, prefix.map(str::to_owned));
        for prefix in [was.as_deref(), prefix].into_iter().flatten() {
            self.pipelines.retain(|(k, _)| !k.name().starts_with(prefix));
        }
    }

    /// Names of the kernels compiled so far.
    pub fn kernel_names(&self) -> Vec<String> {
        self.pipelines.iter().map(|(k, _)| k.name()).collect()
    }

    /// The forms that run.
    pub fn forms(&self) -> Forms {
        self.tables.forms
    }

    /// How fast the forms are, if they were compared.
    pub fn tuning(&self) -> &Tuning {
        &self.readiness.tuning
    }

    /// Forms that were given up, and why.
    pub fn dropped(&self) -> &[Dropped] {
        &self.readiness.dropped
    }
}
