//! Adapter, device, limits, and what happens when they fail.

use super::{
    LOGITS_BYTES,
    ahead::Ahead,
    check::Cases,
    decode::Reply,
    fault::{Fault, gpu_error, watch},
    forms::Forms,
    kernels::Kernel,
    mixers::Scan,
    pace::Pace,
    pipelines::Pipeline,
    plan::SLOT,
    prepare::Readiness,
    record::{Recorder, Tables},
    step::Scratch,
    weights,
};
use crate::{Error, Result};
use futures_channel::oneshot;
use std::sync::{Arc, Mutex};

/// How to open a device.
#[derive(Debug, Clone)]
pub struct GpuOptions {
    /// Most tokens in a pass.
    pub n_ubatch: u32,
    /// Ask for nothing beyond WebGPU's default limits and features, whatever the adapter offers.
    pub default_limits: bool,
    /// Take an adapter that computes on the CPU. It is slower than the CPU backend, so only tests want it.
    pub allow_software: bool,
    /// Keeps bindings below this many bytes, as on a device with a lower limit.
    pub max_binding: Option<u64>,
    /// Runs these kernels instead of those preferred on the adapter. The device must have what they need.
    pub forms: Option<Forms>,
    /// Form of the Mamba recurrence over a batch.
    pub scan: Scan,
    /// Keys from which on a batch's attention is a step for each key/value head, so that no step takes too long.
    pub far: u32,
    /// Ask for timestamp queries where there are any: for [`Gpu::profile`].
    pub timestamps: bool,
    /// As `forms`, if the device can run them: what was found to be fastest on an earlier visit.
    pub remembered: Option<Forms>,
    /// Compares the forms that the device can run on the model's own weights and takes the fastest, see [`Gpu::tuning`]. `None`: on an
    /// adapter that is no CPU, unless `forms` or `remembered` says what to run.
    pub tune: Option<bool>,
    /// Kernels whose name begins with this do nothing: for tests of what happens on a device that computes wrongly.
    pub sabotage: Option<String>,
}

impl Default for GpuOptions {
    fn default() -> Self {
        GpuOptions {
            n_ubatch: 256,
            default_limits: false,
            allow_software: true,
            max_binding: None,
            forms: None,
            scan: Scan::Auto,
            far: 16 << 10,
            timestamps: false,
            remembered: None,
            tune: None,
            sabotage: None,
        }
    }
}

/// What the device is, for people.
#[derive(Debug, Clone)]
pub struct GpuInfo {
    /// Adapter or driver description.
    pub name: String,
    /// `BrowserWebGpu`, `Vulkan`, `Metal`.
    pub backend: String,
    /// It computes on the CPU.
    pub software: bool,
    /// Largest storage binding in bytes.
    pub max_binding: u64,
    /// Of [`Forms::FEATURES`] what the device has, for [`Forms::candidates`]; in a browser wgpu's own answer lacks some.
    pub features: wgpu::Features,
}

/// The head's buffers.
pub(super) struct Head {
    /// `[rows, n_vocab]`.
    pub(super) logits: wgpu::Buffer,
    pub(super) best: wgpu::Buffer,
    pub(super) chosen: wgpu::Buffer,
    /// Rows that `logits` holds.
    pub(super) rows: u32,
    n_vocab: u32,
}

/// Weights, buffers and pipelines of one model on one device.
pub struct Gpu {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    info: GpuInfo,
    max_buffer: u64,
    pub(super) fault: Arc<Mutex<Option<Fault>>>,
    pub(super) tables: Tables,
    pub(super) arenas: Vec<wgpu::Buffer>,
    /// Matrices that have a place in an arena.
    placed: usize,
    pub(super) vectors: wgpu::Buffer,
    pub(super) bufs: Vec<wgpu::Buffer>,
    /// Scratch of the upload.
    pub(super) split: Vec<u8>,
    /// Bytes written since the last flush.
    pub(super) unflushed: u64,
    pub(super) pipelines: Vec<(Kernel, Pipeline)>,
    /// Kernels that are being compiled while weights arrive.
    pub(super) ahead: Option<Ahead>,
    /// Collects what a model asks for while its ops are recorded for the first time.
    pub(super) census: Option<Cases>,
    pub(super) readiness: Readiness,
    pub(super) tune: bool,
    pub(super) sabotage: Option<String>,
    pub(super) run: wgpu::Buffer,
    pub(super) ids: wgpu::Buffer,
    pub(super) head: Head,
    pub(super) staging: wgpu::Buffer,
    pub(super) mixed: wgpu::Buffer,
    pub(super) up: wgpu::Buffer,
    pub(super) chunks: wgpu::Buffer,
    pub(super) spans: wgpu::Buffer,
    pub(super) reply: Reply,
    pub(super) recording: Option<Recorder>,
    pub(super) pace: Pace,
    work: Option<oneshot::Receiver<()>>,
    pub(super) dispatched: u32,
}

