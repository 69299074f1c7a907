// Puts the spans of one token's attention together: one workgroup a head, a thread a quad of its result.

@group(0) @binding(1) var<storage, read> spans: array<vec4<f32>>;   // [span, n_head, d_head quads + 1: (max, sum, 0, 0)]
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>; // [1, n_head * d_head]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    if run.n == 0u {
        return;
    }
    let n_span = (run.pos + span()) / span(); // of pos + 1 keys
    let stride = op.n_head * (op.d_head + 1u);
    let base = wid.x * (op.d_head + 1u);
    var top = -3.0e38;
    for (var i = 0u; i < n_span; i++) {
        top = max(top, spans[base + i * stride + op.d_head].x);
    }
    for (var quad = local; quad < op.d_head; quad += 64u) {
        var acc = vec4(0.0);
        var sum = 0.0;
        for (var i = 0u; i < n_span; i++) {
            let tail = spans[base + i * stride + op.d_head];
            let weight = exp(max(tail.x - top, -80.0));
            sum += weight * tail.y;
            acc += weight * spans[base + i * stride + quad];
        }
        y[wid.x * op.d_head + quad] = acc / sum;
    }
}
