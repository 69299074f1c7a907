//! Puts a file's bytes where they belong, as they arrive.

use super::{GraniteHybrid, Hparams, Model};
use crate::{
    Error, Result,
    backend::{Backend, KvType, Mat, Vector},
    gguf::{GgmlType, Gguf, TensorInfo, quant},
};
use std::collections::HashMap;

/// A model being loaded. Feed it the file in order with [`Loader::push`], then call [`Loader::finish`]. Of a split model feed it the
/// parts one after another, each in order, and call [`Loader::end_part`] after each.
pub struct Loader<B: Backend> {
    hparams: Hparams,
    net: GraniteHybrid,
    backend: B,
    /// By part and offset in its file.
    targets: Vec<Target>,
    /// First target that is not complete.
    next: usize,
    /// The file that is being read, of a split model.
    part: u16,
    /// Where its first target begins; the largest number if it has none.
    data: u64,
    /// Bytes of it seen so far.
    seen: u64,
}

/// Where a tensor's bytes go.
struct Target {
    part: u16,
    offset: u64,
    size: u64,
    dest: Dest,
}

enum Dest {
    Matrix(Mat),
    /// Small enough to wait for: decoded to f32 when whole.
    Vector {
        to: Vector,
        ty: GgmlType,
        bytes: Vec<u8>,
    },
}

/// Declares tensors on a backend by name, checking shapes; remembers what was used.
pub(super) struct Declare<'a, B> {
    gguf: &'a Gguf,
    pub(super) backend: &'a mut B,
    used: HashMap<&'a str, Dest>,
}

impl<'a, B: Backend> Declare<'a, B> {
    pub(super) fn has(&self, name: &str) -> bool {
        self.gguf.tensor(name).is_some()
    }

    fn tensor(&self, name: &str) -> Result<&'a TensorInfo> {
        self.gguf
            .tensor(name)
            .ok_or_else(|| Error::MissingTensor { name: name.to_owned() })
    }

    /// A matrix `[n_rows, n_cols]`; ggml `ne` is `[n_cols, n_rows]`.
    pub(super) fn matrix(&mut self, name: &str, n_rows: u32, n_cols: u32) -> Result<Mat> {
        let t = self.tensor(name)?;
        if !same_shape(&t.ne, &[n_cols as u64, n_rows as u64]) {
            let expected = vec![n_cols as u64, n_rows as u64];
            return Err(Error::TensorShape {
                name: name.to_owned(),
                found: t.ne.clone(),
                expected,
            });
        }
        let mat = self.backend.matrix(name, t.ty, n_rows, n_cols)?;
        self.used.insert(&t.name, Dest::Matrix(mat));
        Ok(mat)
    }

    /// A parameter of `len` elements, in whatever shape: `ssm_norm` comes as `[n]`, `[n, 1]` and `[n / g, g]`.
    pub(super) fn vector(&mut self, name: &str, len: u32) -> Result<Vector> {
        let t = self.tensor(name)?;
        if t.ne.iter().product::<u64>() != len as u64 {
            return Err(Error::TensorShape {
                name: name.to_owned(),
                found: t.ne.clone(),
                expected: vec![len as u64],
            });
        }
        let to = self.backend.vector(name, len)?;
        self.used.insert(
            &t.name,
            Dest::Vector {
                to,
                ty: t.ty,
                bytes: Vec::new(),
            },
        );
        Ok(to)
    }
}

/// Equal but for trailing ones.
fn same_shape(found: &[u64], expected: &[u64]) -> bool {
    found.len() >= expected.len()
        && found
            .iter()
            .enumerate()
            .all(|(i, &n)| n == expected.get(i).copied().unwrap_or(1))
}

