//! GGUF headers that lie: truncated, with absurd counts, lengths and dimensions, or plain noise.
//!
//! Whatever the bytes: an error or a header, no panic, and no more memory than the bytes that were there warrant.

#[path = "common/gguf_writer.rs"]
mod gguf_writer;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use gguf_writer::GgufWriter;
use outcrop::gguf::{Array, GgmlType, Gguf, HeaderReader, Value};
use outcrop::{Error, Result};

/// Counts what each test's own thread holds.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    let held = HELD.get() + bytes;
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

// SAFETY: every call is passed on to `System` unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(ptr, layout) }
    }
    // The default `realloc` goes through both, so a growing Vec is counted at its worst.
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What reading `n` bytes may hold at its peak. The worst real ratio is that of tiny entries: a pair of 14 bytes becomes a tree
/// node's share of some 110, an inner array of 12 bytes an enum of 32, both before the slack of growing.
fn allowed(n: usize) -> usize {
    16 * n + 4096
}

fn within_memory<T>(n: usize, what: &dyn Fn() -> String, f: impl FnOnce() -> T) -> T {
    let before = HELD.get();
    PEAK.set(before);
    let result = f();
    let peak = (PEAK.get() - before) as usize;
    assert!(peak <= allowed(n), "{}: {peak} bytes held while reading {n}", what());
    result
}

/// Reads `bytes` as a whole file, and in pieces with the length unknown; memory is bounded in both.
fn read(bytes: &[u8], what: &dyn Fn() -> String) -> (Result<Gguf>, Result<Gguf>) {
    let whole = within_memory(bytes.len(), what, || Gguf::from_bytes(bytes));
    let pieces = within_memory(bytes.len(), what, || {
        let mut reader = HeaderReader::new(None);
        for piece in bytes.chunks(97) {
            if let Some(gguf) = reader.push(piece)? {
                return Ok(gguf);
            }
        }
        Err(reader.finish())
    });
    (whole, pieces)
}

fn tiny() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/gguf/tiny-g2-Q4_K_M.gguf");
    std::fs::read(path).expect(path)
}

/// A real file with the vocabulary cut down and small tensors only: every kind of field, in few bytes.
fn small() -> GgufWriter {
    let mut w = GgufWriter::copy_of(&tiny());
    for (_, value) in &mut w.kv {
        match value {
            Value::Array(Array::String(s)) => *value = Value::Array(Array::String(Box::new(s.iter().take(5).collect()))),
            Value::Array(Array::I32(v)) => v.truncate(5),
            Value::String(s) if s.len() > 60 => *s = "{{ messages }}".into(),
            _ => {}
        }
    }
    let inner = vec![Array::U16(vec![1, 2]), Array::U16(vec![])];
    w.set(
        "t.nested",
        Value::Array(Array::Array(vec![Array::Array(inner), Array::Array(vec![])])),
    );
    w.set("t.bools", Value::Array(Array::Bool(vec![true, false])));
    w.tensors.retain(|t| t.data.len() <= 1024);
    w.tensors.truncate(12);
    w.zeros("blocks", GgmlType::Q4_K, &[256, 2, 1, 1]);
    w
}

/// A minimal writer to break.
fn minimal() -> GgufWriter {
    let mut w = GgufWriter::new();
    w.set("general.architecture", Value::String("test".into()));
    w.zeros("a", GgmlType::F32, &[8]);
    w.zeros("b", GgmlType::Q8_0, &[64, 2]);
    w
}

#[test]
fn the_files_to_break_are_good() {
    for bytes in [tiny(), small().build(), minimal().build()] {
        let (whole, pieces) = read(&bytes, &|| "a good file".into());
        assert_eq!(whole.unwrap().tensors, pieces.unwrap().tensors);
    }
}

#[test]
fn truncated_at_every_byte() {
    let mut w = small();
    let header_len = w.header().len();
    let bytes = w.build();
    for len in 0..bytes.len() {
        let what = || format!("cut to {len} bytes");
        let (whole, pieces) = read(&bytes[..len], &what);
        assert!(matches!(whole, Err(Error::Truncated { .. })), "{}: {whole:?}", what());
        match pieces {
            // The length is not known and the header is whole: that the tensors are missing shows later.
            Ok(gguf) => assert!(len >= header_len && gguf.end() > len as u64, "{}", what()),
            Err(e) => assert!(len < header_len && matches!(e, Error::Truncated { .. }), "{}: {e}", what()),
        }
    }
}

