//! Where a device's time goes: its copy bandwidth, and the time of each kind of step in a recorded pass.
//!
//! Times are the GPU's own where it has timestamp queries ([`super::GpuOptions::timestamps`]), else the host's around whole submits.
//! Browsers coarsen timestamps to 100 us, so what is timed is always many dispatches: all layers' steps of one kind in one compute pass,
//! which also keeps the weights cold.

use super::{
    Gpu, State,
    cost::{Cost, Traffic},
    kernels::{Kernel, RUN, STEP},
    step::{Class, Step},
};
use crate::{Error, Result};
use serde::Serialize;

/// Steps of one kind.
#[derive(Debug, Clone, Serialize)]
pub struct OpTime {
    /// Kernel, and the shape of what it multiplies: `matvec_q4_k 2048x8512`.
    pub op: String,
    /// Of one pass.
    pub dispatches: u32,
    /// Of one pass, milliseconds.
    pub ms: f64,
    /// Moved by them, gigabytes a second.
    pub gbps: f64,
}

/// Bytes of the copy's source.
const COPY_BYTES: u64 = 64 << 20;
/// A measurement is repeated until it takes this long.
const LONG_ENOUGH_MS: f64 = 60.0;
const MOST_REPEATS: u32 = 1000;

/// What one timed compute pass runs.
struct Timed<'a> {
    pipeline: &'a wgpu::ComputePipeline,
    binds: &'a wgpu::BindGroup,
    size: [u32; 3],
}

