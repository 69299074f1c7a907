// Attention for many tokens: one workgroup has up to 32 queries, the heads that share a key/value head times as many tokens as fit, and
// goes through the keys 64 at a time with a running softmax. So a key or value is loaded and decoded once for 32 queries.
// A thread scores 4 queries x 4 keys, then owns a quad of the result for its 4 queries: `quad` of queries and `lane` in both.

@group(0) @binding(1) var<storage, read> keys: array<Packed>; // [capacity, a row of kv/<type>.wgsl]
@group(0) @binding(2) var<storage, read> values: array<Packed>; // [capacity, a row of kv/<type>.wgsl]
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>; // [n, n_head * d_head]

const ROWS: u32 = 32u;  // queries
const KEYS: u32 = 64u;
const QUADS: u32 = 16u;  // of a head's result that one workgroup owns

var<workgroup> q_tile: array<vec4<f32>, 160>; // [query, 4 quads + 1]
var<workgroup> kv_tile: array<vec4<f32>, 320>; // [key, 4 quads + 1], then [16 keys, QUADS]
var<workgroup> weights: array<vec4<f32>, 512>; // [key, quad of queries]; lane r of a quad is query quad + 8 r

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let heads = op.n_head / op.n_head_kv; // that share a key/value head
    let packed_heads = min(heads, ROWS);
    let tokens = ROWS / packed_heads; // of a tile
    let tiles = (heads + ROWS - 1u) / ROWS;
    let slices = (op.d_head + QUADS - 1u) / QUADS;
    let slice = wid.x % slices;
    let head0 = (wid.x / slices) % tiles * ROWS; // of the group
    let head_kv = op.head_kv0 + wid.x / (slices * tiles);
    let token0 = wid.y * tokens;
    let end = run.pos + min(token0 + tokens, run.n);

    let quad = local / 16u;
    let lane = local % 16u;
    let kv0 = head_kv * op.d_head;
    // Query r is head r % packed_heads of token r / packed_heads; those that are not there repeat the last one.
    let rows = vec4(quad, quad + 8u, quad + 16u, quad + 24u);
    let sees = vec4(run.pos) + min(vec4(token0) + rows / packed_heads, vec4(run.n - 1u)); // the last key
    // The query that this thread loads.
    let q_head = head_kv * heads + min(head0 + local / 4u % packed_heads, heads - 1u);
    let q0 = min(token0 + local / 4u / packed_heads, run.n - 1u) * op.qkv_stride + q_head * op.d_head;

    var top = vec4(LOWEST);
    var sum = vec4(0.0); // of this thread's keys
    var acc0 = vec4(0.0);
    var acc1 = vec4(0.0);
    var acc2 = vec4(0.0);
    var acc3 = vec4(0.0);
    for (var base = 0u; base < end; base += KEYS) {
        // Lane r of s_j: query r of the thread, key lane + 16 j.
        var s0 = vec4(0.0);
        var s1 = vec4(0.0);
        var s2 = vec4(0.0);
        var s3 = vec4(0.0);
        for (var d0 = 0u; d0 < op.d_head; d0 += 4u) {
            let d = d0 + local % 4u;
            var q = vec4(0.0);
            if d < op.d_head {
                q = qkv[q0 + d];
            }
            q_tile[local / 4u * 5u + local % 4u] = q;
            for (var e = local; e < 4u * KEYS; e += 128u) {
                let key = base + e / 4u;
                var k = vec4(0.0);
                if key < end && d < op.d_head {
                    k = key_quad(key, kv0 + d);
                }
                kv_tile[e / 4u * 5u + e % 4u] = k;
            }
            workgroupBarrier();
            for (var i = 0u; i < 4u; i++) {
                let qa = q_tile[quad * 5u + i];
                let qb = q_tile[(quad + 8u) * 5u + i];
                let qc = q_tile[(quad + 16u) * 5u + i];
                let qd = q_tile[(quad + 24u) * 5u + i];
                let ka = kv_tile[lane * 5u + i];
                let kb = kv_tile[(lane + 16u) * 5u + i];
                let kc = kv_tile[(lane + 32u) * 5u + i];
                let kd = kv_tile[(lane + 48u) * 5u + i];
                s0 += vec4(dot(qa, ka), dot(qb, ka), dot(qc, ka), dot(qd, ka));
                s1 += vec4(dot(qa, kb), dot(qb, kb), dot(qc, kb), dot(qd, kb));
                s2 += vec4(dot(qa, kc), dot(qb, kc), dot(qc, kc), dot(qd, kc));
                s3 += vec4(dot(qa, kd), dot(qb, kd), dot(qc, kd), dot(qd, kd));
            }
            workgroupBarrier();
        }
        let key = base + lane;
        s0 = visible(s0, key, sees);
        s1 = visible(s1, key + 16u, sees);
        s2 = visible(s2, key + 32u, sees);
        s3 = visible(s3, key + 48u, sees);
        weights[quad * 16u + lane] = max(max(s0, s1), max(s2, s3));
        workgroupBarrier();
        var high = top;
        for (var i = 0u; i < 16u; i++) {
            high = max(high, weights[quad * 16u + i]);
        }
        workgroupBarrier();
        let e0 = weight(s0, high);
        let e1 = weight(s1, high);
        let e2 = weight(s2, high);
        let e3 = weight(s3, high);
        weights[lane * 8u + quad] = e0;
        weights[(lane + 16u) * 8u + quad] = e1;
        weights[(lane + 32u) * 8u + quad] = e2;
        weights[(lane + 48u) * 8u + quad] = e3;
        let shrink = exp(max(top - high, vec4(-80.0)));
        top = high;
        sum = sum * shrink + (e0 + e1) + (e2 + e3);
        acc0 *= shrink.x;
        acc1 *= shrink.y;
        acc2 *= shrink.z;
        acc3 *= shrink.w;
        for (var k0 = 0u; k0 < min(KEYS, end - base); k0 += 16u) {
            for (var e = local; e < 16u * QUADS; e += 128u) {
                let d = slice * QUADS + e % QUADS;
                let v_key = base + k0 + e / QUADS;
                kv_tile[e] = vec4(0.0);
                if v_key < end && d < op.d_head {
                    kv_tile[e] = value_quad(v_key, kv0 + d);
                }
            }
            workgroupBarrier();
            for (var k = 0u; k < 16u; k++) {
                let e = weights[(k0 + k) * 8u + quad];
                let v = kv_tile[k * QUADS + lane];
                acc0 += e.x * v;
                acc1 += e.y * v;
                acc2 += e.z * v;
                acc3 += e.w * v;
            }
            workgroupBarrier();
        }
    }

    weights[quad * 16u + lane] = sum;
    workgroupBarrier();
    var total = vec4(0.0);
    for (var i = 0u; i < 16u; i++) {
        total += weights[quad * 16u + i];
    }
    let d = slice * QUADS + lane;
    let results = array(acc0, acc1, acc2, acc3);
    for (var r = 0u; r < 4u; r++) {
        let head = head0 + rows[r] % packed_heads;
        let token = token0 + rows[r] / packed_heads;
        // What is left of 32 queries when the heads do not divide them belongs to the next tile.
        if d < op.d_head && head < heads && token < run.n && rows[r] < tokens * packed_heads {
            y[token * op.y_stride + (head_kv * heads + head) * op.d_head + d] = results[r] / total[r];
        }
    }
}
