//! Hyperparameters, named as ggml names them.

use crate::{
    Error, Result,
    backend::{KvType, StateShape},
    gguf::Gguf,
};

/// What a layer's mixer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerKind {
    /// Mamba-2: `head_count_kv` is 0.
    Recurrent,
    /// Grouped-query attention with that many key/value heads.
    Attention {
        /// Key/value heads.
        n_head_kv: u32,
    },
}

/// What a `granitehybrid` file declares.
#[derive(Debug, Clone, PartialEq)]
pub struct Hparams {
    /// Layers, in order.
    pub layers: Vec<LayerKind>,
    /// Width of the residual stream.
    pub n_embd: u32,
    /// Width of the feed-forward.
    pub n_ff: u32,
    /// Query heads.
    pub n_head: u32,
    /// Elements of an attention head.
    pub n_embd_head: u32,
    /// Tokens in the vocabulary.
    pub n_vocab: u32,
    /// Tokens that the file says the model can attend to.
    pub n_ctx_train: u32,
    /// Epsilon of every RMS norm.
    pub rms_eps: f32,
    /// Multiplies embeddings.
    pub embedding_scale: f32,
    /// Multiplies each branch before it joins the residual stream.
    pub residual_scale: f32,
    /// Multiplies `q . k`.
    pub attention_scale: f32,
    /// Divides the logits.
    pub logit_scale: f32,
    /// Taps of the convolution.
    pub ssm_d_conv: u32,
    /// I: width of the mixer.
    pub ssm_d_inner: u32,
    /// N: columns of the state.
    pub ssm_d_state: u32,
    /// H: Mamba heads. GGUF calls it `time_step_rank`.
    pub ssm_n_head: u32,
    /// G: groups that share B and C.
    pub ssm_n_group: u32,
}

const ARCH: &str = "granitehybrid";

/// No dimension of a real model comes near this; it keeps every product of two of them inside u64 and every one inside u32.
const MAX_DIM: u32 = 1 << 24;

