//! The self-check: before a model answers, each of its kernels computes something small that is known.
//!
//! Drivers and compilers go wrong, and a wrong answer looks like a bad model. So the ops of the model ([`case`]) run with the pipelines that
//! it will use, on a few rows of random weights, and are compared with the plain loops of `reference`. Weights with f16-subnormal
//! scales are judged by themselves: hardware that flushes them is common, and beside others they would not show.
//!
//! The passes stand in the middle of a sequence of zeros, long enough that its keys are read in several spans. Another sequence is a
//! prompt long enough for the mixers' forms for many tokens.

mod blocks;
mod case;

use super::{
    Gpu, State,
    ahead::Ahead,
    fault::gpu_error,
    forms::{MatmulForm, MatvecForm},
    kernels::Kernel,
};
use crate::{
    Error, Result,
    backend::{Backend, Choice, KvType, Pass, Want, cpu::Reference},
};
use blocks::Rng;
pub(super) use case::Cases;
use case::{IDS, Op};
use futures_channel::oneshot;

/// Error power over signal power that f32 sums in any order stay far below, and whatever is wrong far above.
const MOST: f64 = 1e-8;
/// The same where factors are rounded to 11 bits, and where activations are to 8.
const MOST_F16: f64 = 1e-5;
const MOST_PACKED: f64 = 1e-3;
/// Tokens of each pass, what it wants, and how a token is chosen: passes of each class, and for a single token all ways to learn what the
/// model would say.
const PASSES: [(u32, Want, &Choice<'static>); 6] = [
    (2, Want::Nothing, &Choice::GREEDY),
    (1, Want::Token, &Choice::GREEDY),
    (1, Want::Chosen(1), &Choice::GREEDY),
    (1, Want::Chosen(1), &LIKELIEST),
    (17, Want::Nothing, &Choice::GREEDY),
    (MANY, Want::Nothing, &Choice::GREEDY),
];
/// A draw that the cut to one candidate decides: so hot that without it any token might come.
const LIKELIEST: Choice<'static> = Choice {
    greedy: false,
    temperature: 1e6,
    top_k: 1,
    n_vocab: case::VOCAB,
    ..Choice::GREEDY
};
/// More than a chunk of the Mamba recurrence: a sequence of its own, of the mixers alone.
const MANY: u32 = 70;
/// Tokens before them.
const BEFORE: u32 = 300;

/// Kernels that computed something else, or could not be compiled.
pub(super) struct Wrong {
    pub(super) what: String,
    pub(super) kernels: Vec<Kernel>,
}

/// Runs the cases on pipelines of `gpu`, which gets those that had to be compiled for it. The first thing that is wrong.
pub(super) async fn run(gpu: &mut Gpu, cases: &Cases, kv: KvType, n_ctx: u32) -> Result<Option<Wrong>> {
    let mut small = gpu.beside(MANY);
    let mut exact = Reference::new(small.n_ubatch());
    let ops = case::declare(&cases.list, &mut small)?;
    case::declare(&cases.list, &mut exact)?;
    let shape = cases.shape(kv, n_ctx.max(BEFORE + MANY));
    let (mut state, mut exact_state) = (small.new_state(&shape)?, exact.new_state(&shape)?);
    exact.skip(&mut exact_state, BEFORE);

    let mut pos = BEFORE;
    let mut kernels = Vec::new();
    for (n, want, choice) in PASSES {
        if n == MANY {
            (state, exact_state, pos) = (small.new_state(&shape)?, exact.new_state(&shape)?, 0);
        }
        let ids: Vec<u32> = (0..n).map(|t| (t * 5 + n) % IDS).collect();
        let pass = Pass { ids: &ids, pos, want };
        // The head is for one token; of many it is a product like any other.
        let takes_part = |op: &&Op| match op {
            Op::Pick { .. } => n == 1,
            Op::Embed { .. } | Op::Mamba { .. } | Op::Attend { .. } => true,
            _ => n < MANY,
        };
        let ops: Vec<&Op> = ops.iter().filter(takes_part).collect();
        let mut rng = Rng::new(u64::from(n));
        for (buf, size) in ops.iter().flat_map(|op| op.inputs()) {
            let values: Vec<f32> = (0..n * buf.n_cols).map(|_| rng.between(-size, size)).collect();
            exact.fill(buf, &values);
            small.fill(buf, &values);
        }
        if small.begin(&mut state, &pass)? {
            kernels.clear();
            for op in &ops {
                let mark = small.recording.as_ref().expect("begun").mark();
                op.run(&mut small);
                kernels.push(small.recording.as_ref().expect("begun").since(mark));
            }
        }
        if let Want::Chosen(_) = want {
            let picks = ops.iter().zip(&mut kernels).filter(|(op, _)| op.output().is_none());
            picks.for_each(|(_, kernels)| kernels.extend(Kernel::choosing(choice.greedy)));
        }
        if let Some(wrong) = small.compile(kernels.concat()).await? {
            return Ok(Some(wrong));
        }
        let token = match small.token(&mut state, &pass, choice).await {
            Err(Error::NonFiniteLogits) => None,
            token => token?,
        };
        let pass = Pass {
            want: if n == 1 { Want::Token } else { want },
            ..pass
        };
        exact.begin(&mut exact_state, &pass)?;
        ops.iter().for_each(|op| op.run(&mut exact));
        let exact_token = exact.end(&mut exact_state, &pass, &mut Vec::new()).await?;

        let found = small.download(&ops, n).await?;
        for ((op, found), kernels) in ops.iter().zip(&found).zip(&kernels) {
            let (values, width) = match op.output() {
                Some(buf) => (exact.activations(buf), buf.n_cols),
                None => (exact.last_logits(), exact.last_logits().len() as u32),
            };
            let off = worst(op, &ids, found, values, width);
            let most = kernels.iter().map(|k| allowed(*k)).fold(MOST, f64::max);
            if off > most || off.is_nan() || (op.output().is_none() && token != exact_token) {
                let names: Vec<String> = kernels.iter().map(|k| k.name()).collect();
                let tokens = if n == 1 { "a token" } else { "several tokens" };
                return Ok(Some(Wrong {
                    what: format!(
                        "{} gave wrong results for {tokens} (error {off:.1e} of the signal)",
                        names.join(", ")
                    ),
                    kernels: kernels.clone(),
                }));
            }
        }
        gpu.note_checked(kernels.concat(), &small);
        pos += n;
    }
    Ok(None)
}

