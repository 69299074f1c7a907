// For formats whose floats are the quants themselves.

const PLACE: vec4<f32> = vec4(1.0);
