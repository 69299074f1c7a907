// Output of a chunk: [L o CB | F C] times [dt x ; S], + D x, gate. One workgroup has its 64 tokens of up to QUADS * 4 channels of a
// head; a thread 8 tokens x 4 channels.

@group(0) @binding(3) var<storage, read> chunks: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // [n, I], gated, not normed

const THREADS: u32 = 8u * QUADS;

var<workgroup> left: array<vec4<f32>, 272>;         // [16 terms, 64 tokens], a column more to spread the banks
var<workgroup> right: array<vec4<f32>, 16u * QUADS>; // [16 terms, channels]
var<workgroup> decay: array<f32, CHUNK>;
var<workgroup> weight: array<f32, CHUNK>; // dt
var<workgroup> since: array<f32, CHUNK>;  // F
var<workgroup> chain: array<f32, 512>;    // [8, j] decay_{j+1} .. up to an octet of tokens

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let slices = (op.d_head + 4u * QUADS - 1u) / (4u * QUADS);
    let head = wid.x / slices;
    let p0 = wid.x % slices * 4u * QUADS;
    let group = group_of(head);
    let first = wid.y * CHUNK;
    let count = min(CHUNK, run.n - first);
    let octet = local / QUADS;
    let quad = local % QUADS;

    for (var j = local; j < CHUNK; j += THREADS) {
        decay[j] = 1.0;
        weight[j] = 0.0;
        if j < count {
            decay[j] = decay_at(first + j, head);
            weight[j] = dt_at(first + j, head);
        }
    }
    workgroupBarrier();
    for (var j = local; j < CHUNK; j += THREADS) {
        var l = 1.0;
        for (var i = j + 1u; i < CHUNK; i++) {
            if (i & 7u) == 0u {
                chain[(i >> 3u) * CHUNK + j] = l;
            }
            l *= decay[i];
        }
        var f = 1.0;
        for (var i = 0u; i <= j; i++) {
            f *= decay[i];
        }
        since[j] = f;
    }
    workgroupBarrier();

    var s0 = vec4(0.0);
    var s1 = vec4(0.0);
    var s2 = vec4(0.0);
    var s3 = vec4(0.0);
    var s4 = vec4(0.0);
    var s5 = vec4(0.0);
    var s6 = vec4(0.0);
    var s7 = vec4(0.0);
    let cb = (wid.y * op.n_group + group) * CHUNK * CHUNK;
    let state = state_at(wid.y, head);
    let own = (count + 15u) / 16u; // tiles of terms inside the chunk; the rest are the state's columns
    let tiles = own + (D_STATE + 15u) / 16u;
    for (var tile = 0u; tile < tiles; tile++) {
        let inside = tile < own;
        let k0 = select(tile - own, tile, inside) * 16u;
        for (var e = local; e < 128u; e += THREADS) {
            let k = k0 + (e & 15u);
            let i0 = (e >> 4u) * 8u;
            var l = 1.0;
            if inside && i0 > k {
                l = chain[i0 * (CHUNK / 8u) + k];
            }
            for (var q = 0u; q < 2u; q++) {
                var term = vec4(0.0);
                for (var r = 0u; r < 4u; r++) {
                    let i = i0 + q * 4u + r;
                    if !inside {
                        term[r] = since[i] * bc_at(first + i, 1u, group, k);
                    } else if i >= k {
                        l *= select(1.0, decay[i], i > k);
                        term[r] = l * chunks[cb + i * CHUNK + k];
                    }
                }
                left[(e & 15u) * 17u + (e >> 4u) * 2u + q] = term;
            }
        }
        for (var e = local; e < 16u * QUADS; e += THREADS) {
            let k = k0 + e / QUADS;
            let p = p0 + e % QUADS * 4u;
            if inside {
                right[e] = weight[k] * x_at(first + k, head, p);
            } else {
                var s = vec4(0.0);
                for (var r = 0u; r < 4u; r++) {
                    if k < D_STATE && p + r < op.d_head {
                        s[r] = chunks[state + k * op.d_head + p + r];
                    }
                }
                right[e] = s;
            }
        }
        workgroupBarrier();
        // Tokens before the tile see nothing of it.
        if !inside || octet * 8u + 7u >= k0 {
            for (var k = 0u; k < 16u; k++) {
                let lo = left[k * 17u + octet * 2u];
                let hi = left[k * 17u + octet * 2u + 1u];
                let r = right[k * QUADS + quad];
                s0 += lo.x * r;
                s1 += lo.y * r;
                s2 += lo.z * r;
                s3 += lo.w * r;
                s4 += hi.x * r;
                s5 += hi.y * r;
                s6 += hi.z * r;
                s7 += hi.w * r;
            }
        }
        workgroupBarrier();
    }

    let sums = array(s0, s1, s2, s3, s4, s5, s6, s7);
    let d = vectors[op.d + head];
    let channel = p0 + quad * 4u;
    for (var i = 0u; i < 8u; i++) {
        let token = first + octet * 8u + i;
        if token < run.n {
            let v = sums[i] + d * x_at(token, head, channel);
            for (var r = 0u; r < 4u; r++) {
                if channel + r < op.d_head {
                    let inner = head * op.d_head + channel + r;
                    y[token * op.y_stride + inner] = v[r] * silu(p[token * op.p_stride + inner]);
                }
            }
        }
    }
}
