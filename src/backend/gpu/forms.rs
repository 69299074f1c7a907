//! Which form of a kernel family runs, and what its compiler is told.
//!
//! A *form* is one way to compute a family of products: the base form runs on every WebGPU device; the others want a feature, a
//! kind of adapter, or leave to round activations. [`Forms::candidates`] lists those that a device can run; what is best among them
//! only a measurement on that device can say. A *shape* is what all dispatches of a kernel have in common and a compiler can use:
//! lengths unroll loops, flags fold branches. It goes into the shader as pipeline constants (WGSL `override`).

use super::kernels::Kernel;
use crate::gguf::GgmlType;

/// How a matrix is multiplied by one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MatvecForm {
    /// f32, default limits, sums through workgroup memory.
    #[default]
    Base,
    /// Sums within subgroups, without workgroup memory. Wants the feature `subgroups`.
    Subgroups,
    /// A thread for four rows: for adapters that compute on the CPU.
    Serial,
    /// Activations rounded to 8 bits for each 32, integer products. Other numbers than the others give, as those of the CPU's 8-bit path
    /// are, so it only runs where it is asked for; it wants the language feature `packed_4x8_integer_dot_product`.
    Packed,
}

/// Rows of W that a lane of the base form has at a time.
const LANE_ROWS: u32 = 8;

/// Chunks of x that the packed form keeps at a time (BLOCK of matvec_packed.wgsl).
const PACKED_CHUNKS: u32 = 256;

/// Tiles of rows in a workgroup of the subgroup form.
fn tiles(shape: Shape) -> u32 {
    if shape.add { 2 } else { 4 }
}

/// Chunks of a row that one step of a lane takes: two where those share a block's scales (STEP of matvec.wgsl).
fn step(ty: GgmlType) -> u32 {
    if ty.block_len() == 256 { 2 } else { 1 }
}

/// Lanes that share the rows of a tile: a row's steps should be a multiple. More lanes make more workgroups of fewer rows, for the
/// matrices that have few: those that add to the residual stream.
fn lanes(ty: GgmlType, shape: Shape) -> u32 {
    let steps = shape.n_chunks.div_ceil(step(ty));
    let idle = |lanes: &u32| steps.next_multiple_of(*lanes) - steps;
    let most = if shape.add { 64 } else { 32 };
    // Of equals the first, so the most.
    let fitting = [64, 32, 16, 8].into_iter().filter(|&l| l <= most);
    fitting.min_by_key(idle).unwrap_or(8)
}

impl MatvecForm {
    /// All of them.
    pub const ALL: [MatvecForm; 4] = [
        MatvecForm::Base,
        MatvecForm::Subgroups,
        MatvecForm::Serial,
        MatvecForm::Packed,
    ];

    /// The form that runs for a type: weights that are floats already have no integer products.
    pub(super) fn of(self, ty: GgmlType) -> MatvecForm {
        match (self, ty) {
            (MatvecForm::Packed, GgmlType::F32 | GgmlType::F16 | GgmlType::BF16) => MatvecForm::Base,
            _ => self,
        }
    }

    /// Columns of y that a workgroup gives; `glu` halves them.
    pub(super) fn rows(self, ty: GgmlType, shape: Shape) -> u32 {
        let rows = match self {
            MatvecForm::Base | MatvecForm::Packed => 64 / lanes(ty, shape) * LANE_ROWS,
            MatvecForm::Subgroups => tiles(shape) * LANE_ROWS,
            MatvecForm::Serial => 16 * 4,
        };
        if shape.glu { rows / 2 } else { rows }
    }

    /// The overrides of its own shader.
    pub(super) fn constants(self, ty: GgmlType, shape: Shape) -> Constants {
        match self {
            MatvecForm::Base => vec![("LANES", lanes(ty, shape).into())],
            // What x takes of workgroup memory is as long as x, so it is a constant of the pipeline too.
            MatvecForm::Packed => vec![
                ("LANES", lanes(ty, shape).into()),
                ("KEPT", shape.n_chunks.min(PACKED_CHUNKS).into()),
            ],
            MatvecForm::Subgroups => vec![("TILES", tiles(shape).into())],
            MatvecForm::Serial => Vec::new(),
        }
    }

    /// What a kernel's name has of it.
    pub(super) fn name(self) -> &'static str {
        match self {
            MatvecForm::Base => "",
            MatvecForm::Subgroups => "_subgroups",
            MatvecForm::Serial => "_serial",
            MatvecForm::Packed => "_packed",
        }
    }

    /// What a device must have been opened with.
    pub(super) fn needs(self) -> wgpu::Features {
        match self {
            MatvecForm::Base | MatvecForm::Serial | MatvecForm::Packed => wgpu::Features::empty(),
            MatvecForm::Subgroups => wgpu::Features::SUBGROUP,
        }
    }
}

