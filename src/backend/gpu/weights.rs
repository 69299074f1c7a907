//! Where weights live: planes, slabs and arenas, and the upload that fills them while a file streams in.
//!
//! - A *plane* is one field of a block format (quants, scales, d) for many blocks in a row. Formats with 16-byte blocks stay whole;
//!   the others are split so that every shader load is aligned. The bytes are the file's, only in another order.
//! - A *slab* is as many rows of a matrix as one binding can hold; its planes stand one after another. Almost every matrix is one.
//! - An *arena* is a device buffer with many slabs. Matrices of one layer share an arena, so that gate and up, or q, k and v, can be
//!   bound at once and multiplied by one dispatch.

use crate::{Error, Result, gguf::GgmlType};

/// Slabs start at multiples of this: WebGPU's `min_storage_buffer_offset_alignment`.
const ALIGN: u64 = 256;
/// Arenas stop growing here; only a single larger slab makes a larger one.
const ARENA: u64 = 128 << 20;

/// One field of a block: bytes `start..start + len`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plane {
    pub(super) start: usize,
    pub(super) len: usize,
}

/// The planes of a format, in the order that its shader names x, y, z, w.
pub(super) fn planes(ty: GgmlType) -> &'static [Plane] {
    const fn p(start: usize, len: usize) -> Plane {
        Plane { start, len }
    }
    use GgmlType::*;
    match ty {
        F32 => const { &[p(0, 4)] },
        F16 | BF16 => const { &[p(0, 2)] },
        Q4_0 => const { &[p(2, 16), p(0, 2)] },
        Q4_1 => const { &[p(4, 16), p(0, 4)] },
        Q5_0 => const { &[p(6, 16), p(2, 4), p(0, 2)] },
        Q5_1 => const { &[p(8, 16), p(4, 4), p(0, 4)] },
        Q8_0 => const { &[p(2, 32), p(0, 2)] },
        Q2_K => const { &[p(16, 64), p(0, 16), p(80, 4)] },
        Q3_K => const { &[p(32, 64), p(0, 32), p(96, 12), p(108, 2)] },
        Q4_K => const { &[p(0, 144)] },
        Q5_K => const { &[p(0, 176)] },
        Q6_K => const { &[p(0, 128), p(128, 64), p(192, 16), p(208, 2)] },
    }
}

/// Blocks after which every plane is again at a multiple of four bytes, what a buffer write needs.
fn blocks_per_write(ty: GgmlType) -> u64 {
    if planes(ty).iter().any(|p| p.len % 4 != 0) { 2 } else { 1 }
}

/// Rows of a matrix in one binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slab {
    pub(super) arena: u32,
    /// Bytes from the start of the arena; a multiple of 256.
    pub(super) offset: u64,
    /// Bytes, all planes, a multiple of 16.
    pub(super) bytes: u64,
    pub(super) row0: u32,
    pub(super) n_rows: u32,
    /// Where each plane starts, 16-byte quads from `offset`.
    pub(super) planes: [u32; 4],
}

/// A declared weight matrix.
#[derive(Debug)]
pub(super) struct Matrix {
    pub(super) name: String,
    pub(super) ty: GgmlType,
    pub(super) n_rows: u32,
    pub(super) n_cols: u32,
    pub(super) slabs: Vec<Slab>,
    /// Bytes of the file's form that are on the device.
    done: u64,
    /// Bytes that came but do not make a whole write yet.
    tail: Vec<u8>,
}

impl Matrix {
    /// Checks what a kernel needs and splits the rows into slabs of at most `max_binding` bytes. Arenas come later.
    pub(super) fn new(name: &str, ty: GgmlType, n_rows: u32, n_cols: u32, max_binding: u64) -> Result<Matrix> {
        let unsupported = |place| Error::UnsupportedHere {
            name: name.to_owned(),
            found: ty,
            place,
        };
        if n_rows == 0 || n_cols == 0 || !n_cols.is_multiple_of(32) || !(n_cols as usize).is_multiple_of(ty.block_len()) {
            return Err(unsupported("on WebGPU with rows that are not a multiple of 32 elements"));
        }
        let rows_in = |bytes: u64| bytes.saturating_sub(4 * 16) / ty.row_bytes(n_cols as usize) as u64;
        let most = rows_in(max_binding).min(n_rows as u64) as u32;
        if most == 0 {
            return Err(unsupported("on WebGPU with rows longer than a buffer binding"));
        }
        let slabs = (0..n_rows)
            .step_by(most as usize)
            .map(|row0| Slab::new(ty, row0, most.min(n_rows - row0), n_cols))
            .collect();
        Ok(Matrix {
            name: name.to_owned(),
            ty,
            n_rows,
            n_cols,
            slabs,
            done: 0,
            tail: Vec::new(),
        })
    }

