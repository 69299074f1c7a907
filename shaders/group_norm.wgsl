// y = rms(y) * gamma in place, per group of n_cols columns: one workgroup a group of a token.

struct GroupNorm {
    n_cols: u32, // of a group
    n_group: u32,
    y_stride: u32,
    gamma: u32,  // [n_group * n_cols] in the parameter arena
    eps: f32,
}

@group(0) @binding(0) var<storage, read_write> y: array<f32>; // [n, y_stride]
@group(0) @binding(1) var<storage, read> vectors: array<f32>; // the parameter arena
@group(0) @binding(8) var<uniform> op: GroupNorm;

var<workgroup> part: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    if run.n == 0u {
        return;
    }
    let base = wid.y * op.y_stride + wid.x * op.n_cols;
    var sum = 0.0;
    for (var i = local; i < op.n_cols; i += 64u) {
        sum += y[base + i] * y[base + i];
    }
    part[local] = sum;
    workgroupBarrier();
    sum = 0.0;
    for (var i = 0u; i < 64u; i++) {
        sum += part[i];
    }
    let inv = inverseSqrt(sum / f32(op.n_cols) + op.eps);
    for (var i = local; i < op.n_cols; i += 64u) {
        y[base + i] = y[base + i] * inv * vectors[op.gamma + wid.x * op.n_cols + i];
    }
}