fn no_gpu(what: impl ToString) -> Error {
    Error::NoGpu { what: what.to_string() }
}

impl Gpu {
    /// Opens the best adapter. [`Error::NoGpu`] says why there is none.
    pub async fn new(options: GpuOptions) -> Result<Gpu> {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = if cfg!(target_arch = "wasm32") {
            wgpu::Backends::BROWSER_WEBGPU
        } else {
            wgpu::Backends::PRIMARY
        };
        #[cfg(target_arch = "wasm32")]
        let asking = (!options.default_limits).then(super::web::Watch::new).flatten();
        let adapter = wgpu::Instance::new(descriptor)
            .request_adapter(&wgpu::RequestAdapterOptions {
                power_preference: wgpu::PowerPreference::HighPerformance,
                ..Default::default()
            })
            .await
            .map_err(no_gpu)?;
        let adapter_info = adapter.get_info();
        let software = adapter_info.device_type == wgpu::DeviceType::Cpu;
        if software && !options.allow_software {
            return Err(no_gpu(
                "the only adapter computes on the CPU, and slower than this engine does by itself",
            ));
        }
        let mut limits = wgpu::Limits::default();
        if !options.default_limits {
            let offered = adapter.limits();
            limits.max_storage_buffer_binding_size = offered.max_storage_buffer_binding_size;
            limits.max_buffer_size = offered.max_buffer_size;
        }
        let asked = if options.default_limits {
            wgpu::Features::empty()
        } else {
            adapter.features() & Forms::FEATURES
        };
        let features = asked;
        #[cfg(target_arch = "wasm32")]
        let features = match asking {
            Some(watch) if watch.found() => features | wgpu::Features::SUBGROUP,
            _ => features,
        };
        let known = options.forms.or(options.remembered.filter(|forms| forms.run_on(features)));
        let forms = known.unwrap_or(Forms::preferred(features, software));
        if !forms.run_on(features) {
            return Err(no_gpu(format!("the adapter lacks what {forms:?} needs")));
        }
        let timestamps = adapter.features() & wgpu::Features::TIMESTAMP_QUERY;
        let asked = if options.timestamps { asked | timestamps } else { asked };
        let (device, queue) = adapter
            .request_device(&wgpu::DeviceDescriptor {
                label: Some("outcrop"),
                required_features: asked,
                required_limits: limits,
                ..Default::default()
            })
            .await
            .map_err(no_gpu)?;
        let fault = watch(&device);

        let limits = device.limits();
        // A multiple of a quad, so that a range of it may be bound as an array of quads.
        let max_binding = limits
            .max_storage_buffer_binding_size
            .min(limits.max_buffer_size)
            .min(options.max_binding.unwrap_or(u64::MAX))
            / 256
            * 256;
        let info = GpuInfo {
            name: describe(&adapter_info),
            backend: format!("{:?}", adapter_info.backend),
            software,
            max_binding,
            features,
        };
        let tables = Tables {
            n_ubatch: options.n_ubatch.max(1),
            max_binding,
            forms,
            scan: options.scan,
            far: options.far,
            ..Default::default()
        };
        let mut gpu = Gpu::on(device, queue, info, limits.max_buffer_size, fault, tables);
        gpu.sabotage = options.sabotage;
        gpu.tune = options.tune.unwrap_or(known.is_none() && !software);
        Ok(gpu)
    }

