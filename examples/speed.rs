//! How fast this machine's GPU or CPU runs a model, and which share of its memory's speed that is.
//!
//! ```text
//! cargo run --release --example speed -- [--shape h-350m] [--model M.gguf] [--prompt 64] [--tokens 16] [--repeats 3] [--json FILE]
//!     --shape S      random weights of a published model's shape: h-350m, h-1b, h-micro
//!     --model M      or a file
//!     --backend B    gpu (the default); cpu-int8, with activations in 8 bits; cpu, with exact ones
//!     --threads N    of the CPU (as many as the machine offers)
//!     --json FILE    writes the report there too
//!     --turns        on the CPU: loads, then runs once for each line of input, and answers each with a report on a line of its own
//! ```

use std::{error::Error, path::PathBuf, process::ExitCode};

use outcrop::{
    backend::{
        Backend, KvType,
        cpu::{Cpu, Pool},
        gpu::{Gpu, GpuOptions},
    },
    bench::{self, CpuOp, CpuReport, Report, Shape, Work},
    generate::{NativeHost, Sequence, load_file},
};

struct Args {
    shape: Shape,
    model: Option<PathBuf>,
    backend: String,
    threads: usize,
    work: Work,
    json: Option<PathBuf>,
    turns: bool,
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
        backend: "gpu".into(),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        work: Work {
            prompt: 64,
            tokens: 16,
            repeats: 3,
        },
        json: None,
        turns: false,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("shape") => {
                args.shape = Shape::from_name(&parser.value()?.string()?).ok_or("--shape is h-350m, h-1b or h-micro")?
            }
            Long("model") => args.model = Some(parser.value()?.into()),
            Long("backend") => args.backend = parser.value()?.string()?,
            Long("threads") => args.threads = parser.value()?.parse()?,
            Long("turns") => args.turns = true,
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
    const N_UBATCH: u32 = 512;
    let pool = || Pool::new(args.threads);
    match args.backend.as_str() {
        "gpu" if args.turns => Err("--turns is for the CPU".into()),
        "gpu" => on_gpu(args).await,
        "cpu" => on_cpu(args, Cpu::new(N_UBATCH).with_pool(pool()?)).await,
        "cpu-int8" => on_cpu(args, Cpu::int8(N_UBATCH).with_pool(pool()?)).await,
        other => Err(format!("--backend {other}: it must be gpu, cpu-int8 or cpu").into()),
    }
}

/// The model that was asked for, and its name.
async fn load<B: Backend>(args: &Args, backend: B, n_ctx: u32, kv: KvType) -> Result<(String, Sequence<B>), Box<dyn Error>> {
    Ok(match &args.model {
        Some(path) => (
            path.display().to_string(),
            Sequence::new(load_file(path, backend).await?.1, n_ctx, kv)?,
        ),
        None => {
            let sequence = bench::stand_in(&NativeHost::new(), backend, args.shape, n_ctx, kv, |_, _| {}).await?;
            (args.shape.name().into(), sequence)
        }
    })
}

async fn on_gpu(args: &Args) -> Result<(), Box<dyn Error>> {
    let gpu = Gpu::new(GpuOptions {
        timestamps: true,
        ..GpuOptions::default()
    })
    .await?;
    let info = gpu.info().clone();
    let n_ctx = args.work.prompt + args.work.tokens.max(48) + 1;
    let (name, mut sequence) = load(args, gpu, n_ctx, KvType::F16).await?;
    let report = bench::speed(&NativeHost::new(), &mut sequence, args.work).await?;
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

async fn on_cpu(args: &Args, cpu: Cpu) -> Result<(), Box<dyn Error>> {
    let (host, threads) = (NativeHost::new(), cpu.n_threads());
    // Room for the batch that is timed op by op, which begins in the middle of the answer.
    let n_ctx = args.work.prompt + args.work.tokens + cpu.n_ubatch();
    let (name, mut sequence) = load(args, cpu, n_ctx, KvType::default()).await?;
    if args.turns {
        let once = Work { repeats: 1, ..args.work };
        for line in std::io::stdin().lines() {
            line?;
            let report = bench::cpu_speed(&host, &mut sequence, once, false).await?;
            println!("{}", serde_json::to_string(&report)?);
        }
        return Ok(());
    }
    let report = bench::cpu_speed(&host, &mut sequence, args.work, true).await?;
    eprintln!("{name} on {threads} threads, {}", args.backend);
    cpu_table(&report);
    if let Some(path) = &args.json {
        let mut json = serde_json::to_value(&report)?;
        json["model"] = name.into();
        json["threads"] = threads.into();
        json["backend"] = args.backend.as_str().into();
        std::fs::write(path, format!("{json:#}\n"))?;
    }
    Ok(())
}

fn cpu_table(r: &CpuReport) {
    rates(r.prefill_tps, r.prompt, r.repeats, r.decode_tps, r.tokens);
    eprintln!("traffic     {:10.1} MB a token", r.bytes_per_token as f64 / 1e6);
    copy(r.copy_gbps, r.share_of_copy);
    cpu_ops("op of one token", &r.ops);
    cpu_ops(&format!("op of {} tokens", r.batch), &r.batch_ops);
}

fn cpu_ops(title: &str, ops: &[CpuOp]) {
    let all: f64 = ops.iter().map(|op| op.ms).sum();
    eprintln!(
        "{title:34} {:>5} {:>10} {:>6} {:>9} {:>9}",
        "times", "ms", "%", "GB/s", "GMAC/s"
    );
    for op in ops {
        let share = op.ms / all * 100.0;
        eprintln!(
            "{:34} {:>5} {:>10.3} {share:>6.1} {:>9.2} {:>9.2}",
            op.op, op.times, op.ms, op.gbps, op.gmacs
        );
    }
}

fn rates(prefill_tps: f64, prompt: u32, repeats: u32, decode_tps: f64, tokens: u32) {
    eprintln!("prefill     {prefill_tps:10.2} tokens/s ({prompt} tokens, median of {repeats})");
    eprintln!("decode      {decode_tps:10.2} tokens/s ({tokens} tokens)");
}

fn copy(gbps: f64, share: f64) {
    eprintln!("copy        {gbps:10.2} GB/s; decoding moves {:.1} % of that", share * 100.0);
}

fn table(r: &Report) {
    rates(r.prefill_tps, r.prompt, r.repeats, r.decode_tps, r.tokens);
    eprintln!(
        "dispatches  {:10} a token, {} submits",
        r.dispatches_per_token, r.submits_per_token
    );
    eprintln!(
        "token loop  {:10.3} of the time of the same submits unread, {} tokens a submit; {:.3} ms a token to encode",
        r.token_loop.loop_ratio, r.token_loop.tokens_per_submit, r.token_loop.encode_ms_per_token
    );
    eprintln!("traffic     {:10.1} MB a token", r.bytes_per_token.total() as f64 / 1e6);
    copy(r.copy_gbps, r.share_of_copy);
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
