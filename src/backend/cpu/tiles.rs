//! Weights in tiles of eight rows: the layout that the integer kernels read.
//!
//! A tile block holds the same block of eight neighbouring rows, their bytes interleaved: four bytes of quants of each row in turn,
//! two bytes of everything else. So one load brings four columns of every row, and a sum needs no horizontal addition. Field order
//! is the block's own, every offset times eight, and nothing is added or lost: a tile takes the bytes of its rows, and is made in
//! their place while they arrive.
//!
//! The last tile of a matrix may lack rows; those are zeros.

use crate::gguf::GgmlType;

/// Rows of a tile.
pub const ROWS: usize = 8;

/// A run of a block's bytes that are interleaved `unit` at a time.
#[derive(Debug, Clone, Copy)]
struct Field {
    offset: usize,
    len: usize,
    unit: usize,
}

const fn field(offset: usize, len: usize, unit: usize) -> Field {
    Field { offset, len, unit }
}

/// How a block of `ty` is interleaved; `None` for the types that have no integer kernel and stay rows.
fn fields(ty: GgmlType) -> Option<[Field; 2]> {
    match ty {
        GgmlType::Q4_0 => Some([field(0, 2, 2), field(2, 16, 4)]),
        GgmlType::Q8_0 => Some([field(0, 2, 2), field(2, 32, 4)]),
        GgmlType::Q4_K => Some([field(0, 16, 2), field(16, 128, 4)]),
        GgmlType::Q5_K => Some([field(0, 16, 2), field(16, 160, 4)]),
        GgmlType::Q6_K => Some([field(0, 192, 4), field(192, 18, 2)]),
        _ => None,
    }
}

/// Whether matrices of `ty` are kept in tiles.
pub fn is_tiled(ty: GgmlType) -> bool {
    fields(ty).is_some()
}

/// Interleaves eight rows in place. `tile`: eight rows of blocks; `scratch` is made as long.
///
/// # Panics
/// If `ty` is not tiled.
pub fn pack(ty: GgmlType, tile: &mut [u8], scratch: &mut Vec<u8>) {
    let fields = fields(ty).expect("a tiled type");
    scratch.clear();
    scratch.extend_from_slice(tile);
    let (block, row) = (ty.block_bytes(), tile.len() / ROWS);
    for (b, out) in tile.chunks_exact_mut(ROWS * block).enumerate() {
        for f in fields {
            let out = &mut out[ROWS * f.offset..ROWS * (f.offset + f.len)];
            for r in 0..ROWS {
                let from = &scratch[r * row + b * block + f.offset..][..f.len];
                for (units, bytes) in out.chunks_exact_mut(ROWS * f.unit).zip(from.chunks_exact(f.unit)) {
                    units[r * f.unit..][..f.unit].copy_from_slice(bytes);
                }
            }
        }
    }
}

/// Row `r` of a tile, as it stood in the file. `out`: the row's bytes.
///
/// # Panics
/// If `ty` is not tiled.
pub fn unpack_row(ty: GgmlType, tile: &[u8], r: usize, out: &mut [u8]) {
    let fields = fields(ty).expect("a tiled type");
    let block = ty.block_bytes();
    for (tile, out) in tile.chunks_exact(ROWS * block).zip(out.chunks_exact_mut(block)) {
        for f in fields {
            let tile = &tile[ROWS * f.offset..ROWS * (f.offset + f.len)];
            let out = &mut out[f.offset..f.offset + f.len];
            for (units, bytes) in tile.chunks_exact(ROWS * f.unit).zip(out.chunks_exact_mut(f.unit)) {
                bytes.copy_from_slice(&units[r * f.unit..][..f.unit]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_place_and_comes_back() {
        let mut rng = fastrand::Rng::with_seed(1);
        for ty in GgmlType::ALL.into_iter().filter(|&ty| is_tiled(ty)) {
            let fields = fields(ty).expect("tiled");
            assert_eq!(fields.iter().map(|f| f.len).sum::<usize>(), ty.block_bytes(), "{ty}");
            let row = 3 * ty.block_bytes();
            let rows: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(ROWS * row).collect();
            let mut tile = rows.clone();
            pack(ty, &mut tile, &mut Vec::new());
            assert_ne!(tile, rows, "{ty}");
            let mut out = vec![0; row];
            for r in 0..ROWS {
                unpack_row(ty, &tile, r, &mut out);
                assert_eq!(out, rows[r * row..][..row], "{ty} row {r}");
            }
        }
    }
}
