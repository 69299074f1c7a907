// x[t] = scale * row ids[t] of the table. A table in several slabs takes a dispatch each; one writes only the ids it holds.

struct Embed {
    n_chunks: u32, // chunks of 32 in a row
    x_stride: u32, // quads
    row0: u32,     // first row of this slab
    n_rows: u32,   // rows of this slab
    scale: f32,
    planes: vec4<u32>,
}

@group(0) @binding(1) var<storage, read> ids: array<u32>;           // [n]
@group(0) @binding(2) var<storage, read_write> x: array<vec4<f32>>; // [n, x_stride]
@group(0) @binding(8) var<uniform> op: Embed;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let c = id.x;
    let token = id.y;
    if c >= op.n_chunks || token >= run.n {
        return;
    }
    let row = ids[token];
    if row < op.row0 || row - op.row0 >= op.n_rows {
        return;
    }
    let k = chunk(op.planes, row - op.row0, op.n_chunks, c);
    let lo = token * op.x_stride + chunk_lo(c);
    let hi = lo + HI;
    x[lo] = op.scale * (k.a.x * k.q[0] + k.b.x);
    x[lo + 1u] = op.scale * (k.a.x * k.q[1] + k.b.x);
    x[lo + 2u] = op.scale * (k.a.x * k.q[2] + k.b.x);
    x[lo + 3u] = op.scale * (k.a.x * k.q[3] + k.b.x);
    x[hi] = op.scale * (k.a.y * k.q[4] + k.b.y);
    x[hi + 1u] = op.scale * (k.a.y * k.q[5] + k.b.y);
    x[hi + 2u] = op.scale * (k.a.y * k.q[6] + k.b.y);
    x[hi + 3u] = op.scale * (k.a.y * k.q[7] + k.b.y);
}