/// Error power over signal power that is still right.
fn allowed(kernel: Kernel) -> f64 {
    match kernel {
        Kernel::Matmul(_, MatmulForm::F16, ..) => MOST_F16,
        // Keys and values are rounded to 8 bits, and on the edge between two steps a last place decides.
        Kernel::KvAppend(KvType::Q8_0) => MOST_F16,
        Kernel::Matvec(_, MatvecForm::Packed, ..) => MOST_PACKED,
        _ => MOST,
    }
}

/// The larger error of those of plain and of faint weights: error power over signal power.
fn worst(op: &Op, ids: &[u32], found: &[f32], exact: &[f32], width: u32) -> f64 {
    let mut sums = [(0f64, 0f64); 2];
    let stride = found.len() / if op.output().is_some() { ids.len() } else { 1 };
    for (t, (found, exact)) in found.chunks(stride).zip(exact.chunks(width as usize)).enumerate() {
        for (col, (&found, &exact)) in found.iter().zip(exact).enumerate() {
            let faint = op.is_faint(ids[t], col);
            let (error, signal) = &mut sums[usize::from(faint)];
            *error += (f64::from(found) - f64::from(exact)).powi(2);
            *signal += f64::from(exact).powi(2);
        }
    }
    let shares = sums.map(|(error, signal)| if error == 0.0 { 0.0 } else { error / signal });
    // Not `max`, which passes over what is not a number.
    if shares[0] > shares[1] || shares[0].is_nan() {
        shares[0]
    } else {
        shares[1]
    }
}

impl Gpu {
    fn fill(&self, buf: crate::backend::Buf, values: &[f32]) {
        let stride = self.tables.bufs[buf.id as usize] as u64 * 4;
        for (row, values) in (0..).zip(values.chunks(buf.n_cols as usize)) {
            let at = row * stride;
            self.queue
                .write_buffer(&self.bufs[buf.id as usize], at, bytemuck::cast_slice(values));
        }
    }

    /// The token of a pass, however it is to be told.
    async fn token(&mut self, state: &mut State, pass: &Pass<'_>, choice: &Choice<'_>) -> Result<Option<u32>> {
        if !matches!(pass.want, Want::Chosen(_)) {
            return self.end(state, pass, &mut Vec::new()).await;
        }
        if !self.begin_reply(state, choice).await? {
            return Err(Error::Gpu {
                what: "it chooses no tokens".into(),
            });
        }
        self.end(state, pass, &mut Vec::new()).await?;
        let mut made = Vec::new();
        self.fetch(&mut made).await?;
        Ok(made.first().map(|made| made.id))
    }

    /// Compiles those of them that are not, and waits.
    pub(super) async fn compile(&mut self, mut kernels: Vec<Kernel>) -> Result<Option<Wrong>> {
        kernels.retain(|k| !self.has(*k));
        let mut once = Vec::new();
        for kernel in kernels {
            if !once.contains(&kernel) {
                once.push(kernel);
            }
        }
        if !once.is_empty() {
            self.ahead = Some(Ahead::start(&self.device, once, self.sabotage.as_deref()));
        }
        self.join_ahead().await
    }

    /// The results of the ops, rows as long as the buffers' are.
    async fn download(&self, ops: &[&Op], n: u32) -> Result<Vec<Vec<f32>>> {
        let parts: Vec<(&wgpu::Buffer, u64)> = ops
            .iter()
            .map(|op| match op.output() {
                Some(buf) => (
                    &self.bufs[buf.id as usize],
                    u64::from(self.tables.bufs[buf.id as usize]) * u64::from(n) * 4,
                ),
                None => (&self.head.logits, self.head.logits.size() / u64::from(self.head.rows.max(1))),
            })
            .collect();
        let size = parts.iter().map(|p| p.1).sum();
        let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("check"),
            size,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let mut at = 0;
        for (buffer, bytes) in &parts {
            encoder.copy_buffer_to_buffer(buffer, 0, &staging, at, *bytes);
            at += bytes;
        }
        self.queue.submit([encoder.finish()]);
        let (done, mapped) = oneshot::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |r| {
            let _ = done.send(r);
        });
        self.poll(true)?;
        let mapped = mapped.await;
        self.check()?;
        mapped.map_err(gpu_error)?.map_err(gpu_error)?;
        let view = staging.get_mapped_range(..).map_err(gpu_error)?;
        let mut rest = &view[..];
        let values = parts.iter().map(|(_, bytes)| {
            let (mine, after) = rest.split_at(*bytes as usize);
            rest = after;
            bytemuck::pod_collect_to_vec(mine)
        });
        Ok(values.collect())
    }
}
