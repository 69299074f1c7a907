//! The table of kernels: which shader pieces make each, and what it binds.
//!
//! Shaders are plain WGSL files, concatenated: WGSL allows any order of declarations, so a choice is a *piece* and never an
//! `#ifdef`. Sizes of a model come in uniforms; those that a compiler can use are pipeline constants (`override`), and the length of
//! a register array, which no override may be, is written as a one-line piece.
//!
//! Every kernel binds group 0: storage buffers from 0 on, its step's parameters at 8, the pass's at 9.

use super::{
    forms::{Constants, MatmulForm, MatvecForm, Shape},
    pieces::{Floats, kv, quant, shader},
};
use crate::{backend::KvType, gguf::GgmlType};
use std::fmt::Write;

/// Binding of a step's own parameters.
pub(super) const STEP: u32 = 8;
/// Binding of [`super::uniforms::Run`].
pub(super) const RUN: u32 = 9;

/// Widths of a workgroup of the chunked recurrence, in quads of channels: heads of up to 32, and wider ones.
pub(super) const SSD_QUADS: [u32; 2] = [8, 16];

/// One compiled shader: what it computes is said at the top of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    Embed(GgmlType),
    Matvec(GgmlType, MatvecForm, Shape),
    Few(GgmlType, MatmulForm, Shape),
    Matmul(GgmlType, MatmulForm, Shape),
    Glu,
    GroupNorm,
    /// With its `d_state`, as the two below.
    MambaStep(u32),
    MambaConv(u32),
    MambaScan(u32),
    /// The chunked recurrence, in four steps.
    SsdCb(u32),
    /// With its `d_state` and the quads of channels of a workgroup.
    SsdState(u32, u32),
    SsdPass(u32),
    SsdOut(u32, u32),
    KvAppend(KvType),
    Attend(KvType),
    AttendBatch(KvType),
    AttendJoin,
    Argmax,
    ArgmaxJoin,
    Greedy,
    /// The four stages of a draw.
    SampleMax,
    SampleBins,
    SampleCut,
    SampleDraw,
    /// The likeliest tokens, in two stages.
    LikelyParts,
    LikelyJoin,
    /// For measuring only.
    Copy,
}

/// What a kernel does with a storage buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

impl Kernel {
    /// Every kernel that a model can ask for, with these state widths.
    pub(super) fn all(d_states: &[u32]) -> Vec<Kernel> {
        let mut all = Vec::new();
        for ty in GgmlType::ALL {
            all.push(Kernel::Embed(ty));
            for &shape in Shape::samples(ty) {
                for form in MatvecForm::ALL.into_iter().filter(|f| f.of(ty) == *f) {
                    all.push(Kernel::Matvec(ty, form, shape));
                }
                all.extend([MatmulForm::Base, MatmulForm::Serial].map(|form| Kernel::Few(ty, form, shape)));
                all.extend(MatmulForm::ALL.map(|form| Kernel::Matmul(ty, form, shape)));
            }
        }
        for (&n, quads) in d_states.iter().zip(SSD_QUADS.into_iter().cycle()) {
            all.extend([Kernel::MambaStep(n), Kernel::MambaConv(n), Kernel::MambaScan(n)]);
            all.extend([Kernel::SsdCb(n), Kernel::SsdPass(n)]);
            all.extend([Kernel::SsdState(n, quads), Kernel::SsdOut(n, quads)]);
        }
        for ty in KvType::ALL {
            all.extend([Kernel::KvAppend(ty), Kernel::Attend(ty), Kernel::AttendBatch(ty)]);
        }
        all.extend([
            Kernel::Glu,
            Kernel::GroupNorm,
            Kernel::AttendJoin,
            Kernel::Argmax,
            Kernel::ArgmaxJoin,
            Kernel::Greedy,
            Kernel::SampleMax,
            Kernel::SampleBins,
            Kernel::SampleCut,
            Kernel::SampleDraw,
            Kernel::LikelyParts,
            Kernel::LikelyJoin,
            Kernel::Copy,
        ]);
        all
    }