impl<B: Backend> Loader<B> {
    /// Checks the header, of a split model the one that [`Gguf::join`] makes, and reserves the whole model on `backend`.
    pub fn new(gguf: &Gguf, mut backend: B) -> Result<Self> {
        gguf.check_whole()?;
        let hparams = Hparams::from_gguf(gguf)?;
        // A model that can never fit is refused before the half of it that does has taken all memory.
        backend.expect(gguf.tensors.iter().fold(0, |bytes: u64, t| bytes.saturating_add(t.size)))?;
        let mut declare = Declare {
            gguf,
            backend: &mut backend,
            used: HashMap::new(),
        };
        let net = GraniteHybrid::declare(&hparams, &mut declare)?;
        let mut used = declare.used;
        let mut targets = Vec::with_capacity(used.len());
        for t in &gguf.tensors {
            match used.remove(t.name.as_str()) {
                Some(dest) => targets.push(Target {
                    part: t.part,
                    offset: t.offset,
                    size: t.size,
                    dest,
                }),
                // Present in some files although nothing is rotated.
                None if t.name.starts_with("rope_") => {}
                // A bias or a gate that the forward pass does not know would change the answers.
                None => {
                    return Err(Error::UnsupportedModel {
                        what: "a tensor of this model",
                        found: t.name.clone(),
                        supported: "the tensors of dense granitehybrid models",
                    });
                }
            }
        }
        targets.sort_by_key(|t| (t.part, t.offset));
        let mut loader = Loader {
            hparams,
            net,
            backend,
            targets,
            next: 0,
            part: 0,
            data: 0,
            seen: 0,
        };
        loader.begin_part(0);
        Ok(loader)
    }

    fn begin_part(&mut self, part: u16) {
        let first = self.targets.get(self.next).filter(|t| t.part == part);
        self.part = part;
        self.data = first.map_or(u64::MAX, |t| t.offset);
        self.seen = 0;
    }

    /// Lets the backend make ready for sequences of this shape while bytes arrive. An error tells what it could not do with them.
    pub fn prepare(&mut self, n_ctx: u32, kv_type: KvType) -> Result<()> {
        let shape = self.hparams.state_shape(n_ctx, kv_type);
        let net = &self.net;
        self.backend.prepare(&shape, |b| net.record(b))
    }

    /// The model's hyperparameters.
    pub fn hparams(&self) -> &Hparams {
        &self.hparams
    }

    /// The model as declared, before any byte has come: for a backend that counts and does not compute.
    pub fn without_weights(self) -> Model<B> {
        Model {
            hparams: self.hparams,
            backend: self.backend,
            net: self.net,
        }
    }

    /// Takes the bytes of the file, or of the part, from `file_offset` on, where the last call ended. Header bytes are passed over.
    pub fn push(&mut self, file_offset: u64, bytes: &[u8]) -> Result<()> {
        // What comes before the first tensor may be left out.
        debug_assert!(file_offset <= self.seen.max(self.data), "pieces come in order");
        let end = file_offset + bytes.len() as u64;
        while let Some(target) = self.targets.get_mut(self.next).filter(|t| t.part == self.part) {
            let from = target.offset.max(self.seen);
            let to = (target.offset + target.size).min(end);
            if from < to {
                let piece = &bytes[(from - file_offset) as usize..(to - file_offset) as usize];
                match &mut target.dest {
                    Dest::Matrix(mat) => self.backend.write_matrix(*mat, from - target.offset, piece)?,
                    Dest::Vector { to: vector, ty, bytes } => {
                        bytes.extend_from_slice(piece);
                        if bytes.len() as u64 == target.size {
                            let mut values = vec![0.0; vector.len as usize];
                            quant::dequantize(*ty, bytes, &mut values);
                            self.backend.write_vector(*vector, &values)?;
                            *bytes = Vec::new();
                        }
                    }
                }
            }
            if target.offset + target.size > end {
                break;
            }
            self.next += 1;
        }
        self.seen = self.seen.max(end);
        Ok(())
    }

    /// After the last byte of a file: what comes next is of the next part.
    ///
    /// # Errors
    /// [`Error::Truncated`] if a tensor of this one is not complete.
    pub fn end_part(&mut self) -> Result<()> {
        match self.targets.get(self.next) {
            Some(t) if t.part == self.part => Err(self.missing(t)),
            _ => {
                self.begin_part(self.part.saturating_add(1));
                Ok(())
            }
        }
    }

    fn missing(&self, t: &Target) -> Error {
        Error::Truncated {
            section: "tensor data",
            needed: t.size,
            offset: t.offset,
            len: if t.part == self.part { self.seen } else { 0 },
        }
    }

    /// The model, once every byte has come.
    pub async fn finish(mut self) -> Result<Model<B>> {
        if let Some(t) = self.targets.get(self.next) {
            return Err(self.missing(t));
        }
        self.backend.finish_loading().await?;
        Ok(self.without_weights())
    }
}