/// How a matrix is multiplied by many vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MatmulForm {
    /// f32, default limits: tiles of 128 rows by 64 tokens in workgroup memory.
    #[default]
    Base,
    /// For adapters that compute on the CPU: tiles of 64 rows; short batches without workgroup memory.
    Serial,
    /// The base form with f16 tiles: half of the workgroup traffic, factors rounded to 11 bits, f32 sums. Weights above 127 in magnitude
    /// and activations above 65504 are cut off, activations below 6e-5 lose bits. Never chosen by itself.
    F16,
}

impl MatmulForm {
    /// Every form.
    pub const ALL: [MatmulForm; 3] = [MatmulForm::Base, MatmulForm::Serial, MatmulForm::F16];
    /// Tokens of a workgroup.
    pub(super) const TOKENS: u32 = 64;

    /// What a kernel's name has of it.
    pub(super) fn name(self) -> &'static str {
        match self {
            MatmulForm::Base => "",
            MatmulForm::Serial => "_serial",
            MatmulForm::F16 => "_f16",
        }
    }

    /// What a device must have been opened with.
    pub(super) fn needs(self) -> wgpu::Features {
        match self {
            MatmulForm::Base | MatmulForm::Serial => wgpu::Features::empty(),
            MatmulForm::F16 => wgpu::Features::SHADER_F16,
        }
    }

    /// Of a type's matrices: those in F32 keep f32 tiles.
    pub(super) fn of(self, ty: GgmlType) -> MatmulForm {
        match (self, ty) {
            (MatmulForm::F16, GgmlType::F32) => MatmulForm::Base,
            _ => self,
        }
    }

    /// Rows of W of a workgroup.
    pub(super) fn rows(self) -> u32 {
        match self {
            MatmulForm::Base | MatmulForm::F16 => 128,
            MatmulForm::Serial => 64,
        }
    }

    /// Of a short batch, which is a matvec with some columns.
    pub(super) fn few(self) -> MatmulForm {
        match self {
            MatmulForm::Serial => self,
            MatmulForm::Base | MatmulForm::F16 => MatmulForm::Base,
        }
    }

    /// Rows of W of a short batch's workgroup.
    pub(super) fn few_rows(self) -> u32 {
        match self {
            MatmulForm::Serial => 64,
            MatmulForm::Base | MatmulForm::F16 => 16,
        }
    }
}

/// The form of each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Forms {
    /// Decode's products.
    pub matvec: MatvecForm,
    /// Prefill's products.
    pub matmul: MatmulForm,
}

impl Forms {
    /// What forms may want of a device beyond the base path; what an adapter offers of it is asked for when it is opened.
    pub const FEATURES: wgpu::Features = wgpu::Features::SUBGROUP.union(wgpu::Features::SHADER_F16);

    /// What runs before anything was measured: `software` tells an adapter that computes on the CPU.
    pub fn preferred(_features: wgpu::Features, software: bool) -> Forms {
        Forms {
            matvec: if software { MatvecForm::Serial } else { MatvecForm::Base },
            matmul: if software { MatmulForm::Serial } else { MatmulForm::Base },
        }
    }

    /// All that a device opened with `features` can run and that keep f32 arithmetic, the preferred ones first.
    pub fn candidates(features: wgpu::Features, software: bool) -> Vec<Forms> {
        let first = Forms::preferred(features, software);
        let matvecs = [MatvecForm::Base, MatvecForm::Subgroups, MatvecForm::Serial].into_iter();
        let matvecs = matvecs.filter(|&m| m != first.matvec && features.contains(m.needs()));
        let matmuls = [MatmulForm::Base, MatmulForm::Serial]
            .into_iter()
            .filter(|&m| m != first.matmul);
        let matvecs = matvecs.map(|matvec| Forms { matvec, ..first });
        let matmuls = matmuls.map(|matmul| Forms { matmul, ..first });
        [first].into_iter().chain(matvecs).chain(matmuls).collect()
    }

