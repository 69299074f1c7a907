//! Scores token sequences: the logits of every position, or the greedy continuation.
//!
//! ```text
//! cargo run --release --example score -- --model M.gguf --tokens T.json --backend reference|cpu|cpu-int8|gpu --out L.f32
//!     --tokens T.json   [[ids], ..]
//!     --out L.f32       little-endian f32 logits, [n_vocab] for every position of every sequence in turn
//!     --greedy N        print the next N greedy ids of each sequence as JSON; ends of text do not end it
//!     --ubatch N        most tokens in a pass (512)
//!     --kv f32|f16|q8_0 type of keys and values (f32)
//! ```
//!
//! Errors go to stderr, with exit code 1.

use std::{
    error::Error,
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use outcrop::{
    backend::{
        Backend, KvType,
        cpu::{Cpu, Reference},
        gpu::{Gpu, GpuOptions},
    },
    generate::{NativeHost, Sequence, load_file},
};

struct Args {
    model: PathBuf,
    tokens: PathBuf,
    backend: String,
    out: Option<PathBuf>,
    greedy: Option<usize>,
    ubatch: u32,
    kv: KvType,
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
    let (mut model, mut tokens) = (None, None);
    let mut args = Args {
        model: PathBuf::new(),
        tokens: PathBuf::new(),
        backend: "cpu".into(),
        out: None,
        greedy: None,
        ubatch: 512,
        kv: KvType::F32,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("model") => model = Some(parser.value()?.into()),
            Long("tokens") => tokens = Some(parser.value()?.into()),
            Long("backend") => args.backend = parser.value()?.string()?,
            Long("out") => args.out = Some(parser.value()?.into()),
            Long("greedy") => args.greedy = Some(parser.value()?.parse()?),
            Long("ubatch") => args.ubatch = parser.value()?.parse()?,
            Long("kv") => {
                let name = parser.value()?.string()?;
                args.kv = KvType::from_name(&name).ok_or_else(|| format!("--kv {name}: it must be f32, f16 or q8_0"))?;
            }
            _ => return Err(arg.unexpected().into()),
        }
    }
    args.model = model.ok_or("--model is missing")?;
    args.tokens = tokens.ok_or("--tokens is missing")?;
    if args.ubatch == 0 {
        return Err("--ubatch must be at least 1".into());
    }
    if args.out.is_none() && args.greedy.is_none() {
        return Err("nothing to do: give --out, --greedy or both".into());
    }
    Ok(args)
}

async fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let json = std::fs::read(&args.tokens).map_err(|e| format!("{}: {e}", args.tokens.display()))?;
    let prompts: Vec<Vec<u32>> =
        serde_json::from_slice(&json).map_err(|e| format!("{}: expected [[ids], ..]: {e}", args.tokens.display()))?;
    match args.backend.as_str() {
        "reference" => score(args, &prompts, Reference::new(args.ubatch)).await,
        "cpu" => score(args, &prompts, Cpu::new(args.ubatch)).await,
        "cpu-int8" => score(args, &prompts, Cpu::int8(args.ubatch)).await,
        "gpu" => {
            score(
                args,
                &prompts,
                Gpu::new(GpuOptions {
                    n_ubatch: args.ubatch,
                    ..GpuOptions::default()
                })
                .await?,
            )
            .await
        }
        other => Err(format!("--backend {other}: it must be reference, cpu, cpu-int8 or gpu").into()),
    }
}

async fn score<B: Backend>(args: &Args, prompts: &[Vec<u32>], backend: B) -> Result<(), Box<dyn Error>> {
    let host = NativeHost::new();
    let (_, model) = load_file(&args.model, backend).await?;
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    let n_ctx = u32::try_from(longest + args.greedy.unwrap_or(0))?.max(1);
    let mut sequence = Sequence::new(model, n_ctx, args.kv)?;
    let named = |i: usize, e: outcrop::Error| format!("sequence {i}: {e}");

    if let Some(path) = &args.out {
        let result = write_logits(&mut sequence, &host, prompts, path).await;
        // Half a result looks like a whole one. (A device such as /dev/null is nobody's result.)
        if result.is_err() && path.is_file() {
            let _ = std::fs::remove_file(path);
        }
        result?;
    }
    if let Some(n) = args.greedy {
        let mut all = Vec::new();
        for (i, prompt) in prompts.iter().enumerate() {
            all.push(sequence.greedy(&host, prompt, n).await.map_err(|e| named(i, e))?);
        }
        println!("{}", serde_json::to_string(&all)?);
    }
    Ok(())
}

async fn write_logits<B: Backend>(
    sequence: &mut Sequence<B>,
    host: &NativeHost,
    prompts: &[Vec<u32>],
    path: &Path,
) -> Result<(), Box<dyn Error>> {
    let named = |e: std::io::Error| format!("{}: {e}", path.display());
    let mut out = BufWriter::new(File::create(path).map_err(named)?);
    for (i, prompt) in prompts.iter().enumerate() {
        let logits = sequence.score(host, prompt).await.map_err(|e| format!("sequence {i}: {e}"))?;
        for logit in logits {
            out.write_all(&logit.to_le_bytes()).map_err(named)?;
        }
    }
    out.flush().map_err(named)?;
    Ok(())
}