    /// A name for people and files: `matvec_q4_k_64_norm`, `mamba_step_128`.
    pub(super) fn name(self) -> String {
        let ty = |ty: GgmlType| ty.to_string().to_lowercase();
        let kv = |ty: KvType| format!("{ty:?}").to_lowercase();
        match self {
            Kernel::Embed(t) => format!("embed_{}", ty(t)),
            Kernel::Matvec(t, form, shape) => format!("matvec{}_{}_{}", form.name(), ty(t), shape.name()),
            Kernel::Few(t, form, shape) => format!("few{}_{}_{}", form.name(), ty(t), shape.name()),
            Kernel::Matmul(t, form, shape) => format!("matmul{}_{}_{}", form.name(), ty(t), shape.name()),
            Kernel::Glu => "glu".into(),
            Kernel::GroupNorm => "group_norm".into(),
            Kernel::MambaStep(n) => format!("mamba_step_{n}"),
            Kernel::MambaConv(n) => format!("mamba_conv_{n}"),
            Kernel::MambaScan(n) => format!("mamba_scan_{n}"),
            Kernel::SsdCb(n) => format!("mamba_ssd_cb_{n}"),
            Kernel::SsdState(n, quads) => format!("mamba_ssd_state_{n}_{quads}"),
            Kernel::SsdPass(n) => format!("mamba_ssd_pass_{n}"),
            Kernel::SsdOut(n, quads) => format!("mamba_ssd_out_{n}_{quads}"),
            Kernel::KvAppend(t) => format!("kv_append_{}", kv(t)),
            Kernel::Attend(t) => format!("attend_{}", kv(t)),
            Kernel::AttendBatch(t) => format!("attend_batch_{}", kv(t)),
            Kernel::AttendJoin => "attend_join".into(),
            Kernel::Argmax => "argmax".into(),
            Kernel::ArgmaxJoin => "argmax_join".into(),
            Kernel::Greedy => "greedy".into(),
            Kernel::SampleMax => "sample_max".into(),
            Kernel::SampleBins => "sample_bins".into(),
            Kernel::SampleCut => "sample_cut".into(),
            Kernel::SampleDraw => "sample_draw".into(),
            Kernel::LikelyParts => "likely_parts".into(),
            Kernel::LikelyJoin => "likely_join".into(),
            Kernel::Copy => "copy".into(),
        }
    }

    /// What chooses the token of a reply, which is in no pass.
    pub(super) fn choosing(greedy: bool) -> Vec<Kernel> {
        use Kernel::{Greedy, SampleBins, SampleCut, SampleDraw, SampleMax};
        match greedy {
            true => vec![Greedy],
            false => vec![SampleMax, SampleBins, SampleCut, SampleDraw],
        }
    }

    /// The whole WGSL module; its entry point is `main`. Tint wants to read that subgroups are used, naga cannot read it yet.
    pub(super) fn source_for(self, tint: bool) -> String {
        let enable = tint && self.needs().contains(wgpu::Features::SUBGROUP);
        let directive = if enable { "enable subgroups;\n" } else { "" };
        directive.to_owned() + &self.source()
    }

