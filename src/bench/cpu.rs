//! How fast a model runs on the CPU, and which share of the memory's speed that is.

use serde::Serialize;

use super::{Work, work::median};
use crate::{
    Error, Result,
    backend::{Attention, Backend, Buf, Mamba, Mat, Norm, Pass, StateShape, Want, cpu::Cpu},
    forward,
    generate::{Host, Sequence, Timer},
};

/// What came of it. Rates are medians.
#[derive(Debug, Clone, Serialize)]
pub struct CpuReport {
    /// Tokens of the prompt.
    pub prompt: u32,
    /// Tokens written after it.
    pub tokens: u32,
    /// Times both were repeated.
    pub repeats: u32,
    /// Tokens of a prompt a second.
    pub prefill_tps: f64,
    /// Tokens written a second.
    pub decode_tps: f64,
    /// Gigabytes a second, read and written, of a plain copy by as many threads; 0 if it was not asked for.
    pub copy_gbps: f64,
    /// What one token's weights, state, keys and values move, in the middle of those written.
    pub bytes_per_token: u64,
    /// `bytes_per_token * decode_tps / copy_gbps`.
    pub share_of_copy: f64,
    /// Where the time of a token goes, the longest first.
    pub ops: Vec<CpuOp>,
    /// Where the time of a whole batch of a prompt goes.
    pub batch_ops: Vec<CpuOp>,
    /// Tokens of that batch.
    pub batch: u32,
}

/// The time of the ops of one kind and shape in a pass.
#[derive(Debug, Clone, Serialize)]
pub struct CpuOp {
    /// The op, and what it multiplies: `norm_matmul Q4_K 2048x8512`.
    pub op: String,
    /// Of one pass.
    pub times: u32,
    /// Of one pass, milliseconds.
    pub ms: f64,
    /// Weights, state, keys and values that they move, gigabytes a second.
    pub gbps: f64,
    /// Products of a weight and an activation, 10^9 a second.
    pub gmacs: f64,
}

/// Passes whose ops are timed; the median counts.
const PASSES: usize = 5;

/// Runs the work: `repeats` times, after a run that does not count if it is more than once. `details`: the copy and the ops too. The
/// sequence is empty afterwards.
///
/// # Errors
/// [`Error::ContextFull`] if the work does not fit, what the backend says, [`Error::Aborted`] if the host cancels.
pub async fn cpu_speed<H: Host>(host: &H, sequence: &mut Sequence<Cpu>, work: Work, details: bool) -> Result<CpuReport> {
    let (prompt, tokens, repeats) = (work.prompt.max(1), work.tokens.max(2), work.repeats.max(1));
    let n_vocab = sequence.n_vocab() as u32;
    let ids = |run: u32| -> Vec<u32> { (0..prompt).map(|i| (run * 7919 + i * 104_729) % n_vocab).collect() };
    let (mut prefill, mut decode) = (Vec::new(), Vec::new());
    let mut timer = Timer::default();
    for run in u32::from(repeats == 1)..=repeats {
        // Another prompt each time, so that nothing is left of the one before.
        sequence.resume(&[])?;
        let t = timer.run(host, sequence, &ids(run), tokens as usize).await?;
        if run > 0 {
            prefill.push(f64::from(prompt) / t.prefill_ms * 1e3);
            decode.push((t.tokens - 1) as f64 / t.decode_ms * 1e3);
        }
    }
    let mut report = CpuReport {
        prompt,
        tokens,
        repeats,
        prefill_tps: median(prefill),
        decode_tps: median(decode),
        copy_gbps: 0.0,
        bytes_per_token: 0,
        share_of_copy: 0.0,
        ops: Vec::new(),
        batch_ops: Vec::new(),
        batch: 0,
    };
    if details {
        let pos = prompt + tokens / 2;
        let (one, bytes) = profile(host, sequence, pos, 1).await?;
        let n_ubatch = sequence.n_ubatch() as u32;
        report.batch = n_ubatch.min((sequence.n_ctx() as u32).saturating_sub(pos)).max(1);
        (report.batch_ops, _) = profile(host, sequence, pos, report.batch).await?;
        report.copy_gbps = sequence.lend().0.backend.copy_bandwidth(&|| host.now_ms())? / 1e9;
        report.bytes_per_token = bytes;
        report.share_of_copy = bytes as f64 * report.decode_tps / report.copy_gbps / 1e9;
        report.ops = one;
    }
    sequence.resume(&[])?;
    Ok(report)
}

