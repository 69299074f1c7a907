// The running softmax of attend_batch: scores of one key with four queries.

const LOWEST: f32 = -3.0e38;

/// Lowest for the queries that may not see the key.
fn visible(s: vec4<f32>, key: u32, sees: vec4<u32>) -> vec4<f32> {
    return select(vec4(LOWEST), s * op.scale, vec4(key) <= sees);
}

fn weight(s: vec4<f32>, high: vec4<f32>) -> vec4<f32> {
    return select(vec4(0.0), exp(max(s - high, vec4(-80.0))), s > vec4(LOWEST));
}
