//! The key-value part of a GGUF header, with typed access.
//!
//! Accessors convert between integer widths (files disagree on them) but never between kinds: a string is not a number, and a value
//! that does not fit is an error that names the key.

use std::collections::BTreeMap;

use crate::{Error, Result};

/// One metadata value.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the variants are GGUF's value types")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    String(String),
    Array(Array),
}

/// An array value; all elements have one type.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the variants are GGUF's value types")]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
    String(Box<StringArray>),
    Array(Vec<Array>),
}

impl Array {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Array::U8(v) => v.len(),
            Array::I8(v) => v.len(),
            Array::U16(v) => v.len(),
            Array::I16(v) => v.len(),
            Array::U32(v) => v.len(),
            Array::I32(v) => v.len(),
            Array::U64(v) => v.len(),
            Array::I64(v) => v.len(),
            Array::F32(v) => v.len(),
            Array::F64(v) => v.len(),
            Array::Bool(v) => v.len(),
            Array::String(v) => v.len(),
            Array::Array(v) => v.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements as i32, if they are integers and all fit.
    fn to_i32s(&self) -> Option<Vec<i32>> {
        fn fit<T: Copy + TryInto<i32>>(v: &[T]) -> Option<Vec<i32>> {
            v.iter().map(|&x| x.try_into().ok()).collect()
        }
        match self {
            Array::U8(v) => fit(v),
            Array::I8(v) => fit(v),
            Array::U16(v) => fit(v),
            Array::I16(v) => fit(v),
            Array::U32(v) => fit(v),
            Array::I32(v) => fit(v),
            Array::U64(v) => fit(v),
            Array::I64(v) => fit(v),
            _ => None,
        }
    }

    fn type_name(&self) -> &'static str {
        match self {
            Array::U8(_) => "u8",
            Array::I8(_) => "i8",
            Array::U16(_) => "u16",
            Array::I16(_) => "i16",
            Array::U32(_) => "u32",
            Array::I32(_) => "i32",
            Array::U64(_) => "u64",
            Array::I64(_) => "i64",
            Array::F32(_) => "f32",
            Array::F64(_) => "f64",
            Array::Bool(_) => "bool",
            Array::String(_) => "string",
            Array::Array(_) => "array",
        }
    }
}

impl Value {
    /// The value as an integer, if it is one of any width.
    pub fn as_integer(&self) -> Option<i128> {
        Some(match *self {
            Value::U8(x) => x.into(),
            Value::I8(x) => x.into(),
            Value::U16(x) => x.into(),
            Value::I16(x) => x.into(),
            Value::U32(x) => x.into(),
            Value::I32(x) => x.into(),
            Value::U64(x) => x.into(),
            Value::I64(x) => x.into(),
            _ => return None,
        })
    }

    /// What to call the value in an error message: its type, and the value itself where that is short.
    pub(super) fn describe(&self) -> String {
        match self {
            Value::F32(x) => format!("{x} (float)"),
            Value::F64(x) => format!("{x} (float)"),
            Value::Bool(x) => format!("{x} (bool)"),
            Value::String(s) if s.len() <= 64 => format!("{s:?}"),
            Value::String(s) => format!("a string of {} bytes", s.len()),
            Value::Array(a) => format!("an array of {} {}", a.len(), a.type_name()),
            _ => format!("{} (integer)", self.as_integer().expect("the other variants are integers")),
        }
    }
}

/// Strings of an array, in one allocation: a vocabulary has 100k of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StringArray {
    blob: String,
    /// Where each string ends in `blob`, bytes. A header is far smaller than 4 GiB.
    ends: Vec<u32>,
}

impl StringArray {
    pub(super) fn push(&mut self, s: &str) {
        self.blob.push_str(s);
        self.ends
            .push(u32::try_from(self.blob.len()).expect("the reader bounds the header's size"));
    }

    /// Number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// String `i`.
    ///
    /// # Panics
    ///
    /// If `i >= len`, as indexing does.
    pub fn get(&self, i: usize) -> &str {
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        &self.blob[start..self.ends[i] as usize]
    }

    /// The strings in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        (0..self.len()).map(|i| self.get(i))
    }
}

impl<'a> FromIterator<&'a str> for StringArray {
    fn from_iter<I: IntoIterator<Item = &'a str>>(strings: I) -> Self {
        let mut array = StringArray::default();
        for s in strings {
            array.push(s);
        }
        array
    }
}

/// All key-value pairs of a file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metadata {
    entries: BTreeMap<String, Value>,
}

/// A required accessor and its `opt_` twin, for a type that [`Value`] may hold.
macro_rules! accessors {
    ($($name:ident, $opt:ident -> $out:ty, $what:literal, $get:expr;)*) => {$(
        #[allow(clippy::needless_lifetimes, reason = "named by the accessors that borrow")]
        #[doc = concat!("The value of `key` as ", $what, ".\n\nAbsent or of another kind: an error.")]
        pub fn $name<'a>(&'a self, key: &str) -> Result<$out> {
            self.$opt(key)?.ok_or_else(|| Error::MissingKey { key: key.into() })
        }

        #[allow(clippy::needless_lifetimes, reason = "named by the accessors that borrow")]
        #[doc = concat!("The value of `key` as ", $what, ", or `None` if it is absent.\n\nOf another kind: an error.")]
        pub fn $opt<'a>(&'a self, key: &str) -> Result<Option<$out>> {
            let get: fn(&'a Value) -> Option<$out> = $get;
            let Some(value) = self.get(key) else { return Ok(None) };
            match get(value) {
                Some(x) => Ok(Some(x)),
                None => Err(Error::BadKey { key: key.into(), found: value.describe(), expected: $what.into() }),
            }
        }
    )*};
}

impl Metadata {
    /// The value of `key`, whatever its type.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(key)
    }

    /// All pairs, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    pub(super) fn insert(&mut self, key: String, value: Value) {
        self.entries.insert(key, value);
    }

    accessors! {
        u16, opt_u16 -> u16, "an unsigned 16-bit integer", |v| v.as_integer()?.try_into().ok();
        u32, opt_u32 -> u32, "an unsigned 32-bit integer", |v| v.as_integer()?.try_into().ok();
        u64, opt_u64 -> u64, "an unsigned 64-bit integer", |v| v.as_integer()?.try_into().ok();
        i32, opt_i32 -> i32, "a 32-bit integer", |v| v.as_integer()?.try_into().ok();
        f32, opt_f32 -> f32, "a float", |v| match *v {
            Value::F32(x) => Some(x),
            Value::F64(x) => Some(x as f32),
            _ => None,
        };
        bool, opt_bool -> bool, "a bool", |v| match *v {
            Value::Bool(x) => Some(x),
            _ => None,
        };
        str, opt_str -> &'a str, "a string", |v| match v {
            Value::String(s) => Some(s.as_str()),
            _ => None,
        };
        array, opt_array -> &'a Array, "an array", |v| match v {
            Value::Array(a) => Some(a),
            _ => None,
        };
        strings, opt_strings -> &'a StringArray, "an array of strings", |v| match v {
            Value::Array(Array::String(s)) => Some(&**s),
            _ => None,
        };
        i32s, opt_i32s -> Vec<i32>, "an array of 32-bit integers", |v| match v {
            Value::Array(a) => a.to_i32s(),
            _ => None,
        };
        f32s, opt_f32s -> &'a [f32], "an array of floats", |v| match v {
            Value::Array(Array::F32(a)) => Some(a.as_slice()),
            _ => None,
        };
    }
}
