//! Attention and its cache.

use crate::{case::*, common, run::*};
use fastrand::Rng;
use outcrop::backend::gpu::GpuOptions;
use outcrop::backend::{Backend, KvType, Pass, Want};

#[test]
fn attention_layers() {
    let stored = |n_head, n_head_kv, d_head, kv| Op::Attend {
        n_head,
        n_head_kv,
        d_head,
        kv,
    };
    let attend = |n_head, n_head_kv, d_head| stored(n_head, n_head_kv, d_head, KvType::F32);
    let layers = [
        attend(4, 1, 64),
        attend(8, 2, 32),
        attend(3, 3, 4),
        attend(5, 1, 12),
        attend(10, 2, 20),
        attend(2, 2, 128),
        attend(2, 1, 260),
        attend(40, 1, 8),
        stored(8, 2, 32, KvType::F16),
        stored(8, 2, 64, KvType::Q8_0),
        // Rows of 36 and 4 elements: the last block is short.
        stored(6, 3, 12, KvType::Q8_0),
        stored(2, 1, 4, KvType::Q8_0),
    ];
    let passes = [1, 1, 5, 48, 1, 48, 48, 48, 48, 33, 1, 1];
    // Each key/value head by itself from the 60th key on.
    let apart = GpuOptions { far: 60, ..defaults() };
    check(&mixers(layers, &passes), UBATCH, &[defaults(), apart]);
}

/// Past 1024 and 2048 tokens the cache moves to larger buffers, and a single token's context is split over workgroups.
#[test]
fn the_cache_grows() {
    let cases = KvType::ALL.map(|kv| Case {
        op: Op::Attend {
            n_head: 2,
            n_head_kv: 1,
            d_head: 8,
            kv,
        },
        n_cols: 0,
        passes: [[256; 4].as_slice(), &[1, 2, 1], &[256; 4], &[1, 1, 40, 1]].concat(),
        shown: 3,
    });
    check(&cases, 256, &[defaults()]);
}

/// Keys of one layer in f16 fill the default limit of a binding to the last byte, and a token's context is split into 64 spans. All keys
/// but the token's own are zeros, so what comes out is its value over the sum of the weights.
#[test]
fn a_context_of_128k_tokens() {
    let n_ctx = 1 << 17;
    let case = case(
        0,
        Op::Attend {
            n_head: 8,
            n_head_kv: 8,
            d_head: 64,
            kv: KvType::F16,
        },
    );
    let options = GpuOptions {
        n_ubatch: 2,
        ..defaults()
    };
    let Some(mut gpu) = common::gpu::open(options) else { return };
    let mut net = Net {
        b: &mut gpu,
        prefix: "blk.0".into(),
        rng: Rng::with_seed(1),
        mats: Vec::new(),
        vectors: Vec::new(),
    };
    let (steps, show, mut shape) = declare(&mut net, &case);
    shape.n_ctx = n_ctx;
    let (mats, vectors) = (net.mats, net.vectors);
    for (mat, bytes) in &mats {
        gpu.write_matrix(*mat, 0, bytes).expect("written");
    }
    for (v, values) in &vectors {
        gpu.write_vector(*v, values).expect("written");
    }
    let of = |bytes: &[u8], i: usize| f32::from_le_bytes(bytes[i * 4..i * 4 + 4].try_into().unwrap());
    pollster::block_on(async {
        gpu.finish_loading().await.expect("loaded");
        let mut state = gpu.new_state(&shape).expect("a state");
        let pass = Pass {
            ids: &[5],
            pos: n_ctx - 1,
            want: Want::AllLogits,
        };
        let mut logits = Vec::new();
        if gpu.begin(&mut state, &pass).expect("begun") {
            record(&mut gpu, &steps, &show);
        }
        gpu.end(&mut state, &pass, &mut logits).await.expect("a pass");
        let (one, input) = (logits[logits.len() - 1] as f64, &mats[0].1);
        let row = |i: usize| of(input, 5 * 1536 + i) as f64;
        for (i, &got) in logits[..512].iter().enumerate() {
            let head = i / 64 * 64;
            let dot: f64 = (head..head + 64).map(|j| row(j) * row(512 + j)).sum();
            let weight = (dot * 0.3 / 8.0).exp();
            let want = weight * row(1024 + i) / (n_ctx as f64 - 1.0 + weight);
            let got = got as f64 / one;
            assert!((want - got).abs() < 1e-3 * want.abs() + 1e-9, "{i}: {want:e}, {got:e}");
        }
    });
}
