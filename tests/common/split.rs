//! Cuts a GGUF into parts, as llama.cpp's `gguf-split` does (`tests/gguf_split.rs` compares with the `gguf` Python package's), and loads
//! them as a source would.
//!
//! For test files with `mod gguf_writer` at their root.
#![allow(dead_code, reason = "each test binary uses some of it")]

use std::path::{Path, PathBuf};

use outcrop::{
    Result,
    backend::{KvType, cpu::Cpu},
    generate::{NativeHost, Receiver, Session},
    gguf::{Gguf, HeaderReader, Value},
    source::Sink,
};

use crate::gguf_writer::GgufWriter;

/// The parts to be: the first with the metadata of `whole`, each with as many of its tensors, in order, as `sizes` says.
pub fn writers(whole: &[u8], sizes: &[usize]) -> Vec<GgufWriter> {
    let mut first = GgufWriter::copy_of(whole);
    let mut tensors = std::mem::take(&mut first.tensors).into_iter();
    let n_tensors = tensors.len();
    assert_eq!(sizes.iter().sum::<usize>(), n_tensors, "every tensor is in one part");
    let mut parts = Vec::new();
    for (no, &size) in sizes.iter().enumerate() {
        let mut part = if no == 0 { first.clone() } else { GgufWriter::new() };
        part.set("split.no", Value::U16(no as u16))
            .set("split.count", Value::U16(sizes.len() as u16))
            .set("split.tensors.count", Value::I32(n_tensors as i32));
        part.tensors = tensors.by_ref().take(size).collect();
        parts.push(part);
    }
    parts
}

/// The bytes of a part: header and every tensor are padded.
pub fn bytes(part: &mut GgufWriter) -> Vec<u8> {
    let mut out = part.build();
    out.resize(out.len().next_multiple_of(part.alignment), 0);
    out
}

/// All parts as they lie on a disk.
pub fn split(whole: &[u8], sizes: &[usize]) -> Vec<Vec<u8>> {
    writers(whole, sizes).iter_mut().map(bytes).collect()
}

/// Writes parts beside each other under the names that they must have.
pub fn write(dir: &Path, stem: &str, parts: &[Vec<u8>]) -> Vec<PathBuf> {
    std::fs::create_dir_all(dir).unwrap();
    let path = |i: usize| dir.join(format!("{stem}-{:05}-of-{:05}.gguf", i + 1, parts.len()));
    for (i, bytes) in parts.iter().enumerate() {
        std::fs::write(path(i), bytes).unwrap();
    }
    (0..parts.len()).map(path).collect()
}

/// A model of 46 tensors.
pub fn tiny() -> Vec<u8> {
    std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/gguf/tiny-g2-Q4_K_M.gguf")).expect("the fixture")
}

/// A header as a source reads it ahead of the rest: without knowing how long the file is.
pub fn head(bytes: &[u8]) -> Result<Gguf> {
    let mut reader = HeaderReader::new(None);
    for piece in bytes.chunks(4096) {
        if let Some(gguf) = reader.push(piece)? {
            return Ok(gguf);
        }
    }
    Err(reader.finish())
}

/// The headers of parts.
pub fn heads(parts: &[Vec<u8>]) -> Result<Vec<Gguf>> {
    parts.iter().map(|bytes| head(bytes)).collect()
}

/// Joins the headers of files in the order in which they were given.
pub fn join(files: &[Vec<u8>]) -> Result<Gguf> {
    let mut heads = heads(files)?;
    let rest = heads.split_off(1);
    heads.remove(0).join(&rest)
}

/// Feeds parts in pieces, their lengths known or not, to a receiver that has their headers.
pub fn receive(parts: &[Vec<u8>], piece: usize, known: bool) -> Result<Receiver<Cpu>> {
    let mut receiver = Receiver::with_parts(Cpu::new(8), heads(&parts[1..])?);
    for part in parts {
        feed(&mut receiver, part, piece, known)?;
        assert_eq!(receiver.needs(), Some(head(part)?.end()), "of this part alone");
    }
    Ok(receiver)
}

/// One part, from beginning to end.
pub fn feed(receiver: &mut impl Sink, part: &[u8], piece: usize, known: bool) -> Result<()> {
    receiver.begin(known.then_some(part.len() as u64))?;
    for (i, bytes) in part.chunks(piece).enumerate() {
        receiver.push((i * piece) as u64, bytes)?;
    }
    receiver.end(part.len() as u64)
}

const PROMPT: [u32; 7] = [1, 2, 3, 500, 40, 7, 2000];

/// Bits of the logits after every token of a prompt.
pub fn bits(mut session: Session<Cpu>) -> Vec<u32> {
    let logits = pollster::block_on(session.score(&NativeHost::new(), &PROMPT)).expect("logits");
    assert!(logits.iter().any(|&x| x != 0.0));
    logits.into_iter().map(f32::to_bits).collect()
}

/// The same, of what has been received.
pub fn received(receiver: Receiver<Cpu>) -> Result<Vec<u32>> {
    let received = pollster::block_on(receiver.finish())?;
    Ok(bits(received.session(64, KvType::F32)?))
}

/// The same, of a file that is not split.
pub fn unsplit(whole: Vec<u8>) -> Vec<u32> {
    received(receive(&[whole], usize::MAX, true).unwrap()).unwrap()
}
