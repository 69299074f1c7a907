//! A product as the engine would dispatch it, with everything that is needed to dispatch it elsewhere: for tools that time the
//! kernels beside another engine's on a device of their own (bench/ort.mjs).

use super::{
    forms::Forms,
    kernels::Shader,
    record::{Recorder, Tables},
    step::{Class, Step},
    uniforms::Run,
    weights::{self, Matrix},
};
use crate::{
    Result,
    backend::{Buf, KvType, Mat},
    gguf::GgmlType,
};

/// One dispatch of `y = W x`.
///
/// Its storage buffers are the weights, `x` (`[n_tokens, n_cols]`, f32), the parameter arena (unused: a quad will do) and `y`
/// (`[n_tokens, n_rows]`); the uniforms are `params` at binding 8 and `run` at 9.
#[derive(Debug, Clone)]
pub struct Probe {
    /// The kernel that the engine takes for so many tokens.
    pub shader: Shader,
    /// Workgroups.
    pub groups: [u32; 3],
    /// The step's uniform.
    pub params: Vec<u8>,
    /// The pass's uniform.
    pub run: Vec<u8>,
    /// Bytes of the weights' binding.
    pub weight_bytes: u64,
    /// For each plane of the format: first byte of its field in a block, the field's length, and where in the binding the fields of
    /// all blocks stand one after another.
    pub planes: Vec<[u64; 3]>,
}

/// The dispatches of `y = W x` for a matrix of this type and shape; one, unless the weights are larger than a binding.
pub fn product(forms: Forms, ty: GgmlType, n_rows: u32, n_cols: u32, n_tokens: u32) -> Result<Vec<Probe>> {
    let max_binding = wgpu::Limits::default().max_storage_buffer_binding_size;
    let mut mats = vec![Matrix::new("w", ty, n_rows, n_cols, max_binding)?];
    weights::place(&mut mats, 0, 0, max_binding);
    let t = Tables {
        mats,
        bufs: vec![n_cols.next_multiple_of(4), n_rows.next_multiple_of(4)],
        n_ubatch: n_tokens,
        max_binding,
        forms,
        ..Default::default()
    };
    let mut recorder = Recorder::new(Class::of(n_tokens), KvType::F32, n_tokens);
    let buf = |id, n_cols| Buf { id, n_cols };
    let mat = Mat {
        id: 0,
        n_rows,
        n_cols,
        ty,
    };
    recorder.plain_product(&t, buf(0, n_cols), mat, buf(1, n_rows));
    if let Some(error) = recorder.error {
        return Err(error);
    }
    let made = |(step, slab): (&Step, &weights::Slab)| Probe {
        shader: step.kernel.shader(),
        groups: step.grid.size(n_tokens, 0),
        params: step.params.clone(),
        run: bytemuck::bytes_of(&Run {
            n: n_tokens,
            ..Default::default()
        })
        .to_vec(),
        weight_bytes: slab.bytes,
        planes: weights::planes(ty)
            .iter()
            .zip(slab.planes)
            .map(|(p, at)| [p.start as u64, p.len as u64, at as u64 * 16])
            .collect(),
    };
    Ok(recorder.body.iter().zip(&t.mats[0].slabs).map(made).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_of_one_binding_is_one_dispatch() {
        for n_tokens in [1, 8, 64, 256] {
            let probes = product(Forms::default(), GgmlType::Q4_0, 8512, 2048, n_tokens).unwrap();
            let [probe] = &probes[..] else {
                panic!("{} dispatches", probes.len())
            };
            assert_eq!(probe.shader.read_only, [true, true, true, false]);
            assert!(probe.groups.iter().all(|&n| n > 0));
            let blocks = 8512 * 2048 / 32;
            assert_eq!(probe.planes, [[2, 16, 0], [0, 2, blocks * 16]]);
            assert_eq!(probe.weight_bytes, blocks * 18);
        }
    }
}
