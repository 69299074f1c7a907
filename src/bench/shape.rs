//! The published models' shapes, as GGUF headers: what a Q4_K_M file of each declares, byte for byte as large, without its weights.

use crate::gguf::GgmlType;

/// A published Granite 4.0 H model, dense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// 0.34 B parameters.
    H350m,
    /// 1.5 B parameters.
    H1b,
    /// 3.2 B parameters.
    HMicro,
}

/// What `config.json` of a model says.
struct Config {
    n_layer: u32,
    n_embd: u32,
    n_ff: u32,
    n_head: u32,
    n_head_kv: u32,
    attention_layers: [u32; 4],
    mamba_heads: u32,
    attention_scale: f32,
    residual_scale: f32,
    logit_scale: f32,
}

const N_VOCAB: u32 = 100_352;
const D_STATE: u32 = 128;
const D_CONV: u32 = 4;

impl Shape {
    /// All of them, smallest first.
    pub const ALL: [Shape; 3] = [Shape::H350m, Shape::H1b, Shape::HMicro];

    /// `h-350m`, `h-1b`, `h-micro`: the end of the model's published name.
    pub fn name(self) -> &'static str {
        match self {
            Shape::H350m => "h-350m",
            Shape::H1b => "h-1b",
            Shape::HMicro => "h-micro",
        }
    }

    /// The shape called `name`.
    pub fn from_name(name: &str) -> Option<Shape> {
        Shape::ALL.into_iter().find(|s| s.name() == name)
    }

    fn config(self) -> Config {
        match self {
            Shape::H350m => Config {
                n_layer: 32,
                n_embd: 768,
                n_ff: 2048,
                n_head: 12,
                n_head_kv: 4,
                attention_layers: [10, 13, 17, 27],
                mamba_heads: 48,
                attention_scale: 1.0 / 64.0,
                residual_scale: 0.246,
                logit_scale: 3.0,
            },
            Shape::H1b => Config {
                n_layer: 40,
                n_embd: 1536,
                n_ff: 4096,
                n_head: 12,
                n_head_kv: 4,
                attention_layers: [5, 15, 25, 35],
                mamba_heads: 48,
                attention_scale: 1.0 / 128.0,
                residual_scale: 0.22,
                logit_scale: 6.0,
            },
            Shape::HMicro => Config {
                n_layer: 40,
                n_embd: 2048,
                n_ff: 8192,
                n_head: 32,
                n_head_kv: 8,
                attention_layers: [5, 15, 25, 35],
                mamba_heads: 64,
                attention_scale: 1.0 / 64.0,
                residual_scale: 0.22,
                logit_scale: 8.0,
            },
        }
    }

    /// A GGUF header: the hyperparameters and the tensor table, no tokenizer. Tensor data would follow it at once.
    pub fn header(self) -> Vec<u8> {
        let c = self.config();
        let tensors = tensors(&c);
        let mut kv = Pairs::default();
        let arch = |name: &str| format!("granitehybrid.{name}");
        kv.string("general.architecture", "granitehybrid");
        kv.string("general.name", &format!("Granite 4.0 {}, random weights", self.name()));
        kv.u32("general.file_type", 15); // ggml's number for Q4_K_M
        kv.u32("general.alignment", ALIGNMENT as u32);
        kv.u32(&arch("block_count"), c.n_layer);
        kv.u32(&arch("context_length"), 1 << 17);
        kv.u32(&arch("embedding_length"), c.n_embd);
        kv.u32(&arch("feed_forward_length"), c.n_ff);
        kv.u32(&arch("attention.head_count"), c.n_head);
        let kv_heads: Vec<u32> = (0..c.n_layer)
            .map(|i| if c.attention_layers.contains(&i) { c.n_head_kv } else { 0 })
            .collect();
        kv.u32s(&arch("attention.head_count_kv"), &kv_heads);
        kv.f32(&arch("attention.layer_norm_rms_epsilon"), 1e-5);
        kv.f32(&arch("attention.scale"), c.attention_scale);
        kv.f32(&arch("embedding_scale"), 12.0);
        kv.f32(&arch("residual_scale"), c.residual_scale);
        kv.f32(&arch("logit_scale"), c.logit_scale);
        kv.u32(&arch("ssm.conv_kernel"), D_CONV);
        kv.u32(&arch("ssm.state_size"), D_STATE);
        kv.u32(&arch("ssm.group_count"), 1);
        kv.u32(&arch("ssm.inner_size"), 2 * c.n_embd);
        kv.u32(&arch("ssm.time_step_rank"), c.mamba_heads);
        kv.bool(&arch("rope.scaling.finetuned"), false);

        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((tensors.len() as u64).to_le_bytes());
        out.extend(kv.n.to_le_bytes());
        out.extend(kv.bytes);
        let mut offset = 0u64;
        for t in &tensors {
            string(&mut out, &t.name);
            out.extend((t.ne.len() as u32).to_le_bytes());
            for ne in &t.ne {
                out.extend(ne.to_le_bytes());
            }
            out.extend(t.ty.id().to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset = (offset + t.size()).next_multiple_of(ALIGNMENT);
        }
        out.resize(out.len().next_multiple_of(ALIGNMENT as usize), 0);
        out
    }
}

