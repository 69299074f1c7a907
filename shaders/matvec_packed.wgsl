// One token, with x rounded to 8 bits and integer products of four bytes (dot4I8Packed). A workgroup rounds x for itself: each chunk
// of 32 has a scale of its own, the largest of it over 127. The sums stay exact integers up to the scales, which are f32 as ever.
// This changes the numbers (an error of about 1e-5 of the signal's power), so it only runs where it is asked for.

const STEP: u32 = min(HEAD, 2u);
const X_IS_SHARED: bool = true;
const BLOCK: u32 = 256u;
override KEPT: u32; // chunks of x in workgroup memory: N_CHUNKS, at most BLOCK

var<workgroup> xq: array<Words, KEPT>;
var<workgroup> scales: array<vec3<f32>, KEPT>; // of each chunk: its scale, and with it the sum of each run

fn pack(v: vec4<f32>, inv: f32) -> u32 {
    return pack4xI8(vec4<i32>(round(v * inv)));
}

fn peak(v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>) -> f32 {
    let m = max(max(abs(v0), abs(v1)), max(abs(v2), abs(v3)));
    return max(max(m.x, m.y), max(m.z, m.w));
}

fn dot16(a: vec4<u32>, b: vec4<u32>) -> i32 {
    return (dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y)) + (dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w));
}

/// Brings chunk `c` of x to place `i`.
fn round_chunk(c: u32, i: u32, sq: ptr<function, f32>) {
    let v = bring(c, sq).v;
    let most = max(peak(v[0], v[1], v[2], v[3]), peak(v[4], v[5], v[6], v[7]));
    let inv = select(0.0, 127.0 / most, most > 1e-30);
    let lo = vec4<u32>(pack(v[0], inv), pack(v[1], inv), pack(v[2], inv), pack(v[3], inv));
    let hi = vec4<u32>(pack(v[4], inv), pack(v[5], inv), pack(v[6], inv), pack(v[7], inv));
    xq[i] = Words(lo, hi);
    let ones = vec4(0x01010101u);
    scales[i] = most / 127.0 * vec3<f32>(1.0, f32(dot16(lo, ones)), f32(dot16(hi, ones)));
}

fn dot_rounded(s: Source, h: Head, c: u32, in: Words, scale: vec3<f32>) -> f32 {
    let q = words(s.planes, s.row, N_CHUNKS, c);
    let k = affine(h, c);
    return scale.x * dot(k.xy, vec2<f32>(f32(dot16(q.lo, in.lo)), f32(dot16(q.hi, in.hi)))) + dot(k.zw, scale.yz);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) size: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first_tile = (wid.y * size.x + wid.x) * (64u / LANES);
    let tile = first_tile + local / LANES;
    let s0 = tile_row(tile, 0u);
    let s1 = tile_row(tile, 1u);
    let s2 = tile_row(tile, 2u);
    let s3 = tile_row(tile, 3u);
    let s4 = tile_row(tile, 4u);
    let s5 = tile_row(tile, 5u);
    let s6 = tile_row(tile, 6u);
    let s7 = tile_row(tile, 7u);
    var acc0 = vec4(0.0);
    var acc1 = vec4(0.0);
    var sq = 0.0;
    for (var block = 0u; block < N_CHUNKS; block += BLOCK) {
        let end = min(block + BLOCK, N_CHUNKS);
        workgroupBarrier();
        for (var c = block + local; c < end; c += 64u) {
            round_chunk(c, c - block, &sq);
        }
        workgroupBarrier();
        for (var first = block + local % LANES * STEP; first < end; first += LANES * STEP) {
            let h0 = head_of(s0, first);
            let h1 = head_of(s1, first);
            let h2 = head_of(s2, first);
            let h3 = head_of(s3, first);
            let h4 = head_of(s4, first);
            let h5 = head_of(s5, first);
            let h6 = head_of(s6, first);
            let h7 = head_of(s7, first);
            for (var c = first; c < first + STEP; c++) {
                let in = xq[c - block];
                let k = scales[c - block];
                acc0 += vec4(
                    dot_rounded(s0, h0, c, in, k), dot_rounded(s1, h1, c, in, k),
                    dot_rounded(s2, h2, c, in, k), dot_rounded(s3, h3, c, in, k));
                acc1 += vec4(
                    dot_rounded(s4, h4, c, in, k), dot_rounded(s5, h5, c, in, k),
                    dot_rounded(s6, h6, c, in, k), dot_rounded(s7, h7, c, in, k));
            }
        }
    }
    join(first_tile, local, acc0, acc1, sq);
}
