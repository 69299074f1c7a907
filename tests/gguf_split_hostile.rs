//! Files that do not make up a model: parts that are missing, swapped, of another model, cut short or changed meanwhile, and headers that
//! lie. Each is an error with its code and words, never a panic and never garbage.

#[path = "common/gguf_writer.rs"]
mod gguf_writer;
#[path = "common/split.rs"]
mod splitter;

use gguf_writer::GgufWriter;
use outcrop::{
    backend::cpu::Cpu,
    generate::Receiver,
    gguf::{GgmlType, Value},
    model::Loader,
    source::Sink,
};
use splitter::{feed, head, heads, join, receive, received, split, tiny, writers};

/// What must be refused, with its code and some of its words. `give` gets the writers of three good parts.
type Give = fn(&mut Vec<GgufWriter>);

fn set(part: &mut GgufWriter, key: &str, value: u16) {
    part.set(&format!("split.{key}"), Value::U16(value));
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let cases: &[(&str, Give, &str, &str)] = &[
        (
            "the first alone",
            |w| w.truncate(1),
            "split_file",
            "this file is part 1 of 3 of a model: give all 3 parts, in order",
        ),
        ("a later one alone", |w| *w = vec![w[2].clone()], "split_file", "part 3 of 3"),
        (
            "the last missing",
            |w| w.truncate(2),
            "split_file",
            "the model has 3 parts, but 2 files were given",
        ),
        (
            "the middle missing",
            |w| drop(w.remove(1)),
            "split_file",
            "the model has 3 parts, but 2 files were given",
        ),
        (
            "the first missing",
            |w| drop(w.remove(0)),
            "split_file",
            "the model has 3 parts, but 2 files were given",
        ),
        (
            "one too many",
            |w| w.push(w[2].clone()),
            "split_file",
            "the model has 3 parts, but 4 files were given",
        ),
        (
            "swapped",
            |w| w.swap(1, 2),
            "split_file",
            "file 2 is part 3 of 3: give them in order",
        ),
        (
            "the first last",
            |w| w.rotate_left(1),
            "split_file",
            "file 1 is part 2 of 3: give them in order",
        ),
        (
            "one twice",
            |w| w[2] = w[1].clone(),
            "split_file",
            "file 3 is part 2 of 3: give them in order",
        ),
        (
            "a whole file among them",
            |w| {
                w[1].remove("split.no").remove("split.count");
            },
            "split_file",
            "file 2 of 3 is not a part of a split model",
        ),
        (
            "a whole file before them",
            |w| {
                w[0].remove("split.count");
            },
            "split_file",
            "file 1 of 3 is not a part of a split model",
        ),
        (
            "a merged one before them",
            |w| set(&mut w[0], "count", 0),
            "split_file",
            "file 1 of 3 is not a part of a split model",
        ),
        (
            "a merged one among them",
            |w| set(&mut w[2], "count", 0),
            "split_file",
            "file 3 of 3 is not a part of a split model",
        ),
        (
            "more parts than there can be",
            |w| set(&mut w[0], "count", 65535),
            "split_file",
            "the model has 65535 parts, but 3 files were given",
        ),
        (
            "another count",
            |w| set(&mut w[1], "count", 65535),
            "split_file",
            "file 2 is a part of another model than file 1: split.count is 65535, not 3",
        ),
        (
            "other counts of tensors",
            |w| set(&mut w[2], "tensors.count", 45),
            "split_file",
            "file 3 is a part of another model than file 1: split.tensors.count is 45, not 46",
        ),
        (
            "fewer tensors than they say",
            |w| w.iter_mut().for_each(|w| set(w, "tensors.count", 47)),
            "split_file",
            "the 3 files have 46 tensors, split.tensors.count is 47",
        ),
        (
            "more tensors than they say",
            |w| w.iter_mut().for_each(|w| set(w, "tensors.count", 0)),
            "split_file",
            "the 3 files have 46 tensors, split.tensors.count is 0",
        ),
        (
            "another architecture",
            |w| {
                w[1].set("general.architecture", Value::String("llama".into()));
            },
            "split_file",
            "file 2 is a part of another model than file 1: general.architecture is \"llama\", not \"granitehybrid\"",
        ),
        (
            "a tensor twice",
            |w| {
                let t = w[0].tensors[3].clone();
                *w[2].tensors.last_mut().unwrap() = t;
            },
            "split_file",
            "is in part 1 and in part 3",
        ),
        (
            "a number beyond the count",
            |w| set(&mut w[1], "no", 3),
            "bad_metadata",
            "split.no: 3, expected a number below split.count, which is 3",
        ),
        (
            "no number",
            |w| {
                w[1].remove("split.no");
            },
            "bad_metadata",
            "no metadata key split.no",
        ),
        (
            "no count of tensors",
            |w| {
                w[0].remove("split.tensors.count");
            },
            "bad_metadata",
            "no metadata key split.tensors.count",
        ),
        (
            "a negative count",
            |w| {
                w[0].set("split.tensors.count", Value::I32(-1));
            },
            "bad_metadata",
            "split.tensors.count: -1",
        ),
        (
            "a count as text",
            |w| {
                w[2].set("split.count", Value::String("3".into()));
            },
            "bad_metadata",
            "split.count: \"3\"",
        ),
        (
            "a count of more bits",
            |w| {
                w[0].set("split.count", Value::U32(65539));
            },
            "bad_metadata",
            "split.count: 65539",
        ),
        (
            "another model's tensors",
            |w| w[1].tensors[0].name = "blk.0.bias".into(),
            "bad_tensors",
            "the GGUF has no tensor",
        ),
        (
            "another model's shapes",
            |w| {
                let mut tensors = w.iter_mut().flat_map(|w| &mut w.tensors);
                let t = tensors.find(|t| t.name == "blk.1.ffn_up.weight").unwrap();
                t.ne.swap(0, 1);
            },
            "bad_tensors",
            "dimensions",
        ),
    ];
    let whole = tiny();
    let mut failures = Vec::new();
    for (name, give, code, words) in cases {
        let mut parts = writers(&whole, &[16, 15, 15]);
        give(&mut parts);
        let files: Vec<Vec<u8>> = parts.iter_mut().map(splitter::bytes).collect();
        match receive(&files, 65_536, true).and_then(received) {
            Ok(_) => failures.push(format!("{name}: loaded")),
            Err(e) if e.code() != *code || !e.to_string().contains(words) => failures.push(format!("{name}: {} {e}", e.code())),
            Err(_) => {}
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The loader, too, takes no part for a model.
#[test]
fn a_part_is_no_model() {
    let parts = split(&tiny(), &[23, 23]);
    for part in &parts {
        let error = Loader::new(&head(part).unwrap(), Cpu::new(8)).map(drop).unwrap_err();
        assert_eq!(error.code(), "split_file", "{error}");
    }
    assert!(Loader::new(&join(&parts).unwrap(), Cpu::new(8)).is_ok());
}

#[test]
fn parts_that_stop_early() {
    let parts = split(&tiny(), &[16, 15, 15]);
    for (i, part) in parts.iter().enumerate() {
        let end = head(part).unwrap().end() as usize;
        for len in [end - 1, end / 2, 100, 0] {
            for known in [true, false] {
                let mut files = parts.clone();
                files[i].truncate(len);
                let mut receiver = Receiver::with_parts(Cpu::new(8), heads(&parts[1..]).unwrap());
                let result = files.iter().try_for_each(|file| feed(&mut receiver, file, 4096, known));
                let code = result.err().map(|e| e.code());
                assert_eq!(code, Some("truncated_file"), "part {} cut to {len} bytes", i + 1);
            }
        }
    }
    // Bytes that never came, whatever the length is said to be; and parts that never came.
    let mut receiver = Receiver::with_parts(Cpu::new(8), heads(&parts[1..]).unwrap());
    receiver.begin(None).unwrap();
    receiver.push(0, &parts[0][..parts[0].len() / 2]).unwrap();
    assert_eq!(receiver.end(parts[0].len() as u64).unwrap_err().code(), "truncated_file");
    for n in 0..3 {
        let mut receiver = Receiver::with_parts(Cpu::new(8), heads(&parts[1..]).unwrap());
        for part in &parts[..n] {
            feed(&mut receiver, part, 65_536, true).unwrap();
        }
        let code = received(receiver).map(drop).unwrap_err().code();
        assert_eq!(code, "truncated_file", "{n} of 3 parts");
    }
}

#[test]
fn what_comes_must_be_what_was_read_ahead() {
    let whole = tiny();
    let parts = split(&whole, &[16, 15, 15]);
    let refused = |files: &[Vec<u8>], words: &str| {
        let mut receiver = Receiver::with_parts(Cpu::new(8), heads(&parts[1..]).unwrap());
        let error = files
            .iter()
            .try_for_each(|file| feed(&mut receiver, file, 4096, true))
            .unwrap_err();
        assert_eq!(error.code(), "split_file", "{error}");
        assert!(error.to_string().contains(words), "{error}");
    };
    // Cut elsewhere, or the parts in another order than their headers.
    refused(
        &[parts[0].clone(), split(&whole, &[16, 14, 16])[1].clone()],
        "part 2 changed while",
    );
    refused(&[parts[0].clone(), parts[2].clone()], "part 2 changed while");
    refused(
        &[&parts[..], &parts[2..]].concat(),
        "the model has 3 parts, there is one more",
    );

    // Before its header is complete a part may begin again; and after, if it is the same.
    let mut receiver = Receiver::with_parts(Cpu::new(8), heads(&parts[1..]).unwrap());
    receiver.begin(None).unwrap();
    receiver.push(0, b"GGUF").unwrap();
    feed(&mut receiver, &parts[0], 65_536, true).unwrap();
    receiver.begin(None).unwrap();
    receiver.push(0, &parts[1][..parts[1].len() / 2]).unwrap();
    feed(&mut receiver, &parts[1], 65_536, true).unwrap();
    feed(&mut receiver, &parts[2], 65_536, true).unwrap();
    assert!(received(receiver).is_ok());
}

/// Headers with random bytes changed: an error or a model, never a panic.
#[test]
fn random_bytes_flipped() {
    // Small files, and only what joining looks at.
    let mut small = GgufWriter::new();
    small.set("general.architecture", Value::String("test".into()));
    for i in 0..6 {
        small.zeros(&format!("t{i}"), GgmlType::F32, &[8 + i]);
    }
    let good = split(&small.build(), &[2, 2, 2]);
    let mut rng = fastrand::Rng::with_seed(5);
    let mut joined = 0;
    for _ in 0..20_000 {
        let files = flipped(&good, &mut rng);
        if let Ok(gguf) = join(&files) {
            joined += 1;
            assert_eq!((gguf.tensors.len(), gguf.ends().len()), (6, 3));
        }
    }
    assert!((100..20_000).contains(&joined), "{joined} joined");

    // A model, all the way.
    let good = split(&tiny(), &[0, 10, 36]);
    let mut loaded = 0;
    for round in 0..2000 {
        let files = flipped(&good, &mut rng);
        let piece = if round % 2 == 0 { 1 << 16 } else { usize::MAX };
        if let Ok(receiver) = receive(&files, piece, round % 3 == 0) {
            loaded += usize::from(pollster::block_on(receiver.finish()).is_ok());
        }
    }
    assert!((1..2000).contains(&loaded), "{loaded} loaded");
}

/// Some bytes of some headers changed.
fn flipped(good: &[Vec<u8>], rng: &mut fastrand::Rng) -> Vec<Vec<u8>> {
    let mut files = good.to_vec();
    for _ in 0..rng.usize(1..=3) {
        let i = rng.usize(..files.len());
        let header = head(&good[i]).unwrap().data_offset as usize;
        // The last keys and the table: a vocabulary has nothing to do with parts.
        let at = rng.usize(header.saturating_sub(1500)..header);
        files[i][at] = if rng.bool() { rng.u8(..) } else { 1 << rng.u32(..8) };
    }
    files
}
