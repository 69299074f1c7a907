//! Every WGSL module that the GPU backend can compose, or single products ready to be dispatched, as JSON for tools.
//!
//! ```text
//! cargo run --example shaders                        [{"name": .., "source": .., "constants": {..}, "features": [..],
//!                                                    "readOnly": [bool, ..]}, ..] (tests/tint.mjs)
//! cargo run --example shaders Q4_K 8512 2048 64 ..   a type, rows, columns and tokens at a time: the same, and with it "groups",
//!                                                    "params" and "run" (bytes), "weightBytes", "planes" (bench/ort.mjs);
//!                                                    after --software the kernels of adapters that compute on the CPU
//! ```

use outcrop::backend::gpu::{Forms, Shader, product, shaders};
use outcrop::gguf::GgmlType;
use serde_json::{Value, json};
use std::{collections::BTreeMap, process::ExitCode};

fn shader(s: Shader) -> Value {
    let constants: BTreeMap<_, _> = s.constants.into_iter().collect();
    json!({ "name": s.name, "source": s.source, "constants": constants, "features": s.features, "readOnly": s.read_only })
}

fn products(args: &[String], software: bool) -> Result<Vec<Value>, String> {
    let forms = Forms::preferred(Forms::FEATURES, software);
    let mut all = Vec::new();
    for wanted in args.chunks(4) {
        let [ty, sizes @ ..] = wanted else {
            unreachable!("chunks are not empty")
        };
        let ty = GgmlType::ALL
            .into_iter()
            .find(|t| t.to_string() == *ty)
            .ok_or(format!("no such type: {ty}"))?;
        let sizes: Vec<u32> = sizes.iter().filter_map(|s| s.parse().ok()).collect();
        let &[n_rows, n_cols, n_tokens] = &sizes[..] else {
            return Err(format!("rows, columns and tokens are wanted after the type: {wanted:?}"));
        };
        let dispatches = product(forms, ty, n_rows, n_cols, n_tokens).map_err(|e| e.to_string())?;
        all.push(json!(
            dispatches
                .into_iter()
                .map(|p| {
                    let mut value = shader(p.shader);
                    value["groups"] = json!(p.groups);
                    value["params"] = json!(p.params);
                    value["run"] = json!(p.run);
                    value["weightBytes"] = json!(p.weight_bytes);
                    value["planes"] = json!(p.planes);
                    value
                })
                .collect::<Vec<_>>()
        ));
    }
    Ok(all)
}

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let software = args.first().is_some_and(|a| a == "--software");
    args.drain(..usize::from(software));
    let all = if args.is_empty() {
        Ok(shaders().into_iter().map(shader).collect())
    } else {
        products(&args, software)
    };
    match all {
        Ok(all) => {
            println!("{}", json!(all));
            ExitCode::SUCCESS
        }
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}
