// Shared by matvec and matmul: y = scale * (W . x), with what is folded into it.
//
// NORM  x is RMS-normed: y = inv_rms * W (x * gamma), the sum of squares is gathered on the way
// ADD   y += instead of y =
// GLU   W is two matrices, y = silu(W0 . x) * (W1 . x)
// Several matrices of one type may stand in one dispatch (q, k, v): segment s has rows seg_end[s - 1]..seg_end[s] of y.

override N_CHUNKS: u32; // chunks of 32 in a row of W
override NORM: bool;
override ADD: bool;
override GLU: bool;

struct Product {
    n_rows: u32,   // columns of y that are written
    x_stride: u32, // quads
    y_stride: u32,
    y_col: u32,    // first column written
    gamma: u32,    // quads into the parameter arena
    scale: f32,
    eps: f32,
    seg_end: vec4<u32>,
    planes: array<vec4<u32>, 4>, // of each segment, quads into w
}

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;     // [rows, x_stride]
@group(0) @binding(2) var<storage, read> gamma: array<vec4<f32>>; // the parameter arena
@group(0) @binding(3) var<storage, read_write> y: array<f32>;     // [n, y_stride]
@group(0) @binding(8) var<uniform> op: Product;

struct Source {
    planes: vec4<u32>,
    row: u32, // of its matrix
}

fn source(row: u32) -> Source {
    if row < op.seg_end.x {
        return Source(op.planes[0], row);
    }
    if row < op.seg_end.y {
        return Source(op.planes[1], row - op.seg_end.x);
    }
    if row < op.seg_end.z {
        return Source(op.planes[2], row - op.seg_end.y);
    }
    return Source(op.planes[3], row - op.seg_end.z);
}

/// Scale of a token's results, from the sum of squares of its x.
fn inv_rms(squares: f32) -> f32 {
    if NORM {
        return inverseSqrt(squares / f32(N_CHUNKS * 32u) + op.eps);
    }
    return 1.0;
}

fn store(token: u32, row: u32, value: f32) {
    if row < op.n_rows {
        let i = token * op.y_stride + op.y_col + row;
        if ADD {
            y[i] += op.scale * value;
        } else {
            y[i] = op.scale * value;
        }
    }
}
