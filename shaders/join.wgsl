// The end of a mat-vec without subgroups: LANES lanes had a tile's eight rows, 64 threads add them up in two steps of eight.

override LANES: u32; // 8 to 64, a power of two; as many as K keeps busy

var<workgroup> part: array<vec4<f32>, 128>; // [64, 8 rows]
var<workgroup> squares: array<f32, 64>;
var<workgroup> eighths: array<vec2<f32>, 64>; // [8 times 8 lanes, 8 rows]: sum, sum of squares

/// Sum of row `row` and sum of squares, over eighths `from` to `to`.
fn total(row: u32, start: u32, end: u32) -> vec2<f32> {
    var sum = vec2(0.0);
    for (var i = start; i < end; i++) {
        sum += eighths[i * 8u + row];
    }
    return sum;
}

fn join(first_tile: u32, local: u32, acc0: vec4<f32>, acc1: vec4<f32>, sq: f32) {
    part[local * 2u] = acc0;
    part[local * 2u + 1u] = acc1;
    squares[local] = sq;
    workgroupBarrier();
    let row = local & 7u;
    let eighth = local >> 3u;
    var sum = vec2(0.0);
    for (var l = eighth * 8u; l < eighth * 8u + 8u; l++) {
        sum += vec2(part[l * 2u + (row >> 2u)][row & 3u], squares[l]);
    }
    eighths[local] = sum;
    workgroupBarrier();
    if eighth < 64u / LANES {
        let start = eighth * LANES / 8u;
        let end = start + LANES / 8u;
        let y = total(row, start, end);
        // Squares are of what a group read, all of x, or of what the whole workgroup read.
        let sq = select(y.y, total(row, 0u, 8u).y, X_IS_SHARED);
        store_column(first_tile + eighth, row, inv_rms(sq), y.x, total(row ^ 4u, start, end).x);
    }
}
