//! GGUF: header bytes -> metadata and the tensor table. No I/O, and no panic on hostile input.
//!
//! A file is `magic, version, counts | key-value pairs | tensor table | padding | tensor data`, little-endian. [`HeaderReader`] takes
//! the first three parts in pieces of any size as they arrive from a network, and is the only parser; [`Gguf::from_bytes`] feeds it
//! one big piece. Tensor data is never looked at here.
//!
//! Nothing that the header *says* is believed before it is checked: counts and lengths are compared with what the file can hold, and
//! memory grows only with the bytes that have arrived.

mod metadata;
pub mod quant;
mod reader;
mod split;

pub use metadata::{Array, Metadata, StringArray, Value};
pub use quant::GgmlType;
pub use reader::{HeaderReader, MAX_HEADER_BYTES};
pub use split::Split;

use crate::Result;

/// One tensor of the file's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// ggml's name, `blk.0.ssm_in.weight`.
    pub name: String,
    /// Type of its blocks.
    pub ty: GgmlType,
    /// ggml `ne`: `[n_cols, n_rows, ..]`, fastest first, one to four of them, as the file has them (trailing ones included).
    pub ne: Vec<u64>,
    /// Which file of a split model has it, from 0; 0 if there is but one.
    pub part: u16,
    /// Byte offset from the start of the *file*.
    pub offset: u64,
    /// Size in bytes.
    pub size: u64,
}

impl TensorInfo {
    /// Elements in a row: a multiple of the type's block length.
    pub fn n_cols(&self) -> u64 {
        self.ne[0]
    }

    /// Rows: the product of all dimensions but the first.
    pub fn n_rows(&self) -> u64 {
        self.ne[1..].iter().product()
    }

    /// Elements in all. The reader has checked that this does not overflow.
    pub fn n_elements(&self) -> u64 {
        self.n_cols() * self.n_rows()
    }
}

/// A whole header, of one file or, after [`Gguf::join`], of a model in several.
#[derive(Debug, Clone, PartialEq)]
pub struct Gguf {
    /// 2 or 3.
    pub version: u32,
    /// The key-value pairs.
    pub metadata: Metadata,
    /// The tensor table, in the file's order. Empty in vocabulary-only files.
    pub tensors: Vec<TensorInfo>,
    /// Where tensor data starts, in bytes from the start of the (first) file.
    pub data_offset: u64,
    /// The (first) file's length in bytes, if the reader was told.
    pub file_len: Option<u64>,
    /// Of each file: up to the end of its last tensor, or of its header if there is none.
    ends: Vec<u64>,
    /// Indices into `tensors`, sorted by name.
    by_name: Vec<u32>,
}

impl Gguf {
    /// Reads the header of a file that is in memory as a whole.
    ///
    /// Tensors that reach beyond `bytes` are [`Error::Truncated`](crate::Error::Truncated). For the first piece of a longer file use
    /// [`HeaderReader`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Gguf> {
        let mut reader = HeaderReader::new(Some(bytes.len() as u64));
        reader.push(bytes)?.ok_or_else(|| reader.finish())
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let at = self
            .by_name
            .binary_search_by(|&i| self.tensors[i as usize].name.as_str().cmp(name));
        at.ok().map(|at| &self.tensors[self.by_name[at] as usize])
    }

    /// Bytes that a complete file has at least: up to the end of its last tensor, or of the header if there is none. The first file's,
    /// if there are several.
    pub fn end(&self) -> u64 {
        self.ends[0]
    }

    /// The same of every file: one, or all parts of a model after [`Gguf::join`].
    pub fn ends(&self) -> &[u64] {
        &self.ends
    }
}