    /// What runs, family by family: `base` or the name of another form.
    pub fn names(self) -> [(&'static str, &'static str); 2] {
        let word = |name: &'static str| {
            if name.is_empty() {
                "base"
            } else {
                name.trim_start_matches('_')
            }
        };
        [("matvec", word(self.matvec.name())), ("matmul", word(self.matmul.name()))]
    }

    /// `matvec=subgroups,matmul=base`.
    pub fn to_text(self) -> String {
        self.names().map(|(family, form)| format!("{family}={form}")).join(",")
    }

    /// What [`Forms::to_text`] wrote; families that it leaves out are base.
    pub fn parse(text: &str) -> Option<Forms> {
        let mut forms = Forms::default();
        for part in text.split(',') {
            let (family, form) = part.trim().split_once('=')?;
            let named = |forms: &Forms| forms.names().contains(&(family, form));
            let matvecs = MatvecForm::ALL.map(|matvec| Forms { matvec, ..forms });
            let matmuls = MatmulForm::ALL.map(|matmul| Forms { matmul, ..forms });
            forms = match family {
                "matvec" => matvecs.into_iter().find(named)?,
                "matmul" => matmuls.into_iter().find(named)?,
                _ => return None,
            };
        }
        Some(forms)
    }

    /// Without the form that a kernel is of, and what that is called; `None` if it is of a base form.
    pub(super) fn without(self, kernel: Kernel) -> Option<(Forms, String)> {
        match kernel {
            Kernel::Matvec(_, form, _) if form != MatvecForm::Base => {
                let matvec = MatvecForm::Base;
                Some((Forms { matvec, ..self }, format!("matvec{}", form.name())))
            }
            Kernel::Few(_, form, _) | Kernel::Matmul(_, form, _) if form != MatmulForm::Base => {
                let matmul = MatmulForm::Base;
                Some((Forms { matmul, ..self }, format!("matmul{}", form.name())))
            }
            _ => None,
        }
    }

    /// Whether a kernel is of these forms.
    pub(super) fn run(self, kernel: Kernel) -> bool {
        match kernel {
            Kernel::Matvec(ty, form, _) => form == self.matvec.of(ty),
            Kernel::Matmul(ty, form, ..) => form == self.matmul.of(ty),
            _ => true,
        }
    }

    /// Do they all run on a device opened with `features`?
    pub fn run_on(self, features: wgpu::Features) -> bool {
        features.contains(self.matvec.needs() | self.matmul.needs())
    }
}

/// Constants of a pipeline by their names in WGSL.
pub(super) type Constants = Vec<(&'static str, f64)>;

/// What the dispatches of a product's pipeline have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Shape {
    /// Chunks of 32 in a row of W.
    pub(super) n_chunks: u32,
    /// x is RMS-normed.
    pub(super) norm: bool,
    /// y is added to.
    pub(super) add: bool,
    /// W is two matrices, gate and up.
    pub(super) glu: bool,
}

impl Shape {
    /// For tests and tools that look at each kernel once: every branch in one kernel or another.
    const SAMPLES: [Shape; 3] = [
        Shape::new(64, true, false, false),
        Shape::new(24, true, false, true),
        Shape::new(256, false, true, false),
    ];

    /// Of a type's kernels: all samples of the commonest type, one of the others in turn, since a pipeline can take a second to make.
    pub(super) fn samples(ty: GgmlType) -> &'static [Shape] {
        let all = &Shape::SAMPLES;
        if ty == GgmlType::Q4_K {
            return all;
        }
        let nth = GgmlType::ALL.iter().position(|&t| t == ty).unwrap_or(0) % all.len();
        &all[nth..=nth]
    }

    const fn new(n_chunks: u32, norm: bool, add: bool, glu: bool) -> Shape {
        Shape {
            n_chunks,
            norm,
            add,
            glu,
        }
    }

    /// `64`, `64_norm_glu`: the end of a kernel's name.
    pub(super) fn name(self) -> String {
        let mut name = self.n_chunks.to_string();
        for (flag, word) in [(self.norm, "_norm"), (self.add, "_add"), (self.glu, "_glu")] {
            if flag {
                name.push_str(word);
            }
        }
        name
    }

    /// The overrides of product.wgsl.
    pub(super) fn constants(self) -> Constants {
        let flag = |on: bool| f64::from(u8::from(on));
        vec![
            ("N_CHUNKS", self.n_chunks.into()),
            ("NORM", flag(self.norm)),
            ("ADD", flag(self.add)),
            ("GLU", flag(self.glu)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_survive_being_written() {
        for matvec in MatvecForm::ALL {
            for matmul in MatmulForm::ALL {
                let forms = Forms { matvec, matmul };
                assert_eq!(Forms::parse(&forms.to_text()), Some(forms));
            }
        }
        assert_eq!(Forms::parse("matvec=base"), Some(Forms::default()));
        for text in ["", "matvec", "matvec=turbo", "attend=base"] {
            assert_eq!(Forms::parse(text), None, "{text}");
        }
    }
}
