//! Times the mixers (Mamba-2, attention) alone, on the GPU, at the shapes of Granite 4.0 H: forms against each other, in one run.
//!
//! `cargo run --release --example mixers -- [scan|attend] [repeats] [tokens]`; prints medians in ms a layer, and for the recurrence the
//! ratio of its two forms. Without a number of tokens it runs several.

use outcrop::backend::gpu::{Gpu, GpuOptions, Scan};
use outcrop::backend::{Attention, Backend, Buf, KvType, Mamba, Mat, Norm, Pass, StateShape, Vector, Want};
use outcrop::gguf::GgmlType;
use outcrop::{Error, Result};
use std::time::Instant;

/// Rows of the table that stands for `ssm_in`, and of the head.
const ROWS: u32 = 32;
/// Layers in a pass: enough to hide what is outside of them.
const LAYERS: u32 = 4;

/// A model of nothing but mixers.
struct Net {
    gpu: Gpu,
    table: Mat,
    p: Buf,
    y: Buf,
    head: Mat,
    head_norm: Norm,
    layers: Vec<Mamba>,
    shape: StateShape,
}

fn vector(gpu: &mut Gpu, len: u32, at: impl Fn(f32) -> f32) -> Result<(Vector, Vec<f32>)> {
    let mut rng = fastrand::Rng::with_seed(len as u64);
    let values = (0..len).map(|_| at(rng.f32())).collect();
    Ok((gpu.vector("mixers", len)?, values))
}

async fn mamba(options: GpuOptions, n_head: u32, d_head: u32) -> Result<Net> {
    let mut gpu = Gpu::new(options).await?;
    let mut written = Vec::new();
    let mut keep = |(v, values): (Vector, Vec<f32>)| {
        written.push((v, values));
        v
    };
    let (inner, xbc) = (n_head * d_head, n_head * d_head + 256);
    let mut layers = Vec::new();
    for slot in 0..LAYERS {
        layers.push(Mamba {
            slot,
            n_head,
            d_head,
            d_state: 128,
            n_group: 1,
            d_conv: 4,
            conv_w: keep(vector(&mut gpu, xbc * 4, |r| r - 0.5)?),
            conv_b: keep(vector(&mut gpu, xbc, |r| r - 0.5)?),
            dt_bias: keep(vector(&mut gpu, n_head, |r| r * 4.0 - 5.0)?),
            a: keep(vector(&mut gpu, n_head, |r| -1.0 - 15.0 * r)?),
            d: keep(vector(&mut gpu, n_head, |r| r)?),
            norm: Norm {
                gamma: keep(vector(&mut gpu, inner, |_| 1.0)?),
                eps: 1e-5,
            },
        });
    }
    let head_norm = Norm {
        gamma: keep(vector(&mut gpu, inner, |_| 1.0)?),
        eps: 1e-5,
    };
    let cols = layers[0].d_proj().next_multiple_of(32);
    let table = gpu.matrix("table", GgmlType::F32, ROWS, cols)?;
    let head = gpu.matrix("head", GgmlType::F32, ROWS, inner)?;
    let (p, y) = (gpu.buffer(cols)?, gpu.buffer(inner)?);
    let mut rng = fastrand::Rng::with_seed(1);
    for (mat, cols) in [(table, cols), (head, inner)] {
        let values: Vec<f32> = (0..ROWS * cols).map(|_| rng.f32() * 2.0 - 1.0).collect();
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        gpu.write_matrix(mat, 0, &bytes)?;
    }
    for (v, values) in &written {
        gpu.write_vector(*v, values)?;
    }
    gpu.finish_loading().await?;
    let shape = StateShape {
        n_recurrent: LAYERS,
        conv_len: 3 * xbc,
        ssm_len: inner * 128,
        n_attention: 0,
        kv_len: 0,
        kv_type: Default::default(),
        n_ctx: 1 << 17,
    };
    Ok(Net {
        gpu,
        table,
        p,
        y,
        head,
        head_norm,
        layers,
        shape,
    })
}

