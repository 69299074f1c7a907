//! Recorded steps -> pipelines and bind groups, made once; and their replay.

use super::{
    Gpu, State,
    cost::Account,
    fault::Scopes,
    kernels::{RUN, STEP},
    pace::Pace,
    pipelines::Pipeline,
    record::{Recorder, Tables},
    step::{Bind, Grid, Step},
};
use crate::{Error, Result, backend::StateShape};
use std::num::NonZeroU64;

/// Distance of two uniforms in a buffer: WebGPU's `min_uniform_buffer_offset_alignment`.
pub(super) const SLOT: u64 = 256;
/// Bytes of a [`super::uniforms::Run`].
const RUN_BYTES: u64 = 16;

/// A step that can be encoded.
pub(super) struct Ready {
    pipeline: wgpu::ComputePipeline,
    binds: wgpu::BindGroup,
    grid: Grid,
}

/// The steps of one pass, ready to be encoded.
pub(super) struct Plan {
    body: Vec<Ready>,
    head: Vec<Ready>,
    pick: Vec<Ready>,
    head_rows: Vec<Ready>,
    pub(super) n_embd_rows: u32,
    pub(super) n_vocab: u32,
    /// What it was made of.
    recorder: Recorder,
}

/// A part of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Body,
    /// Logits of one row.
    Head,
    /// The greedy token of them.
    Pick,
    /// Logits of many rows.
    HeadRows,
}

impl Plan {
    fn part(&self, part: Part) -> &[Ready] {
        match part {
            Part::Body => &self.body,
            Part::Head => &self.head,
            Part::Pick => &self.pick,
            Part::HeadRows => &self.head_rows,
        }
    }

    /// Whether the embedding has rows for all of them.
    pub(super) fn check_ids(&self, ids: &[u32]) -> Result<()> {
        match ids.iter().find(|&&id| id >= self.n_embd_rows) {
            None => Ok(()),
            Some(id) => Err(Error::InvalidRequest {
                what: format!("token {id} is not one of the model's {}", self.n_embd_rows),
            }),
        }
    }

    pub(super) fn len(&self, part: Part) -> usize {
        self.part(part).len()
    }

    /// Multiply-adds of a pass without its head, roughly.
    pub(super) fn macs(&self, n: u32, pos: u32) -> u64 {
        self.recorder.body.iter().map(|step| step.macs(n, pos)).sum()
    }

    /// Steps of the body, from `start` on, that go into the next submit.
    pub(super) fn take(&self, pace: &Pace, start: usize, n: u32, pos: u32) -> usize {
        pace.take(&self.recorder.body[start..], n, pos)
    }

    /// What a pass costs.
    pub(super) fn account<'a>(&'a self, tables: &'a Tables, shape: StateShape, n: u32, pos: u32) -> Account<'a> {
        Account {
            tables,
            recorder: &self.recorder,
            shape,
            n,
            pos,
            head: true,
        }
    }

    /// Body, head and pick, with the pipeline and bindings of each step.
    pub(super) fn steps(&self) -> impl Iterator<Item = (&Step, (&wgpu::ComputePipeline, &wgpu::BindGroup))> {
        let rec = &self.recorder;
        let steps = [&rec.body, &rec.head, &rec.pick].into_iter().flatten();
        let made = [&self.body, &self.head, &self.pick].into_iter().flatten();
        steps.zip(made.map(|r| (&r.pipeline, &r.binds)))
    }

    /// Encodes steps `range` of a part for `n` tokens after `pos`; returns how many were dispatched.
    pub(super) fn encode(
        &self,
        pass: &mut wgpu::ComputePass,
        part: Part,
        range: std::ops::Range<usize>,
        n: u32,
        pos: u32,
    ) -> u32 {
        encode(pass, &self.part(part)[range], n, pos)
    }
}

/// Encodes steps for `n` tokens after `pos`; returns how many were dispatched.
pub(super) fn encode(pass: &mut wgpu::ComputePass, steps: &[Ready], n: u32, pos: u32) -> u32 {
    let mut dispatched = 0;
    for step in steps {
        let [x, y, z] = step.grid.size(n, pos);
        if x == 0 {
            continue;
        }
        pass.set_pipeline(&step.pipeline);
        pass.set_bind_group(0, &step.binds, &[]);
        pass.dispatch_workgroups(x, y, z);
        dispatched += 1;
    }
    dispatched
}

