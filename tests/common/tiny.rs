//! The smallest model there is: the logits after a token are a column of the head, times [`Tiny::scale`]. So a test says what they are.

use super::blocks;
use outcrop::Error;
use outcrop::backend::gpu::{Gpu, State};
use outcrop::backend::{Backend, Buf, Mat, Norm, Pass, StateShape, Want};
use outcrop::gguf::GgmlType;

/// Columns of the head.
pub const D: usize = 32;
/// Most tokens of the state.
pub const N_CTX: u32 = 100;

/// An embedding and a head, nothing between.
pub struct Tiny {
    pub gpu: Gpu,
    pub state: State,
    table: Mat,
    head: Mat,
    norm: Norm,
    x: Buf,
}

impl Tiny {
    /// `head(row, col)`, for `vocab` rows, and `n_rows` rows of the table that are 1 in column `id % D`.
    pub fn new(gpu: Gpu, n_rows: usize, vocab: usize, head: impl Fn(usize, usize) -> f32) -> Tiny {
        Tiny::with_ctx(gpu, N_CTX, n_rows, vocab, head)
    }

    /// The same, for more tokens.
    pub fn with_ctx(mut gpu: Gpu, n_ctx: u32, n_rows: usize, vocab: usize, head: impl Fn(usize, usize) -> f32) -> Tiny {
        let one_hot: Vec<f32> = (0..n_rows * D)
            .map(|i| if (i / D) % D == i % D { 1.0 } else { 0.0 })
            .collect();
        let rows: Vec<f32> = (0..vocab * D).map(|i| head(i / D, i % D)).collect();
        let table = gpu
            .matrix("token_embd.weight", GgmlType::F32, n_rows as u32, D as u32)
            .unwrap();
        let head = gpu.matrix("output.weight", GgmlType::F32, vocab as u32, D as u32).unwrap();
        let gamma = gpu.vector("output_norm.weight", D as u32).unwrap();
        let x = gpu.buffer(D as u32).unwrap();
        gpu.write_matrix(table, 0, &blocks::f32_rows(&one_hot)).unwrap();
        gpu.write_matrix(head, 0, &blocks::f32_rows(&rows)).unwrap();
        gpu.write_vector(gamma, &[1.0; D]).unwrap();
        pollster::block_on(gpu.finish_loading()).unwrap();
        let state = gpu
            .new_state(&StateShape {
                n_ctx,
                ..StateShape::default()
            })
            .unwrap();
        Tiny {
            gpu,
            state,
            table,
            head,
            norm: Norm { gamma, eps: 0.0 },
            x,
        }
    }

    /// A pass; the greedy token or logits of it.
    pub fn pass(&mut self, ids: &[u32], pos: u32, want: Want) -> Result<(Option<u32>, Vec<f32>), Error> {
        let (pass, mut logits) = (Pass { ids, pos, want }, Vec::new());
        if self.gpu.begin(&mut self.state, &pass)? {
            self.gpu.embed(self.table, 1.0, self.x);
            self.gpu.pick(self.x, self.norm, self.head, 2.0);
        }
        let token = pollster::block_on(self.gpu.end(&mut self.state, &pass, &mut logits))?;
        Ok((token, logits))
    }
}
