//! Models in several files, as llama.cpp's `gguf-split` and the `gguf` Python package write them.
//!
//! Each part is a GGUF with a header of its own, called `NAME-00001-of-00003.gguf` and so on. The first has all metadata and some of
//! the tensors, or none (`--no-tensor-first-split`). Every part has three keys, and later parts have no others: `split.no` (u16, from
//! 0), `split.count` (u16) and `split.tensors.count` (i32, of all parts together). See llama.cpp's `tools/gguf-split/gguf-split.cpp`
//! and `src/llama-model-loader.cpp`, and `GGUFWriter.add_shard_kv_data` of the Python package. A file that was merged again keeps
//! the keys with a count of 0.
//!
//! No key says which model a part is of. Counts and tensors' names must fit together; a part of a model that is cut in the same way
//! and differs in nothing but its numbers cannot be told by its header, only by its digest.

use super::{Gguf, Metadata};
use crate::{Error, Result};

const NO: &str = "split.no";
const COUNT: &str = "split.count";
const N_TENSORS: &str = "split.tensors.count";

/// Which part of a split model a file is, by its own account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// Its place, from 0.
    pub no: u16,
    /// Parts in all, at least two.
    pub count: u16,
    /// Tensors in all parts together.
    pub n_tensors: u32,
}

impl Split {
    /// `None`: the file is a whole model.
    fn from_metadata(metadata: &Metadata) -> Result<Option<Split>> {
        // As llama.cpp reads it: a count of 1 is a model that fitted into one part, of 0 one that was merged.
        let count = match metadata.opt_u16(COUNT)? {
            None | Some(0 | 1) => return Ok(None),
            Some(count) => count,
        };
        let no = metadata.u16(NO)?;
        if no >= count {
            return Err(Error::BadKey {
                key: NO.into(),
                found: no.to_string(),
                expected: format!("a number below {COUNT}, which is {count}"),
            });
        }
        let n_tensors = metadata.u32(N_TENSORS)?;
        Ok(Some(Split { no, count, n_tensors }))
    }
}

impl Gguf {
    /// Which part of a split model this file is; `None` if it is a whole one.
    ///
    /// # Errors
    /// That the keys are of another type or contradict each other.
    pub fn split(&self) -> Result<Option<Split>> {
        Split::from_metadata(&self.metadata)
    }

    /// The header of the whole model that this file and `rest` are the parts of, in order: the metadata of the first and all tensors,
    /// each with its part. A file that is no part of anything stays as it is.
    ///
    /// # Errors
    /// [`Error::SplitFile`] if parts are missing, in another order or do not belong together.
    pub fn join(mut self, rest: &[Gguf]) -> Result<Gguf> {
        let n_files = 1 + rest.len();
        let split = match self.split()? {
            None if rest.is_empty() => return Ok(self),
            None => return Err(refused(format!("file 1 of {n_files} is not a part of a split model"))),
            Some(split) if rest.is_empty() => return Err(alone(split)),
            Some(split) => split,
        };
        if usize::from(split.count) != n_files {
            return Err(refused(format!(
                "the model has {} parts, but {n_files} files were given",
                split.count
            )));
        }
        self.check_part(0, split, &self)?;
        for (i, part) in rest.iter().enumerate() {
            self.check_part(1 + i, split, part)?;
        }

        let n_tensors = self.tensors.len() + rest.iter().map(|part| part.tensors.len()).sum::<usize>();
        if n_tensors as u64 != u64::from(split.n_tensors) {
            return Err(refused(format!(
                "the {n_files} files have {n_tensors} tensors, {N_TENSORS} is {}",
                split.n_tensors
            )));
        }
        for (i, part) in rest.iter().enumerate() {
            let no = 1 + i as u16; // there are as many as split.count says
            self.tensors
                .extend(part.tensors.iter().cloned().map(|t| super::TensorInfo { part: no, ..t }));
            self.ends.push(part.end());
        }
        // split.tensors.count has 32 bits.
        let (mut order, tensors) = ((0..n_tensors as u32).collect::<Vec<_>>(), &self.tensors);
        order.sort_by(|&i, &j| tensors[i as usize].name.cmp(&tensors[j as usize].name));
        for pair in order.windows(2) {
            let (a, b) = (&tensors[pair[0] as usize], &tensors[pair[1] as usize]);
            if a.name == b.name {
                let (name, one, other) = (&a.name, a.part + 1, b.part + 1);
                return Err(refused(format!("tensor {name} is in part {one} and in part {other}")));
            }
        }
        self.by_name = order;
        Ok(self)
    }

    /// That `part`, which was given in place `i`, is that part of the model which `self` begins.
    fn check_part(&self, i: usize, split: Split, part: &Gguf) -> Result<()> {
        let (file, count) = (i + 1, split.count);
        let Some(found) = part.split()? else {
            return Err(refused(format!("file {file} of {count} is not a part of a split model")));
        };
        let other = |what: String| refused(format!("file {file} is a part of another model than file 1: {what}"));
        if found.count != count {
            return Err(other(format!("{COUNT} is {}, not {count}", found.count)));
        }
        if found.n_tensors != split.n_tensors {
            return Err(other(format!("{N_TENSORS} is {}, not {}", found.n_tensors, split.n_tensors)));
        }
        // Only the first has to say it.
        const ARCH: &str = "general.architecture";
        if let (Some(arch), Some(found)) = (self.metadata.get(ARCH), part.metadata.get(ARCH))
            && found != arch
        {
            return Err(other(format!("{ARCH} is {}, not {}", found.describe(), arch.describe())));
        }
        if usize::from(found.no) != i {
            let part = u32::from(found.no) + 1;
            return Err(refused(format!("file {file} is part {part} of {count}: give them in order")));
        }
        Ok(())
    }

    /// That this is the header of a model with nothing missing: of one file, or of all parts joined.
    pub(crate) fn check_whole(&self) -> Result<()> {
        match self.split()? {
            Some(split) if usize::from(split.count) != self.ends.len() => Err(alone(split)),
            _ => Ok(()),
        }
    }
}

fn alone(split: Split) -> Error {
    let Split { no, count, .. } = split;
    refused(format!(
        "this file is part {} of {count} of a model: give all {count} parts, in order",
        u32::from(no) + 1
    ))
}

fn refused(what: String) -> Error {
    Error::SplitFile { what }
}
