//! The parameters of a step as its shader reads them. A test compares every layout with the WGSL struct of the same name.

use bytemuck::{Pod, Zeroable};

/// `Run` of run.wgsl.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
pub(super) struct Run {
    pub(super) n: u32,
    pub(super) pos: u32,
    pub(super) row0: u32,
    pub(super) pad: u32,
}

/// `Product` of product.wgsl.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
pub(super) struct Product {
    pub(super) n_rows: u32,
    pub(super) x_stride: u32,
    pub(super) y_stride: u32,
    pub(super) y_col: u32,
    pub(super) gamma: u32,
    pub(super) scale: f32,
    pub(super) eps: f32,
    pub(super) pad: u32,
    pub(super) seg_end: [u32; 4],
    pub(super) planes: [[u32; 4]; 4],
}

/// `Embed` of embed.wgsl.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
pub(super) struct Embed {
    pub(super) n_chunks: u32,
    pub(super) x_stride: u32,
    pub(super) row0: u32,
    pub(super) n_rows: u32,
    pub(super) scale: f32,
    pub(super) pad: [u32; 3],
    pub(super) planes: [u32; 4],
}

/// `Glu` of glu.wgsl.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
pub(super) struct Glu {
    pub(super) n_ff: u32,
    pub(super) h_stride: u32,
    pub(super) up_stride: u32,
}

/// `GroupNorm` of group_norm.wgsl.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
pub(super) struct GroupNorm {
    pub(super) n_cols: u32,
    pub(super) n_group: u32,
    pub(super) y_stride: u32,
    pub(super) gamma: u32,
    pub(super) eps: f32,
}

/// `Mamba` of mamba.wgsl.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
pub(super) struct Mamba {
    pub(super) n_head: u32,
    pub(super) d_head: u32,
    pub(super) n_group: u32,
    pub(super) d_conv: u32,
    pub(super) p_stride: u32,
    pub(super) y_stride: u32,
    pub(super) mixed_stride: u32,
    pub(super) conv_w: u32,
    pub(super) conv_b: u32,
    pub(super) dt_bias: u32,
    pub(super) a: u32,
    pub(super) d: u32,
}

/// `Attention` of attention.wgsl.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
pub(super) struct Attention {
    pub(super) n_head: u32,
    pub(super) n_head_kv: u32,
    pub(super) d_head: u32,
    pub(super) qkv_stride: u32,
    pub(super) y_stride: u32,
    pub(super) scale: f32,
    pub(super) head_kv0: u32,
}

/// `Argmax` of argmax.wgsl.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
pub(super) struct Argmax {
    pub(super) n_vocab: u32,
    pub(super) n_part: u32,
}

/// `Tape` of tape.wgsl.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub(super) struct Tape {
    pub(super) made: u32,
    pub(super) broken: u32,
    pub(super) pad: [u32; 2],
    pub(super) ids: [u32; 64],
    pub(super) logits: [f32; 64],
}

/// `Places` of likely.wgsl; `best` is the logit's bits and the id.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub(super) struct Places {
    pub(super) top: f32,
    pub(super) sum: f32,
    pub(super) best: [[u32; 2]; 20],
}

/// `Choice` of choice.wgsl.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub(super) struct Choice {
    pub(super) n_stop: u32,
    pub(super) stop: [u32; 28],
    pub(super) penalties: u32,
    pub(super) temperature: f32,
    pub(super) top_k: u32,
    pub(super) top_p: f32,
    pub(super) min_p: f32,
    pub(super) repetition: f32,
    pub(super) frequency: f32,
    pub(super) presence: f32,
    pub(super) last_n: u32,
    pub(super) n_prompt: u32,
    pub(super) seed_lo: u32,
    pub(super) seed_hi: u32,
    pub(super) likely: u32,
}

/// `Sample` of sample.wgsl.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
pub(super) struct Sample {
    pub(super) n_vocab: u32,
    pub(super) n_part: u32,
}

#[cfg(test)]
mod tests {
    use super::super::{
        forms::{MatvecForm, Shape},
        kernels::Kernel,
    };
    use super::*;
    use crate::{backend::KvType, gguf::GgmlType};
    use std::mem::offset_of;

    /// Offsets of the WGSL struct called `name`, by member.
    fn wgsl(kernel: Kernel, name: &str) -> Vec<(String, u32)> {
        let module = naga::front::wgsl::parse_str(&kernel.source()).unwrap();
        let (_, ty) = module.types.iter().find(|(_, t)| t.name.as_deref() == Some(name)).unwrap();
        let naga::TypeInner::Struct { members, .. } = &ty.inner else {
            panic!("{name} is not a struct")
        };
        members.iter().map(|m| (m.name.clone().unwrap(), m.offset)).collect()
    }

    macro_rules! same {
        ($kernel:expr, $ty:ident { $($field:ident),* }) => {
            let ours = [$((stringify!($field).to_owned(), offset_of!($ty, $field) as u32)),*];
            assert_eq!(wgsl($kernel, stringify!($ty)), ours);
        };
    }

    #[test]
    fn layouts_are_the_shaders_own() {
        same!(Kernel::Glu, Run { n, pos, row0, pad });
        same!(
            Kernel::Matvec(GgmlType::F32, MatvecForm::Base, Shape::default()),
            Product {
                n_rows,
                x_stride,
                y_stride,
                y_col,
                gamma,
                scale,
                eps,
                seg_end,
                planes
            }
        );
        same!(
            Kernel::Embed(GgmlType::F32),
            Embed {
                n_chunks,
                x_stride,
                row0,
                n_rows,
                scale,
                planes
            }
        );
        same!(
            Kernel::Glu,
            Glu {
                n_ff,
                h_stride,
                up_stride
            }
        );
        same!(
            Kernel::GroupNorm,
            GroupNorm {
                n_cols,
                n_group,
                y_stride,
                gamma,
                eps
            }
        );
        same!(
            Kernel::MambaStep(64),
            Mamba {
                n_head,
                d_head,
                n_group,
                d_conv,
                p_stride,
                y_stride,
                mixed_stride,
                conv_w,
                conv_b,
                dt_bias,
                a,
                d
            }
        );
        same!(
            Kernel::Attend(KvType::F32),
            Attention {
                n_head,
                n_head_kv,
                d_head,
                qkv_stride,
                y_stride,
                scale,
                head_kv0
            }
        );
        same!(Kernel::Argmax, Argmax { n_vocab, n_part });
        same!(Kernel::ArgmaxJoin, Argmax { n_vocab, n_part });
        same!(Kernel::Greedy, Argmax { n_vocab, n_part });
        same!(Kernel::Greedy, Run { n, pos, row0, pad });
        same!(
            Kernel::Greedy,
            Tape {
                made,
                broken,
                pad,
                ids,
                logits
            }
        );
        same!(Kernel::LikelyJoin, Places { top, sum, best });
        same!(Kernel::SampleBins, Sample { n_vocab, n_part });
        same!(
            Kernel::SampleDraw,
            Choice {
                n_stop,
                stop,
                penalties,
                temperature,
                top_k,
                top_p,
                min_p,
                repetition,
                frequency,
                presence,
                last_n,
                n_prompt,
                seed_lo,
                seed_hi,
                likely
            }
        );
    }
}