    /// Another on the same device and its pipelines, with nothing declared.
    pub(super) fn beside(&self, n_ubatch: u32) -> Gpu {
        let tables = Tables {
            n_ubatch,
            max_binding: self.tables.max_binding,
            forms: self.tables.forms,
            scan: self.tables.scan,
            far: self.tables.far,
            ..Default::default()
        };
        let (device, queue) = (self.device.clone(), self.queue.clone());
        let mut gpu = Gpu::on(device, queue, self.info.clone(), self.max_buffer, self.fault.clone(), tables);
        gpu.pipelines.clone_from(&self.pipelines);
        gpu.sabotage.clone_from(&self.sabotage);
        gpu
    }

    fn on(
        device: wgpu::Device,
        queue: wgpu::Queue,
        info: GpuInfo,
        max_buffer: u64,
        fault: Arc<Mutex<Option<Fault>>>,
        tables: Tables,
    ) -> Gpu {
        let n_ubatch = tables.n_ubatch;
        let buffer = |label, size, usage| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size,
                usage: usage | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        };
        let empty = |label| buffer(label, 16, wgpu::BufferUsages::STORAGE);
        Gpu {
            info,
            max_buffer,
            fault,
            tables,
            arenas: Vec::new(),
            placed: 0,
            vectors: empty("vectors"),
            bufs: Vec::new(),
            split: Vec::new(),
            unflushed: 0,
            pipelines: Vec::new(),
            ahead: None,
            census: None,
            readiness: Readiness::default(),
            tune: false,
            sabotage: None,
            run: buffer("run", 2 * SLOT, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::STORAGE),
            ids: buffer("ids", n_ubatch as u64 * 4, wgpu::BufferUsages::STORAGE),
            head: Head {
                logits: empty("logits"),
                best: empty("best"),
                chosen: buffer("chosen", 16, wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC),
                rows: 0,
                n_vocab: 0,
            },
            staging: buffer("staging", 16, wgpu::BufferUsages::MAP_READ),
            mixed: empty("mixed"),
            up: empty("up"),
            chunks: empty("chunks"),
            spans: empty("spans"),
            reply: Reply::new(&device),
            recording: None,
            pace: Pace::new(),
            work: None,
            dispatched: 0,
            device,
            queue,
        }
    }

    /// What the device is.
    pub fn info(&self) -> &GpuInfo {
        &self.info
    }

    /// Dispatches of the last pass.
    pub fn dispatches(&self) -> u32 {
        self.dispatched
    }

    /// Gives the device's memory back at once; every later call is an error.
    pub fn destroy(&self) {
        self.device.destroy();
    }

    /// Bytes of weights on the device.
    pub fn weight_bytes(&self) -> u64 {
        self.arenas.iter().map(|a| a.size()).sum()
    }

    /// A zeroed storage buffer that can be bound whole.
    pub(super) fn storage(&self, what: &'static str, bytes: u64) -> Result<wgpu::Buffer> {
        let bytes = bytes.max(16).next_multiple_of(16);
        if bytes > self.tables.max_binding {
            return Err(Error::OutOfMemory { what, bytes });
        }
        Ok(self.raw_storage(what, bytes))
    }

    fn raw_storage(&self, what: &'static str, size: u64) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(what),
            size,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        })
    }

    /// Gives what was declared since the last time a place on the device.
    pub(super) fn seal(&mut self) -> Result<()> {
        if self.placed < self.tables.mats.len() {
            let limit = self.tables.max_binding.min(self.max_buffer);
            let sizes = weights::place(&mut self.tables.mats, self.placed, self.arenas.len() as u32, limit);
            self.placed = self.tables.mats.len();
            for size in sizes {
                self.arenas.push(self.raw_storage("weights", size));
            }
        }
        let bytes = self.tables.vectors_len as u64 * 4;
        if bytes > self.vectors.size() {
            let new = self.storage("vectors", bytes)?;
            if self.vectors.usage().contains(wgpu::BufferUsages::COPY_SRC) {
                let mut encoder = self.device.create_command_encoder(&Default::default());
                encoder.copy_buffer_to_buffer(&self.vectors, 0, &new, 0, self.vectors.size());
                self.queue.submit([encoder.finish()]);
            }
            self.vectors = new;
        }
        self.check()
    }

    /// The kernel, compiled now if it was not.
    pub(super) fn pipeline(&mut self, kernel: Kernel) -> Pipeline {
        if let Some((_, p)) = self.pipelines.iter().find(|(k, _)| *k == kernel) {
            return p.clone();
        }
        let made = kernel.draft(&self.device, self.sabotage.as_deref()).compile(&self.device);
        self.pipelines.push((kernel, made.clone()));
        made
    }

    /// Makes the buffers that a recording needs at least as large as it needs them. Plans made before keep the old ones.
    pub(super) fn grow_scratch(&mut self, rec: &Recorder) -> Result<()> {
        let Scratch {
            mixed,
            chunks,
            up,
            spans,
        } = rec.scratch;
        let fit = |slot: &wgpu::Buffer, what, len: u64| match slot.size() < len * 4 {
            true => self.storage(what, len * 4),
            false => Ok(slot.clone()),
        };
        let (mixed, chunks) = (fit(&self.mixed, "mixed", mixed)?, fit(&self.chunks, "chunks", chunks)?);
        let (up, spans) = (fit(&self.up, "up", up)?, fit(&self.spans, "spans", spans)?);
        (self.mixed, self.chunks, self.up, self.spans) = (mixed, chunks, up, spans);
        if self.head.n_vocab < rec.n_vocab {
            let row = rec.n_vocab as u64 * 4;
            let most = (LOGITS_BYTES.min(self.tables.max_binding) / row).max(1);
            self.head.rows = most.min(self.tables.n_ubatch as u64) as u32;
            self.head.logits = self.storage("logits", row * self.head.rows as u64)?;
            self.head.best = self.storage("best", rec.n_vocab.div_ceil(4096) as u64 * 16)?;
            self.head.n_vocab = rec.n_vocab;
        }
        Ok(())
    }

    /// Makes the staging buffer at least this large.
    pub(super) fn fit_staging(&mut self, bytes: u64) -> Result<()> {
        if self.staging.size() < bytes {
            if bytes > self.max_buffer {
                return Err(Error::OutOfMemory {
                    what: "reading the logits back",
                    bytes,
                });
            }
            self.staging = self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("staging"),
                size: bytes,
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
        }
        Ok(())
    }

    /// The first `len` values of the staging buffer, once everything submitted has run.
    pub(super) async fn read<T: bytemuck::Pod>(&mut self, len: usize) -> Result<Vec<T>> {
        let (done, mapped) = oneshot::channel();
        let range = 0..(len * size_of::<T>()) as u64;
        self.staging.map_async(wgpu::MapMode::Read, range.clone(), move |r| {
            let _ = done.send(r);
        });
        self.poll(true)?;
        let mapped = mapped.await;
        self.check()?;
        mapped.map_err(gpu_error)?.map_err(gpu_error)?;
        let values = {
            let view = self.staging.get_mapped_range(range).map_err(gpu_error)?;
            bytemuck::pod_collect_to_vec(&view)
        };
        self.staging.unmap();
        self.work = None;
        Ok(values)
    }

    /// Remembers the work submitted so far, for [`Gpu::idle`].
    pub(super) fn mark_work(&mut self) {
        let (done, work) = oneshot::channel();
        self.queue.on_submitted_work_done(move || {
            let _ = done.send(());
        });
        self.work = Some(work);
    }

    /// Waits for what [`Gpu::mark_work`] remembered, or for everything at the end of a load.
    pub(super) async fn idle(&mut self) -> Result<()> {
        if self.unflushed > 0 {
            self.unflushed = 0;
            self.mark_work();
        }
        if let Some(work) = self.work.take() {
            self.poll(true)?;
            work.await.map_err(gpu_error)?;
        }
        self.check()
    }

    /// Lets a native device call back. A browser does it by itself.
    pub(super) fn poll(&self, wait: bool) -> Result<()> {
        if cfg!(not(target_arch = "wasm32")) {
            let how = if wait {
                wgpu::PollType::wait_indefinitely()
            } else {
                wgpu::PollType::Poll
            };
            self.device.poll(how).map_err(gpu_error)?;
        }
        Ok(())
    }
}

fn describe(info: &wgpu::AdapterInfo) -> String {
    let parts = [&info.name, &info.driver, &info.driver_info];
    let words: Vec<&str> = parts.iter().map(|s| s.trim()).filter(|s| !s.is_empty()).collect();
    if words.is_empty() {
        "unnamed adapter".into()
    } else {
        words.join(", ")
    }
}
