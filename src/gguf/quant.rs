//! ggml's tensor types, the layout of their blocks, and scalar dequantisation: the specification that every kernel is compared with.
//!
//! The code is slow and obvious on purpose. Each element is computed by one f32 expression, in the order of the `gguf` Python
//! package, so the two agree bit for bit (`tests/gguf_quant.rs`). The block structs hold bytes only: alignment 1, so any byte slice
//! can be viewed as blocks.

mod k;
mod simple;

pub use k::{BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5K, BlockQ6K, QK_K, scale_min_k4};
pub use simple::{BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0, QK};

use half::{bf16, f16};

/// A ggml tensor type that this crate can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(non_camel_case_types, missing_docs, reason = "ggml's own spelling")]
pub enum GgmlType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
}

impl GgmlType {
    /// Every type, in the order of the enum.
    pub const ALL: [GgmlType; 13] = {
        use GgmlType::*;
        [F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K]
    };

    /// The number that GGUF files use.
    pub const fn id(self) -> u32 {
        use GgmlType::*;
        match self {
            F32 => 0,
            F16 => 1,
            Q4_0 => 2,
            Q4_1 => 3,
            Q5_0 => 6,
            Q5_1 => 7,
            Q8_0 => 8,
            Q2_K => 10,
            Q3_K => 11,
            Q4_K => 12,
            Q5_K => 13,
            Q6_K => 14,
            BF16 => 30,
        }
    }

    /// The type with ggml's number `id`, if it is one that this crate reads.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|ty| ty.id() == id)
    }

    /// Elements in a block.
    pub const fn block_len(self) -> usize {
        use GgmlType::*;
        match self {
            F32 | F16 | BF16 => 1,
            Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0 => QK,
            Q2_K | Q3_K | Q4_K | Q5_K | Q6_K => QK_K,
        }
    }

    /// Byte offsets of the f16 scales in a block.
    pub const fn scales(self) -> &'static [usize] {
        use GgmlType::*;
        match self {
            F32 | F16 | BF16 => &[],
            Q4_0 | Q5_0 | Q8_0 => &[0],
            Q4_1 | Q5_1 | Q4_K | Q5_K => &[0, 2],
            Q2_K => &[80, 82],
            Q3_K => &[108],
            Q6_K => &[208],
        }
    }

    /// Bytes in a block.
    pub const fn block_bytes(self) -> usize {
        use GgmlType::*;
        match self {
            F32 => 4,
            F16 | BF16 => 2,
            Q4_0 => size_of::<BlockQ4_0>(),
            Q4_1 => size_of::<BlockQ4_1>(),
            Q5_0 => size_of::<BlockQ5_0>(),
            Q5_1 => size_of::<BlockQ5_1>(),
            Q8_0 => size_of::<BlockQ8_0>(),
            Q2_K => size_of::<BlockQ2K>(),
            Q3_K => size_of::<BlockQ3K>(),
            Q4_K => size_of::<BlockQ4K>(),
            Q5_K => size_of::<BlockQ5K>(),
            Q6_K => size_of::<BlockQ6K>(),
        }
    }

    /// Bytes of one row of `n_cols` elements; `n_cols` must be a multiple of [`Self::block_len`].
    pub const fn row_bytes(self, n_cols: usize) -> usize {
        n_cols / self.block_len() * self.block_bytes()
    }
}

impl std::fmt::Display for GgmlType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

/// ggml's name of the type with number `id`, whether this crate reads it or not; for error messages.
///
/// Numbers that ggml has retired (4, 5, 31 to 33, 36 to 38) keep the name that old files mean by them.
pub fn ggml_type_name(id: u32) -> Option<&'static str> {
    const NAMES: [&str; 42] = [
        "F32",
        "F16",
        "Q4_0",
        "Q4_1",
        "Q4_2",
        "Q4_3",
        "Q5_0",
        "Q5_1",
        "Q8_0",
        "Q8_1",
        "Q2_K",
        "Q3_K",
        "Q4_K",
        "Q5_K",
        "Q6_K",
        "Q8_K",
        "IQ2_XXS",
        "IQ2_XS",
        "IQ3_XXS",
        "IQ1_S",
        "IQ4_NL",
        "IQ3_S",
        "IQ2_S",
        "IQ4_XS",
        "I8",
        "I16",
        "I32",
        "I64",
        "F64",
        "IQ1_M",
        "BF16",
        "Q4_0_4_4",
        "Q4_0_4_8",
        "Q4_0_8_8",
        "TQ1_0",
        "TQ2_0",
        "IQ4_NL_4_4",
        "IQ4_NL_4_8",
        "IQ4_NL_8_8",
        "MXFP4",
        "NVFP4",
        "Q1_0",
    ];
    NAMES.get(usize::try_from(id).ok()?).copied()
}

/// Decodes whole blocks: `bytes` holds `out.len() / block_len` of them.
///
/// f16 scales are exact, subnormals included.
///
/// # Panics
///
/// If `out.len()` is not a multiple of the block length, or `bytes.len()` is not what so many blocks take.
pub fn dequantize(ty: GgmlType, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(
        out.len() % ty.block_len(),
        0,
        "{ty} holds whole blocks of {} elements",
        ty.block_len()
    );
    assert_eq!(bytes.len(), ty.row_bytes(out.len()), "bytes of {} {ty} elements", out.len());
    match ty {
        GgmlType::F32 => each(bytes, out, |b: &[u8; 4], y: &mut [f32; 1]| y[0] = f32::from_le_bytes(*b)),
        GgmlType::F16 => each(bytes, out, |b: &[u8; 2], y: &mut [f32; 1]| y[0] = f16_to_f32(*b)),
        GgmlType::BF16 => each(bytes, out, |b: &[u8; 2], y: &mut [f32; 1]| {
            y[0] = bf16::from_le_bytes(*b).to_f32()
        }),
        GgmlType::Q4_0 => each(bytes, out, BlockQ4_0::dequantize),
        GgmlType::Q4_1 => each(bytes, out, BlockQ4_1::dequantize),
        GgmlType::Q5_0 => each(bytes, out, BlockQ5_0::dequantize),
        GgmlType::Q5_1 => each(bytes, out, BlockQ5_1::dequantize),
        GgmlType::Q8_0 => each(bytes, out, BlockQ8_0::dequantize),
        GgmlType::Q2_K => each(bytes, out, BlockQ2K::dequantize),
        GgmlType::Q3_K => each(bytes, out, BlockQ3K::dequantize),
        GgmlType::Q4_K => each(bytes, out, BlockQ4K::dequantize),
        GgmlType::Q5_K => each(bytes, out, BlockQ5K::dequantize),
        GgmlType::Q6_K => each(bytes, out, BlockQ6K::dequantize),
    }
}

/// Exact value of a little-endian f16.
fn f16_to_f32(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32()
}

fn each<B: bytemuck::AnyBitPattern, const N: usize>(bytes: &[u8], out: &mut [f32], f: impl Fn(&B, &mut [f32; N])) {
    for (block, y) in bytemuck::cast_slice(bytes).iter().zip(out.as_chunks_mut::<N>().0) {
        f(block, y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_agree() {
        for ty in GgmlType::ALL {
            assert_eq!(GgmlType::from_id(ty.id()), Some(ty));
            assert_eq!(ggml_type_name(ty.id()), Some(ty.to_string().as_str()));
        }
        assert_eq!(GgmlType::from_id(16), None);
        assert_eq!(ggml_type_name(39), Some("MXFP4"));
        assert_eq!(ggml_type_name(u32::MAX), None);
    }
}
