//! The op list: everything a model may ask of a device.
//!
//! Seven ops are enough for Granite 4.0 H. They are cut where a GPU wants to fuse and where a reader wants one sentence; one
//! layer is five calls, whether it is one token or 512, GPU or CPU. [`cpu::reference`] is the specification of each.
//!
//! A pass runs `n` tokens (`1..=n_ubatch`) of one sequence. The model calls [`Backend::begin`], the ops in order, then
//! [`Backend::end`]. A backend that records (the GPU) answers `false` from `begin` once it holds a plan, and the model then skips
//! the ops: replay is one encoder, one pass, one submit. So ops may depend on nothing but their arguments, never on the tokens.
//!
//! Shapes are slowest axis first. All activations are f32.

pub mod cpu;
#[cfg(feature = "webgpu")]
pub mod gpu;
mod choice;
mod forward;

pub use choice::{Choice, Likely, MOST_LIKELY, Made};

use crate::{Result, gguf::GgmlType};

/// A weight matrix on the device: `y = W x` with `x: [n_cols]`, `y: [n_rows]`, row-major.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mat {
    /// Index in the backend's own table.
    pub id: u32,
    /// Output features.
    pub n_rows: u32,
    /// Input features; a multiple of the type's block length.
    pub n_cols: u32,
    /// Type of its blocks.
    pub ty: GgmlType,
}

/// A small f32 parameter on the device (norm weights, conv taps, `A`, `D`, `dt` bias).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Vector {
    /// Index in the backend's own table.
    pub id: u32,
    /// Elements.
    pub len: u32,
}

/// An activation buffer `[n_ubatch, n_cols]`, f32. In a pass of `n` tokens the first `n` rows are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Buf {
    /// Index in the backend's own table.
    pub id: u32,
    /// Row length.
    pub n_cols: u32,
}

/// RMS norm folded into the op that reads `x`: `rms(x)_i = x_i / sqrt(mean(x^2) + eps) * gamma_i`.
#[derive(Debug, Clone, Copy)]
pub struct Norm {
    /// `[n_cols of x]`.
    pub gamma: Vector,
    /// Added to the mean of squares.
    pub eps: f32,
}

/// Mamba-2 mixer of one layer. Granite's letters: I = `n_head * d_head` (inner size), N = `d_state`, G = `n_group`.
#[derive(Debug, Clone, Copy)]
pub struct Mamba {
    /// Which recurrent layer of the state, from 0.
    pub slot: u32,
    /// H: heads (GGUF `ssm.time_step_rank`).
    pub n_head: u32,
    /// P: channels of a head, I / H.
    pub d_head: u32,
    /// N: state columns of a channel.
    pub d_state: u32,
    /// G: groups sharing B and C; head `h` uses group `h / (H / G)`.
    pub n_group: u32,
    /// Taps of the causal convolution (4).
    pub d_conv: u32,
    /// `[I + 2GN, d_conv]`, tap 0 is the oldest.
    pub conv_w: Vector,
    /// `[I + 2GN]`.
    pub conv_b: Vector,
    /// `[H]`.
    pub dt_bias: Vector,
    /// `[H]`, already negative.
    pub a: Vector,
    /// `[H]`.
    pub d: Vector,
    /// `[I]`, applied per group of I / G channels.
    pub norm: Norm,
}

impl Mamba {
    /// I: width of the mixer's output.
    pub fn d_inner(&self) -> u32 {
        self.n_head * self.d_head
    }
    /// Channels of the convolution: x, B and C, I + 2GN.
    pub fn d_xbc(&self) -> u32 {
        self.d_inner() + 2 * self.n_group * self.d_state
    }
    /// Rows of `ssm_in`: z, xBC and dt, 2I + 2GN + H.
    pub fn d_proj(&self) -> u32 {
        self.d_inner() + self.d_xbc() + self.n_head
    }
}

/// Causal grouped-query attention of one layer, without positions.
#[derive(Debug, Clone, Copy)]
pub struct Attention {
    /// Which attention layer of the state, from 0.
    pub slot: u32,
    /// Query heads.
    pub n_head: u32,
    /// Key/value heads; query head `h` uses `h / (n_head / n_head_kv)`.
    pub n_head_kv: u32,
    /// Elements of a head.
    pub d_head: u32,
    /// Multiplies `q . k`.
    pub scale: f32,
}

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvType {
    /// Exact.
    #[default]
    F32,
    /// Half the memory; rounded to nearest even when appended.
    F16,
    /// 8 bits and an f32 scale for each 32 elements of a token's row: 0.56 of f16's memory. For long contexts.
    Q8_0,
}

