// Mamba-2 for many tokens, second half: the recurrence in token order, + D x, gate. Threads as in mamba_step; the state stays in
// registers. Sums of TOKENS tokens are exchanged at a time. Also moves the pass's last columns into the conv ring.

@group(0) @binding(2) var<storage, read> mixed: array<f32>;       // [n, xBC': I + 2GN | dt: H | decay: H]
@group(0) @binding(3) var<storage, read_write> ring: array<f32>;  // [d_conv, I + 2GN]
@group(0) @binding(4) var<storage, read_write> state: array<f32>; // [H, N, P]
@group(0) @binding(5) var<storage, read_write> y: array<f32>;     // [n, I], gated, not normed

const COLUMNS: u32 = (D_STATE + 3u) / 4u; // of a thread
const TOKENS: u32 = 8u;

var<workgroup> part: array<f32, 1024>; // [TOKENS, 4, 32]

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) size: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    remember((wid.y * size.x + wid.x) * 128u + local, size.x * size.y * 128u);

    let head = wid.x;
    let lane = local & 31u;
    let quarter = local >> 5u;
    let channel = wid.y * 32u + lane; // of the head
    let live = channel < op.d_head;
    let inner = head * op.d_head + min(channel, op.d_head - 1u);
    let group = head / (op.n_head / op.n_group);
    let b = d_inner() + group * D_STATE + quarter * COLUMNS;
    let c = b + op.n_group * D_STATE;
    let d = vectors[op.d + head];

    let at = (head * D_STATE + quarter * COLUMNS) * op.d_head + inner - head * op.d_head;
    let columns = min(COLUMNS, D_STATE - min(D_STATE, quarter * COLUMNS));
    var s: array<f32, COLUMNS>;
    for (var i = 0u; i < columns; i++) {
        s[i] = state[at + i * op.d_head];
    }
    for (var first = 0u; first < run.n; first += TOKENS) {
        let count = min(TOKENS, run.n - first);
        for (var k = 0u; k < count; k++) {
            let row = (first + k) * op.mixed_stride;
            let dx = mixed[row + d_xbc() + head] * mixed[row + inner];
            let decay = mixed[row + d_xbc() + op.n_head + head];
            var sum = 0.0;
            for (var i = 0u; i < columns; i++) {
                s[i] = decay * s[i] + dx * mixed[row + b + i];
                sum += s[i] * mixed[row + c + i];
            }
            part[k * 128u + local] = sum;
        }
        workgroupBarrier();
        if live {
            for (var k = quarter; k < count; k += 4u) {
                let token = first + k;
                let sums = k * 128u + lane;
                let v = (part[sums] + part[sums + 32u]) + (part[sums + 64u] + part[sums + 96u])
                    + d * mixed[token * op.mixed_stride + inner];
                y[token * op.y_stride + inner] = v * silu(p[token * op.p_stride + inner]);
            }
        }
        workgroupBarrier();
    }
    if live {
        for (var i = 0u; i < columns; i++) {
            state[at + i * op.d_head] = s[i];
        }
    }
}
