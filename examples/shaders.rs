//! Every WGSL module that the GPU backend can compose, as JSON for tools that validate shaders (tests/tint.mjs).
//!
//! ```text
//! cargo run --example shaders          prints [{"name": .., "source": .., "readOnly": [bool, ..]}, ..]
//! ```

use outcrop::backend::gpu::shaders;
use serde_json::json;

fn main() {
    let all: Vec<_> = shaders()
        .into_iter()
        .map(|s| json!({ "name": s.name, "source": s.source, "readOnly": s.read_only }))
        .collect();
    println!("{}", json!(all));
}
