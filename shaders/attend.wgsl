// Attention of up to four query heads that share a key/value head, for one token, over one span of the context.
// Running softmax over tiles of 64 keys: a thread scores one key for the four heads, then owns a quad of the values.
// A single token's context is split into spans over workgroups (attend_join puts them together); a batch has workgroups enough.

@group(0) @binding(1) var<storage, read> keys: array<Packed>; // [capacity, a row of kv/<type>.wgsl]
@group(0) @binding(2) var<storage, read> values: array<Packed>; // [capacity, a row of kv/<type>.wgsl]
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;     // [n, n_head * d_head]
@group(0) @binding(4) var<storage, read_write> spans: array<vec4<f32>>; // [span, n_head, d_head quads + 1: (max, sum, 0, 0)]

const QUADS: u32 = 64u;       // widest slice of a head that one workgroup owns
const LOWEST: f32 = -3.0e38;

var<workgroup> score: array<vec4<f32>, 64>; // [key], a lane a head
var<workgroup> fold: array<vec4<f32>, 256>; // [head, thread]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) size: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    if run.n == 0u {
        return;
    }
    let heads = op.n_head / op.n_head_kv; // that share a key/value head
    let tiles = (heads + 3u) / 4u;
    let slices = (op.d_head + QUADS - 1u) / QUADS;
    let slice = wid.x % slices;
    let tile = (wid.x / slices) % tiles;
    let head_kv = wid.x / (slices * tiles);
    let head = head_kv * heads + tile * 4u;
    let n_live = min(4u, heads - tile * 4u);
    let token = wid.y;
    let split = size.z > 1u;
    let end = select(run.pos + token + 1u, min(run.pos + token + 1u, (wid.z + 1u) * span()), split);
    let begin = select(0u, wid.z * span(), split);

    let q = token * op.qkv_stride + head * op.d_head;
    // Lanes without a head score the last one again.
    let q1 = q + min(1u, n_live - 1u) * op.d_head;
    let q2 = q + min(2u, n_live - 1u) * op.d_head;
    let q3 = q + min(3u, n_live - 1u) * op.d_head;

    // Threads over the slice's quads; what is left over takes other keys of the tile.
    let n_quad = min(QUADS, op.d_head - slice * QUADS);
    let ways = 64u / n_quad;
    let quad = local % n_quad;
    let way = local / n_quad;
    let busy = way < ways;

    var top = vec4(LOWEST);
    var sum = vec4(0.0);
    var acc0 = vec4(0.0);
    var acc1 = vec4(0.0);
    var acc2 = vec4(0.0);
    var acc3 = vec4(0.0);
    for (var base = begin; base < end; base += 64u) {
        let count = min(64u, end - base);
        var s = vec4(LOWEST);
        if local < count {
            s = vec4(0.0);
            for (var i = 0u; i < op.d_head; i++) {
                let k = key_quad(base + local, head_kv * op.d_head + i);
                s += vec4(dot(qkv[q + i], k), dot(qkv[q1 + i], k), dot(qkv[q2 + i], k), dot(qkv[q3 + i], k));
            }
            s *= op.scale;
        }
        score[local] = s;
        workgroupBarrier();
        var high = top;
        for (var i = 0u; i < count; i++) {
            high = max(high, score[i]);
        }
        workgroupBarrier();
        score[local] = select(vec4(0.0), exp(max(s - high, vec4(-80.0))), local < count);
        let shrink = exp(max(top - high, vec4(-80.0)));
        top = high;
        sum *= shrink;
        acc0 *= shrink.x;
        acc1 *= shrink.y;
        acc2 *= shrink.z;
        acc3 *= shrink.w;
        workgroupBarrier();
        if busy {
            for (var i = way; i < count; i += ways) {
                let e = score[i];
                let v = value_quad(base + i, head_kv * op.d_head + slice * QUADS + quad);
                sum += e;
                acc0 += e.x * v;
                acc1 += e.y * v;
                acc2 += e.z * v;
                acc3 += e.w * v;
            }
        }
        workgroupBarrier();
    }
    score[local] = sum;
    fold[local] = acc0;
    fold[64u + local] = acc1;
    fold[128u + local] = acc2;
    fold[192u + local] = acc3;
    workgroupBarrier();

    // A thread that owns a quad gathers the ways, a head at a time.
    if local < n_quad {
        var total = vec4(0.0);
        for (var j = 0u; j < ways; j++) {
            total += score[j * n_quad + quad];
        }
        for (var h = 0u; h < n_live; h++) {
            var acc = vec4(0.0);
            for (var j = 0u; j < ways; j++) {
                acc += fold[h * 64u + j * n_quad + quad];
            }
            let at = slice * QUADS + quad;
            if split {
                let out = (wid.z * op.n_head + head + h) * (op.d_head + 1u);
                spans[out + at] = acc;
                if at == 0u {
                    spans[out + op.d_head] = vec4(top[h], total[h], 0.0, 0.0);
                }
            } else {
                y[token * op.y_stride + (head + h) * op.d_head + at] = acc / total[h];
            }
        }
    }
}