/// Bytes between starts of tensors.
const ALIGNMENT: u64 = 32;

struct Tensor {
    name: String,
    ne: Vec<u64>,
    ty: GgmlType,
}

impl Tensor {
    fn size(&self) -> u64 {
        let rows: u64 = self.ne[1..].iter().product();
        self.ty.row_bytes(self.ne[0] as usize) as u64 * rows
    }
}

/// Whether Q4_K_M gives part `i` of `n` the larger of its two types (llama.cpp: the first and last eighth, and every third between).
fn more_bits(i: u32, n: u32) -> bool {
    i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2
}

fn tensors(c: &Config) -> Vec<Tensor> {
    use GgmlType::{F32, Q4_K, Q6_K};
    let mut all = Vec::new();
    let mut put = |name: String, ne: &[u32], ty| {
        let ne = ne.iter().map(|&n| n.into()).collect();
        all.push(Tensor { name, ne, ty });
    };
    let (d, d_inner) = (c.n_embd, 2 * c.n_embd);
    let d_xbc = d_inner + 2 * D_STATE;
    put("output_norm.weight".into(), &[d], F32);
    put("token_embd.weight".into(), &[d, N_VOCAB], Q6_K);
    let mut n_attention = 0;
    for i in 0..c.n_layer {
        let mut layer = |part: &str, ne: &[u32], ty| put(format!("blk.{i}.{part}"), ne, ty);
        layer("attn_norm.weight", &[d], F32);
        layer(
            "ffn_down.weight",
            &[c.n_ff, d],
            if more_bits(i, c.n_layer) { Q6_K } else { Q4_K },
        );
        layer("ffn_gate.weight", &[d, c.n_ff], Q4_K);
        layer("ffn_norm.weight", &[d], F32);
        layer("ffn_up.weight", &[d, c.n_ff], Q4_K);
        if c.attention_layers.contains(&i) {
            let d_head = d / c.n_head;
            let v_type = if more_bits(n_attention, 4) { Q6_K } else { Q4_K };
            n_attention += 1;
            layer("attn_q.weight", &[d, c.n_head * d_head], Q4_K);
            layer("attn_k.weight", &[d, c.n_head_kv * d_head], Q4_K);
            layer("attn_v.weight", &[d, c.n_head_kv * d_head], v_type);
            layer("attn_output.weight", &[c.n_head * d_head, d], Q4_K);
        } else {
            layer("ssm_a", &[1, c.mamba_heads], F32);
            layer("ssm_conv1d.bias", &[d_xbc], F32);
            layer("ssm_conv1d.weight", &[D_CONV, d_xbc], F32);
            layer("ssm_d", &[1, c.mamba_heads], F32);
            layer("ssm_dt.bias", &[c.mamba_heads], F32);
            layer("ssm_in.weight", &[d, d_inner + d_xbc + c.mamba_heads], Q4_K);
            layer("ssm_norm.weight", &[d_inner], F32);
            layer("ssm_out.weight", &[d_inner, d], Q4_K);
        }
    }
    all
}

/// Key-value pairs as GGUF writes them.
#[derive(Default)]
struct Pairs {
    n: u64,
    bytes: Vec<u8>,
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

impl Pairs {
    fn pair(&mut self, key: &str, ty: u32) -> &mut Vec<u8> {
        self.n += 1;
        string(&mut self.bytes, key);
        self.bytes.extend(ty.to_le_bytes());
        &mut self.bytes
    }
    fn u32(&mut self, key: &str, v: u32) {
        self.pair(key, 4).extend(v.to_le_bytes());
    }
    fn f32(&mut self, key: &str, v: f32) {
        self.pair(key, 6).extend(v.to_le_bytes());
    }
    fn bool(&mut self, key: &str, v: bool) {
        self.pair(key, 7).push(v.into());
    }
    fn string(&mut self, key: &str, v: &str) {
        string(self.pair(key, 8), v);
    }
    fn u32s(&mut self, key: &str, values: &[u32]) {
        let out = self.pair(key, 9);
        out.extend(4u32.to_le_bytes());
        out.extend((values.len() as u64).to_le_bytes());
        out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    }
}
