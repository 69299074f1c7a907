//! Making ready: which kernels a model needs, their compiling while its weights arrive, and the forms that stand the self-check.

use super::{
    Gpu,
    ahead::Ahead,
    check::{self, Cases, Wrong},
    forms::Forms,
    pipelines::Kernel,
    record::Recorder,
    step::Class,
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
#[derive(Debug, Default)]
pub(super) struct Readiness {
    /// What the model asks for, and for which sequences.
    model: Option<(Cases, KvType, u32)>,
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
        let mut kernels = [true, false].map(Kernel::choosing).concat();
        for class in [Class::Many, Class::Few, Class::One] {
            self.recording = Some(Recorder::new(class, shape.kv_type, shape.n_ctx));
            ops(self);
            let recorder = self.recording.take().expect("just set");
            for kernel in recorder.finish()?.kernels() {
                if !kernels.contains(&kernel) {
                    kernels.push(kernel);
                }
            }
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

    /// Forms that were given up, and why.
    pub fn dropped(&self) -> &[Dropped] {
        &self.readiness.dropped
    }
}