/// The same on a whole real header: byte by byte through one reader, asking at each byte what it would report.
#[test]
fn real_header_byte_by_byte() {
    let bytes = tiny();
    let data_offset = Gguf::from_bytes(&bytes).unwrap().data_offset as usize;
    let mut reader = HeaderReader::new(None);
    for (i, byte) in bytes[..data_offset].iter().enumerate() {
        let error = reader.finish();
        let Error::Truncated { offset, needed, len, .. } = error else {
            panic!("at {i}: {error}")
        };
        assert!(len == i as u64 && offset <= len && offset + needed > len, "at {i}: {error}");
        if reader.push(std::slice::from_ref(byte)).unwrap().is_some() {
            return;
        }
    }
    panic!("no header");
}

#[test]
fn real_header_cut_at_many_places() {
    let bytes = tiny();
    let data_offset = Gguf::from_bytes(&bytes).unwrap().data_offset as usize;
    let tail = data_offset - 500..data_offset + 50;
    for len in (0..bytes.len())
        .step_by(4099)
        .chain((0..data_offset).step_by(211))
        .chain(tail)
    {
        let result = within_memory(len, &|| format!("cut to {len}"), || Gguf::from_bytes(&bytes[..len]));
        assert!(matches!(result, Err(Error::Truncated { .. })), "cut to {len}: {result:?}");
    }
}

#[test]
fn every_count_and_length_flipped() {
    let mut w = small();
    let bytes = w.build();
    let lengths = w.lengths.clone();
    assert!(lengths.len() > 100);
    for at in lengths {
        let old = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        for new in [
            u64::MAX,
            u64::MAX - 7,
            1 << 63,
            i64::MAX as u64,
            1 << 40,
            1 << 32,
            u32::MAX.into(),
            1 << 31,
            1 << 24,
            old + (1 << 56),
        ] {
            let mut broken = bytes.clone();
            broken[at..at + 8].copy_from_slice(&new.to_le_bytes());
            let what = || format!("{new:#x} instead of {old} at {at}");
            let (whole, pieces) = read(&broken, &what);
            assert!(whole.is_err(), "{}", what());
            // In pieces the end is not known, so a tensor may well claim to lie far beyond.
            if let Ok(gguf) = pieces {
                assert!(gguf.end() > bytes.len() as u64, "{}", what());
            }
        }
    }
}

