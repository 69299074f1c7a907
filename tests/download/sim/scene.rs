//! A whole load.

use std::{cell::RefCell, rc::Rc};

use outcrop::{
    Result,
    source::{
        digest::Digest,
        download::{Outcome, Spec, receive},
        progress::Progress,
    },
};

use super::{CHUNK, Collect, Sim, SimShelf, SimWorld, URL, run_until};

/// A visitor's browser in front of one server.
pub struct Scene {
    pub sim: Rc<Sim>,
    pub shelf: SimShelf,
    pub spec: Spec,
    pub progress: RefCell<Vec<Progress>>,
}

impl Scene {
    pub fn new(seed: u64, len: usize) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0xF11E);
        let sim = Sim::new(seed, (0..len).map(|_| rng.u8(..)).collect());
        Self {
            shelf: SimShelf {
                time: sim.time.clone(),
                disk: Rc::default(),
            },
            spec: Spec {
                urls: vec![URL.into()],
                chunk_bytes: Some(CHUNK),
                ..Spec::default()
            },
            progress: RefCell::default(),
            sim,
        }
    }

    pub fn file(&self) -> Vec<u8> {
        self.sim.server.file.borrow().clone()
    }

    pub fn digest(&self) -> Digest {
        Digest::of(&self.file())
    }

    /// Loads, as long as it takes.
    pub fn load(&self) -> (Result<Outcome>, Collect) {
        self.load_until(f64::INFINITY).expect("it takes as long as it takes")
    }

    /// The load that went well, the bytes those of the file.
    pub fn loads(&self) -> Outcome {
        let (outcome, sink) = self.load();
        let outcome = outcome.unwrap();
        assert!(
            sink.bytes == self.file() && sink.ended,
            "{} bytes of {}",
            sink.bytes.len(),
            self.file().len()
        );
        assert_eq!(self.sim.server.open.get(), 0, "transfers that nobody wants any more");
        outcome
    }

    /// Loads until a time; `None` if it came first.
    pub fn load_until(&self, until_ms: f64) -> Option<(Result<Outcome>, Collect)> {
        self.load_into(Collect::default(), until_ms)
    }

    pub fn load_into(&self, mut sink: Collect, until_ms: f64) -> Option<(Result<Outcome>, Collect)> {
        self.progress.borrow_mut().clear();
        let world = SimWorld(self.sim.clone());
        let mut report = |progress: Progress| self.progress.borrow_mut().push(progress);
        let load = receive(&world, Ok(&self.shelf), &self.spec, &mut report, &mut sink);
        let outcome = run_until(&self.sim.time, until_ms, load)?;
        Some((outcome, sink))
    }

    /// What the store holds is the whole file, checked.
    pub fn is_kept(&self) {
        let disk = self.shelf.disk.borrow();
        assert!(disk.contents(URL) == self.file());
        let manifest = &disk.manifests[URL];
        assert!(manifest.complete);
        assert_eq!(manifest.sha256, Some(self.digest()));
        for (i, chunk) in self.file().chunks(CHUNK as usize).enumerate() {
            assert_eq!(manifest.hash(i), Some(Digest::of(chunk)));
        }
    }
}
