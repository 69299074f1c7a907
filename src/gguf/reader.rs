//! The incremental header parser.
//!
//! A state machine over *items*: the counts, a key with its type, one value, one string of an array, some elements of a number array,
//! one row of the tensor table. An item is parsed when all its bytes are there and costs O(1) to find incomplete, so the total work
//! is linear in the header however it is cut up.

mod table;

use super::metadata::{Array, Metadata, Value};
use super::{Gguf, TensorInfo};
use crate::{Error, Result, source::Beginning};

/// A header beyond this is refused: real ones, with a vocabulary of 100k, take 4 MB.
pub const MAX_HEADER_BYTES: u64 = 256 << 20;
/// GGUF's own limit on keys.
const MAX_KEY_BYTES: u64 = 65535;
/// ggml's limit on tensor names (`GGML_MAX_NAME`).
const MAX_NAME_BYTES: u64 = 64;
/// Arrays in arrays; nothing in use has more than two levels.
const MAX_ARRAY_DEPTH: usize = 4;
const MAX_ALIGNMENT: u32 = 1 << 20;
const DEFAULT_ALIGNMENT: u32 = 32;

/// The least bytes of an entry: a key of one byte with a u8, a tensor name of one byte with one dimension.
const MIN_KV_BYTES: u64 = 8 + 1 + 4 + 1;
const MIN_TENSOR_BYTES: u64 = 8 + 1 + 4 + 8 + 4 + 8;

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Magic,
    Version,
    Counts,
    Key,
    Value(u32),
    Elements,
    Tensor,
    Done,
    Failed,
}

/// An array that has begun. `left` elements are missing.
#[derive(Debug)]
struct OpenArray {
    elements: Array,
    left: u64,
}

/// Reads a GGUF header from consecutive pieces of a file.
#[derive(Debug)]
pub struct HeaderReader {
    file_len: Option<u64>,
    state: State,
    /// Bytes that have arrived but do not yet make a whole item.
    carry: Vec<u8>,
    /// File offset of the first byte that is not parsed.
    offset: u64,
    /// Bytes that have arrived in all.
    seen: u64,
    /// What is being read and how many bytes it takes, for [`HeaderReader::finish`].
    section: &'static str,
    needed: u64,

    version: u32,
    n_kv_left: u64,
    n_tensors_left: u64,
    key: String,
    /// Arrays being read, outermost first.
    open: Vec<OpenArray>,
    metadata: Metadata,
    alignment: u64,
    /// `offset` is still relative to the data section.
    tensors: Vec<TensorInfo>,
    /// Where each row of the table starts, for errors that show only when the table is complete.
    rows: Vec<u64>,
}

impl Beginning for HeaderReader {
    type Found = Gguf;

    fn of(len: Option<u64>) -> Self {
        Self::new(len)
    }

    fn push(&mut self, bytes: &[u8]) -> Result<Option<Gguf>> {
        HeaderReader::push(self, bytes)
    }

    fn too_short(&self) -> Error {
        self.finish()
    }

    fn needs(gguf: &Gguf) -> u64 {
        gguf.end()
    }
}

