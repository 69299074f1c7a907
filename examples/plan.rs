//! What WebGPU would be asked to do for a token and for a prompt, counted from the recorded plan, as JSON. No GPU is needed.
//!
//! ```text
//! cargo run --release --example plan -- [--shape h-micro] [--model M.gguf] [--context 512] [--prompt 512]
//!     --shape S     a published model's: h-350m, h-1b, h-micro
//!     --model M     or that of a file; only its header is read
//!     --context N   tokens before the one that is counted
//!     --prompt N    tokens of the prompt
//! ```

use std::{error::Error, path::PathBuf, process::ExitCode};

use outcrop::{
    backend::{KvType, Want},
    bench::{self, Shape},
    generate::{TOKENS_PER_SUBMIT, read_header},
    gguf::{Gguf, HeaderReader},
};
use serde_json::{Value, json};

fn main() -> ExitCode {
    match run() {
        Ok(json) => {
            println!("{json:#}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<Value, Box<dyn Error>> {
    use lexopt::prelude::*;
    let (mut shape, mut model, mut context, mut prompt) = (Shape::HMicro, None::<PathBuf>, 512, 512);
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("shape") => shape = Shape::from_name(&parser.value()?.string()?).ok_or("--shape is h-350m, h-1b or h-micro")?,
            Long("model") => model = Some(parser.value()?.into()),
            Long("context") => context = parser.value()?.parse()?,
            Long("prompt") => prompt = parser.value()?.parse()?,
            _ => return Err(arg.unexpected().into()),
        }
    }
    let (name, gguf) = match model {
        Some(path) => (path.display().to_string(), read_header(&path)?),
        None => {
            let header = HeaderReader::new(None).push(&shape.header())?.expect("a whole header");
            (shape.name().into(), header)
        }
    };
    let token = pass(&gguf, 1, context)?;
    let mut out = json!({ "model": name, "context": context });
    for (key, value) in token.as_object().expect("an object") {
        let key = match key.as_str() {
            "dispatches" | "passes" | "submits" | "bytes" => format!("{key}_per_token"),
            other => other.into(),
        };
        out[key] = value.clone();
    }
    // One submit, with one pass, makes several tokens of a reply.
    out["tokens_per_submit"] = TOKENS_PER_SUBMIT.into();
    for key in ["passes_per_token", "submits_per_token"] {
        out[key] = (out[key].as_f64().unwrap_or_default() / f64::from(TOKENS_PER_SUBMIT)).into();
    }
    out["prefill"] = pass(&gguf, prompt, 0)?;
    out["prefill"]["tokens"] = prompt.into();
    Ok(out)
}

fn pass(gguf: &Gguf, n: u32, pos: u32) -> Result<Value, Box<dyn Error>> {
    let plan = pollster::block_on(bench::plan(gguf, n, pos, KvType::F16, Want::Token))?;
    let mut json = serde_json::to_value(plan.cost)?;
    let workgroup = plan.shaders.iter().map(|s| workgroup_bytes(&s.source)).max().unwrap_or(0);
    json["workgroup_bytes_max"] = workgroup.into();
    Ok(json)
}

/// Bytes of workgroup memory that a shader declares.
fn workgroup_bytes(source: &str) -> u32 {
    let module = naga::front::wgsl::parse_str(source).expect("the tests validate every shader");
    let types = module.to_ctx();
    let shared = module
        .global_variables
        .iter()
        .filter(|(_, v)| v.space == naga::AddressSpace::WorkGroup);
    shared
        .map(|(_, v)| module.types[v.ty].inner.size(types).next_multiple_of(16))
        .sum()
}