    fn row_bytes(&self) -> u64 {
        self.ty.row_bytes(self.n_cols as usize) as u64
    }

    pub(super) fn is_complete(&self) -> bool {
        self.done == self.row_bytes() * self.n_rows as u64
    }

    /// Takes the next bytes of the matrix and hands aligned pieces to `put(arena, offset, bytes)`.
    pub(super) fn write(&mut self, mut bytes: &[u8], scratch: &mut Vec<u8>, put: &mut impl FnMut(u32, u64, &[u8])) -> Result<()> {
        let (row_bytes, block) = (self.row_bytes(), self.ty.block_bytes() as u64);
        let unit = blocks_per_write(self.ty) * block;
        while !bytes.is_empty() {
            let at = self.done + self.tail.len() as u64;
            let row = at / row_bytes;
            let Some(slab) = self.slabs.iter().find(|s| row < (s.row0 + s.n_rows) as u64) else {
                return Err(Error::TensorShape {
                    name: self.name.clone(),
                    found: vec![at + bytes.len() as u64],
                    expected: vec![row_bytes * self.n_rows as u64],
                });
            };
            let (start, end) = (row_bytes * slab.row0 as u64, row_bytes * (slab.row0 + slab.n_rows) as u64);
            // What completes a broken unit first, else as many whole units as there are, else the rest of a slab.
            let room = (end - at).min(bytes.len() as u64);
            let want = if !self.tail.is_empty() {
                unit - self.tail.len() as u64
            } else if room >= unit {
                room / unit * unit
            } else {
                unit
            };
            let (now, rest) = bytes.split_at(want.min(room) as usize);
            bytes = rest;
            let whole = if self.tail.is_empty() && now.len() as u64 >= unit {
                now
            } else {
                self.tail.extend_from_slice(now);
                if (self.tail.len() as u64) < unit && at + (now.len() as u64) < end {
                    continue;
                }
                &self.tail
            };
            let (first, n) = ((self.done - start) / block, whole.len() as u64);
            split(self.ty, slab, first, whole, scratch, put);
            self.done += n;
            self.tail.clear();
        }
        Ok(())
    }
}

impl Slab {
    fn new(ty: GgmlType, row0: u32, n_rows: u32, n_cols: u32) -> Slab {
        let blocks = n_rows as u64 * (n_cols as usize / ty.block_len()) as u64;
        let (mut at, mut starts) = (0, [0; 4]);
        for (start, plane) in starts.iter_mut().zip(planes(ty)) {
            *start = (at / 16) as u32;
            at += (blocks * plane.len as u64).next_multiple_of(16);
        }
        Slab {
            arena: 0,
            offset: 0,
            bytes: at,
            row0,
            n_rows,
            planes: starts,
        }
    }
}

/// Writes whole blocks, the `first`-th of the slab on, to their planes.
fn split(ty: GgmlType, slab: &Slab, first: u64, bytes: &[u8], scratch: &mut Vec<u8>, put: &mut impl FnMut(u32, u64, &[u8])) {
    for (plane, &start) in planes(ty).iter().zip(&slab.planes) {
        let offset = slab.offset + start as u64 * 16 + first * plane.len as u64;
        if plane.len == ty.block_bytes() && bytes.len().is_multiple_of(4) {
            put(slab.arena, offset, bytes);
            continue;
        }
        scratch.clear();
        for block in bytes.chunks_exact(ty.block_bytes()) {
            scratch.extend_from_slice(&block[plane.start..plane.start + plane.len]);
        }
        // Only at the end of a slab, where the plane's own padding takes it.
        scratch.resize(scratch.len().next_multiple_of(4), 0);
        put(slab.arena, offset, scratch);
    }
}

