//! Kernels made into pipelines: first everything short of compiling, then the rest, which takes a while.

use super::{
    forms::Constants,
    kernels::{Access, Kernel, RUN, STEP},
};

impl Kernel {
    /// Everything short of compiling. A kernel whose name begins with `sabotage` gets a shader that does nothing.
    pub(super) fn draft(self, device: &wgpu::Device, sabotage: Option<&str>) -> Draft {
        let broken = sabotage.is_some_and(|prefix| self.name().starts_with(prefix));
        let (source, constants) = match broken {
            true => ("@compute @workgroup_size(1) fn main() {}".to_owned(), Vec::new()),
            false => (self.source_for(cfg!(target_arch = "wasm32")), self.constants()),
        };
        let name = self.name();
        let entry = |binding, ty| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty,
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        };
        let mut entries: Vec<_> = (0..)
            .zip(self.storage())
            .map(|(i, access)| {
                entry(
                    i,
                    wgpu::BufferBindingType::Storage {
                        read_only: *access == Access::Read,
                    },
                )
            })
            .collect();
        entries.push(entry(STEP, wgpu::BufferBindingType::Uniform));
        if self.has_run() {
            entries.push(entry(RUN, wgpu::BufferBindingType::Uniform));
        }
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(&name),
            entries: &entries,
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(&name),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(&name),
            source: wgpu::ShaderSource::Wgsl(source.into()),
        });
        Draft {
            kernel: self,
            layout,
            pipeline_layout,
            module,
            constants,
        }
    }
}

/// A kernel's shader and bindings.
pub(super) struct Draft {
    pub(super) kernel: Kernel,
    layout: wgpu::BindGroupLayout,
    pipeline_layout: wgpu::PipelineLayout,
    module: wgpu::ShaderModule,
    constants: Constants,
}

impl Draft {
    /// Compiles. Errors go to the device's innermost error scope.
    pub(super) fn compile(self, device: &wgpu::Device) -> Pipeline {
        Pipeline {
            pipeline: self.make(device),
            layout: self.layout,
        }
    }

    /// The one call that compiles.
    pub(super) fn make(&self, device: &wgpu::Device) -> wgpu::ComputePipeline {
        device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&self.kernel.name()),
            layout: Some(&self.pipeline_layout),
            module: &self.module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &self.constants,
                ..Default::default()
            },
            cache: None,
        })
    }
}

/// A compiled kernel.
#[derive(Debug, Clone)]
pub(super) struct Pipeline {
    pub(super) pipeline: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
}
