//! The synthetic models of tests/oracle and what they must give.

use outcrop::backend::{Backend, cpu};
use outcrop::gguf::Gguf;
use outcrop::model::{Loader, Model};
use std::path::{Path, PathBuf};

/// Exact results of one prompt length of one model.
pub struct Golden {
    /// Positions that `logits` has rows for.
    pub positions: Vec<usize>,
    /// `[positions, n_vocab]`.
    pub logits: Vec<f32>,
    /// Most likely token after every position.
    pub argmax: Vec<u32>,
    /// Its lead over the runner-up.
    pub gap: Vec<f32>,
    /// Greedy continuation.
    pub greedy: Vec<u32>,
    /// Lead of each greedy step.
    pub margin: Vec<f32>,
}

/// A directory with `gguf/` and `golden/`.
pub struct Oracle {
    dir: PathBuf,
    manifest: serde_json::Value,
    /// The prompt; shorter ones are its prefixes.
    pub ids: Vec<u32>,
    /// Prompt lengths with golden results.
    pub lengths: Vec<usize>,
}

fn list<T: serde::de::DeserializeOwned>(v: &serde_json::Value) -> Vec<T> {
    serde_json::from_value(v.clone()).expect("a list in the manifest")
}

/// Little-endian floats of a file.
pub fn read_f32(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

impl Oracle {
    /// The project's own, or the one that `OUTCROP_ORACLE` names.
    pub fn open() -> Oracle {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle");
        let dir = std::env::var_os("OUTCROP_ORACLE").map_or(own, PathBuf::from);
        let text = std::fs::read_to_string(dir.join("golden/manifest.json")).expect("the oracle's manifest");
        let manifest: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        Oracle {
            dir,
            ids: list(&manifest["ids"]),
            lengths: list(&manifest["lengths"]),
            manifest,
        }
    }

    /// Names of the hybrid dense models at hand.
    pub fn models(&self) -> Vec<String> {
        let models = self.manifest["models"].as_object().expect("models");
        let names: Vec<String> = models
            .keys()
            .filter(|name| !name.contains("moe") && !name.contains("dense") && self.gguf_path(name).exists())
            .cloned()
            .collect();
        assert!(!names.is_empty(), "no oracle models found");
        names
    }

    /// Where a model's file is.
    pub fn gguf_path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("gguf/{name}.gguf"))
    }

    /// Exact results of the first `n` tokens.
    pub fn golden(&self, name: &str, n: usize) -> Golden {
        let g = &self.manifest["models"][name]["prompts"][n.to_string()];
        Golden {
            positions: list(&g["positions"]),
            logits: read_f32(&self.dir.join("golden").join(g["file"].as_str().expect("file"))),
            argmax: list(&g["argmax"]),
            gap: list(&g["gap"]),
            greedy: list(&g["greedy"]),
            margin: list(&g["margin"]),
        }
    }

    /// How far llama.cpp's own 8-bit activations are from exact, over all positions: mean KL divergence, and the share of equal top-1.
    pub fn llamacpp(&self, name: &str, n: usize) -> (f64, f64) {
        let g = &self.manifest["models"][name]["prompts"][n.to_string()];
        let number = |key: &str| g[key].as_f64().expect("a number in the manifest");
        (number("llamacpp_kl"), number("llamacpp_top1"))
    }

    /// Named activations of the 7-token prompt, last form of each: `(name, [n, width])`.
    pub fn activations(&self, name: &str) -> Vec<(String, Vec<f32>)> {
        let dir = self.dir.join(format!("golden/acts-{name}"));
        let index = std::fs::read_to_string(dir.join("index.tsv")).expect("index.tsv");
        let names: std::collections::BTreeSet<&str> = index.lines().filter_map(|l| l.split('\t').next()).collect();
        names
            .into_iter()
            .map(|n| (n.to_owned(), read_f32(&dir.join(format!("{n}.f32")))))
            .collect()
    }

    /// Loads a model on `backend`, its file cut into pieces of `piece` bytes.
    pub fn load<B: Backend>(&self, name: &str, backend: B, piece: usize) -> Model<B> {
        let bytes = std::fs::read(self.gguf_path(name)).expect("model file");
        let gguf = Gguf::from_bytes(&bytes).expect("header");
        let mut loader = Loader::new(&gguf, backend).expect("loader");
        for (i, chunk) in bytes.chunks(piece).enumerate() {
            loader.push((i * piece) as u64, chunk).expect("push");
        }
        pollster::block_on(loader.finish()).expect("finish")
    }
}

/// Models on each backend.
pub struct Backends;

impl Backends {
    pub fn reference(oracle: &Oracle, name: &str, n_ubatch: u32) -> Model<cpu::Reference> {
        oracle.load(name, cpu::Reference::new(n_ubatch), 1 << 20)
    }
    pub fn cpu(oracle: &Oracle, name: &str, n_ubatch: u32) -> Model<cpu::Cpu> {
        oracle.load(name, cpu::Cpu::new(n_ubatch), 100_003)
    }
    pub fn cpu_int8(oracle: &Oracle, name: &str, n_ubatch: u32) -> Model<cpu::Cpu> {
        oracle.load(name, cpu::Cpu::int8(n_ubatch), 100_003)
    }
}

/// `KL(softmax(p) || softmax(q))` in f64.
pub fn kl_divergence(p: &[f32], q: &[f32]) -> f64 {
    let log_softmax = |v: &[f32]| {
        let max = v.iter().copied().fold(f32::NEG_INFINITY, f32::max) as f64;
        let total = v.iter().map(|&x| (x as f64 - max).exp()).sum::<f64>().ln();
        v.iter().map(|&x| x as f64 - max - total).collect::<Vec<_>>()
    };
    let (p, q) = (log_softmax(p), log_softmax(q));
    p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum()
}
