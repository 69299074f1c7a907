// y = x, as fast as memory allows: what a device's bandwidth is measured by. Each thread moves QUADS quads, a workgroup's width apart.

@group(0) @binding(0) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<u32>>;

const QUADS: u32 = 4u;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first = wid.x * 256u * QUADS + local;
    for (var i = 0u; i < QUADS; i++) {
        y[first + i * 256u] = x[first + i * 256u];
    }
}
