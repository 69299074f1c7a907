//! How fast this machine's GPU runs a model, and which share of its memory's speed that is.
//!
//! ```text
//! cargo run --release --example speed -- [--shape h-350m] [--model M.gguf] [--prompt 64] [--tokens 16] [--repeats 3] [--json FILE]
//!     --shape S      random weights of a published model's shape: h-350m, h-1b, h-micro
//!     --model M      or a file
//!     --json FILE    writes the report there too
//! ```

use std::{error::Error, path::PathBuf, process::ExitCode};

use outcrop::{
    backend::{
        KvType,
        gpu::{Gpu, GpuOptions},
    },
    bench::{self, Report, Shape, Work},
    generate::{NativeHost, Sequence, load_file},
};

struct Args {
    shape: Shape,
    model: Option<PathBuf>,
    work: Work,
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match parse().and_then(|args| pollster::block_on(run(&args))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse() -> Result<Args, Box<dyn Error>> {
    use lexopt::prelude::*;
    let mut args = Args {
        shape: Shape::H350m,
        model: None,
        work: Work {
            prompt: 64,
            tokens: 16,
            repeats: 3,
        },
        json: None,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("shape") => {
                args.shape = Shape::from_name(&parser.value()?.string()?).ok_or("--shape is h-350m, h-1b or h-micro")?
            }
            Long("model") => args.model = Some(parser.value()?.into()),
            Long("prompt") => args.work.prompt = parser.value()?.parse()?,
            Long("tokens") => args.work.tokens = parser.value()?.parse()?,
            Long("repeats") => args.work.repeats = parser.value()?.parse()?,
            Long("json") => args.json = Some(parser.value()?.into()),
            _ => return Err(arg.unexpected().into()),
        }
    }
    Ok(args)
}

async fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let gpu = Gpu::new(GpuOptions {
        timestamps: true,
        ..GpuOptions::default()
    })
    .await?;
    let info = gpu.info().clone();
    let n_ctx = args.work.prompt + args.work.tokens.max(48) + 1;
    let (host, kv) = (NativeHost::new(), KvType::F16);
    let (name, mut sequence) = match &args.model {
        Some(path) => (
            path.display().to_string(),
            Sequence::new(load_file(path, gpu).await?.1, n_ctx, kv)?,
        ),
        None => {
            let sequence = bench::stand_in(&host, gpu, args.shape, n_ctx, kv, |_, _| {}).await?;
            (args.shape.name().into(), sequence)
        }
    };
    let report = bench::speed(&host, &mut sequence, args.work).await?;
    eprintln!("{name} on {}, {}", info.name, info.backend);
    table(&report);
    if let Some(path) = &args.json {
        let mut json = serde_json::to_value(&report)?;
        json["model"] = name.into();
        json["adapter"] = info.name.into();
        json["backend"] = info.backend.into();
        std::fs::write(path, format!("{json:#}\n"))?;
    }
    Ok(())
}

fn table(r: &Report) {
    eprintln!(
        "prefill     {:10.2} tokens/s ({} tokens, median of {})",
        r.prefill_tps, r.prompt, r.repeats
    );
    eprintln!("decode      {:10.2} tokens/s ({} tokens)", r.decode_tps, r.tokens);
    eprintln!(
        "dispatches  {:10} a token, {} submits",
        r.dispatches_per_token, r.submits_per_token
    );
    eprintln!(
        "token loop  {:10.3} of the time of the same submits unread, {} tokens a submit; {:.3} ms a token to encode",
        r.token_loop.loop_ratio, r.token_loop.tokens_per_submit, r.token_loop.encode_ms_per_token
    );
    eprintln!("traffic     {:10.1} MB a token", r.bytes_per_token.total() as f64 / 1e6);
    eprintln!(
        "copy        {:10.2} GB/s; decoding moves {:.1} % of that",
        r.copy_gbps,
        r.share_of_copy * 100.0
    );
    let all: f64 = r.ops.iter().map(|op| op.ms).sum();
    eprintln!(
        "{:34} {:>5} {:>10} {:>6} {:>9}",
        "op of one token", "times", "ms", "%", "GB/s"
    );
    for op in &r.ops {
        let share = op.ms / all * 100.0;
        eprintln!(
            "{:34} {:>5} {:>10.3} {:>6.1} {:>9.2}",
            op.op, op.dispatches, op.ms, share, op.gbps
        );
    }
}