impl Hparams {
    /// Reads and checks the metadata of a `granitehybrid` file.
    pub fn from_gguf(gguf: &Gguf) -> Result<Hparams> {
        let meta = &gguf.metadata;
        let arch = meta.str("general.architecture")?;
        if arch != ARCH {
            return Err(Error::UnsupportedModel {
                what: "the architecture",
                found: arch.to_owned(),
                supported: "granitehybrid (Granite 4.0 H)",
            });
        }
        let key = |name: &str| format!("{ARCH}.{name}");
        let dim = |name: &str| {
            let key = key(name);
            match meta.u32(&key)? {
                v if (1..=MAX_DIM).contains(&v) => Ok(v),
                v => Err(Error::BadKey {
                    key,
                    found: v.to_string(),
                    expected: format!("1 to {MAX_DIM}"),
                }),
            }
        };
        // 0 and absent both mean "leave it alone", as in llama.cpp.
        let multiplier = |name: &str, neutral: f32| {
            let key = key(name);
            match meta.opt_f32(&key)? {
                None | Some(0.0) => Ok(neutral),
                Some(v) if v.is_finite() => Ok(v),
                Some(v) => Err(Error::BadKey {
                    key,
                    found: v.to_string(),
                    expected: "a finite number".into(),
                }),
            }
        };

        if let Some(n) = meta.opt_u32(&key("expert_count"))?.filter(|&n| n > 0) {
            return Err(Error::UnsupportedModel {
                what: "mixture of experts",
                found: format!("{n} experts"),
                supported: "dense granitehybrid models: h-micro, h-1b, h-350m",
            });
        }
        // The key doubles as llama.cpp's switch for RoPE in this family: absent means true.
        if meta.opt_bool(&key("rope.scaling.finetuned"))?.unwrap_or(true) {
            return Err(Error::UnsupportedModel {
                what: "rotary position embedding",
                found: "rope.scaling.finetuned = true or absent".into(),
                supported: "granitehybrid models without positions (NoPE)",
            });
        }

        let n_layer = dim("block_count")?;
        let kv_key = key("attention.head_count_kv");
        let kv = meta.i32s(&kv_key)?;
        if kv.len() != n_layer as usize {
            return Err(Error::BadKey {
                key: kv_key,
                found: format!("{} entries", kv.len()),
                expected: format!("one for each of the {n_layer} layers"),
            });
        }
        let n_head = dim("attention.head_count")?;
        let layers = kv
            .into_iter()
            .map(|n| match n {
                0 => Ok(LayerKind::Recurrent),
                n if n > 0 && n_head.is_multiple_of(n as u32) => Ok(LayerKind::Attention { n_head_kv: n as u32 }),
                n => Err(Error::BadKey {
                    key: kv_key.clone(),
                    found: n.to_string(),
                    expected: format!("0 or a divisor of head_count {n_head}"),
                }),
            })
            .collect::<Result<Vec<_>>>()?;

        // Granite's attention layers are all alike; a state with rows of several widths would be garbage, not a model.
        let mut kv_heads = layers.iter().filter_map(|l| match l {
            LayerKind::Attention { n_head_kv } => Some(*n_head_kv),
            LayerKind::Recurrent => None,
        });
        if let Some(first) = kv_heads.next()
            && let Some(other) = kv_heads.find(|&n| n != first)
        {
            return Err(Error::UnsupportedModel {
                what: "attention layers of several shapes",
                found: format!("{first} and {other} key/value heads"),
                supported: "one number of key/value heads in all attention layers",
            });
        }

        let n_embd = dim("embedding_length")?;
        let n_embd_head = match meta.opt_u32(&key("attention.key_length"))? {
            Some(_) => dim("attention.key_length")?,
            None if n_embd.is_multiple_of(n_head) => n_embd / n_head,
            None => {
                let (found, expected) = (n_head.to_string(), format!("a divisor of embedding_length {n_embd}"));
                return Err(Error::BadKey {
                    key: key("attention.head_count"),
                    found,
                    expected,
                });
            }
        };
        if let Some(v) = meta.opt_u32(&key("attention.value_length"))?.filter(|&v| v != n_embd_head) {
            let expected = format!("{n_embd_head}, as the key length");
            return Err(Error::BadKey {
                key: key("attention.value_length"),
                found: v.to_string(),
                expected,
            });
        }

        let (ssm_d_inner, ssm_n_head) = (dim("ssm.inner_size")?, dim("ssm.time_step_rank")?);
        let ssm_n_group = match meta.opt_u32(&key("ssm.group_count"))? {
            Some(_) => dim("ssm.group_count")?,
            None => 1,
        };
        for (name, whole, part) in [
            ("time_step_rank", ssm_d_inner, ssm_n_head),
            ("group_count", ssm_n_head, ssm_n_group),
        ] {
            if !whole.is_multiple_of(part) {
                let (found, expected) = (part.to_string(), format!("a divisor of {whole}"));
                return Err(Error::BadKey {
                    key: key(&format!("ssm.{name}")),
                    found,
                    expected,
                });
            }
        }
        let ssm_d_state = dim("ssm.state_size")?;
        let (d_inner, bc) = (ssm_d_inner as u64, 2 * ssm_n_group as u64 * ssm_d_state as u64);
        if 2 * d_inner + bc + ssm_n_head as u64 > MAX_DIM as u64 || d_inner * ssm_d_state as u64 > u32::MAX as u64 {
            let expected = format!("a state that {ssm_n_group} groups and {ssm_d_inner} channels can have");
            return Err(Error::BadKey {
                key: key("ssm.state_size"),
                found: ssm_d_state.to_string(),
                expected,
            });
        }
        let rms_key = key("attention.layer_norm_rms_epsilon");
        let rms_eps = meta.f32(&rms_key)?;
        if !(rms_eps >= 0.0 && rms_eps.is_finite()) {
            let expected = "a small positive number".into();
            return Err(Error::BadKey {
                key: rms_key,
                found: rms_eps.to_string(),
                expected,
            });
        }
        Ok(Hparams {
            layers,
            n_embd,
            n_ff: dim("feed_forward_length")?,
            n_head,
            n_embd_head,
            n_vocab: n_vocab(gguf)?,
            n_ctx_train: meta.opt_u32(&key("context_length"))?.unwrap_or(1 << 20).max(1),
            rms_eps,
            embedding_scale: multiplier("embedding_scale", 1.0)?,
            residual_scale: multiplier("residual_scale", 1.0)?,
            attention_scale: multiplier("attention.scale", 1.0 / (n_embd_head as f32).sqrt())?,
            logit_scale: multiplier("logit_scale", 1.0)?,
            ssm_d_conv: dim("ssm.conv_kernel")?,
            ssm_d_inner,
            ssm_d_state,
            ssm_n_head,
            ssm_n_group,
        })
    }

    /// Channels of the convolution: x, B and C.
    pub fn d_xbc(&self) -> u32 {
        self.ssm_d_inner + 2 * self.ssm_n_group * self.ssm_d_state
    }

    /// Rows of `ssm_in`: z, xBC and dt.
    pub fn d_proj(&self) -> u32 {
        self.ssm_d_inner + self.d_xbc() + self.ssm_n_head
    }

    /// Sizes of one sequence's state.
    pub fn state_shape(&self, n_ctx: u32, kv_type: KvType) -> StateShape {
        let kv = self.layers.iter().filter_map(|l| match l {
            LayerKind::Attention { n_head_kv } => Some(*n_head_kv),
            LayerKind::Recurrent => None,
        });
        let n_attention = kv.clone().count() as u32;
        StateShape {
            n_recurrent: self.layers.len() as u32 - n_attention,
            conv_len: (self.ssm_d_conv - 1) * self.d_xbc(),
            ssm_len: self.ssm_d_inner * self.ssm_d_state,
            n_attention,
            kv_len: kv.max().unwrap_or(0) * self.n_embd_head,
            kv_type,
            n_ctx,
        }
    }
}

/// The embedding's row count: the vocabulary that logits have, whatever the tokenizer says.
fn n_vocab(gguf: &Gguf) -> Result<u32> {
    let name = "token_embd.weight";
    let t = gguf.tensor(name).ok_or_else(|| Error::MissingTensor { name: name.into() })?;
    match t.ne.get(1) {
        Some(&n) if (1..=MAX_DIM as u64).contains(&n) => Ok(n as u32),
        _ => Err(Error::TensorShape {
            name: name.into(),
            found: t.ne.clone(),
            expected: vec![0, 0],
        }),
    }
}
