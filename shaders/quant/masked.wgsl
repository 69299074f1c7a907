// Unsigned bytes as floats, each left where it stands in the word: what it is multiplied by makes up for that (PLACE, exact powers of
// two). A shift less for each weight, where shifts are not free; fields must be less than 128, for a signed conversion.

const PLACE: vec4<f32> = vec4(1.0, 0x1p-8, 0x1p-16, 0x1p-24);

fn floats(v: u32) -> vec4<f32> {
    return vec4<f32>(bitcast<vec4<i32>>(vec4(v) & vec4<u32>(0xffu, 0xff00u, 0xff0000u, 0xff000000u)));
}
