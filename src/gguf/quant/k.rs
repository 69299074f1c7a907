//! The formats with 256 elements in a block and quantised scales of sub-blocks: Q2_K, Q3_K, Q4_K, Q5_K, Q6_K.
//!
//! The nibbles (or pairs of bits) of a byte are never neighbours: a run of 32 bytes holds the low bits of 32 elements, then of the
//! next 32, and so on; each layout says which.

use super::f16_to_f32;
use bytemuck::{Pod, Zeroable};

/// Elements in a block.
pub const QK_K: usize = 256;

/// `x = (d * scale) * q - (dmin * min)`, `q` of 2 bits, 16 sub-blocks of 16.
///
/// | bytes | field |
/// |---|---|
/// | 0..16 | `scales`: sub-block `j` has its scale in the low and its min in the high nibble of byte `j` |
/// | 16..80 | `qs`: element `128 h + 32 s + b` is bits `2s, 2s+1` of byte `32 h + b` |
/// | 80..82 | `d`, f16 |
/// | 82..84 | `dmin`, f16 |
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ2K {
    /// 4-bit scales and mins.
    pub scales: [u8; 16],
    /// 2-bit elements.
    pub qs: [u8; 64],
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Scale of the mins, f16.
    pub dmin: [u8; 2],
}
const _: () = assert!(size_of::<BlockQ2K>() == 84);

impl BlockQ2K {
    pub(super) fn dequantize(&self, out: &mut [f32; QK_K]) {
        let d = f16_to_f32(self.d);
        let dmin = f16_to_f32(self.dmin);
        for (i, y) in out.iter_mut().enumerate() {
            let scale = self.scales[i / 16] & 0x0f;
            let min = self.scales[i / 16] >> 4;
            let q = two_bits(&self.qs, i);
            *y = (d * scale as f32) * q as f32 - dmin * min as f32;
        }
    }
}

/// `x = (d * (scale - 32)) * q`, `q` of 3 bits less 4, 16 sub-blocks of 16.
///
/// | bytes | field |
/// |---|---|
/// | 0..32 | `hmask`: bit `i / 32` of byte `i % 32` is *set* when element `i` does not have 4 subtracted |
/// | 32..96 | `qs`: element `128 h + 32 s + b` has its low bits in bits `2s, 2s+1` of byte `32 h + b` |
/// | 96..108 | `scales`, 6 bits each: see [`BlockQ3K::scale`] |
/// | 108..110 | `d`, f16 |
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ3K {
    /// Third bits, inverted sign.
    pub hmask: [u8; 32],
    /// Low 2 bits.
    pub qs: [u8; 64],
    /// Packed 6-bit scales.
    pub scales: [u8; 12],
    /// Scale of the scales, f16.
    pub d: [u8; 2],
}
const _: () = assert!(size_of::<BlockQ3K>() == 110);

impl BlockQ3K {
    /// Scale of sub-block `j` (0..16), already less 32.
    ///
    /// The low 4 bits are nibble `j / 8` of byte `j % 8`; the high 2 bits are bits `2(j/4), 2(j/4)+1` of byte `8 + j % 4`.
    pub fn scale(&self, j: usize) -> i8 {
        let low = self.scales[j % 8] >> (4 * (j / 8)) & 0x0f;
        let high = self.scales[8 + j % 4] >> (2 * (j / 4)) & 3;
        (low | high << 4) as i8 - 32
    }

    pub(super) fn dequantize(&self, out: &mut [f32; QK_K]) {
        let d = f16_to_f32(self.d);
        for (i, y) in out.iter_mut().enumerate() {
            let kept = self.hmask[i % 32] >> (i / 32) & 1;
            let q = two_bits(&self.qs, i) as i32 - if kept == 1 { 0 } else { 4 };
            *y = (d * self.scale(i / 16) as f32) * q as f32;
        }
    }
}

/// `x = (d * scale) * q - (dmin * min)`, `q` of 4 bits, 8 sub-blocks of 32.
///
/// | bytes | field |
/// |---|---|
/// | 0..2 | `d`, f16 |
/// | 2..4 | `dmin`, f16 |
/// | 4..16 | `scales`, 8 scales and 8 mins of 6 bits: see [`scale_min_k4`] |
/// | 16..144 | `qs`: element `64 p + b` is the low nibble of byte `32 p + b`, element `64 p + 32 + b` its high nibble |
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ4K {
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Scale of the mins, f16.
    pub dmin: [u8; 2],
    /// Packed 6-bit scales and mins.
    pub scales: [u8; 12],
    /// 4-bit elements.
    pub qs: [u8; 128],
}
const _: () = assert!(size_of::<BlockQ4K>() == 144);

