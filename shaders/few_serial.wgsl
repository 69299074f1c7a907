// few for adapters that compute on the CPU: a thread has four rows for itself, so that there is nothing to join.

const THREADS: u32 = 16u;
const LANES: u32 = 1u;

/// Stores four rows of tokens `first..first + 4`.
fn finish(f: Four, first: u32, tile: u32, local: u32) {
    var sums = array<vec4<f32>, 4>(f.sums[0], f.sums[1], f.sums[2], f.sums[3]);
    var squares = f.squares;
    for (var t = 0u; t < min(4u, run.n - first); t++) {
        let y = inv_rms(squares[t]) * sums[t];
        if GLU {
            store(first + t, tile * 2u, silu(y.x) * y.z);
            store(first + t, tile * 2u + 1u, silu(y.y) * y.w);
        } else {
            store(first + t, tile * 4u, y.x);
            store(first + t, tile * 4u + 1u, y.y);
            store(first + t, tile * 4u + 2u, y.z);
            store(first + t, tile * 4u + 3u, y.w);
        }
    }
}
