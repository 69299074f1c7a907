//! A chat with a GGUF in the terminal.
//!
//! ```text
//! cargo run --release --example chat -- --model M.gguf [--backend cpu-int8|cpu|gpu|reference] [--system TEXT] [--prompt TEXT]
//!     --model M.gguf       of a split model any part: the others lie beside it
//!     --backend B          cpu-int8 (the default), with activations in 8 bits; cpu, with exact ones; gpu; reference, the plain loops
//!     --threads N          of the CPU (as many as the machine offers)
//!     --prompt TEXT        answer this one message and leave; without it, every line of input is a message
//!     --system TEXT        system message
//!     --temperature X      0 (the default) takes the likeliest token; also --top-p, --top-k, --min-p, --repetition-penalty
//!     --seed N             repeatable draws
//!     --max-tokens N       longest reply
//!     --n-ctx N            tokens that the conversation may have (4096, or what the model was trained for if less)
//!     --kv f32|f16|q8_0    type of keys and values (f32)
//! ```
//!
//! Ctrl-C stops the reply, between replies it leaves. `/new` starts another conversation. The reply goes to stdout, all else to
//! stderr.

use std::{
    error::Error,
    io::{BufRead, Write},
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use outcrop::{
    backend::{
        Backend, KvType,
        cpu::{Cpu, Pool, Reference},
        gpu::{Gpu, GpuOptions},
    },
    generate::{FinishReason, NativeHost, Options, Reply, Session, load_file},
    text::{ChatRequest, ChatTemplate, Tokenizer},
};
use serde_json::json;
use signal_hook::consts::SIGINT;

struct Args {
    model: PathBuf,
    backend: String,
    threads: usize,
    system: Option<String>,
    prompt: Option<String>,
    n_ctx: Option<u32>,
    kv: KvType,
    options: Options,
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
    let mut model = None;
    let mut args = Args {
        model: PathBuf::new(),
        backend: "cpu-int8".into(),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        system: None,
        prompt: None,
        n_ctx: None,
        kv: KvType::F32,
        options: Options::default(),
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("model") => model = Some(parser.value()?.into()),
            Long("backend") => args.backend = parser.value()?.string()?,
            Long("threads") => args.threads = parser.value()?.parse()?,
            Long("system") => args.system = Some(parser.value()?.string()?),
            Long("prompt") => args.prompt = Some(parser.value()?.string()?),
            Long("temperature") => args.options.temperature = parser.value()?.parse()?,
            Long("top-p") => args.options.top_p = parser.value()?.parse()?,
            Long("top-k") => args.options.top_k = parser.value()?.parse()?,
            Long("min-p") => args.options.min_p = parser.value()?.parse()?,
            Long("repetition-penalty") => args.options.repetition_penalty = parser.value()?.parse()?,
            Long("seed") => args.options.seed = Some(parser.value()?.parse()?),
            Long("max-tokens") => args.options.max_tokens = Some(parser.value()?.parse()?),
            Long("n-ctx") => args.n_ctx = Some(parser.value()?.parse()?),
            Long("kv") => {
                let name = parser.value()?.string()?;
                args.kv = KvType::from_name(&name).ok_or_else(|| format!("--kv {name}: it must be f32, f16 or q8_0"))?;
            }
            _ => return Err(arg.unexpected().into()),
        }
    }
    args.model = model.ok_or("--model is missing")?;
    args.options.check()?;
    Ok(args)
}

async fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    const N_UBATCH: u32 = 512;
    match args.backend.as_str() {
        "reference" => chat(args, Reference::new(N_UBATCH)).await,
        "cpu" => chat(args, Cpu::new(N_UBATCH).with_pool(Pool::new(args.threads)?)).await,
        "cpu-int8" => chat(args, Cpu::int8(N_UBATCH).with_pool(Pool::new(args.threads)?)).await,
        "gpu" => {
            chat(
                args,
                Gpu::new(GpuOptions {
                    n_ubatch: N_UBATCH,
                    ..GpuOptions::default()
                })
                .await?,
            )
            .await
        }
        other => Err(format!("--backend {other}: it must be reference, cpu, cpu-int8 or gpu").into()),
    }
}

async fn chat<B: Backend>(args: &Args, backend: B) -> Result<(), Box<dyn Error>> {
    let host = NativeHost::new();
    // Ctrl-C leaves while there is no reply to stop, and also the second time it is pressed.
    let leave = Arc::new(AtomicBool::new(true));
    signal_hook::flag::register_conditional_shutdown(SIGINT, 130, host.stop.clone())?;
    signal_hook::flag::register_conditional_shutdown(SIGINT, 130, leave.clone())?;
    signal_hook::flag::register(SIGINT, host.stop.clone())?;

    let started = std::time::Instant::now();
    let (gguf, model) = load_file(&args.model, backend).await?;
    let tokenizer = Tokenizer::from_gguf(&gguf)?;
    let template = ChatTemplate::from_gguf(&gguf)?;
    let n_ctx = args.n_ctx.unwrap_or(model.hparams.n_ctx_train.min(4096));
    let mut session = Session::new(model, tokenizer, Some(template), n_ctx, args.kv)?;
    eprintln!("[loaded in {:.2} s, context {n_ctx} tokens]", started.elapsed().as_secs_f64());

    let fresh = || Vec::from_iter(args.system.iter().map(|s| json!({ "role": "system", "content": s })));
    let mut messages = fresh();
    if let Some(prompt) = &args.prompt {
        messages.push(json!({ "role": "user", "content": prompt }));
        leave.store(false, Ordering::Relaxed);
        let reply = answer(&mut session, &host, &messages, &args.options).await?;
        report(&reply);
        return Ok(());
    }
    let mut input = std::io::stdin().lock();
    let mut line = String::new();
    loop {
        eprint!("> ");
        line.clear();
        if input.read_line(&mut line)? == 0 {
            eprintln!();
            return Ok(());
        }
        match line.trim() {
            "" => continue,
            "/new" => {
                messages = fresh();
                continue;
            }
            text => messages.push(json!({ "role": "user", "content": text })),
        }
        host.stop.store(false, Ordering::Relaxed);
        leave.store(false, Ordering::Relaxed);
        let result = answer(&mut session, &host, &messages, &args.options).await;
        leave.store(true, Ordering::Relaxed);
        match result {
            Ok(reply) => {
                report(&reply);
                messages.push(json!({ "role": "assistant", "content": reply.text }));
            }
            Err(error) => {
                eprintln!("error: {error}");
                messages.pop();
            }
        }
    }
}

async fn answer<B: Backend>(
    session: &mut Session<B>,
    host: &NativeHost,
    messages: &[serde_json::Value],
    options: &Options,
) -> outcrop::Result<Reply> {
    let request = ChatRequest::new(messages.to_vec());
    let mut stdout = std::io::stdout();
    let result = session
        .chat(host, &request, options, &mut |text| {
            // Nobody to read it: there is nothing useful to do about that.
            let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        })
        .await;
    println!();
    result
}

fn report(reply: &Reply) {
    let (usage, t) = (reply.usage, reply.timings);
    let why = match reply.finish_reason {
        FinishReason::Stop => "",
        FinishReason::Length => ", cut off: no room for more",
        FinishReason::Abort => ", stopped",
    };
    eprintln!(
        "[prompt {} tokens ({} reused) at {:.1}/s, first token after {:.0} ms, reply {} tokens at {:.1}/s{why}]",
        usage.prompt_tokens,
        usage.cached_tokens,
        t.prefill_tokens_per_second,
        t.time_to_first_token_ms,
        usage.completion_tokens,
        t.decode_tokens_per_second,
    );
}