/// Times the ops of passes of `n` tokens behind `pos` others; also the bytes that such a pass moves.
async fn profile<H: Host>(host: &H, sequence: &mut Sequence<Cpu>, pos: u32, n: u32) -> Result<(Vec<CpuOp>, u64)> {
    let kv = sequence.kv();
    let n_ctx = sequence.n_ctx() as u32;
    let (model, _) = sequence.lend();
    let shape = model.state_shape(n_ctx, kv);
    // A state of its own, so that the sequence's ids stay true.
    let mut state = model.backend.new_state(&shape)?;
    model.backend.skip(&mut state, pos);
    let ids: Vec<u32> = (0..n).map(|i| i * 31 % model.hparams.n_vocab).collect();
    let pass = Pass {
        ids: &ids,
        pos,
        want: if n == 1 { Want::Token } else { Want::Nothing },
    };
    let mut kinds: Vec<Kind> = Vec::new();
    let now = || host.now_ms();
    for run in 0..=PASSES {
        let (net, backend) = model.parts();
        backend.begin(&mut state, &pass)?;
        let mut timed = Timed {
            inner: backend,
            now: &now,
            kinds: &mut kinds,
            counts: run > 0,
            shape,
            n: u64::from(n),
            pos: u64::from(pos),
            heads: pass.want != Want::Nothing,
        };
        net.record(&mut timed);
        model.backend.end(&mut state, &pass, &mut Vec::new()).await?;
        for kind in &mut kinds {
            kind.runs.extend(kind.now.take());
        }
        host.breathe().await;
        if host.cancelled() {
            return Err(Error::Aborted);
        }
    }
    let bytes = kinds.iter().map(|kind| kind.bytes * u64::from(kind.times)).sum();
    let mut ops: Vec<CpuOp> = kinds
        .into_iter()
        .map(|kind| {
            let (ms, times) = (median(kind.runs), f64::from(kind.times));
            let per_second = |amount: u64| if ms > 0.0 { amount as f64 * times / ms / 1e6 } else { 0.0 };
            CpuOp {
                op: kind.op,
                times: kind.times,
                ms,
                gbps: per_second(kind.bytes),
                gmacs: per_second(kind.macs),
            }
        })
        .collect();
    ops.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    Ok((ops, bytes))
}

/// Ops of one kind and shape.
struct Kind {
    op: String,
    /// In a pass.
    times: u32,
    /// Of one of them.
    bytes: u64,
    macs: u64,
    /// Milliseconds of the pass in progress, if it counts.
    now: Option<f64>,
    /// Of each pass.
    runs: Vec<f64>,
}

/// A backend whose ops are timed.
struct Timed<'a> {
    inner: &'a mut Cpu,
    now: &'a dyn Fn() -> f64,
    kinds: &'a mut Vec<Kind>,
    counts: bool,
    shape: StateShape,
    n: u64,
    pos: u64,
    /// Whether this pass computes a head.
    heads: bool,
}

/// Bytes of a matrix's blocks, and its products with one token.
fn size(ws: &[Mat]) -> (u64, u64) {
    ws.iter().fold((0, 0), |(bytes, macs), w| {
        let row = w.ty.row_bytes(w.n_cols as usize) as u64;
        let rows = u64::from(w.n_rows);
        (bytes + rows * row, macs + rows * u64::from(w.n_cols))
    })
}

