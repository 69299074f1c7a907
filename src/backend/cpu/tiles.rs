//! Weights in tiles of eight rows: the layout that the integer kernels read.
//!
//! A tile block holds the same block of eight neighbouring rows, their bytes interleaved: four bytes of quants of each row in turn,
//! two bytes of everything else. So one load brings four columns of every row, and a sum needs no horizontal addition. Field order
//! is the block's own, every offset times eight, and nothing is added or lost: a tile takes the bytes of its rows, and is made in
//! their place while they arrive.
//!
//! The bits of Q6_K's quants are regrouped as well ([`regroup`]): three of four are whole then, where the file keeps four bits of each here and two
//! there, and masks take the place of shifts.
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

/// Bytes of a Q6_K block's quants: `{ql: [128], qh: [64]}`, or regrouped.
const Q6_QUANTS: usize = 192;

/// A Q6_K block's quants, `[half][quarter][32]`; see [`crate::gguf::quant`] for where the file has them.
fn quants(block: &[u8; Q6_QUANTS]) -> [[[u8; 32]; 4]; 2] {
    let (ql, qh) = block.split_at(128);
    let mut quants = [[[0; 32]; 4]; 2];
    for (half, q) in quants.iter_mut().enumerate() {
        for i in 0..32 {
            let (l0, l1, high) = (ql[64 * half + i], ql[64 * half + 32 + i], qh[32 * half + i]);
            q[0][i] = l0 & 15 | (high & 3) << 4;
            q[1][i] = l1 & 15 | (high >> 2 & 3) << 4;
            q[2][i] = l0 >> 4 | (high >> 4 & 3) << 4;
            q[3][i] = l1 >> 4 | (high >> 6) << 4;
        }
    }
    quants
}

/// To `[half][quarter of the first three][32]`: a quant in the low six bits, and above it two of the last quarter's, the lowest first.
fn regroup(block: &mut [u8; Q6_QUANTS]) {
    let quants = quants(block);
    for (half, q) in block.as_chunks_mut::<96>().0.iter_mut().zip(quants) {
        for (quarter, out) in half.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for i in 0..32 {
                out[i] = q[quarter][i] | (q[3][i] >> (2 * quarter)) << 6;
            }
        }
    }
}

/// As the file has them.
fn restore(block: &mut [u8; Q6_QUANTS]) {
    let from = *block;
    let (ql, qh) = block.split_at_mut(128);
    for (half, q) in from.as_chunks::<96>().0.iter().enumerate() {
        for i in 0..32 {
            let (q0, q1, q2) = (q[i], q[32 + i], q[64 + i]);
            let q3 = q0 >> 6 | q1 >> 6 << 2 | q2 >> 6 << 4;
            ql[64 * half + i] = q0 & 15 | q2 << 4;
            ql[64 * half + 32 + i] = q1 & 15 | q3 << 4;
            qh[32 * half + i] = q0 >> 4 & 3 | (q1 >> 4 & 3) << 2 | (q2 >> 4 & 3) << 4 | q3 >> 4 << 6;
        }
    }
}

/// What `change` does to the quants of each block of `rows`, if they are Q6_K.
fn change_quants(ty: GgmlType, rows: &mut [u8], change: fn(&mut [u8; Q6_QUANTS])) {
    if ty == GgmlType::Q6_K {
        for block in rows.chunks_exact_mut(ty.block_bytes()) {
            change(block.first_chunk_mut().expect("a block's quants"));
        }
    }
}

/// Interleaves eight rows in place. `tile`: eight rows of blocks; `scratch` is made as long.
///
/// # Panics
/// If `ty` is not tiled.
pub fn pack(ty: GgmlType, tile: &mut [u8], scratch: &mut Vec<u8>) {
    let fields = fields(ty).expect("a tiled type");
    scratch.clear();
    scratch.extend_from_slice(tile);
    change_quants(ty, scratch, regroup);
    let (block, row) = (ty.block_bytes(), tile.len() / ROWS);
    for (b, out) in tile.chunks_exact_mut(ROWS * block).enumerate() {
        for f in fields {
            let out = &mut out[ROWS * f.offset..ROWS * (f.offset + f.len)];
            let from = std::array::from_fn(|r| &scratch[r * row + b * block + f.offset..][..f.len]);
            // Lengths that the compiler knows: a copy of any number of bytes is a call, and there are hundreds of millions.
            match f.unit {
                4 => interleave::<4>(out, from),
                _ => interleave::<2>(out, from),
            }
        }
    }
}

/// `UNIT` bytes of each row in turn.
fn interleave<const UNIT: usize>(out: &mut [u8], from: [&[u8]; ROWS]) {
    let units = out.as_chunks_mut::<UNIT>().0.as_chunks_mut::<ROWS>().0;
    let from = from.map(|row| &row.as_chunks::<UNIT>().0[..units.len()]);
    for (u, units) in units.iter_mut().enumerate() {
        for (unit, row) in units.iter_mut().zip(from) {
            *unit = row[u];
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
    change_quants(ty, out, restore);
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