impl KvType {
    /// All of them.
    pub const ALL: [KvType; 3] = [KvType::F32, KvType::F16, KvType::Q8_0];

    /// `f32`, ..
    pub fn name(self) -> &'static str {
        match self {
            KvType::F32 => "f32",
            KvType::F16 => "f16",
            KvType::Q8_0 => "q8_0",
        }
    }

    /// Memory of 32 elements, over 32.
    pub(crate) fn bits(self) -> u64 {
        match self {
            KvType::F32 => 32,
            KvType::F16 => 16,
            KvType::Q8_0 => 9,
        }
    }

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<KvType> {
        KvType::ALL.into_iter().find(|ty| ty.name() == name)
    }
}

/// Sizes of a sequence's state. By default it is without layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StateShape {
    /// Recurrent layers.
    pub n_recurrent: u32,
    /// Saved conv columns of a recurrent layer, elements: `(d_conv - 1) * d_xbc`, token-major, oldest first.
    pub conv_len: u32,
    /// SSM state of a recurrent layer, elements: `[H, P, N]`.
    pub ssm_len: u32,
    /// Attention layers.
    pub n_attention: u32,
    /// Elements that one token adds to the keys (and as many to the values) of a layer: `n_head_kv * d_head`.
    pub kv_len: u32,
    /// Type of keys and values.
    pub kv_type: KvType,
    /// Most tokens a sequence may have.
    pub n_ctx: u32,
}

/// What a pass leaves behind besides the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Nothing: a batch in the middle of a prompt.
    Nothing,
    /// The greedy token after the last one; lowest id among equals.
    Token,
    /// The logits after the last token, `[n_vocab]`.
    Logits,
    /// The logits after every token, `[n, n_vocab]`. For scoring, not for speed.
    AllLogits,
    /// So many tokens, chosen as [`Backend::begin_reply`] said; they stay on the device until [`Backend::fetch`]. A pass with ids
    /// chooses one. A pass without any is so many passes of one token: the first feeds the token chosen last, each the one before.
    Chosen(u32),
}

/// One pass over the next tokens of a sequence.
#[derive(Debug, Clone, Copy)]
pub struct Pass<'a> {
    /// Token ids, `1..=n_ubatch` of them, each below `n_vocab`; none if the device knows them, see [`Want::Chosen`].
    pub ids: &'a [u32],
    /// Tokens that the state already holds.
    pub pos: u32,
    /// What to compute of the head.
    pub want: Want,
}

/// A device that can run the seven ops.
#[allow(
    async_fn_in_trait,
    reason = "used with static dispatch on one thread; no Send bound is wanted"
)]
pub trait Backend {
    /// Conv, SSM and key/value state of one sequence. A fresh one is all zeros.
    type State;

    // ---- loading: declare everything from the header, then feed bytes as they arrive ----

    /// Told how many bytes of weights there will be, before the first is declared.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`] if they can never fit.
    fn expect(&mut self, _bytes: u64) -> Result<()> {
        Ok(())
    }
    /// Reserves a weight matrix. `name` is for errors.
    fn matrix(&mut self, name: &str, ty: GgmlType, n_rows: u32, n_cols: u32) -> Result<Mat>;
    /// Reserves a small f32 parameter. Those of one layer are declared in a row, in one fixed order.
    fn vector(&mut self, name: &str, len: u32) -> Result<Vector>;
    /// Reserves an activation buffer.
    fn buffer(&mut self, n_cols: u32) -> Result<Buf>;
    /// Writes bytes of a matrix's blocks, `offset` bytes from its start. Calls for one matrix come in ascending order without
    /// gaps, but may break anywhere, even inside a block.
    fn write_matrix(&mut self, w: Mat, offset: u64, bytes: &[u8]) -> Result<()>;
    /// Writes a whole parameter.
    fn write_vector(&mut self, v: Vector, values: &[f32]) -> Result<()>;
    /// Once everything is declared, and before the weights are there: begins what will take a while and needs only to know what
    /// passes will do, on sequences of this shape. `ops` calls the ops of a pass, in order. It may be left out.
    fn prepare(&mut self, shape: &StateShape, ops: impl FnMut(&mut Self)) -> Result<()> {
        let _ = (shape, ops);
        Ok(())
    }
    /// Waits until all that was written is on the device and usable.
    async fn finish_loading(&mut self) -> Result<()>;
    /// Waits for what [`Backend::prepare`] began.
    async fn ready(&mut self) -> Result<()> {
        Ok(())
    }

