//! Keys or values on the CPU, in each type.

use super::rows::widen;
use crate::backend::KvType;

/// Keys or values of one attention layer, `[n_ctx, n_head_kv * d_head]`, grown as tokens come.
pub enum Kv {
    /// Exact.
    F32(Vec<f32>),
    /// Half the memory.
    F16(Vec<half::f16>),
    /// A quarter of it, and the scales.
    Q8_0(Blocks),
}

/// Rows of 8-bit blocks.
pub struct Blocks {
    quants: Vec<i8>,
    /// One for each [`BLOCK`] elements of a row; the last block of a row may be short.
    scales: Vec<f32>,
    /// Elements of a row.
    width: usize,
}

/// Elements of a block.
const BLOCK: usize = 32;
/// Blocks whose largest element is below this are zeros: their scale's inverse might overflow.
const SMALLEST: f32 = 1e-30;

impl Blocks {
    fn push(&mut self, row: &[f32]) {
        for block in row.chunks(BLOCK) {
            let largest = block.iter().fold(0f32, |m, x| m.max(x.abs()));
            let (scale, steps) = if block.iter().any(|x| x.is_nan()) {
                (f32::NAN, 0.0) // none that the others could be told from: a broken model is to be noticed
            } else if largest < SMALLEST {
                (0.0, 0.0)
            } else {
                (largest / 127.0, 127.0 / largest)
            };
            self.scales.push(scale);
            let quants = block.iter().map(|x| (x * steps).round_ties_even().clamp(-127.0, 127.0) as i8);
            self.quants.extend(quants);
        }
    }

    /// Block by block; `start` and the end of `out` may lie within one.
    fn read(&self, start: usize, mut out: &mut [f32]) {
        let mut at = start;
        while !out.is_empty() {
            let in_block = at % self.width % BLOCK;
            let left = (BLOCK - in_block).min(self.width - at % self.width).min(out.len());
            let (some, rest) = std::mem::take(&mut out).split_at_mut(left);
            let scale = self.scale(at);
            for (o, &q) in some.iter_mut().zip(&self.quants[at..at + left]) {
                *o = scale * f32::from(q);
            }
            (at, out) = (at + left, rest);
        }
    }

    fn scale(&self, at: usize) -> f32 {
        self.scales[at / self.width * self.width.div_ceil(BLOCK) + at % self.width / BLOCK]
    }
}

impl Kv {
    /// None yet; a token will add `width` elements.
    pub(super) fn new(ty: KvType, width: u32) -> Kv {
        match ty {
            KvType::F32 => Kv::F32(Vec::new()),
            KvType::F16 => Kv::F16(Vec::new()),
            KvType::Q8_0 => Kv::Q8_0(Blocks {
                quants: Vec::new(),
                scales: Vec::new(),
                width: width as usize,
            }),
        }
    }

    /// Elements of all tokens.
    pub(super) fn len(&self) -> usize {
        match self {
            Kv::F32(v) => v.len(),
            Kv::F16(v) => v.len(),
            Kv::Q8_0(b) => b.quants.len(),
        }
    }

    /// Appends one token's row.
    pub(super) fn push(&mut self, row: &[f32]) {
        match self {
            Kv::F32(v) => v.extend_from_slice(row),
            Kv::F16(v) => v.extend(row.iter().map(|&x| half::f16::from_f32(x))),
            Kv::Q8_0(b) => b.push(row),
        }
    }

    /// Keeps the first `len` elements, whole rows.
    pub(super) fn truncate(&mut self, len: usize) {
        match self {
            Kv::F32(v) => v.truncate(len),
            Kv::F16(v) => v.truncate(len),
            Kv::Q8_0(b) => {
                b.quants.truncate(len);
                b.scales.truncate(len / b.width * b.width.div_ceil(BLOCK));
            }
        }
    }

    pub(super) fn try_reserve(&mut self, additional: usize) -> bool {
        match self {
            Kv::F32(v) => v.try_reserve(additional).is_ok(),
            Kv::F16(v) => v.try_reserve(additional).is_ok(),
            Kv::Q8_0(b) => {
                let scales = additional / b.width * b.width.div_ceil(BLOCK);
                b.quants.try_reserve(additional).is_ok() && b.scales.try_reserve(scales).is_ok()
            }
        }
    }

    /// Elements from `start` on, as many as `scratch` has: where they lie, or widened into it.
    #[inline]
    pub fn row<'a>(&'a self, start: usize, scratch: &'a mut [f32]) -> &'a [f32] {
        match self {
            Kv::F32(v) => &v[start..start + scratch.len()],
            Kv::F16(v) => {
                let v = &v[start..start + scratch.len()];
                for (o, &x) in scratch.iter_mut().zip(v) {
                    *o = widen(x);
                }
                scratch
            }
            Kv::Q8_0(b) => {
                b.read(start, scratch);
                scratch
            }
        }
    }

    /// Widens `out.len()` elements from `start` on.
    pub fn read(&self, start: usize, out: &mut [f32]) {
        match self {
            Kv::F32(v) => out.copy_from_slice(&v[start..start + out.len()]),
            Kv::F16(v) => {
                for (o, x) in out.iter_mut().zip(&v[start..]) {
                    *o = x.to_f32();
                }
            }
            Kv::Q8_0(b) => {
                for (at, o) in (start..).zip(out) {
                    *o = b.scale(at) * f32::from(b.quants[at]);
                }
            }
        }
    }
}