    /// The module without directives.
    pub(super) fn source(self) -> String {
        let mut out = String::new();
        let pieces: Vec<&str> = match self {
            Kernel::Embed(t) => [quant(t, Floats::Bytes), vec![shader!("embed")]].concat(),
            Kernel::Matvec(t, form, _) => {
                let (how, main): (_, &[_]) = match form {
                    MatvecForm::Base => (Floats::Bytes, &[shader!("join"), shader!("matvec")]),
                    MatvecForm::Subgroups => (Floats::Bytes, &[shader!("matvec_subgroups")]),
                    MatvecForm::Serial => (Floats::Masked, &[shader!("matvec_serial")]),
                    MatvecForm::Packed => (Floats::Bytes, &[shader!("join"), shader!("matvec_packed")]),
                };
                [
                    quant(t, how),
                    vec![shader!("math"), shader!("product"), shader!("rows8")],
                    main.to_vec(),
                ]
                .concat()
            }
            Kernel::Few(t, form, _) => {
                let threads = match form {
                    MatmulForm::Serial => shader!("few_serial"),
                    _ => shader!("few_lanes"),
                };
                let own = vec![shader!("math"), shader!("product"), shader!("few"), threads];
                [quant(t, Floats::Bytes), own].concat()
            }
            Kernel::Matmul(t, form, _) => {
                let own = match form {
                    MatmulForm::Base => vec![shader!("tile_f32"), shader!("matmul")],
                    MatmulForm::Serial => vec![shader!("serial")],
                    MatmulForm::F16 => {
                        out.push_str("enable f16;\n");
                        vec![shader!("tile_f16"), shader!("matmul")]
                    }
                };
                [quant(t, Floats::Bytes), vec![shader!("math"), shader!("product")], own].concat()
            }
            Kernel::Glu => vec![shader!("run"), shader!("math"), shader!("glu")],
            Kernel::GroupNorm => vec![shader!("run"), shader!("group_norm")],
            Kernel::MambaStep(n)
            | Kernel::MambaConv(n)
            | Kernel::MambaScan(n)
            | Kernel::SsdCb(n)
            | Kernel::SsdState(n, _)
            | Kernel::SsdPass(n)
            | Kernel::SsdOut(n, _) => {
                writeln!(out, "const D_STATE: u32 = {n}u;").expect("writing to a String");
                if let Kernel::SsdState(_, quads) | Kernel::SsdOut(_, quads) = self {
                    writeln!(out, "const QUADS: u32 = {quads}u;").expect("writing to a String");
                }
                let own: &[&str] = match self {
                    Kernel::MambaStep(_) => &[shader!("mamba_step")],
                    Kernel::MambaConv(_) => &[shader!("mamba_conv")],
                    Kernel::SsdCb(_) => &[shader!("mamba_ssd"), shader!("mamba_ssd_cb")],
                    Kernel::SsdState(..) => &[shader!("mamba_ssd"), shader!("mamba_ssd_state")],
                    Kernel::SsdPass(_) => &[shader!("mamba_ssd"), shader!("mamba_ring"), shader!("mamba_ssd_pass")],
                    Kernel::SsdOut(..) => &[shader!("mamba_ssd"), shader!("mamba_ssd_out")],
                    _ => &[shader!("mamba_ring"), shader!("mamba_scan")],
                };
                [&[shader!("run"), shader!("math"), shader!("mamba")], own].concat()
            }
            Kernel::KvAppend(t) => vec![
                shader!("run"),
                shader!("half"),
                kv(t),
                shader!("attention"),
                match t {
                    KvType::F32 | KvType::F16 => shader!("kv_append"),
                    KvType::Q8_0 => shader!("kv_append_q8_0"),
                },
            ],
            Kernel::Attend(t) => vec![
                shader!("run"),
                shader!("half"),
                kv(t),
                shader!("attention"),
                shader!("attend"),
            ],
            Kernel::AttendBatch(t) => vec![
                shader!("run"),
                shader!("half"),
                kv(t),
                shader!("attention"),
                shader!("attend_softmax"),
                shader!("attend_batch"),
            ],
            Kernel::AttendJoin => vec![shader!("run"), shader!("attention"), shader!("attend_join")],
            Kernel::Argmax => vec![shader!("run"), shader!("best"), shader!("argmax")],
            Kernel::ArgmaxJoin => vec![shader!("best"), shader!("argmax_join")],
            Kernel::Greedy => vec![
                shader!("choice"),
                shader!("tape"),
                shader!("reply"),
                shader!("best"),
                shader!("greedy"),
            ],
            Kernel::LikelyParts => vec![shader!("run"), shader!("likely"), shader!("likely_parts")],
            Kernel::LikelyJoin => vec![shader!("run"), shader!("tape"), shader!("likely"), shader!("likely_join")],
            Kernel::SampleMax => vec![shader!("run"), shader!("choice"), shader!("sample"), shader!("sample_max")],
            Kernel::SampleBins => vec![
                shader!("run"),
                shader!("choice"),
                shader!("wide"),
                shader!("sample"),
                shader!("sample_bins"),
            ],
            Kernel::SampleCut => vec![
                shader!("run"),
                shader!("choice"),
                shader!("wide"),
                shader!("sample"),
                shader!("cuts"),
                shader!("sample_cut"),
            ],
            Kernel::SampleDraw => vec![
                shader!("choice"),
                shader!("tape"),
                shader!("reply"),
                shader!("wide"),
                shader!("sample"),
                shader!("cuts"),
                shader!("select"),
                shader!("draw"),
                shader!("sample_draw"),
            ],
            Kernel::Copy => vec![shader!("copy")],
        };
        for piece in pieces {
            out.push_str(piece);
            out.push('\n');
        }
        out
    }