    // ---- state ----

    /// A zeroed state.
    fn new_state(&mut self, shape: &StateShape) -> Result<Self::State>;
    /// Zeroes a state.
    fn reset_state(&mut self, state: &mut Self::State) -> Result<()>;

    // ---- a pass ----

    /// Most tokens in a pass.
    fn n_ubatch(&self) -> u32;
    /// Starts a pass. `true`: call the ops; `false`: they are recorded already, go straight to [`Backend::end`].
    fn begin(&mut self, state: &mut Self::State, pass: &Pass) -> Result<bool>;

    /// `x[t] = scale * table[ids[t]]`. `x: [n, d]`.
    fn embed(&mut self, table: Mat, scale: f32, x: Buf);
    /// `y[t] = concat_i(ws[i] . rms(x[t]))`. `x: [n, d]`, `y: [n, >= sum of n_rows]` (the row's rest is left alone).
    fn norm_matmul(&mut self, x: Buf, norm: Norm, ws: &[Mat], y: Buf);
    /// The Mamba-2 mixer between `ssm_in` and `ssm_out`. `p: [n, z | xBC | dt]`, `y: [n, I]`.
    ///
    /// ```text
    /// xBC'  = silu(conv(xBC) + conv_b)                    causal, over the saved columns and this pass
    /// dt    = softplus(dt + dt_bias)                      v > 20 passes through
    /// S_h   = exp(dt A) S_h + (dt x) outer B              state updated in place, f32
    /// y_h   = S_h C + D x
    /// y     = rms_per_group(y * silu(z)) * norm           gate, then norm
    /// ```
    fn mamba_mix(&mut self, p: Buf, m: &Mamba, y: Buf);
    /// Appends k and v to the state, then `y[t] = softmax(scale * q k^T, causal) v` per head.
    /// `qkv: [n, n_head*d | n_head_kv*d | n_head_kv*d]`, `y: [n, n_head*d]`.
    fn attend(&mut self, qkv: Buf, a: &Attention, y: Buf);
    /// `x[t] += scale * (w . y[t])`. `y: [n, n_cols]`, `x: [n, n_rows]`.
    fn matmul_add(&mut self, w: Mat, y: Buf, scale: f32, x: Buf);
    /// `h[t] = silu(gate . rms(x[t])) * (up . rms(x[t]))`. `x: [n, d]`, `h: [n, n_ff]`.
    fn swiglu(&mut self, x: Buf, norm: Norm, gate: Mat, up: Mat, h: Buf);
    /// Final norm and head, for the rows that [`Pass::want`] names: `logits = (head . rms(x[t])) / logit_scale`, and the argmax.
    fn pick(&mut self, x: Buf, norm: Norm, head: Mat, logit_scale: f32);

    /// Runs what was recorded, if that has not happened yet. The greedy token for [`Want::Token`]; for the logits variants `logits`
    /// is overwritten with them, else it is left alone.
    async fn end(&mut self, state: &mut Self::State, pass: &Pass, logits: &mut Vec<f32>) -> Result<Option<u32>>;

    // ---- a reply whose tokens the device chooses; a backend without this leaves all of it as it is ----

    /// Begins a reply. `false`: this backend only gives logits. `true`: the passes that follow may want [`Want::Chosen`].
    async fn begin_reply(&mut self, _state: &mut Self::State, _choice: &Choice<'_>) -> Result<bool> {
        Ok(false)
    }
    /// Waits for the oldest pass that wanted [`Want::Chosen`] and has not been fetched, and appends its tokens to `made`. After a stop
    /// id there are none: the device feeds nothing more.
    ///
    /// # Errors
    /// [`crate::Error::NonFiniteLogits`] if a logit was NaN or infinite: nothing was fed from there on.
    async fn fetch(&mut self, _made: &mut Vec<Made>) -> Result<()> {
        Ok(())
    }
    /// Passes that [`Backend::fetch`] can be behind.
    fn depth(&self) -> usize {
        1
    }
    /// Remembers the state as it is after the passes so far, instead of what it remembered before.
    fn mark(&mut self, _state: &mut Self::State) -> Result<()> {
        Ok(())
    }
    /// Goes back to the state that [`Backend::mark`] remembered.
    fn rewind(&mut self, _state: &mut Self::State) -> Result<()> {
        Ok(())
    }
}
