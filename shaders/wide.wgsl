// Sums of weights: 64 bits as (low, high), in units of 2^-41. Where atomics add, in three limbs of which 2^17 can be added.

fn plus(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x + b.x;
    return vec2(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn minus(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return vec2(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x));
}

fn at_least(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.y > b.y || (a.y == b.y && a.x >= b.x);
}

fn is_zero(a: vec2<u32>) -> bool {
    return (a.x | a.y) == 0u;
}

/// Limbs of 2^-13, 2^-27 and 2^-41 of a number from 0 to 1.
fn limbs(weight: f32) -> vec3<u32> {
    let a = weight * 8192.0;
    let b = (a - floor(a)) * 16384.0;
    return vec3<u32>(u32(a), u32(b), u32((b - floor(b)) * 16384.0));
}

fn joined(sum: vec3<u32>) -> vec2<u32> {
    let high = vec2(sum.x << 28u, sum.x >> 4u);
    return plus(plus(high, vec2(sum.y << 14u, sum.y >> 18u)), vec2(sum.z, 0u));
}

fn wide(weight: f32) -> vec2<u32> {
    return joined(limbs(weight));
}

/// ceil(sum * factor * 2^-shift), the factor below 2^24.
fn scaled_up(sum: vec2<u32>, factor: u32, shift: u32) -> vec2<u32> {
    let t = array<u32, 4>(sum.x & 0xffffu, sum.x >> 16u, sum.y & 0xffffu, sum.y >> 16u);
    var r: array<u32, 6>; // 16 bits each
    var carry = 0u;
    for (var i = 0u; i < 4u; i++) {
        let v = t[i] * (factor & 0xffffu) + carry;
        r[i] = v & 0xffffu;
        carry = v >> 16u;
    }
    r[4] = carry;
    carry = 0u;
    for (var i = 0u; i < 4u; i++) {
        let v = t[i] * (factor >> 16u) + r[i + 1u] + carry;
        r[i + 1u] = v & 0xffffu;
        carry = v >> 16u;
    }
    r[5] = carry;
    // What is shifted out decides about rounding up.
    var lost = 0u;
    for (var n = min(shift, 96u); n > 0u; n -= min(n, 16u)) {
        let bits = min(n, 16u);
        lost |= r[0] & ((1u << bits) - 1u);
        for (var i = 0u; i < 6u; i++) {
            var above = 0u;
            if i < 5u {
                above = r[i + 1u];
            }
            r[i] = ((r[i] | (above << 16u)) >> bits) & 0xffffu;
        }
    }
    return plus(vec2(r[0] | (r[1] << 16u), r[2] | (r[3] << 16u)), vec2(select(0u, 1u, lost > 0u), 0u));
}
