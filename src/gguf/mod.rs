//! GGUF: header bytes -> metadata and the tensor table. No I/O, and no panic on hostile input.

pub mod quant;

pub use quant::GgmlType;

/// One tensor of the file's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// ggml's name, `blk.0.ssm_in.weight`.
    pub name: String,
    /// Type of its blocks.
    pub ty: GgmlType,
    /// ggml `ne`: `[n_cols, n_rows, ..]`, fastest first, one to four of them.
    pub ne: Vec<u64>,
    /// Byte offset from the start of the *file*.
    pub offset: u64,
    /// Size in bytes.
    pub size: u64,
}
