//! Layer by layer against llama.cpp's named activations: when a model test fails, this one says where it went wrong.

mod common;

use common::oracle::Oracle;
use outcrop::backend::{Attention, Backend, Buf, KvType, Mat, Norm, Pass, Want, cpu};
use outcrop::{Result, forward};

/// The reference backend, writing down what each op leaves behind under ggml's names.
struct Probe {
    inner: cpu::Reference,
    n: usize,
    layer: usize,
    in_mixer: bool,
    seen: Vec<(String, Vec<f32>)>,
}

impl Probe {
    fn note(&mut self, name: String, buf: Buf, first: usize, len: usize) {
        let rows = self.inner.activations(buf).chunks_exact(buf.n_cols as usize).take(self.n);
        let values = rows.flat_map(|row| row[first..first + len].iter().copied()).collect();
        self.seen.push((name, values));
    }
}

impl Backend for Probe {
    type State = cpu::State;
    forward!(loading state n_ubatch mamba_mix swiglu pick end);

    fn begin(&mut self, state: &mut cpu::State, pass: &Pass) -> Result<bool> {
        (self.n, self.layer, self.in_mixer) = (pass.ids.len(), 0, true);
        self.inner.begin(state, pass)
    }
    fn embed(&mut self, table: Mat, scale: f32, x: Buf) {
        self.inner.embed(table, scale, x);
        self.note("embd".into(), x, 0, x.n_cols as usize);
    }
    fn norm_matmul(&mut self, x: Buf, norm: Norm, ws: &[Mat], y: Buf) {
        self.inner.norm_matmul(x, norm, ws, y);
        if let [q, k, v] = ws {
            let (q, k, v) = (q.n_rows as usize, k.n_rows as usize, v.n_rows as usize);
            self.note(format!("Qcur-{}", self.layer), y, 0, q);
            self.note(format!("Kcur-{}", self.layer), y, q, k);
            self.note(format!("Vcur-{}", self.layer), y, q + k, v);
        }
    }
    fn attend(&mut self, qkv: Buf, a: &Attention, y: Buf) {
        self.inner.attend(qkv, a, y);
        self.note(format!("kqv_out-{}", self.layer), y, 0, (a.n_head * a.d_head) as usize);
    }
    fn matmul_add(&mut self, w: Mat, y: Buf, scale: f32, x: Buf) {
        self.inner.matmul_add(w, y, scale, x);
        let name = if self.in_mixer { "ffn_inp" } else { "l_out" };
        self.note(format!("{name}-{}", self.layer), x, 0, x.n_cols as usize);
        self.layer += usize::from(!self.in_mixer);
        self.in_mixer = !self.in_mixer;
    }
}

#[test]
fn every_layer_matches_llama_cpp() {
    let oracle = Oracle::open();
    for name in ["tiny-64-Q4_K_M", "tiny-g2-Q4_K_M"] {
        let probe = Probe {
            inner: cpu::Reference::new(16),
            n: 0,
            layer: 0,
            in_mixer: true,
            seen: Vec::new(),
        };
        let mut model = oracle.load(name, probe, 1 << 16);
        let mut state = model.new_state(64, KvType::F32).expect("state");
        let (pass, mut logits) = (
            Pass {
                ids: &oracle.ids[..7],
                pos: 0,
                want: Want::AllLogits,
            },
            Vec::new(),
        );
        pollster::block_on(model.forward(&mut state, &pass, &mut logits)).expect("forward");
        let mut seen = std::mem::take(&mut model.backend.seen);
        seen.push(("result_output".into(), logits));

        let golden = oracle.activations(name);
        let mut compared = 0;
        for (tensor, got) in &seen {
            let Some((_, want)) = golden.iter().find(|(n, _)| n == tensor) else {
                continue;
            };
            // ggml keeps only the last token from the last layer's mixer on.
            let got = &got[got.len().saturating_sub(want.len())..];
            assert_eq!(got.len(), want.len(), "{name} {tensor}: length");
            let worst = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            let size = want.iter().fold(0f32, |m, v| m.max(v.abs()));
            println!("{name} {tensor}: max abs {worst:.1e} of {size:.1}");
            assert!(
                worst <= 1e-4 * size.max(1.0),
                "{name} {tensor}: max abs {worst:.2e}, largest value {size}"
            );
            compared += 1;
        }
        assert!(compared >= 2 * 6 + 2, "{name}: only {compared} tensors compared");
    }
}