impl Gpu {
    /// Bytes a second, read and written together, of a plain copy between two buffers too large for most caches.
    ///
    /// # Errors
    /// What the device says; [`Error::OutOfMemory`] where 128 MiB cannot be had.
    pub async fn copy_bandwidth(&mut self, now_ms: &dyn Fn() -> f64) -> Result<f64> {
        let pipeline = self.pipeline(Kernel::Copy);
        let [from, to] = [self.storage("copy", COPY_BYTES)?, self.storage("copy", COPY_BYTES)?];
        // A touch of the source first: memory that was never written may not exist.
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(&to, 0, &from, 0, COPY_BYTES);
        self.queue.submit([encoder.finish()]);
        let binds = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("copy"),
            layout: &pipeline.layout,
            entries: &[entry(0, &from), entry(1, &to), entry(STEP, &self.run), entry(RUN, &self.run)],
        });
        let groups = (COPY_BYTES / 16 / 1024) as u32;
        let timed = Timed {
            pipeline: &pipeline.pipeline,
            binds: &binds,
            size: [groups, 1, 1],
        };
        let ms = self.time(&[timed], now_ms).await?;
        from.destroy();
        to.destroy();
        Ok(2.0 * COPY_BYTES as f64 / ms * 1e3)
    }

    /// The time of each kind of step of one token after `pos`, the longest first. The state is spoilt by it. Empty until a token has been
    /// decoded on `state`.
    ///
    /// # Errors
    /// What the device says.
    pub async fn profile(&mut self, state: &mut State, pos: u32, now_ms: &dyn Fn() -> f64) -> Result<Vec<OpTime>> {
        let Some(plan) = state.plans[Class::One as usize].take() else {
            return Ok(Vec::new());
        };
        let account = plan.account(&self.tables, state.shape, 1, pos);
        // A name, its dispatches and what they move.
        let mut kinds: Vec<(String, Vec<Timed>, Traffic)> = Vec::new();
        for (step, ready) in plan.steps() {
            let size = step.grid.size(1, pos);
            if size[0] == 0 {
                continue;
            }
            let name = label(step);
            let at = kinds.iter().position(|k| k.0 == name).unwrap_or_else(|| {
                kinds.push((name, Vec::new(), Traffic::default()));
                kinds.len() - 1
            });
            let (pipeline, binds) = ready;
            kinds[at].1.push(Timed { pipeline, binds, size });
            account.count(step, &mut kinds[at].2);
        }
        let mut times = Vec::new();
        for (op, timed, traffic) in &kinds {
            let ms = self.time(timed, now_ms).await?;
            times.push(OpTime {
                op: op.clone(),
                dispatches: timed.len() as u32,
                ms,
                gbps: traffic.total() as f64 / ms / 1e6,
            });
        }
        drop(kinds);
        times.sort_by(|a, b| b.ms.total_cmp(&a.ms));
        state.plans[Class::One as usize] = Some(plan);
        Ok(times)
    }

    /// What one token after `pos` costs; `None` until a token has been decoded on `state`.
    pub fn cost(&self, state: &State, pos: u32) -> Option<Cost> {
        let plan = state.plans[Class::One as usize].as_ref()?;
        Some(plan.account(&self.tables, state.shape, 1, pos).cost())
    }

    /// Milliseconds that the dispatches take, one after another.
    async fn time(&mut self, timed: &[Timed<'_>], now_ms: &dyn Fn() -> f64) -> Result<f64> {
        let mut repeats = 1;
        self.time_once(timed, repeats, now_ms).await?; // compiles, and wakes a sleeping device
        loop {
            let ms = self.time_once(timed, repeats, now_ms).await?;
            if ms >= LONG_ENOUGH_MS || repeats >= MOST_REPEATS {
                return Ok((ms / repeats as f64).max(1e-6));
            }
            let more = (LONG_ENOUGH_MS * 1.2 / ms.max(0.05)).ceil();
            repeats = (repeats as f64 * more.clamp(2.0, 20.0)).min(MOST_REPEATS as f64) as u32;
        }
    }

    async fn time_once(&mut self, timed: &[Timed<'_>], repeats: u32, now_ms: &dyn Fn() -> f64) -> Result<f64> {
        let queries = self.device.features().contains(wgpu::Features::TIMESTAMP_QUERY).then(|| {
            self.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("profile"),
                ty: wgpu::QueryType::Timestamp,
                count: 2,
            })
        });
        self.mark_work();
        self.idle().await?;
        let start = now_ms();
        let mut encoder = self.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: Some("profile"),
                timestamp_writes: queries.as_ref().map(|query_set| wgpu::ComputePassTimestampWrites {
                    query_set,
                    beginning_of_pass_write_index: Some(0),
                    end_of_pass_write_index: Some(1),
                }),
            });
            for _ in 0..repeats {
                for t in timed {
                    let [x, y, z] = t.size;
                    pass.set_pipeline(t.pipeline);
                    pass.set_bind_group(0, t.binds, &[]);
                    pass.dispatch_workgroups(x, y, z);
                }
            }
        }
        let Some(queries) = queries else {
            self.queue.submit([encoder.finish()]);
            self.mark_work();
            self.idle().await?;
            return Ok(now_ms() - start);
        };
        let resolved = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("timestamps"),
            size: 16,
            usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        encoder.resolve_query_set(&queries, 0..2, &resolved, 0);
        encoder.copy_buffer_to_buffer(&resolved, 0, &self.staging, 0, 16);
        self.queue.submit([encoder.finish()]);
        let times = self.read::<u64>(2).await?;
        let [begin, end] = times[..] else {
            return Err(Error::Gpu {
                what: "timestamps were cut short".into(),
            });
        };
        Ok(end.saturating_sub(begin) as f64 * f64::from(self.queue.get_timestamp_period()) / 1e6)
    }
}

/// A kind of step, for people.
fn label(step: &Step) -> String {
    match step.product() {
        Some((n_cols, n_rows)) => format!("{} {n_cols}x{n_rows}", step.kernel.name()),
        None => step.kernel.name(),
    }
}

fn entry(binding: u32, buffer: &wgpu::Buffer) -> wgpu::BindGroupEntry<'_> {
    wgpu::BindGroupEntry {
        binding,
        resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer,
            offset: 0,
            size: None,
        }),
    }
}