impl HeaderReader {
    /// A reader at the start of a file of `file_len` bytes. With a known length, anything that cannot fit is refused at once.
    pub fn new(file_len: Option<u64>) -> Self {
        HeaderReader {
            file_len,
            state: State::Magic,
            carry: Vec::new(),
            offset: 0,
            seen: 0,
            section: "the header",
            needed: 24,
            version: 0,
            n_kv_left: 0,
            n_tensors_left: 0,
            key: String::new(),
            open: Vec::new(),
            metadata: Metadata::default(),
            alignment: DEFAULT_ALIGNMENT.into(),
            tensors: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Takes the next bytes of the file; the header, once, when they complete it. Later bytes are ignored.
    ///
    /// After an error the reader is of no further use.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Gguf>> {
        match self.state {
            State::Done => return Ok(None),
            State::Failed => return Err(self.malformed("reading went on after an error")),
            _ => self.seen += bytes.len() as u64,
        }
        let mut carry = std::mem::take(&mut self.carry);
        let carried = !carry.is_empty();
        if carried {
            carry.extend_from_slice(bytes);
        }
        let input = if carried { carry.as_slice() } else { bytes };

        let mut used = 0;
        let done = loop {
            match self.step(&input[used..]) {
                Ok(0) => break None,
                Ok(n) => {
                    used += n;
                    self.offset += n as u64;
                }
                Err(e) => {
                    self.state = State::Failed;
                    return Err(e);
                }
            }
            if self.state == State::Done {
                break Some(self.complete().inspect_err(|_| self.state = State::Failed)?);
            }
        };
        if done.is_none() {
            if carried {
                carry.drain(..used);
                self.carry = carry;
            } else {
                self.carry = input[used..].to_vec();
            }
        }
        Ok(done)
    }

    /// The error to report when the file ended before the header did.
    pub fn finish(&self) -> Error {
        let magic = &self.carry[..self.carry.len().min(4)];
        if self.state == State::Magic && !b"GGUF".starts_with(magic) {
            return Error::NotGguf { found: magic.to_vec() };
        }
        Error::Truncated {
            section: self.section,
            needed: self.needed,
            offset: self.offset,
            len: self.seen,
        }
    }

    /// Parses one item from the front of `input`; how many bytes it took, 0 if it is not all there.
    fn step(&mut self, input: &[u8]) -> Result<usize> {
        match self.state {
            State::Magic => self.magic(input),
            State::Version => self.version(input),
            State::Counts => self.counts(input),
            State::Key => self.key(input),
            State::Value(ty) => self.value(ty, input),
            State::Elements => self.elements(input),
            State::Tensor => self.tensor(input),
            State::Done | State::Failed => Ok(0),
        }
    }

    fn magic(&mut self, input: &[u8]) -> Result<usize> {
        let Some(magic) = self.fixed::<4>("the header", input, 0)? else {
            return Ok(0);
        };
        if &magic != b"GGUF" {
            return Err(Error::NotGguf { found: magic.to_vec() });
        }
        self.state = State::Version;
        Ok(4)
    }

    fn version(&mut self, input: &[u8]) -> Result<usize> {
        let Some(bytes) = self.fixed("the header", input, 0)? else {
            return Ok(0);
        };
        self.version = u32::from_le_bytes(bytes);
        match self.version {
            2 | 3 => self.state = State::Counts,
            v if matches!(v.swap_bytes(), 1..=3) => return Err(Error::BigEndianGguf),
            found => return Err(Error::GgufVersion { found }),
        }
        Ok(4)
    }

    fn counts(&mut self, input: &[u8]) -> Result<usize> {
        let (Some(n_tensors), Some(n_kv)) = (self.fixed("the header", input, 0)?, self.fixed("the header", input, 8)?) else {
            return Ok(0);
        };
        self.n_tensors_left = u64::from_le_bytes(n_tensors);
        self.n_kv_left = u64::from_le_bytes(n_kv);
        let kv = self.n_kv_left.saturating_mul(MIN_KV_BYTES);
        let table = self.n_tensors_left.saturating_mul(MIN_TENSOR_BYTES);
        self.room(
            "the key-value pairs and the tensor table",
            kv.saturating_add(table).saturating_add(16),
        )?;
        self.next_entry();
        Ok(16)
    }

    /// Chooses what follows a complete pair or row.
    fn next_entry(&mut self) {
        self.state = if self.n_kv_left > 0 {
            State::Key
        } else if self.n_tensors_left > 0 {
            State::Tensor
        } else {
            State::Done
        };
    }

    fn key(&mut self, input: &[u8]) -> Result<usize> {
        let Some(key) = self.text("a metadata key", input, 0, MAX_KEY_BYTES)? else {
            return Ok(0);
        };
        let at = 8 + key.len();
        let Some(ty) = self.fixed("a metadata key", input, at)? else {
            return Ok(0);
        };
        let key = self.utf8(key, 8)?;
        if key.is_empty() {
            return Err(self.malformed("a metadata key is empty"));
        }
        if self.metadata.contains(key) {
            return Err(self.malformed(&format!("metadata key {key} appears twice")));
        }
        self.key = key.to_owned();
        self.state = State::Value(u32::from_le_bytes(ty));
        Ok(at + 4)
    }

    fn value(&mut self, ty: u32, input: &[u8]) -> Result<usize> {
        const WHAT: &str = "a metadata value";
        macro_rules! number {
            ($variant:ident, $t:ty) => {
                match self.fixed(WHAT, input, 0)? {
                    Some(bytes) => (Value::$variant(<$t>::from_le_bytes(bytes)), size_of::<$t>()),
                    None => return Ok(0),
                }
            };
        }
        let (value, n) = match ty {
            0 => number!(U8, u8),
            1 => number!(I8, i8),
            2 => number!(U16, u16),
            3 => number!(I16, i16),
            4 => number!(U32, u32),
            5 => number!(I32, i32),
            6 => number!(F32, f32),
            7 => match self.fixed(WHAT, input, 0)? {
                Some([byte]) => (Value::Bool(self.bool(byte, 0)?), 1),
                None => return Ok(0),
            },
            8 => match self.text(WHAT, input, 0, MAX_HEADER_BYTES)? {
                Some(s) => (Value::String(self.utf8(s, 8)?.to_owned()), 8 + s.len()),
                None => return Ok(0),
            },
            9 => return self.open_array(input),
            10 => number!(U64, u64),
            11 => number!(I64, i64),
            12 => number!(F64, f64),
            _ => return Err(self.malformed(&format!("metadata key {} has the unknown value type {ty}", self.key))),
        };
        self.set(value)?;
        Ok(n)
    }

    /// Reads an array's element type and length, and makes it the innermost open one.
    fn open_array(&mut self, input: &[u8]) -> Result<usize> {
        const WHAT: &str = "a metadata array";
        let (Some(ty), Some(len)) = (self.fixed(WHAT, input, 0)?, self.fixed(WHAT, input, 4)?) else {
            return Ok(0);
        };
        let (ty, left) = (u32::from_le_bytes(ty), u64::from_le_bytes(len));
        if self.open.len() == MAX_ARRAY_DEPTH {
            return Err(self.malformed(&format!(
                "metadata key {} nests arrays deeper than {MAX_ARRAY_DEPTH}",
                self.key
            )));
        }
        let (elements, min_bytes) = match ty {
            0 => (Array::U8(Vec::new()), 1),
            1 => (Array::I8(Vec::new()), 1),
            2 => (Array::U16(Vec::new()), 2),
            3 => (Array::I16(Vec::new()), 2),
            4 => (Array::U32(Vec::new()), 4),
            5 => (Array::I32(Vec::new()), 4),
            6 => (Array::F32(Vec::new()), 4),
            7 => (Array::Bool(Vec::new()), 1),
            8 => (Array::String(Box::default()), 8),
            9 => (Array::Array(Vec::new()), 12),
            10 => (Array::U64(Vec::new()), 8),
            11 => (Array::I64(Vec::new()), 8),
            12 => (Array::F64(Vec::new()), 8),
            _ => return Err(self.malformed(&format!("metadata key {} has the unknown element type {ty}", self.key))),
        };
        self.room(WHAT, left.saturating_mul(min_bytes).saturating_add(12))?;
        self.open.push(OpenArray { elements, left });
        self.close_arrays()?;
        Ok(12)
    }

    /// Reads elements of the innermost open array: all numbers that are there, or one string, or the head of one inner array.
    fn elements(&mut self, input: &[u8]) -> Result<usize> {
        const WHAT: &str = "a metadata array";
        let mut array = self.open.pop().expect("state Elements has an open array");
        macro_rules! numbers {
            ($v:expr, $t:ty) => {{
                const N: usize = size_of::<$t>();
                self.fixed::<N>(WHAT, input, 0)?;
                let n = (input.len() / N).min(usize::try_from(array.left).unwrap_or(usize::MAX));
                $v.extend(
                    input[..n * N]
                        .as_chunks::<N>()
                        .0
                        .iter()
                        .map(|&bytes| <$t>::from_le_bytes(bytes)),
                );
                (n, n * N)
            }};
        }
        let (n, bytes) = match &mut array.elements {
            Array::U8(v) => numbers!(v, u8),
            Array::I8(v) => numbers!(v, i8),
            Array::U16(v) => numbers!(v, u16),
            Array::I16(v) => numbers!(v, i16),
            Array::U32(v) => numbers!(v, u32),
            Array::I32(v) => numbers!(v, i32),
            Array::U64(v) => numbers!(v, u64),
            Array::I64(v) => numbers!(v, i64),
            Array::F32(v) => numbers!(v, f32),
            Array::F64(v) => numbers!(v, f64),
            Array::Bool(v) => {
                self.fixed::<1>(WHAT, input, 0)?;
                let n = input.len().min(usize::try_from(array.left).unwrap_or(usize::MAX));
                for (i, &byte) in input[..n].iter().enumerate() {
                    v.push(self.bool(byte, i)?);
                }
                (n, n)
            }
            Array::String(v) => match self.text(WHAT, input, 0, MAX_HEADER_BYTES)? {
                Some(s) => {
                    v.push(self.utf8(s, 8)?);
                    (1, 8 + s.len())
                }
                None => (0, 0),
            },
            Array::Array(_) => {
                self.open.push(array);
                return self.open_array(input);
            }
        };
        array.left -= n as u64;
        self.open.push(array);
        self.close_arrays()?;
        Ok(bytes)
    }

    /// Moves complete arrays into the one around them, or, the outermost, into the metadata.
    fn close_arrays(&mut self) -> Result<()> {
        self.state = State::Elements;
        while self.open.last().is_some_and(|array| array.left == 0) {
            let array = self.open.pop().expect("just seen").elements;
            match self.open.last_mut() {
                Some(OpenArray {
                    elements: Array::Array(outer),
                    left,
                }) => {
                    outer.push(array);
                    *left -= 1;
                }
                Some(_) => unreachable!("only an array of arrays opens an inner one"),
                None => self.set(Value::Array(array))?,
            }
        }
        Ok(())
    }

    /// Stores the value of the current key.
    fn set(&mut self, value: Value) -> Result<()> {
        let key = std::mem::take(&mut self.key);
        let is_alignment = key == "general.alignment";
        self.metadata.insert(key, value);
        if is_alignment {
            let n = self.metadata.u32("general.alignment")?;
            if !n.is_power_of_two() || n > MAX_ALIGNMENT {
                return Err(Error::BadKey {
                    key: "general.alignment".into(),
                    found: n.to_string(),
                    expected: format!("a power of two up to {MAX_ALIGNMENT}"),
                });
            }
            self.alignment = n.into();
        }
        self.n_kv_left -= 1;
        self.next_entry();
        Ok(())
    }

    // ---- bytes ----

    /// Refuses `n` bytes from the current offset on if the file, or any header, cannot hold them.
    fn room(&self, section: &'static str, n: u64) -> Result<()> {
        let end = self.offset.saturating_add(n);
        if let Some(len) = self.file_len
            && end > len
        {
            return Err(Error::Truncated {
                section,
                needed: n,
                offset: self.offset,
                len,
            });
        }
        if end > MAX_HEADER_BYTES {
            return Err(self.malformed(&format!("{section} would take {n} bytes, more than a header may have")));
        }
        Ok(())
    }

    /// The first `n` bytes of the item at the front of `input`, or `None` until they have arrived.
    fn first<'a>(&mut self, section: &'static str, input: &'a [u8], n: u64) -> Result<Option<&'a [u8]>> {
        self.room(section, n)?;
        // `room` has bounded n.
        let bytes = input.get(..n as usize);
        if bytes.is_none() {
            (self.section, self.needed) = (section, n);
        }
        Ok(bytes)
    }

    /// `N` bytes that lie `at` bytes into the item.
    fn fixed<const N: usize>(&mut self, section: &'static str, input: &[u8], at: usize) -> Result<Option<[u8; N]>> {
        let bytes = self.first(section, input, (at + N) as u64)?;
        Ok(bytes.map(|bytes| bytes[at..].try_into().expect("exactly N bytes")))
    }

    /// A string with its u64 length in front, `at` bytes into the item: its bytes, at most `max`.
    fn text<'a>(&mut self, section: &'static str, input: &'a [u8], at: usize, max: u64) -> Result<Option<&'a [u8]>> {
        let Some(len) = self.fixed(section, input, at)? else {
            return Ok(None);
        };
        let len = u64::from_le_bytes(len);
        let start = at + 8;
        self.room(section, len.saturating_add(start as u64))?;
        if len > max {
            return Err(self.malformed(&format!("{section} has a string of {len} bytes, more than {max}")));
        }
        let bytes = self.first(section, input, start as u64 + len)?;
        Ok(bytes.map(|bytes| &bytes[start..]))
    }

    /// `bytes` as text; they lie `at` bytes into the item.
    fn utf8<'a>(&self, bytes: &'a [u8], at: usize) -> Result<&'a str> {
        std::str::from_utf8(bytes).map_err(|e| Error::MalformedGguf {
            offset: self.offset + (at + e.valid_up_to()) as u64,
            what: "a string is not valid UTF-8".into(),
        })
    }

    /// A bool's byte, `at` bytes into the item.
    fn bool(&self, byte: u8, at: usize) -> Result<bool> {
        match byte {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Error::MalformedGguf {
                offset: self.offset + at as u64,
                what: format!("a bool of metadata key {} is {byte}, not 0 or 1", self.key),
            }),
        }
    }

    fn malformed(&self, what: &str) -> Error {
        Error::MalformedGguf {
            offset: self.offset,
            what: what.into(),
        }
    }
}
