// few by 16 lanes for four rows; a workgroup has four such groups, 16 rows.

const THREADS: u32 = 64u;
const LANES: u32 = 16u;
const GROUPS: u32 = 4u;

var<workgroup> part: array<vec4<f32>, 256>;   // [4 tokens, GROUPS, LANES]: four rows
var<workgroup> squares: array<vec4<f32>, 64>; // [GROUPS, LANES]: four tokens

/// Sum of a row over the lanes.
fn total(group: u32, token: u32, row: u32) -> f32 {
    var sum = 0.0;
    for (var l = 0u; l < LANES; l++) {
        sum += part[(token * GROUPS + group) * LANES + l][row];
    }
    return sum;
}

/// Joins the lanes' sums and stores those of tokens `first..first + 4`. A thread has a row of a token of its group.
fn finish(f: Four, first: u32, tile: u32, local: u32) {
    part[local] = f.sums[0];
    part[64u + local] = f.sums[1];
    part[128u + local] = f.sums[2];
    part[192u + local] = f.sums[3];
    squares[local] = f.squares;
    workgroupBarrier();
    let group = local / LANES;
    let token = (local >> 2u) & 3u;
    let row = local & 3u;
    if first + token < run.n {
        var sum = 0.0;
        for (var l = 0u; l < LANES; l++) {
            sum += squares[group * LANES + l][token];
        }
        let inv = inv_rms(sum);
        if !GLU {
            store(first + token, tile * 4u + row, inv * total(group, token, row));
        } else if row < 2u {
            store(first + token, tile * 2u + row, silu(inv * total(group, token, row)) * (inv * total(group, token, row + 2u)));
        }
    }
    workgroupBarrier();
}
