//! Random weights of a sane size, for measuring speed: what a model computes with them means nothing, but is finite.

use crate::gguf::{GgmlType, Gguf, TensorInfo};

/// Bytes of one piece.
const PIECE: usize = 4 << 20;

/// The tensor data of a [`super::Shape`]'s header, in order: pieces of at most 4 MiB with their offset in the file.
pub fn feed(gguf: &Gguf) -> Feed<'_> {
    let mut order: Vec<&TensorInfo> = gguf.tensors.iter().collect();
    order.sort_by_key(|t| std::cmp::Reverse(t.offset));
    Feed {
        left: order,
        done: 0,
        piece: Vec::new(),
        at: gguf.data_offset,
    }
}

/// See [`feed`].
pub struct Feed<'a> {
    /// Tensors to come, the next last.
    left: Vec<&'a TensorInfo>,
    /// Bytes of the next tensor that are out.
    done: u64,
    /// Made once for each tensor and repeated: it is read from different addresses all the same.
    piece: Vec<u8>,
    at: u64,
}

impl Feed<'_> {
    /// The next piece: its offset in the file and its bytes.
    #[allow(clippy::should_implement_trait, reason = "it lends its own buffer")]
    pub fn next(&mut self) -> Option<(u64, &[u8])> {
        let t = *self.left.last()?;
        let offset = self.at;
        if offset < t.offset {
            // The gap that alignment leaves.
            self.at = t.offset;
            return Some((offset, &[0; 64][..(t.offset - offset) as usize]));
        }
        if self.done == 0 {
            let block = t.ty.block_bytes();
            fill(t, (PIECE / block * block).min(t.size as usize), &mut self.piece);
        }
        let now = (t.size - self.done).min(self.piece.len() as u64);
        self.done += now;
        self.at += now;
        if self.done == t.size {
            self.done = 0;
            self.left.pop();
        }
        Some((offset, &self.piece[..now as usize]))
    }
}

/// `xorshift64*` of Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled", 2016.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    /// In `[0, 1)`.
    fn f32(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 24) as f32
    }
}

fn fill(t: &TensorInfo, len: usize, out: &mut Vec<u8>) {
    let mut random = Random(t.offset | 1);
    out.clear();
    if t.ty == GgmlType::F32 {
        while out.len() < len {
            let u = random.f32();
            let v: f32 = match t.name.rsplit('.').find(|s| s.starts_with("ssm")).unwrap_or("norm") {
                "ssm_a" => -16.0 * u - 0.5,
                "ssm_dt" => -6.0 + 3.0 * u,
                "ssm_conv1d" => u - 0.5,
                _ => 0.5 + u,
            };
            out.extend(v.to_le_bytes());
        }
        return;
    }
    while out.len() < len {
        out.extend(random.next().to_le_bytes());
    }
    out.truncate(len);
    // All scales alike, so that rows have the length 1 that trained ones have about: q is uniform, with the deviation below.
    let std = if t.name == "token_embd.weight" {
        0.05
    } else {
        (t.n_cols() as f32).sqrt().recip()
    };
    for block in out.chunks_exact_mut(t.ty.block_bytes()) {
        match t.ty {
            GgmlType::Q4_K => {
                // Scale and min 40 in all eight sub-blocks; q in 0..16 deviates by 4.61 around 7.5.
                let d = std / (40.0 * 4.61);
                block[..2].copy_from_slice(&half::f16::from_f32(d).to_le_bytes());
                block[2..4].copy_from_slice(&half::f16::from_f32(7.5 * d).to_le_bytes());
                block[4..12].fill(40 | 0x80);
                block[12..16].fill(0x88);
            }
            _ => {
                // Scale 64; q in -32..32 deviates by 18.47.
                block[192..208].fill(64);
                block[208..].copy_from_slice(&half::f16::from_f32(std / (64.0 * 18.47)).to_le_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Shape;
    use super::*;
    use crate::gguf::{HeaderReader, quant};

    /// Rows of every tensor have about the length that was meant, and what is pushed is one file without holes.
    #[test]
    fn weights_are_sane() {
        let header = Shape::H350m.header();
        let gguf = HeaderReader::new(None).push(&header).unwrap().unwrap();
        assert_eq!(gguf.data_offset, header.len() as u64);
        let mut at = gguf.data_offset;
        let mut weights = feed(&gguf);
        while let Some((offset, bytes)) = weights.next() {
            assert_eq!(offset, at);
            at += bytes.len() as u64;
        }
        assert_eq!(at, gguf.end());
        for t in gguf.tensors.iter().take(40) {
            let mut bytes = Vec::new();
            fill(t, (t.ty.row_bytes(t.n_cols() as usize)).min(t.size as usize), &mut bytes);
            let mut row = vec![0.0; t.n_cols() as usize];
            quant::dequantize(t.ty, &bytes, &mut row);
            let square = row.iter().map(|v| v * v).sum::<f32>();
            assert!(row.iter().all(|v| v.is_finite()));
            if t.ty != GgmlType::F32 && t.name != "token_embd.weight" {
                assert!((0.8..1.2).contains(&square), "{}: {square}", t.name);
            }
        }
    }
}
