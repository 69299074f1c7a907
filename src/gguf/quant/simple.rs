//! The formats with 32 elements in a block and one scale: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.
//!
//! In all but Q8_0, byte `j` of `qs` holds element `j` in its low nibble and element `j + 16` in its high nibble.

use super::f16_to_f32;
use bytemuck::{Pod, Zeroable};

/// Elements in a block.
pub const QK: usize = 32;

/// `x = d * (q - 8)`, `q` of 4 bits.
///
/// | bytes | field |
/// |---|---|
/// | 0..2 | `d`, f16 |
/// | 2..18 | `qs`, 32 nibbles |
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types, reason = "ggml's own spelling")]
pub struct BlockQ4_0 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Low nibbles: elements 0..16, high nibbles: 16..32.
    pub qs: [u8; 16],
}
const _: () = assert!(size_of::<BlockQ4_0>() == 18);

impl BlockQ4_0 {
    pub(super) fn dequantize(&self, out: &mut [f32; QK]) {
        let d = f16_to_f32(self.d);
        for (i, y) in out.iter_mut().enumerate() {
            let q = nibble(&self.qs, i) as i32 - 8;
            *y = d * q as f32;
        }
    }
}

/// `x = d * q + m`, `q` of 4 bits.
///
/// | bytes | field |
/// |---|---|
/// | 0..2 | `d`, f16 |
/// | 2..4 | `m`, f16 |
/// | 4..20 | `qs`, 32 nibbles |
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types, reason = "ggml's own spelling")]
pub struct BlockQ4_1 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Minimum, f16.
    pub m: [u8; 2],
    /// Low nibbles: elements 0..16, high nibbles: 16..32.
    pub qs: [u8; 16],
}
const _: () = assert!(size_of::<BlockQ4_1>() == 20);

impl BlockQ4_1 {
    pub(super) fn dequantize(&self, out: &mut [f32; QK]) {
        let d = f16_to_f32(self.d);
        let m = f16_to_f32(self.m);
        for (i, y) in out.iter_mut().enumerate() {
            let q = nibble(&self.qs, i);
            *y = d * q as f32 + m;
        }
    }
}

/// `x = d * (q - 16)`, `q` of 5 bits.
///
/// | bytes | field |
/// |---|---|
/// | 0..2 | `d`, f16 |
/// | 2..6 | `qh`, u32: bit `i` is bit 4 of element `i` |
/// | 6..22 | `qs`, the low 4 bits |
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types, reason = "ggml's own spelling")]
pub struct BlockQ5_0 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Fifth bits, little-endian u32.
    pub qh: [u8; 4],
    /// Low nibbles: elements 0..16, high nibbles: 16..32.
    pub qs: [u8; 16],
}
const _: () = assert!(size_of::<BlockQ5_0>() == 22);

impl BlockQ5_0 {
    pub(super) fn dequantize(&self, out: &mut [f32; QK]) {
        let d = f16_to_f32(self.d);
        for (i, y) in out.iter_mut().enumerate() {
            let q = (nibble(&self.qs, i) | fifth_bit(self.qh, i) << 4) as i32 - 16;
            *y = d * q as f32;
        }
    }
}

/// `x = d * q + m`, `q` of 5 bits.
///
/// | bytes | field |
/// |---|---|
/// | 0..2 | `d`, f16 |
/// | 2..4 | `m`, f16 |
/// | 4..8 | `qh`, u32: bit `i` is bit 4 of element `i` |
/// | 8..24 | `qs`, the low 4 bits |
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types, reason = "ggml's own spelling")]
pub struct BlockQ5_1 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Minimum, f16.
    pub m: [u8; 2],
    /// Fifth bits, little-endian u32.
    pub qh: [u8; 4],
    /// Low nibbles: elements 0..16, high nibbles: 16..32.
    pub qs: [u8; 16],
}
const _: () = assert!(size_of::<BlockQ5_1>() == 24);

impl BlockQ5_1 {
    pub(super) fn dequantize(&self, out: &mut [f32; QK]) {
        let d = f16_to_f32(self.d);
        let m = f16_to_f32(self.m);
        for (i, y) in out.iter_mut().enumerate() {
            let q = nibble(&self.qs, i) | fifth_bit(self.qh, i) << 4;
            *y = d * q as f32 + m;
        }
    }
}

/// `x = d * q`, `q` an i8.
///
/// | bytes | field |
/// |---|---|
/// | 0..2 | `d`, f16 |
/// | 2..34 | `qs`, 32 i8 |
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types, reason = "ggml's own spelling")]
pub struct BlockQ8_0 {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Elements in order.
    pub qs: [i8; 32],
}
const _: () = assert!(size_of::<BlockQ8_0>() == 34);

impl BlockQ8_0 {
    pub(super) fn dequantize(&self, out: &mut [f32; QK]) {
        let d = f16_to_f32(self.d);
        for (y, &q) in out.iter_mut().zip(&self.qs) {
            *y = d * q as f32;
        }
    }
}

fn nibble(qs: &[u8; 16], i: usize) -> u8 {
    if i < 16 { qs[i] & 0x0f } else { qs[i - 16] >> 4 }
}

fn fifth_bit(qh: [u8; 4], i: usize) -> u8 {
    (u32::from_le_bytes(qh) >> i & 1) as u8
}
