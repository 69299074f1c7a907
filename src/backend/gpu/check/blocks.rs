//! Numbers of no meaning, the same on every device and at every load.

use crate::gguf::GgmlType;

/// A linear congruential generator (Knuth's constants); its upper bits are good enough to tell kernels apart.
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    fn next(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// In `[low, high)`.
    pub(super) fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * (self.next() >> 8) as f32 / (1 << 24) as f32
    }
}

/// Rows that only a kernel which honours f16 subnormals gets right: every third.
pub(super) fn is_faint(row: usize) -> bool {
    row % 3 == 2
}

/// `n_rows` rows of blocks: random bytes, scales of up to 0.02, in faint rows subnormal ones of either sign.
pub(super) fn rows(ty: GgmlType, n_rows: u32, n_cols: u32, rng: &mut Rng) -> Vec<u8> {
    let n_blocks = n_cols as usize / ty.block_len();
    let mut out = Vec::with_capacity(n_rows as usize * ty.row_bytes(n_cols as usize));
    for row in 0..n_rows as usize {
        let half = |rng: &mut Rng| match is_faint(row) {
            true => (rng.next() % 1023 + 1) as u16 | (rng.next() & 0x8000) as u16,
            false => half::f16::from_f32(rng.between(-0.02, 0.02)).to_bits(),
        };
        for _ in 0..n_blocks {
            let at = out.len();
            match ty {
                GgmlType::F32 => out.extend(rng.between(-1.0, 1.0).to_le_bytes()),
                GgmlType::BF16 => out.extend(half::bf16::from_f32(rng.between(-1.0, 1.0)).to_le_bytes()),
                GgmlType::F16 => out.extend(half(rng).to_le_bytes()),
                _ => out.extend((0..ty.block_bytes()).map(|_| (rng.next() >> 24) as u8)),
            }
            for &scale in ty.scales() {
                out[at + scale..][..2].copy_from_slice(&half(rng).to_le_bytes());
            }
        }
    }
    out
}