impl Net {
    /// Milliseconds of one pass. `layers`: all of them, or none, to know what is outside.
    async fn pass(&mut self, state: &mut <Gpu as Backend>::State, n: usize) -> Result<f64> {
        let ids: Vec<u32> = (0..n as u32).map(|t| t % ROWS).collect();
        let pass = Pass {
            ids: &ids,
            pos: 0,
            want: Want::Token,
        };
        let start = Instant::now();
        if self.gpu.begin(state, &pass)? {
            self.gpu.embed(self.table, 1.0, self.p);
            for m in &self.layers {
                self.gpu.mamba_mix(self.p, m, self.y);
            }
            self.gpu.pick(self.y, self.head_norm, self.head, 1.0);
        }
        self.gpu.end(state, &pass, &mut Vec::new()).await?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

async fn scan(repeats: usize, only: Option<usize>) -> Result<()> {
    let forms = [Scan::Sequential, Scan::Chunked];
    for (name, n_head, d_head) in [("h-350m", 48, 32), ("h-micro", 64, 64)] {
        let mut nets = Vec::new();
        for scan in forms {
            let options = GpuOptions {
                n_ubatch: 512,
                scan,
                ..Default::default()
            };
            let mut net = mamba(options, n_head, d_head).await?;
            let state = net.gpu.new_state(&net.shape.clone())?;
            nets.push((net, state));
        }
        let all = [16, 32, 64, 128, 256, 512];
        for n in all.into_iter().filter(|&n| only.is_none_or(|o| o == n)) {
            let mut times = vec![Vec::new(); forms.len()];
            for repeat in 0..=repeats {
                for ((net, state), times) in nets.iter_mut().zip(&mut times) {
                    let ms = net.pass(state, n).await? / LAYERS as f64;
                    // The first one records and compiles.
                    if repeat > 0 {
                        times.push(ms);
                    }
                }
            }
            let ms: Vec<f64> = times.into_iter().map(median).collect();
            println!(
                "scan {name} n={n}: {:?} {:.2} ms a layer, {:?} {:.2} ms, {:.2}x",
                forms[0],
                ms[0],
                forms[1],
                ms[1],
                ms[0] / ms[1]
            );
        }
    }
    Ok(())
}

/// A layer of h-micro's attention for 64, 256 and 512 tokens after none and after some.
async fn attend(repeats: usize, only: Option<u32>) -> Result<()> {
    let (n_head, n_head_kv, d_head) = (32, 8, 64);
    let a = Attention {
        slot: 0,
        n_head,
        n_head_kv,
        d_head,
        scale: 1.0 / 64.0,
    };
    let options = GpuOptions {
        n_ubatch: 512,
        ..Default::default()
    };
    let mut gpu = Gpu::new(options).await?;
    let (cols, width) = (n_head * d_head + 2 * n_head_kv * d_head, n_head * d_head);
    let table = gpu.matrix("table", GgmlType::F32, ROWS, cols)?;
    let head = gpu.matrix("head", GgmlType::F32, ROWS, width)?;
    let (qkv, y) = (gpu.buffer(cols)?, gpu.buffer(width)?);
    let (gamma, ones) = vector(&mut gpu, width, |_| 1.0)?;
    let mut rng = fastrand::Rng::with_seed(1);
    for (mat, cols) in [(table, cols), (head, width)] {
        let values: Vec<f32> = (0..ROWS * cols).map(|_| rng.f32() * 2.0 - 1.0).collect();
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        gpu.write_matrix(mat, 0, &bytes)?;
    }
    gpu.write_vector(gamma, &ones)?;
    gpu.finish_loading().await?;
    let mut state = gpu.new_state(&StateShape {
        n_recurrent: 0,
        conv_len: 0,
        ssm_len: 0,
        n_attention: 1,
        kv_len: n_head_kv * d_head,
        kv_type: KvType::F16,
        n_ctx: 1 << 13,
    })?;
    let all = [(64, 0), (256, 0), (512, 0), (64, 1024), (256, 1024)];
    for (n, pos) in all.into_iter().filter(|&(n, _)| only.is_none_or(|o| o == n)) {
        let mut times = Vec::new();
        for repeat in 0..=repeats {
            let ids: Vec<u32> = (0..n).map(|t| t % ROWS).collect();
            let pass = Pass {
                ids: &ids,
                pos,
                want: Want::Token,
            };
            let start = Instant::now();
            if gpu.begin(&mut state, &pass)? {
                gpu.embed(table, 1.0, qkv);
                for _ in 0..LAYERS {
                    gpu.attend(qkv, &a, y);
                }
                gpu.pick(y, Norm { gamma, eps: 1e-5 }, head, 1.0);
            }
            gpu.end(&mut state, &pass, &mut Vec::new()).await?;
            if repeat > 0 {
                times.push(start.elapsed().as_secs_f64() * 1e3 / LAYERS as f64);
            }
        }
        println!("attend h-micro n={n} after {pos}: {:.2} ms a layer", median(times));
    }
    Ok(())
}

fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let repeats = args.get(1).and_then(|a| a.parse().ok()).unwrap_or(7);
    let only = args.get(2).and_then(|a| a.parse().ok());
    let run = match args.first().map(String::as_str).unwrap_or("scan") {
        "scan" => pollster::block_on(scan(repeats, only)),
        "attend" => pollster::block_on(attend(repeats, only.map(|n| n as u32))),
        other => Err(Error::InvalidRequest {
            what: format!("no bench is called {other}"),
        }),
    };
    match run {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            std::process::ExitCode::FAILURE
        }
    }
}