    /// Its storage buffers, from binding 0 on.
    pub(super) fn storage(self) -> &'static [Access] {
        use Access::{Read, Write};
        match self {
            Kernel::Embed(_) => &[Read, Read, Write],
            Kernel::Matvec(..) | Kernel::Few(..) | Kernel::Matmul(..) => &[Read, Read, Read, Write],
            Kernel::Glu => &[Write, Read],
            Kernel::GroupNorm => &[Write, Read],
            Kernel::MambaStep(_) => &[Read, Read, Write, Write, Write],
            Kernel::MambaConv(_) => &[Read, Read, Read, Write],
            Kernel::MambaScan(_) => &[Read, Read, Read, Write, Write, Write],
            Kernel::SsdCb(_) | Kernel::SsdState(..) => &[Read, Read, Read, Write],
            Kernel::SsdPass(_) => &[Read, Read, Read, Write, Write, Write],
            Kernel::SsdOut(..) => &[Read, Read, Read, Read, Write],
            Kernel::KvAppend(_) => &[Read, Write, Write],
            Kernel::Attend(_) => &[Read, Read, Read, Write, Write],
            Kernel::AttendBatch(_) => &[Read, Read, Read, Write],
            Kernel::AttendJoin => &[Read, Read, Write],
            Kernel::Argmax => &[Read, Write],
            Kernel::ArgmaxJoin | Kernel::Copy => &[Read, Write],
            Kernel::Greedy => &[Write, Write, Write, Read, Read],
            Kernel::LikelyParts => &[Read, Write],
            Kernel::LikelyJoin => &[Read, Read, Write],
            Kernel::SampleMax => &[Read, Read, Read, Write, Write],
            Kernel::SampleBins => &[Read, Write, Write],
            Kernel::SampleCut => &[Read, Read, Write],
            Kernel::SampleDraw => &[Write, Write, Write, Read, Write, Read, Write, Read],
        }
    }

    /// The values of its `override` declarations.
    pub(super) fn constants(self) -> Constants {
        match self {
            Kernel::Matvec(ty, form, shape) => [shape.constants(), form.constants(ty, shape)].concat(),
            Kernel::Few(.., shape) | Kernel::Matmul(.., shape) => shape.constants(),
            _ => Vec::new(),
        }
    }

    /// What a device must have been opened with.
    pub(super) fn needs(self) -> wgpu::Features {
        match self {
            Kernel::Matvec(_, form, _) => form.needs(),
            Kernel::Matmul(_, form, ..) => form.needs(),
            _ => wgpu::Features::empty(),
        }
    }

    pub(super) fn shader(self) -> Shader {
        Shader {
            name: self.name(),
            source: self.source_for(true),
            constants: self.constants(),
            features: self.needs().iter().filter_map(|f| f.as_str()).collect(),
            read_only: self.storage().iter().map(|a| *a == Access::Read).collect(),
        }
    }

    /// Whether it reads the pass's uniform. One that writes the `Run`s cannot have them as a uniform too.
    pub(super) fn has_run(self) -> bool {
        !matches!(self, Kernel::Greedy | Kernel::SampleDraw)
    }
}

