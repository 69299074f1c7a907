//! Models in several files: cut in any way they give the bits of the whole one.
//!
//! `fixtures/gguf/split*.gguf` were written by the `gguf` Python package (`tests/fixtures/quant/make.py`).

#[path = "common/gguf_writer.rs"]
mod gguf_writer;
#[path = "common/split.rs"]
mod splitter;

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    rc::Rc,
};

use gguf_writer::GgufWriter;
use outcrop::{
    Error, Result,
    backend::{Backend, KvType, cpu::Cpu},
    forward,
    generate::{Receiver, Session, load_file, read_header},
    gguf::{Gguf, Split, Value},
    text::Tokenizer,
};
use splitter::{bits, feed, heads, join, receive, received, split, tiny, unsplit, writers};

const N_TENSORS: usize = 46;

fn fixture(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/fixtures/gguf/{name}.gguf", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn parts_of_the_python_package() {
    let whole = fixture("split");
    let expected = Gguf::from_bytes(&whole).unwrap();
    assert_eq!(expected.split().unwrap(), None);
    for (stem, sizes) in [("split", &[2, 2, 1][..]), ("split-bare", &[0, 2, 2, 1])] {
        let count = sizes.len();
        let parts: Vec<Vec<u8>> = (1..=count)
            .map(|i| fixture(&format!("{stem}-{i:05}-of-{count:05}")))
            .collect();
        for (no, bytes) in parts.iter().enumerate() {
            let found = Gguf::from_bytes(bytes).unwrap().split().unwrap();
            let (no, count) = (no as u16, count as u16);
            assert_eq!(found, Some(Split { no, count, n_tensors: 5 }));
        }
        let joined = join(&parts).unwrap();
        assert_eq!(joined.metadata.u32("t.kept").unwrap(), 7);
        assert_eq!(joined.tensors.len(), expected.tensors.len());
        for (t, whole_t) in joined.tensors.iter().zip(&expected.tensors) {
            assert_eq!((&t.name, t.ty, &t.ne), (&whole_t.name, whole_t.ty, &whole_t.ne));
            assert_eq!(joined.tensor(&t.name), Some(t));
            let data = |bytes: &[u8], offset: u64| bytes[offset as usize..][..t.size as usize].to_vec();
            assert_eq!(
                data(&parts[usize::from(t.part)], t.offset),
                data(&whole, whole_t.offset),
                "{}",
                t.name
            );
        }
        assert_eq!(joined.ends().len(), count);
        for (end, bytes) in joined.ends().iter().zip(&parts) {
            assert!(bytes.len() as u64 - end < 32, "{end} of {}", bytes.len());
        }
        assert_eq!(split(&whole, sizes), parts, "{stem}: ours, byte for byte");
    }
}

#[test]
fn any_cut_gives_the_same_bits() {
    let whole = tiny();
    let expected = unsplit(whole.clone());
    let singles = [1; N_TENSORS];
    for sizes in [&[16, 15, 15][..], &[0, 20, 26], &[1, 40, 5], &[45, 1], &[20, 0, 26], &singles] {
        let parts = split(&whole, sizes);
        for piece in [1021, 65_536, usize::MAX] {
            for known in [true, false] {
                let receiver = receive(&parts, piece, known).unwrap();
                assert_eq!(receiver.about().unwrap().arch, "granitehybrid");
                let found = received(receiver).unwrap();
                assert!(found == expected, "{sizes:?} in pieces of {piece}: other logits");
            }
        }
    }
}

