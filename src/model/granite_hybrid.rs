//! Granite 4.0 H, dense: the forward pass, written once for every backend.
//!
//! ```text
//! x = embedding_scale * token_embd[id]
//! per layer:  x += residual_scale * mixer(rms(x))          Mamba-2, or attention without positions
//!             x += residual_scale * ffn_down(silu(ffn_gate v) * (ffn_up v)),  v = rms(x)
//! logits = (head . rms(x)) / logit_scale                   head = output.weight, or the tied embedding
//! ```

use super::{Hparams, LayerKind, loader::Declare};
use crate::{
    Result,
    backend::{Attention, Backend, Buf, Mamba, Mat, Norm},
};

/// Handles of the weights and activations on the backend.
pub struct GraniteHybrid {
    token_embd: Mat,
    output_norm: Norm,
    output: Mat,
    layers: Vec<Layer>,
    embedding_scale: f32,
    residual_scale: f32,
    logit_scale: f32,
    /// `[n, n_embd]`: the residual stream.
    x: Buf,
    /// `[n, d_proj or q + k + v]`: what a mixer reads.
    proj: Buf,
    /// `[n, d_inner or n_head * n_embd_head]`: what a mixer makes.
    mixed: Buf,
    /// `[n, n_ff]`.
    hidden: Buf,
}

struct Layer {
    attn_norm: Norm,
    mixer: Mixer,
    ffn_norm: Norm,
    ffn_gate: Mat,
    ffn_up: Mat,
    ffn_down: Mat,
}

enum Mixer {
    Mamba { ssm_in: Mat, mix: Mamba, ssm_out: Mat },
    Attention { qkv: [Mat; 3], attend: Attention, output: Mat },
}

impl GraniteHybrid {
    /// Checks names and shapes and reserves everything on the backend.
    pub(super) fn declare<B: Backend>(hp: &Hparams, d: &mut Declare<'_, B>) -> Result<Self> {
        let (n_embd, n_ff) = (hp.n_embd, hp.n_ff);
        let token_embd = d.matrix("token_embd.weight", hp.n_vocab, n_embd)?;
        let norm = |d: &mut Declare<'_, B>, name: &str, len: u32| -> Result<Norm> {
            Ok(Norm {
                gamma: d.vector(name, len)?,
                eps: hp.rms_eps,
            })
        };
        let output_norm = norm(d, "output_norm.weight", n_embd)?;
        let output = if d.has("output.weight") {
            d.matrix("output.weight", hp.n_vocab, n_embd)?
        } else {
            token_embd
        };

        let (mut layers, mut recurrent, mut attention) = (Vec::with_capacity(hp.layers.len()), 0, 0);
        let (mut proj, mut mixed) = (1, 1);
        for (i, kind) in hp.layers.iter().enumerate() {
            let name = |s: &str| format!("blk.{i}.{s}");
            let attn_norm = norm(d, &name("attn_norm.weight"), n_embd)?;
            let mixer = match *kind {
                LayerKind::Recurrent => {
                    recurrent += 1;
                    (proj, mixed) = (proj.max(hp.d_proj()), mixed.max(hp.ssm_d_inner));
                    Mixer::Mamba {
                        ssm_in: d.matrix(&name("ssm_in.weight"), hp.d_proj(), n_embd)?,
                        mix: Mamba {
                            slot: recurrent - 1,
                            n_head: hp.ssm_n_head,
                            d_head: hp.ssm_d_inner / hp.ssm_n_head,
                            d_state: hp.ssm_d_state,
                            n_group: hp.ssm_n_group,
                            d_conv: hp.ssm_d_conv,
                            conv_w: d.vector(&name("ssm_conv1d.weight"), hp.d_xbc() * hp.ssm_d_conv)?,
                            conv_b: d.vector(&name("ssm_conv1d.bias"), hp.d_xbc())?,
                            dt_bias: d.vector(&name("ssm_dt.bias"), hp.ssm_n_head)?,
                            a: d.vector(&name("ssm_a"), hp.ssm_n_head)?,
                            d: d.vector(&name("ssm_d"), hp.ssm_n_head)?,
                            norm: norm(d, &name("ssm_norm.weight"), hp.ssm_d_inner)?,
                        },
                        ssm_out: d.matrix(&name("ssm_out.weight"), n_embd, hp.ssm_d_inner)?,
                    }
                }
                LayerKind::Attention { n_head_kv } => {
                    attention += 1;
                    let (q, kv) = (hp.n_head * hp.n_embd_head, n_head_kv * hp.n_embd_head);
                    (proj, mixed) = (proj.max(q + 2 * kv), mixed.max(q));
                    Mixer::Attention {
                        qkv: [
                            d.matrix(&name("attn_q.weight"), q, n_embd)?,
                            d.matrix(&name("attn_k.weight"), kv, n_embd)?,
                            d.matrix(&name("attn_v.weight"), kv, n_embd)?,
                        ],
                        attend: Attention {
                            slot: attention - 1,
                            n_head: hp.n_head,
                            n_head_kv,
                            d_head: hp.n_embd_head,
                            scale: hp.attention_scale,
                        },
                        output: d.matrix(&name("attn_output.weight"), n_embd, q)?,
                    }
                }
            };
            layers.push(Layer {
                attn_norm,
                mixer,
                ffn_norm: norm(d, &name("ffn_norm.weight"), n_embd)?,
                ffn_gate: d.matrix(&name("ffn_gate.weight"), n_ff, n_embd)?,
                ffn_up: d.matrix(&name("ffn_up.weight"), n_ff, n_embd)?,
                ffn_down: d.matrix(&name("ffn_down.weight"), n_embd, n_ff)?,
            });
        }
        Ok(GraniteHybrid {
            token_embd,
            output_norm,
            output,
            layers,
            embedding_scale: hp.embedding_scale,
            residual_scale: hp.residual_scale,
            logit_scale: hp.logit_scale,
            x: d.backend.buffer(n_embd)?,
            proj: d.backend.buffer(proj)?,
            mixed: d.backend.buffer(mixed)?,
            hidden: d.backend.buffer(n_ff)?,
        })
    }

    /// The ops of one pass, in order.
    pub(crate) fn record<B: Backend>(&self, b: &mut B) {
        let GraniteHybrid {
            x, proj, mixed, hidden, ..
        } = *self;
        b.embed(self.token_embd, self.embedding_scale, x);
        for layer in &self.layers {
            match &layer.mixer {
                Mixer::Mamba { ssm_in, mix, ssm_out } => {
                    b.norm_matmul(x, layer.attn_norm, &[*ssm_in], proj);
                    b.mamba_mix(proj, mix, mixed);
                    b.matmul_add(*ssm_out, mixed, self.residual_scale, x);
                }
                Mixer::Attention { qkv, attend, output } => {
                    b.norm_matmul(x, layer.attn_norm, qkv, proj);
                    b.attend(proj, attend, mixed);
                    b.matmul_add(*output, mixed, self.residual_scale, x);
                }
            }
            b.swiglu(x, layer.ffn_norm, layer.ffn_gate, layer.ffn_up, hidden);
            b.matmul_add(layer.ffn_down, hidden, self.residual_scale, x);
        }
        b.pick(x, self.output_norm, self.output, self.logit_scale);
    }
}