impl Gpu {
    /// Makes a plan of what was recorded. Whatever the device has against a pipeline or binding comes back as an error.
    pub(super) async fn build(&mut self, rec: Recorder, state: &State) -> Result<Plan> {
        let rec = rec.finish()?;
        self.grow_scratch(&rec)?;
        let lists: [(&[Step], u64); 4] = [(&rec.body, 0), (&rec.head, SLOT), (&rec.pick, SLOT), (&rec.head_rows, SLOT)];
        let mut made = self.make_ready(&lists, state).await?.into_iter();
        let mut next = || made.next().expect("a list for each");
        Ok(Plan {
            body: next(),
            head: next(),
            pick: next(),
            head_rows: next(),
            n_embd_rows: rec.n_embd_rows,
            n_vocab: rec.n_vocab,
            recorder: rec,
        })
    }

    /// Pipelines and bind groups of lists of steps, each with the place of its `Run`.
    pub(super) async fn make_ready(&mut self, lists: &[(&[Step], u64)], state: &State) -> Result<Vec<Vec<Ready>>> {
        let device = self.device.clone();
        let scopes = Scopes::push(&device);
        let steps: usize = lists.iter().map(|(list, _)| list.len()).sum();
        let uniforms = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("step uniforms"),
            size: (steps.max(1) as u64) * SLOT,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut params = vec![0u8; steps * SLOT as usize];
        let mut next = 0;
        let mut ready = |(list, run): &(&[Step], u64)| -> Vec<Ready> {
            list.iter()
                .map(|step| {
                    params[next as usize..][..step.params.len()].copy_from_slice(&step.params);
                    let made = self.ready(step, state, &uniforms, next, *run);
                    next += SLOT;
                    made
                })
                .collect()
        };
        let made = lists.iter().map(&mut ready).collect();
        if !params.is_empty() {
            self.queue.write_buffer(&uniforms, 0, &params);
        }
        scopes.pop().await?;
        Ok(made)
    }

    fn ready(&mut self, step: &Step, state: &State, uniforms: &wgpu::Buffer, at: u64, run: u64) -> Ready {
        let Pipeline { pipeline, layout } = self.pipeline(step.kernel);
        let mut entries: Vec<wgpu::BindGroupEntry> = (0..)
            .zip(&step.binds)
            .map(|(binding, bind)| wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(self.resolve(*bind, state)),
            })
            .collect();
        let slot = |binding, buffer, offset, bytes| wgpu::BindGroupEntry {
            binding,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer,
                offset,
                size: NonZeroU64::new(bytes),
            }),
        };
        entries.push(slot(STEP, uniforms, at, SLOT));
        if step.kernel.has_run() {
            entries.push(slot(RUN, &self.run, run, RUN_BYTES));
        }
        let binds = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &layout,
            entries: &entries,
        });
        Ready {
            pipeline,
            binds,
            grid: step.grid,
        }
    }

    fn resolve<'a>(&'a self, bind: Bind, state: &'a State) -> wgpu::BufferBinding<'a> {
        let whole = |buffer: &'a wgpu::Buffer| wgpu::BufferBinding {
            buffer,
            offset: 0,
            size: None,
        };
        match bind {
            Bind::Weights { arena, offset, bytes } => wgpu::BufferBinding {
                buffer: &self.arenas[arena as usize],
                offset,
                size: NonZeroU64::new(bytes),
            },
            Bind::Vectors => whole(&self.vectors),
            Bind::Buf(i) => whole(&self.bufs[i as usize]),
            Bind::Ids => whole(&self.ids),
            Bind::Logits => whole(&self.head.logits),
            Bind::Best => whole(&self.head.best),
            Bind::Chosen => whole(&self.head.chosen),
            Bind::Runs => whole(&self.run),
            Bind::Tape => whole(&self.reply.tape),
            Bind::Choice => whole(&self.reply.choice),
            Bind::Counts => whole(self.reply.sampling(|s| &s.counts)),
            Bind::Weighed => whole(self.reply.sampling(|s| &s.values)),
            Bind::PlaceParts => whole(self.reply.sampling(|s| &s.place_parts)),
            Bind::Places => whole(self.reply.sampling(|s| &s.places)),
            Bind::Work => whole(self.reply.sampling(|s| &s.work)),
            Bind::Mixed => whole(&self.mixed),
            Bind::Up => whole(&self.up),
            Bind::Chunks => whole(&self.chunks),
            Bind::Spans => whole(&self.spans),
            Bind::Conv(i) => whole(&state.conv[i as usize]),
            Bind::Ssm(i) => whole(&state.ssm[i as usize]),
            Bind::Keys(i) => whole(&state.kv[i as usize].0),
            Bind::Values(i) => whole(&state.kv[i as usize].1),
        }
    }
}
