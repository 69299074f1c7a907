//! Random weights as bytes: every encoding is reachable, scales are finite and bounded.

use fastrand::Rng;
use half::{bf16, f16};
use outcrop::gguf::GgmlType;

/// Rows whose scales (or halves) are f16 subnormals: every third from the third on.
pub fn is_subnormal_row(row: usize) -> bool {
    row % 3 == 2
}

/// `n_rows` rows of random blocks.
pub fn random(ty: GgmlType, n_rows: usize, n_cols: usize, rng: &mut Rng) -> Vec<u8> {
    let mut out = Vec::with_capacity(n_rows * ty.row_bytes(n_cols));
    let mut block = vec![0; ty.block_bytes()];
    for row in 0..n_rows {
        let half = |rng: &mut Rng| {
            let bits = if is_subnormal_row(row) {
                rng.u16(1..1024) | (rng.u16(..) & 0x8000)
            } else {
                f16::from_f32(rng.f32() * 0.04 - 0.02).to_bits()
            };
            bits.to_le_bytes()
        };
        for _ in 0..n_cols / ty.block_len() {
            rng.fill(&mut block);
            match ty {
                GgmlType::F32 => block.copy_from_slice(&(rng.f32() * 2.0 - 1.0).to_le_bytes()),
                GgmlType::F16 => block.copy_from_slice(&half(rng)),
                GgmlType::BF16 => block.copy_from_slice(&bf16::from_f32(rng.f32() * 2.0 - 1.0).to_le_bytes()),
                _ => {}
            }
            for &at in ty.scales() {
                block[at..at + 2].copy_from_slice(&half(rng));
            }
            out.extend_from_slice(&block);
        }
    }
    out
}

/// F32 rows as bytes.
pub fn f32_rows(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}