/// Places the slabs of matrices `from..` and returns the size of each new arena; the first of them is number `first_arena`.
///
/// Neighbours of one layer (names equal up to the second dot) are kept together; an arena is closed early rather than cut a layer.
pub(super) fn place(mats: &mut [Matrix], from: usize, first_arena: u32, max_binding: u64) -> Vec<u64> {
    let cap = ARENA.min(max_binding);
    let layer = |m: &Matrix| m.name.match_indices('.').nth(1).map_or(m.name.len(), |(i, _)| i);
    let mut sizes: Vec<u64> = Vec::new();
    let mut i = from;
    while i < mats.len() {
        let prefix = mats[i].name[..layer(&mats[i])].to_owned();
        let mut end = i + 1;
        while end < mats.len() && mats[end].name[..layer(&mats[end])] == prefix {
            end += 1;
        }
        let total: u64 = mats[i..end]
            .iter()
            .flat_map(|m| &m.slabs)
            .map(|s| s.bytes.next_multiple_of(ALIGN))
            .sum();
        if total <= cap && sizes.last().is_some_and(|&used| used + total > cap) {
            sizes.push(0);
        }
        for slab in mats[i..end].iter_mut().flat_map(|m| &mut m.slabs) {
            let bytes = slab.bytes.next_multiple_of(ALIGN);
            if sizes.last().is_none_or(|&used| used > 0 && used + bytes > cap) {
                sizes.push(0);
            }
            slab.arena = first_arena + sizes.len() as u32 - 1;
            let used = sizes.last_mut().expect("pushed above");
            slab.offset = *used;
            *used += bytes;
        }
        i = end;
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_cover_each_block_once() {
        for ty in GgmlType::ALL {
            let mut covered = vec![0; ty.block_bytes()];
            for p in planes(ty) {
                covered[p.start..p.start + p.len].iter_mut().for_each(|c| *c += 1);
            }
            assert!(covered.iter().all(|&c| c == 1), "{ty}: {covered:?}");
        }
    }

    /// Any cut of the stream gives the planes that one write gives.
    #[test]
    fn pieces_may_break_anywhere() {
        for ty in GgmlType::ALL {
            let n_cols = 256;
            for n_rows in [1, 5, 12] {
                for max_binding in [1 << 20, (ty.row_bytes(n_cols) * 5 + 64) as u64] {
                    let bytes: Vec<u8> = (0..ty.row_bytes(n_cols) * n_rows).map(|i| (i * 31 + i / 253) as u8).collect();
                    let run = |cut: usize| {
                        let mut m = [Matrix::new("m", ty, n_rows as u32, n_cols as u32, max_binding).unwrap()];
                        let sizes = place(&mut m, 0, 0, max_binding);
                        let mut arenas: Vec<Vec<u8>> = sizes.iter().map(|&s| vec![0; s as usize]).collect();
                        for piece in bytes.chunks(cut) {
                            m[0].write(piece, &mut Vec::new(), &mut |arena, offset, bytes| {
                                assert!(offset % 4 == 0 && bytes.len() % 4 == 0);
                                arenas[arena as usize][offset as usize..][..bytes.len()].copy_from_slice(bytes);
                            })
                            .unwrap();
                        }
                        assert!(m[0].is_complete());
                        arenas
                    };
                    let whole = run(bytes.len());
                    for cut in [1, 2, 3, 7, 100, 1000, 1001] {
                        assert!(run(cut) == whole, "{ty}, {n_rows} rows, cut {cut}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_layer_is_not_cut() {
        let mut mats = Vec::new();
        for layer in 0..4 {
            for part in ["ffn_gate", "ffn_up", "ffn_down"] {
                mats.push(Matrix::new(&format!("blk.{layer}.{part}.weight"), GgmlType::Q4_K, 256, 256, 1 << 17).unwrap());
            }
        }
        // 36,864 bytes each: three fit in 128 KiB, four do not.
        let sizes = place(&mut mats, 0, 3, 1 << 17);
        assert_eq!(sizes, [3 * 36864; 4]);
        assert!(
            mats.chunks(3)
                .zip(3..)
                .all(|(l, arena)| l.iter().all(|m| m.slabs[0].arena == arena))
        );
    }
}
