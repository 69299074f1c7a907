//! Token ids of texts, or the prompt of a chat, by a GGUF's own tokenizer and template.
//!
//! ```text
//! cargo run --release --example tokens -- --model M.gguf --texts T.json [--special]
//!     T.json: ["text", ..]       prints [[id, ..], ..]
//!     --special                  read control tokens in the texts as such
//! cargo run --release --example tokens -- --model M.gguf --chat C.json
//!     C.json: {"messages": [..], "tools": [..], "documents": [..], "add_generation_prompt": true}
//!                                prints {"text": .., "ids": [id, ..]}
//! ```
//!
//! Only the file's header is read: a file without tensors will do. JSON goes to stdout, errors go to stderr.

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
};

use outcrop::{
    gguf::{Gguf, HeaderReader},
    source::file,
    text::{ChatRequest, ChatTemplate, Tokenizer},
};
use serde_json::json;

enum Input {
    Texts(PathBuf),
    Chat(PathBuf),
}

struct Args {
    model: PathBuf,
    input: Input,
    special: bool,
}

fn main() -> ExitCode {
    match parse().and_then(|args| run(&args)) {
        Ok(output) => {
            println!("{output}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse() -> Result<Args, Box<dyn Error>> {
    use lexopt::prelude::*;
    let (mut model, mut input, mut special) = (None, None, false);
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("model") => model = Some(parser.value()?.into()),
            Long("texts") if input.is_none() => input = Some(Input::Texts(parser.value()?.into())),
            Long("chat") if input.is_none() => input = Some(Input::Chat(parser.value()?.into())),
            Long("texts" | "chat") => return Err("give one of --texts and --chat, once".into()),
            Long("special") => special = true,
            _ => return Err(arg.unexpected().into()),
        }
    }
    let input = input.ok_or("--texts T.json or --chat C.json is missing")?;
    if special && matches!(input, Input::Chat(_)) {
        return Err("--special is for --texts: a chat's text never holds control tokens".into());
    }
    let model = model.ok_or("--model M.gguf is missing")?;
    Ok(Args { model, input, special })
}

fn run(args: &Args) -> Result<serde_json::Value, Box<dyn Error>> {
    let gguf = header(&args.model)?;
    let tokenizer = Tokenizer::from_gguf(&gguf)?;
    match &args.input {
        Input::Texts(path) => {
            let texts: Vec<String> = serde_json::from_str(&read(path)?).map_err(|e| format!("{}: {e}", path.display()))?;
            let encode = |text: &String| match args.special {
                true => tokenizer.encode_special(text),
                false => tokenizer.encode(text),
            };
            Ok(json!(texts.iter().map(encode).collect::<outcrop::Result<Vec<_>>>()?))
        }
        Input::Chat(path) => {
            let request = ChatRequest::from_json(&read(path)?)?;
            let prompt = ChatTemplate::from_gguf(&gguf)?.render(&tokenizer, &request)?;
            Ok(json!({"text": prompt.text, "ids": prompt.ids}))
        }
    }
}

fn header(path: &Path) -> outcrop::Result<Gguf> {
    let mut reader = HeaderReader::new(None);
    let mut gguf = None;
    file::pieces(path, |_, bytes| {
        gguf = reader.push(bytes)?;
        Ok(gguf.is_none())
    })?;
    gguf.ok_or_else(|| reader.finish())
}

fn read(path: &Path) -> Result<String, Box<dyn Error>> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()).into())
}