impl BlockQ4K {
    pub(super) fn dequantize(&self, out: &mut [f32; QK_K]) {
        let d = f16_to_f32(self.d);
        let dmin = f16_to_f32(self.dmin);
        for (i, y) in out.iter_mut().enumerate() {
            let (scale, min) = scale_min_k4(&self.scales, i / 32);
            let q = four_bits(&self.qs, i);
            *y = (d * scale as f32) * q as f32 - dmin * min as f32;
        }
    }
}

/// `x = (d * scale) * q - (dmin * min)`, `q` of 5 bits, 8 sub-blocks of 32.
///
/// | bytes | field |
/// |---|---|
/// | 0..2 | `d`, f16 |
/// | 2..4 | `dmin`, f16 |
/// | 4..16 | `scales`, as in [`BlockQ4K`] |
/// | 16..48 | `qh`: bit `i / 32` of byte `i % 32` is bit 4 of element `i` |
/// | 48..176 | `qs`, the low 4 bits, as in [`BlockQ4K`] |
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ5K {
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Scale of the mins, f16.
    pub dmin: [u8; 2],
    /// Packed 6-bit scales and mins.
    pub scales: [u8; 12],
    /// Fifth bits.
    pub qh: [u8; 32],
    /// Low 4 bits.
    pub qs: [u8; 128],
}
const _: () = assert!(size_of::<BlockQ5K>() == 176);

impl BlockQ5K {
    pub(super) fn dequantize(&self, out: &mut [f32; QK_K]) {
        let d = f16_to_f32(self.d);
        let dmin = f16_to_f32(self.dmin);
        for (i, y) in out.iter_mut().enumerate() {
            let (scale, min) = scale_min_k4(&self.scales, i / 32);
            let high = self.qh[i % 32] >> (i / 32) & 1;
            let q = four_bits(&self.qs, i) | high << 4;
            *y = (d * scale as f32) * q as f32 - dmin * min as f32;
        }
    }
}

/// `x = (d * scale) * (q - 32)`, `q` of 6 bits, 16 sub-blocks of 16 with i8 scales.
///
/// | bytes | field |
/// |---|---|
/// | 0..128 | `ql`: element `128 h + b` has its low bits in the low nibble of byte `64 h + b`, element `128 h + 64 + b` in the high one |
/// | 128..192 | `qh`: element `128 h + 32 s + b` has its high bits in bits `2s, 2s+1` of byte `32 h + b` |
/// | 192..208 | `scales`, i8 |
/// | 208..210 | `d`, f16 |
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ6K {
    /// Low 4 bits.
    pub ql: [u8; 128],
    /// High 2 bits.
    pub qh: [u8; 64],
    /// Scales of the sub-blocks.
    pub scales: [i8; 16],
    /// Scale of the scales, f16.
    pub d: [u8; 2],
}
const _: () = assert!(size_of::<BlockQ6K>() == 210);

impl BlockQ6K {
    pub(super) fn dequantize(&self, out: &mut [f32; QK_K]) {
        let d = f16_to_f32(self.d);
        for (i, y) in out.iter_mut().enumerate() {
            let low = self.ql[64 * (i / 128) + i % 64] >> (4 * (i % 128 / 64)) & 0x0f;
            let high = two_bits(&self.qh, i);
            let q = (low | high << 4) as i32 - 32;
            *y = (d * self.scales[i / 16] as f32) * q as f32;
        }
    }
}

/// Scale and min of sub-block `j` (0..8) of Q4_K and Q5_K, 6 bits each.
///
/// Sub-blocks 0..4 sit in the low 6 bits of bytes `j` (scale) and `j + 4` (min). Sub-blocks 4..8 have their low 4 bits in byte
/// `j + 4` (scale low, min high nibble) and their top 2 bits in the top bits that bytes `j - 4` and `j` have left over.
pub fn scale_min_k4(scales: &[u8; 12], j: usize) -> (u8, u8) {
    if j < 4 {
        (scales[j] & 0x3f, scales[j + 4] & 0x3f)
    } else {
        (
            scales[j + 4] & 0x0f | scales[j - 4] >> 6 << 4,
            scales[j + 4] >> 4 | scales[j] >> 6 << 4,
        )
    }
}

fn two_bits(qs: &[u8; 64], i: usize) -> u8 {
    qs[32 * (i / 128) + i % 32] >> (2 * (i % 128 / 32)) & 3
}

fn four_bits(qs: &[u8; 128], i: usize) -> u8 {
    qs[32 * (i / 64) + i % 32] >> (4 * (i % 64 / 32)) & 0x0f
}
