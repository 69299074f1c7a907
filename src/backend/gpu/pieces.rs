//! WGSL pieces that several kernels are made of: those of weight formats and of caches.

use crate::{backend::KvType, gguf::GgmlType};

/// A file of shaders/, without its ending.
macro_rules! shader {
    ($name:literal) => {
        include_str!(concat!("../../../shaders/", $name, ".wgsl"))
    };
}
pub(super) use shader;

/// How quants that are bytes become floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Floats {
    /// One by one.
    Bytes,
    /// Left in their places (masked.wgsl); the kernel multiplies x by `PLACE`.
    Masked,
}

/// Decoding of a weight format: what chunk.wgsl lists.
pub(super) fn quant(ty: GgmlType, how: Floats) -> Vec<&'static str> {
    use GgmlType::*;
    let own: &[&str] = match ty {
        F32 => &[shader!("quant/linear"), shader!("quant/plain"), shader!("quant/f32")],
        F16 => &[shader!("quant/linear"), shader!("quant/plain"), shader!("quant/f16")],
        BF16 => &[shader!("quant/linear"), shader!("quant/plain"), shader!("quant/bf16")],
        Q4_0 => &[shader!("quant/linear"), shader!("quant/scaled"), shader!("quant/q4_0")],
        Q4_1 => &[shader!("quant/linear"), shader!("quant/shifted"), shader!("quant/q4_1")],
        Q5_0 => &[
            shader!("quant/linear"),
            shader!("quant/scaled"),
            shader!("quant/fifth"),
            shader!("quant/q5_0"),
        ],
        Q5_1 => &[
            shader!("quant/linear"),
            shader!("quant/shifted"),
            shader!("quant/fifth"),
            shader!("quant/q5_1"),
        ],
        Q8_0 => &[shader!("quant/linear"), shader!("quant/scaled"), shader!("quant/q8_0")],
        Q2_K => &[shader!("quant/pairs"), shader!("quant/q2_k")],
        Q3_K => &[shader!("quant/pairs"), shader!("quant/q3_k")],
        Q4_K => &[shader!("quant/k_scales"), shader!("quant/q4_k")],
        Q5_K => &[shader!("quant/k_scales"), shader!("quant/q5_k")],
        Q6_K => &[shader!("quant/q6_k")],
    };
    let floats: &[&str] = match (ty, how) {
        (F32 | F16 | BF16, Floats::Bytes) => &[],
        (F32 | F16 | BF16, Floats::Masked) => &[shader!("quant/unmasked")],
        (Q8_0, Floats::Bytes) => &[shader!("quant/quads"), shader!("quant/signed")],
        (Q8_0, Floats::Masked) => &[shader!("quant/quads"), shader!("quant/signed"), shader!("quant/unmasked")],
        (_, Floats::Bytes) => &[shader!("quant/quads"), shader!("quant/bytes")],
        (_, Floats::Masked) => &[shader!("quant/quads"), shader!("quant/masked")],
    };
    [&[shader!("run"), shader!("half"), shader!("quant/chunk")], own, floats].concat()
}

pub(super) fn kv(ty: KvType) -> &'static str {
    match ty {
        KvType::F32 => shader!("kv/f32"),
        KvType::F16 => shader!("kv/f16"),
        KvType::Q8_0 => shader!("kv/q8_0"),
    }
}