/// Every u32 and u64 at every byte, whether a field begins there or not.
#[test]
fn every_word_flipped() {
    let mut w = small();
    let bytes = w.build();
    for at in 0..w.header().len() {
        for pattern in [
            [0; 8],
            [0xff; 8],
            [0, 0, 0, 0x80, 0, 0, 0, 0],
            [9, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
        ] {
            for n in [4, 8] {
                let mut broken = bytes.clone();
                broken[at..][..n].copy_from_slice(&pattern[..n]);
                let _ = read(&broken, &|| format!("{n} bytes of {pattern:x?} at {at}"));
            }
        }
    }
}

#[test]
fn random_bytes_flipped() {
    let mut w = small();
    let header_len = w.header().len();
    let bytes = w.build();
    let mut rng = fastrand::Rng::with_seed(7);
    for round in 0..20_000 {
        let mut broken = bytes.clone();
        for _ in 0..rng.usize(1..=8) {
            broken[rng.usize(..header_len)] = if rng.bool() { rng.u8(..) } else { 1 << rng.u32(..8) };
        }
        if rng.u8(..8) == 0 {
            broken.truncate(rng.usize(..=header_len));
        }
        if let (Ok(gguf), _) = read(&broken, &|| format!("round {round}")) {
            for t in &gguf.tensors {
                assert!(t.offset + t.size <= broken.len() as u64, "round {round}: {t:?}");
            }
        }
    }
}

#[test]
fn noise_after_a_good_start() {
    let mut rng = fastrand::Rng::with_seed(11);
    for round in 0..5_000 {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(u64::from(rng.u8(..4)).to_le_bytes());
        bytes.extend(u64::from(rng.u8(..4)).to_le_bytes());
        // Small numbers make it further than random ones.
        bytes.extend(std::iter::repeat_with(|| if rng.u8(..4) == 0 { rng.u8(..13) } else { 0 }).take(400));
        let _ = read(&bytes, &|| format!("round {round}"));
    }
}

/// Entries as small as they get, thousands of them: what a header can blow up to.
#[test]
fn smallest_entries() {
    let mut keys = GgufWriter::new();
    for i in 0..20_000 {
        keys.kv.push((format!("{i:x}"), Value::U8(0)));
    }
    let mut arrays = GgufWriter::new();
    arrays.set("a", Value::Array(Array::Array(vec![Array::U8(vec![]); 50_000])));
    let mut strings = GgufWriter::new();
    strings.set(
        "s",
        Value::Array(Array::String(Box::new(std::iter::repeat_n("", 50_000).collect()))),
    );
    let mut numbers = GgufWriter::new();
    numbers.set("n", Value::Array(Array::U8(vec![0; 500_000])));
    let mut tensors = GgufWriter::new();
    for i in 0..10_000 {
        tensors.raw(&format!("{i:x}"), 0, &[1], vec![0; 4]);
    }
    for (what, mut w) in [
        ("keys", keys),
        ("arrays", arrays),
        ("strings", strings),
        ("numbers", numbers),
        ("tensors", tensors),
    ] {
        let bytes = w.build();
        let (whole, pieces) = read(&bytes, &|| what.into());
        assert_eq!(whole.expect(what).metadata, pieces.expect(what).metadata);
    }
}

/// A blind reader must not collect a string or an array that no header may have.
#[test]
fn endless_header_is_refused_early() {
    for ty in [0u32, 8, 9] {
        let mut head = b"GGUF\x03\0\0\0".to_vec();
        head.extend(0u64.to_le_bytes());
        head.extend(1u64.to_le_bytes());
        head.extend(1u64.to_le_bytes());
        head.push(b'k');
        head.extend(9u32.to_le_bytes());
        head.extend(ty.to_le_bytes());
        head.extend((1u64 << 40).to_le_bytes());
        let error = HeaderReader::new(None).push(&head).unwrap_err();
        assert!(matches!(error, Error::MalformedGguf { offset: 37, .. }), "{ty}: {error}");
    }
}

#[test]
fn what_each_error_says() {
    let set = |key: &str, value: Value| {
        let mut w = minimal();
        w.set(key, value);
        w.build()
    };
    let tensor = |f: &dyn Fn(&mut gguf_writer::Tensor)| {
        let mut w = minimal();
        f(w.tensor("b"));
        w.build()
    };
    let patched = |from: &[u8], to: &[u8]| {
        let mut bytes = minimal().build();
        let at = bytes.windows(from.len()).position(|w| w == from).expect("the bytes to patch");
        bytes[at..at + to.len()].copy_from_slice(to);
        bytes
    };
    let nest = |depth: usize| {
        let array = (1..depth).fold(Array::U8(vec![1]), |inner, _| Array::Array(vec![inner]));
        set("t.deep", Value::Array(array))
    };
    let mut twice = minimal();
    twice.kv.push(("general.architecture".into(), Value::U8(0)));
    let mut same_name = minimal();
    same_name.zeros("a", GgmlType::F32, &[8]);
    let mut nameless_key = minimal();
    nameless_key.set("", Value::U8(0));
    let mut cut = minimal().build();
    cut.truncate(cut.len() - 1);

    let cases: Vec<(Vec<u8>, &str, &str)> = vec![
        (
            twice.build(),
            "malformed_gguf",
            "metadata key general.architecture appears twice",
        ),
        (same_name.build(), "malformed_gguf", "tensor a appears twice"),
        (nameless_key.build(), "malformed_gguf", "a metadata key is empty"),
        (cut, "truncated_file", "tensor data needs 136 bytes"),
        // The text of the value begins at 24 + 8 + 20 + 4 + 8.
        (
            patched(b"test", b"te\xff"),
            "malformed_gguf",
            "offset 66: a string is not valid UTF-8",
        ),
        (
            patched(b"general.", b"gen\xffral."),
            "malformed_gguf",
            "offset 35: a string is not valid UTF-8",
        ),
        (
            patched(b"\x08\0\0\0\x04\0", b"\x0d\0"),
            "malformed_gguf",
            "metadata key general.architecture has the unknown value type 13",
        ),
        (
            patched(b"\x08\0\0\0\x04\0", b"\x07\0"),
            "malformed_gguf",
            "a bool of metadata key general.architecture is 4, not 0 or 1",
        ),
        (nest(5), "malformed_gguf", "metadata key t.deep nests arrays deeper than 4"),
        (
            set("general.alignment", Value::U32(0)),
            "bad_metadata",
            "general.alignment: 0, expected a power of two",
        ),
        (
            set("general.alignment", Value::U32(48)),
            "bad_metadata",
            "general.alignment: 48, expected a power of two",
        ),
        (
            set("general.alignment", Value::U32(1 << 31)),
            "bad_metadata",
            "expected a power of two up to",
        ),
        (
            set("general.alignment", Value::U64(u64::MAX)),
            "bad_metadata",
            "expected an unsigned 32-bit integer",
        ),
        (
            set("general.alignment", Value::String("x".into())),
            "bad_metadata",
            "expected an unsigned 32-bit integer",
        ),
        (
            set("general.alignment", Value::U32(64)),
            "malformed_gguf",
            "tensor b starts at 32, which is not a multiple of 64",
        ),
        (
            tensor(&|t| t.ne = vec![]),
            "malformed_gguf",
            "tensor b has 0 dimensions, not 1 to 4",
        ),
        (
            tensor(&|t| t.ne = vec![32, 1, 1, 1, 1]),
            "malformed_gguf",
            "tensor b has 5 dimensions, not 1 to 4",
        ),
        (
            tensor(&|t| t.ne = vec![64, 0]),
            "malformed_gguf",
            "tensor b has a dimension of 0",
        ),
        (
            tensor(&|t| t.ne = vec![48, 2]),
            "malformed_gguf",
            "rows of 48 elements do not hold whole Q8_0 blocks of 32",
        ),
        (
            tensor(&|t| t.ne = vec![1 << 32, 1 << 32]),
            "malformed_gguf",
            "is larger than any file",
        ),
        (
            tensor(&|t| t.ne = vec![1 << 63, 2, 1, 1]),
            "malformed_gguf",
            "is larger than any file",
        ),
        (tensor(&|t| t.ne = vec![1 << 63]), "malformed_gguf", "is larger than any file"),
        (tensor(&|t| t.ne = vec![1 << 40]), "truncated_file", "tensor data needs"),
        (
            tensor(&|t| t.offset = Some(33)),
            "malformed_gguf",
            "tensor b starts at 33, which is not a multiple of 32",
        ),
        (tensor(&|t| t.offset = Some(0)), "malformed_gguf", "tensors a and b overlap"),
        (
            tensor(&|t| t.offset = Some(1 << 40)),
            "truncated_file",
            "tensor data needs 136 bytes at offset 1099511",
        ),
        (
            tensor(&|t| t.offset = Some(u64::MAX - 31)),
            "malformed_gguf",
            "is larger than any file",
        ),
        (tensor(&|t| t.name = String::new()), "malformed_gguf", "a tensor has no name"),
        (
            tensor(&|t| t.name = "x".repeat(65)),
            "malformed_gguf",
            "a string of 65 bytes, more than 64",
        ),
        (
            tensor(&|t| t.ty = 23),
            "unsupported_tensor_type",
            "tensor b: type IQ4_XS is not supported",
        ),
        (
            tensor(&|t| t.ty = 39),
            "unsupported_tensor_type",
            "tensor b: type MXFP4 is not supported",
        ),
        (
            tensor(&|t| t.ty = 34),
            "unsupported_tensor_type",
            "tensor b: type TQ1_0 is not supported",
        ),
        (
            tensor(&|t| t.ty = 4),
            "unsupported_tensor_type",
            "tensor b: type Q4_2 is not supported",
        ),
        (
            tensor(&|t| t.ty = 999),
            "unsupported_tensor_type",
            "tensor b: type number 999 is not supported",
        ),
    ];
    for (bytes, code, words) in cases {
        let (error, _) = read(&bytes, &|| words.into());
        let error = error.expect_err(words);
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(words), "{error}, expected {words}");
    }
    assert!(Gguf::from_bytes(&nest(4)).is_ok());
}