/// One composed shader, for tests and tools that validate WGSL.
#[derive(Debug, Clone)]
pub struct Shader {
    /// `matvec_q4_k_64_norm`, ..
    pub name: String,
    /// The whole module; its entry point is `main`.
    pub source: String,
    /// Values of its `override` declarations.
    pub constants: Vec<(&'static str, f64)>,
    /// What the device must have been opened with, in WebGPU's names.
    pub features: Vec<&'static str>,
    /// For each storage buffer from binding 0 on: is it only read? Uniforms stand at bindings 8 and 9.
    pub read_only: Vec<bool>,
}

/// Every shader that a model can ask for, with the state widths of known models and some odd ones.
pub fn shaders() -> Vec<Shader> {
    Kernel::all(&[1, 16, 64, 100, 128, 256])
        .into_iter()
        .map(Kernel::shader)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use naga::valid::{Capabilities, ValidationFlags, Validator};

    /// What naga must be allowed for a kernel.
    fn capabilities(kernel: Kernel) -> Capabilities {
        let mut allowed = Capabilities::empty();
        allowed.set(
            Capabilities::SHADER_FLOAT16,
            kernel.needs().contains(wgpu::Features::SHADER_F16),
        );
        allowed.set(Capabilities::SUBGROUP, kernel.needs().contains(wgpu::Features::SUBGROUP));
        allowed
    }

    /// `None` if the constants are exactly the shader's own and it is valid with them.
    fn with_constants(kernel: Kernel, module: &naga::Module, info: &naga::valid::ModuleInfo) -> Option<String> {
        let table = kernel.constants();
        let mut ours: Vec<_> = table.iter().map(|c| c.0.to_owned()).collect();
        let mut declared: Vec<_> = module.overrides.iter().filter_map(|(_, o)| o.name.clone()).collect();
        ours.sort();
        declared.sort();
        if ours != declared {
            return Some(format!("overrides {declared:?}, the table says {ours:?}"));
        }
        let values = table.into_iter().map(|(name, v)| (name.to_owned(), v)).collect();
        // Validates what it makes.
        naga::back::pipeline_constants::process_overrides(module, info, None, &values)
            .err()
            .map(|e| format!("{e:?}"))
    }

    /// Valid WGSL with no optional feature but those that the table names; bindings and constants are the table's too.
    #[test]
    fn every_kernel_validates() {
        let mut failed = Vec::new();
        for kernel in Kernel::all(&[1, 16, 64, 100, 128, 256]) {
            let source = kernel.source();
            let module = match naga::front::wgsl::parse_str(&source) {
                Ok(m) => m,
                Err(e) => {
                    failed.push(format!("{}: {}", kernel.name(), e.emit_to_string(&source)));
                    continue;
                }
            };
            match Validator::new(ValidationFlags::all(), capabilities(kernel)).validate(&module) {
                Err(e) => failed.push(format!("{}: {}", kernel.name(), e.emit_to_string(&source))),
                Ok(info) => failed.extend(with_constants(kernel, &module, &info).map(|e| format!("{}: {e}", kernel.name()))),
            }
            let mut bound: Vec<_> = module
                .global_variables
                .iter()
                .filter_map(|(_, v)| {
                    let binding = v.binding.as_ref()?.binding;
                    match v.space {
                        naga::AddressSpace::Storage { access } => {
                            let write = access.contains(naga::StorageAccess::STORE);
                            Some((binding, if write { Access::Write } else { Access::Read }))
                        }
                        _ => None,
                    }
                })
                .collect();
            bound.sort_by_key(|b| b.0);
            let table: Vec<_> = (0..).zip(kernel.storage().iter().copied()).collect();
            if bound != table {
                failed.push(format!("{}: binds {bound:?}, the table says {table:?}", kernel.name()));
            }
        }
        assert!(failed.is_empty(), "{}", failed.join("\n"));
    }
}
