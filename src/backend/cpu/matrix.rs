//! A weight matrix in memory, made as its bytes arrive.

use super::tiles;
use crate::{Error, Result, gguf::GgmlType};

/// A weight matrix in memory.
pub struct Matrix {
    /// Type of its blocks.
    pub ty: GgmlType,
    /// Output features.
    pub n_rows: usize,
    /// Input features.
    pub n_cols: usize,
    /// Whether rows are interleaved in [`tiles`].
    pub tiled: bool,
    /// Rows of blocks, as in the file; or tiles of them, the last one filled up with zeros. As many as were written.
    pub data: Vec<u8>,
}

impl Matrix {
    /// Room for `n_rows` rows of blocks. Nothing touches it before they are written: pages of two gigabytes are taken one by one, which
    /// should not keep the first of them waiting.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(super) fn new(ty: GgmlType, n_rows: usize, n_cols: usize, tiled: bool) -> Result<Matrix> {
        let rows = (n_rows as u64).next_multiple_of(if tiled { tiles::ROWS as u64 } else { 1 });
        let row_bytes = (n_cols / ty.block_len()) as u64 * ty.block_bytes() as u64;
        let mut data = Vec::new();
        room(&mut data, rows.saturating_mul(row_bytes), "weights")?;
        Ok(Matrix {
            ty,
            n_rows,
            n_cols,
            tiled,
            data,
        })
    }

    /// The blocks of row `r`; of a matrix that is not tiled.
    pub fn row(&self, r: usize) -> &[u8] {
        debug_assert!(!self.tiled);
        let bytes = self.ty.row_bytes(self.n_cols);
        &self.data[r * bytes..(r + 1) * bytes]
    }

    /// The blocks of row `r`, of any matrix; `scratch` is where they are put together.
    pub(super) fn any_row<'a>(&'a self, r: usize, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        if !self.tiled {
            return self.row(r);
        }
        let bytes = self.ty.row_bytes(self.n_cols);
        let tile = &self.data[r / tiles::ROWS * tiles::ROWS * bytes..][..tiles::ROWS * bytes];
        scratch.resize(bytes, 0);
        tiles::unpack_row(self.ty, tile, r % tiles::ROWS, scratch);
        scratch
    }

    /// Takes bytes of the file's rows, `offset` bytes from the first; in order, without gaps. Rows become tiles as soon as eight are
    /// there.
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8], scratch: &mut Vec<u8>) {
        assert_eq!(self.data.len(), offset, "bytes come in order");
        self.data.extend_from_slice(bytes);
        if !self.tiled || bytes.is_empty() {
            return;
        }
        let row = self.ty.row_bytes(self.n_cols);
        let tile = tiles::ROWS * row;
        if self.data.len() == self.n_rows * row {
            self.data.resize(self.n_rows.next_multiple_of(tiles::ROWS) * row, 0);
        }
        for tile in self.data[offset / tile * tile..].chunks_exact_mut(tile) {
            tiles::pack(self.ty, tile, scratch);
        }
    }
}

/// A zeroed vector, or an error where the allocator would have aborted. `len`: such a product may be more than a `usize` holds.
pub(super) fn zeroed<T: Clone + Default>(len: u64, what: &'static str) -> Result<Vec<T>> {
    let mut v = Vec::new();
    room(&mut v, len, what)?;
    v.resize(len as usize, T::default());
    Ok(v)
}

/// Lets a vector grow to `len` elements without asking for memory again, or an error where the allocator would have aborted.
pub(super) fn room<T>(v: &mut Vec<T>, len: u64, what: &'static str) -> Result<()> {
    let more = usize::try_from(len).map(|len| len.saturating_sub(v.len()));
    match more.map(|more| v.try_reserve_exact(more)) {
        Ok(Ok(())) => Ok(()),
        _ => Err(Error::OutOfMemory {
            what,
            bytes: len.saturating_mul(size_of::<T>() as u64),
        }),
    }
}
