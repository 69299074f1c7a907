//! Writes a GGUF with a published model's exact shapes, types and size, a given vocabulary and random weights.
//!
//! ```text
//! node tests/fixtures/text/make_vocab.mjs
//! cargo run --release --example stand_in -- --shape h-micro --vocab target/granite-vocab.gguf --out target/h-micro.gguf
//! ```
//!
//! Rows of the embedding that stand for no whole character by themselves, or for a control token, are zero: a reply is text.

use std::{
    error::Error,
    fs::File,
    io::{BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
};

use outcrop::{
    bench::{self, Shape},
    gguf::{Gguf, HeaderReader},
    text::Tokenizer,
};

#[path = "../tests/common/gguf_writer.rs"]
mod gguf_writer;
use gguf_writer::GgufWriter;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    use lexopt::prelude::*;
    let (mut shape, mut vocab, mut out) = (None, None::<PathBuf>, None::<PathBuf>);
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("shape") => shape = Shape::from_name(&parser.value()?.string()?),
            Long("vocab") => vocab = Some(parser.value()?.into()),
            Long("out") => out = Some(parser.value()?.into()),
            _ => return Err(arg.unexpected().into()),
        }
    }
    let shape = shape.ok_or("--shape is h-350m, h-1b or h-micro")?;
    let (vocab, out) = (vocab.ok_or("--vocab is missing")?, out.ok_or("--out is missing")?);

    let bare = HeaderReader::new(None).push(&shape.header())?.expect("a whole header");
    let mut writer = GgufWriter::new();
    for (key, value) in bare.metadata.iter() {
        writer.set(key, value.clone());
    }
    let words = Gguf::from_bytes(&std::fs::read(vocab)?)?;
    for (key, value) in words.metadata.iter().filter(|(key, _)| key.starts_with("tokenizer.")) {
        writer.set(key, value.clone());
    }
    for t in &bare.tensors {
        // Never touched, so it takes no memory: the writer only needs its length.
        writer.raw(&t.name, t.ty.id(), &t.ne, vec![0; t.size as usize]);
    }
    let mut header = writer.header();
    header.resize(header.len().next_multiple_of(writer.alignment), 0);
    let gguf = HeaderReader::new(None).push(&header)?.expect("a whole header");

    let tokenizer = Tokenizer::from_gguf(&gguf)?;
    let table = gguf.tensor("token_embd.weight").expect("every shape has one");
    let row = table.size / table.n_rows();
    let mute: Vec<bool> = (0..tokenizer.n_vocab() as u32)
        .map(|id| tokenizer.is_control(id) || std::str::from_utf8(tokenizer.piece_bytes(id)).is_err())
        .collect();

    let mut file = BufWriter::new(File::create(&out)?);
    file.write_all(&header)?;
    let mut weights = bench::feed(&gguf);
    let mut copy = Vec::new();
    while let Some((offset, bytes)) = weights.next() {
        if offset < table.offset || offset >= table.offset + table.size {
            file.write_all(bytes)?;
            continue;
        }
        copy.clear();
        copy.extend_from_slice(bytes);
        for (i, byte) in copy.iter_mut().enumerate() {
            let id = (offset - table.offset + i as u64) / row;
            if mute[id as usize] {
                *byte = 0;
            }
        }
        file.write_all(&copy)?;
    }
    file.flush()?;
    println!("{}: {} bytes", out.display(), std::fs::metadata(&out)?.len());
    Ok(())
}