/// Tables need not be in the order of the data, nor parts in the order of the model; and each part has its own alignment.
#[test]
fn tensors_may_lie_anywhere() {
    let whole = tiny();
    let expected = unsplit(whole.clone());
    let mut parts = writers(&whole, &[10, 20, 16]);
    let [a, b, c] = &mut parts[..] else { unreachable!() };
    std::mem::swap(&mut a.tensors, &mut c.tensors);
    b.alignment = 256;
    b.set("general.alignment", Value::U32(256));
    let mut files: Vec<Vec<u8>> = parts.iter_mut().map(splitter::bytes).collect();
    // The same data under a table that is written backwards.
    let c = &mut parts[2];
    let mut next = 0;
    for t in &mut c.tensors {
        t.offset = Some(next);
        next += (t.data.len() as u64).next_multiple_of(32);
    }
    let data = files[2].len() - next as usize;
    let data = files[2].split_off(data);
    c.tensors.reverse();
    let mut header = c.header();
    header.resize(header.len().next_multiple_of(32), 0);
    files[2] = [header, data].concat();
    for piece in [997, usize::MAX] {
        assert!(received(receive(&files, piece, true).unwrap()).unwrap() == expected);
    }
}

/// Where the tests of this run write files.
fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("split-{}-{name}", std::process::id()))
}

#[test]
fn files_beside_each_other() {
    let whole = tiny();
    let expected = unsplit(whole.clone());
    let dir = scratch("files");
    let paths = splitter::write(&dir, "m.x", &split(&whole, &[0, 21, 25]));
    for path in &paths {
        let (gguf, model) = pollster::block_on(load_file(path, Cpu::new(8))).unwrap();
        assert_eq!(gguf.tensors.len(), N_TENSORS);
        let tokenizer = Tokenizer::from_gguf(&gguf).unwrap();
        let session = Session::new(model, tokenizer, None, 64, KvType::F32).unwrap();
        assert!(bits(session) == expected, "{}", path.display());
    }

    let refused = |path: &Path| read_header(path).unwrap_err();
    let renamed = dir.join("renamed.gguf");
    std::fs::copy(&paths[0], &renamed).unwrap();
    let error = refused(&renamed);
    assert_eq!(error.code(), "split_file");
    assert!(
        error
            .to_string()
            .contains("-00001-of-00003.gguf: the other parts cannot be found"),
        "{error}"
    );
    std::fs::remove_file(&paths[1]).unwrap();
    let error = refused(&paths[0]);
    assert!(
        matches!(&error, Error::File { name, .. } if Path::new(name) == paths[1]),
        "{error}"
    );
    std::fs::copy(&paths[2], &paths[1]).unwrap();
    let error = refused(&paths[0]);
    assert_eq!(
        (error.code(), error.to_string().contains("file 2 is part 3 of 3")),
        ("split_file", true),
        "{error}"
    );
    std::fs::remove_dir_all(dir).unwrap();
}

/// A backend that remembers how much it was told to expect.
struct Told<B> {
    inner: B,
    bytes: Rc<Cell<u64>>,
}

impl<B: Backend> Backend for Told<B> {
    type State = B::State;
    forward!(loading state pass ops reply);

    fn expect(&mut self, bytes: u64) -> Result<()> {
        self.bytes.set(bytes);
        self.inner.expect(bytes)
    }
}

#[test]
fn the_backend_is_told_of_all_parts() {
    let whole = tiny();
    let parts = split(&whole, &[3, 3, 40]);
    let bytes = Rc::new(Cell::new(0));
    let told = Told {
        inner: Cpu::new(8),
        bytes: bytes.clone(),
    };
    let mut receiver = Receiver::with_parts(told, heads(&parts[1..]).unwrap());
    feed(&mut receiver, &parts[0], 4096, true).unwrap();
    let tensors = Gguf::from_bytes(&whole).unwrap().tensors;
    assert_eq!(
        bytes.get(),
        tensors.iter().map(|t| t.size).sum::<u64>(),
        "as soon as the first header is there"
    );
}

/// A count of 0 is what `gguf-split --merge` leaves, a count of 1 what does not have to be split.
#[test]
fn a_merged_file_is_a_whole_one() {
    let whole = tiny();
    let expected = unsplit(whole.clone());
    for count in [0, 1] {
        let mut w = GgufWriter::copy_of(&whole);
        w.set("split.no", Value::U16(0));
        w.set("split.count", Value::U16(count));
        w.set("split.tensors.count", Value::I32(9));
        assert!(unsplit(w.build()) == expected, "split.count {count}");
    }
}
