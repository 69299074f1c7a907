//! A step: one dispatch, as it is written down before there is a pipeline for it.

use super::{kernels::Kernel, uniforms};

/// Most spans that a single token's context is split into.
pub(super) const SPANS: u32 = 64;
/// Queries that share a workgroup, heads times tokens (ROWS of attend_batch.wgsl).
pub(super) const QUERIES: u32 = 32;
/// Tokens of a chunk of the Mamba recurrence (CHUNK of mamba_ssd.wgsl).
pub(super) const CHUNK: u32 = 64;
/// Most workgroups in one dimension of a dispatch, WebGPU's default.
pub(super) const MAX_GROUPS: u32 = 65535;

/// Keys that one workgroup takes when the context of a single token after `pos` is split (`span` of attention.wgsl).
fn span(pos: u32) -> u32 {
    ((pos + 4096) / 4096 * 64).max(256)
}

/// Batch sizes that share a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Decode: matrix times vector.
    One,
    /// A matvec with 8 columns.
    Few,
    /// Tiles of 64 tokens.
    Many,
}

impl Class {
    pub(super) const COUNT: usize = 3;

    pub(super) fn of(n: u32) -> Class {
        match n {
            0 | 1 => Class::One,
            2..=16 => Class::Few,
            _ => Class::Many,
        }
    }

    /// The batch sizes that it holds.
    pub(super) fn tokens(self, n_ubatch: u32) -> std::ops::RangeInclusive<u32> {
        match self {
            Class::One => 1..=1,
            Class::Few => 2..=16.min(n_ubatch),
            Class::Many => 17..=n_ubatch,
        }
    }
}

/// A buffer that a step binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bind {
    /// A range of a weight arena, bytes.
    Weights { arena: u32, offset: u64, bytes: u64 },
    /// The parameter arena.
    Vectors,
    /// An activation buffer.
    Buf(u32),
    /// Token ids of the pass.
    Ids,
    /// `[rows, n_vocab]`.
    Logits,
    /// Candidates of the argmax's first stage.
    Best,
    /// The chosen token.
    Chosen,
    /// Both `Run`s, to be written.
    Runs,
    /// What a reply has so far.
    Tape,
    /// How its tokens are chosen.
    Choice,
    /// How often each token came.
    Counts,
    /// Each token's key and weight.
    Weighed,
    /// Blocks, bins and the list of a draw.
    Work,
    /// The likeliest tokens of each block.
    PlaceParts,
    /// Those of each token on the tape.
    Places,
    /// Scratch, see [`Scratch`].
    Mixed,
    /// Scratch.
    Up,
    /// Scratch.
    Chunks,
    /// Scratch.
    Spans,
    /// State of recurrent layer `slot`.
    Conv(u32),
    /// State of recurrent layer `slot`.
    Ssm(u32),
    /// Cache of attention layer `slot`.
    Keys(u32),
    /// Cache of attention layer `slot`.
    Values(u32),
}

/// Workgroups of a step, given the pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grid {
    Fixed(u32, u32),
    /// `(x, n)`.
    Tokens(u32),
    /// `(x, ceil(n / tile))`.
    TokenTiles {
        x: u32,
        tile: u32,
    },
    /// `(x, y)` for a batch of fewer tokens than `below`.
    Short {
        x: u32,
        y: u32,
        below: u32,
    },
    /// `(x, y)` for a batch of `from` tokens and more.
    Long {
        x: u32,
        y: u32,
        from: u32,
    },
    /// `(x, chunks of tokens)` for a batch of `from` tokens and more.
    Chunks {
        x: u32,
        from: u32,
    },
    /// `(x, tiles of tokens)` of a batch, if its last token sees so many keys.
    Queries {
        x: u32,
        tile: u32,
        keys: (u32, u32),
    },
    /// `(x, n, spans of the context)`; a batch does not split it.
    Attend(u32),
    /// `(x)`, or nothing when there is one span.
    Join(u32),
}

impl Grid {
    /// Workgroups of a pass of `n` tokens after `pos`. A zero means that the step is skipped.
    pub(super) fn size(self, n: u32, pos: u32) -> [u32; 3] {
        let spans = if n == 1 { (pos + 1).div_ceil(span(pos)) } else { 1 };
        match self {
            Grid::Fixed(x, y) => [x, y, 1],
            Grid::Tokens(x) => [x, n, 1],
            Grid::TokenTiles { x, tile } => [x, n.div_ceil(tile), 1],
            Grid::Short { x, y, below } => [if n < below { x } else { 0 }, y, 1],
            Grid::Long { x, y, from } => [if n < from { 0 } else { x }, y, 1],
            Grid::Chunks { x, from } => [if n < from { 0 } else { x }, n.div_ceil(CHUNK), 1],
            Grid::Queries {
                x,
                tile,
                keys: (from, below),
            } => {
                let seen = (from..below).contains(&(pos + n));
                [if seen { x } else { 0 }, n.div_ceil(tile), 1]
            }
            Grid::Attend(x) => [x, n, spans],
            Grid::Join(x) => [if spans > 1 { x } else { 0 }, 1, 1],
        }
    }

    /// `groups` workgroups in a line, folded where one dimension cannot hold them. The kernel guards the surplus.
    pub(super) fn line(groups: u32) -> Grid {
        Grid::Fixed(groups.min(MAX_GROUPS), groups.div_ceil(MAX_GROUPS))
    }

    /// The same for a batch of `from` tokens and more.
    pub(super) fn long_line(groups: u32, from: u32) -> Grid {
        let (x, y) = (groups.min(MAX_GROUPS), groups.div_ceil(MAX_GROUPS));
        Grid::Long { x, y, from }
    }
}

/// One dispatch.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) kernel: Kernel,
    /// Storage buffers from binding 0 on.
    pub(super) binds: Vec<Bind>,
    /// Its uniform.
    pub(super) params: Vec<u8>,
    pub(super) grid: Grid,
}

impl Step {
    /// Columns and rows of the matrix, if it multiplies one.
    pub(super) fn product(&self) -> Option<(u32, u32)> {
        match self.kernel {
            Kernel::Matvec(.., shape) | Kernel::Few(.., shape) | Kernel::Matmul(.., shape) => {
                let op: &uniforms::Product = bytemuck::from_bytes(&self.params);
                let per = if shape.glu { 2 } else { 1 };
                Some((shape.n_chunks * 32, op.n_rows * per))
            }
            _ => None,
        }
    }
}

/// Sizes of the buffers that live between two steps of one op, elements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Scratch {
    /// `[n_ubatch, xBC' | dt | decay]`.
    pub(super) mixed: u64,
    /// Between the steps of the chunked recurrence, see mamba_ssd.wgsl.
    pub(super) chunks: u64,
    /// `[n_ubatch, n_ff]`, only for gate and up of two types.
    pub(super) up: u64,
    /// `[spans, n_head, d_head + 4]`.
    pub(super) spans: u64,
}