/// Types and shapes, as in `Q4_K 2048x8512`.
fn shapes(ws: &[Mat]) -> String {
    let rows: u32 = ws.iter().map(|w| w.n_rows).sum();
    let mut types: Vec<String> = ws.iter().map(|w| w.ty.to_string()).collect();
    types.dedup();
    format!("{} {}x{rows}", types.join("+"), ws[0].n_cols)
}

impl Timed<'_> {
    /// Runs and times one op that moves `bytes` and computes `macs` products.
    fn op(&mut self, name: String, (bytes, macs): (u64, u64), run: impl FnOnce(&mut Cpu)) {
        let start = (self.now)();
        run(self.inner);
        let ms = (self.now)() - start;
        let i = match self.kinds.iter().position(|kind| kind.op == name) {
            Some(i) => i,
            None => {
                self.kinds.push(Kind {
                    op: name,
                    times: 0,
                    bytes,
                    macs,
                    now: None,
                    runs: Vec::new(),
                });
                self.kinds.len() - 1
            }
        };
        let kind = &mut self.kinds[i];
        if self.counts {
            *kind.now.get_or_insert(0.0) += ms;
        } else {
            kind.times += 1; // counted once, in the pass that is not timed
        }
    }

    fn products(&self, (bytes, macs): (u64, u64)) -> (u64, u64) {
        (bytes, macs * self.n)
    }
}

impl Backend for Timed<'_> {
    type State = <Cpu as Backend>::State;
    forward!(loading state pass);

    fn embed(&mut self, table: Mat, scale: f32, x: Buf) {
        let bytes = table.ty.row_bytes(table.n_cols as usize) as u64 * self.n;
        self.op(format!("embed {}", table.ty), (bytes, 0), |cpu| cpu.embed(table, scale, x));
    }
    fn norm_matmul(&mut self, x: Buf, norm: Norm, ws: &[Mat], y: Buf) {
        let cost = self.products(size(ws));
        self.op(format!("norm_matmul {}", shapes(ws)), cost, |cpu| {
            cpu.norm_matmul(x, norm, ws, y)
        });
    }
    fn mamba_mix(&mut self, p: Buf, m: &Mamba, y: Buf) {
        // Read and written once for each token.
        let bytes = 8 * self.n * u64::from(self.shape.ssm_len + self.shape.conv_len);
        self.op("mamba_mix".into(), (bytes, 0), |cpu| cpu.mamba_mix(p, m, y));
    }
    fn attend(&mut self, qkv: Buf, a: &Attention, y: Buf) {
        // Keys and values of all tokens so far, once for each token: as many as the middle one sees.
        let row = u64::from(self.shape.kv_len) * 2 * self.shape.kv_type.bits() / 8;
        let bytes = row * self.n * (self.pos + self.n.div_ceil(2));
        self.op("attend".into(), (bytes, 0), |cpu| cpu.attend(qkv, a, y));
    }
    fn matmul_add(&mut self, w: Mat, y: Buf, scale: f32, x: Buf) {
        let cost = self.products(size(&[w]));
        self.op(format!("matmul_add {}", shapes(&[w])), cost, |cpu| {
            cpu.matmul_add(w, y, scale, x)
        });
    }
    fn swiglu(&mut self, x: Buf, norm: Norm, gate: Mat, up: Mat, h: Buf) {
        let ws = [gate, up];
        let cost = self.products(size(&ws));
        self.op(format!("swiglu {}", shapes(&ws)), cost, |cpu| {
            cpu.swiglu(x, norm, gate, up, h)
        });
    }
    fn pick(&mut self, x: Buf, norm: Norm, head: Mat, logit_scale: f32) {
        if !self.heads {
            return self.inner.pick(x, norm, head, logit_scale);
        }
        self.op(format!("pick {}", shapes(&[head])), size(&[head]), |cpu| {
            cpu.pick(x, norm, head, logit_scale)
        });
    }
}
