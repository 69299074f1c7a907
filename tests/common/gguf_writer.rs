//! A GGUF writer for tests: well-formed files from scratch or by changing a real one, and the means to break them.
//!
//! Types are ggml's raw numbers and sizes are not checked, so files that no reader should accept can be written as well.
#![allow(dead_code, reason = "each test binary uses some of it")]

use outcrop::gguf::{Array, GgmlType, Gguf, Value};

/// A tensor to write.
#[derive(Debug, Clone)]
pub struct Tensor {
    pub name: String,
    /// ggml's type number.
    pub ty: u32,
    /// Fastest first.
    pub ne: Vec<u64>,
    pub data: Vec<u8>,
    /// Offset in the data section; `None`: where the data lands.
    pub offset: Option<u64>,
}

/// Collects key-value pairs and tensors; [`GgufWriter::build`] makes the file.
#[derive(Debug, Clone)]
pub struct GgufWriter {
    pub version: u32,
    /// Written as is; [`GgufWriter::new`] does not add `general.alignment`.
    pub alignment: usize,
    pub kv: Vec<(String, Value)>,
    pub tensors: Vec<Tensor>,
    /// Offsets in the built file of every count and length (u64).
    pub lengths: Vec<usize>,
}

impl GgufWriter {
    /// An empty version 3 file.
    pub fn new() -> Self {
        GgufWriter {
            version: 3,
            alignment: 32,
            kv: Vec::new(),
            tensors: Vec::new(),
            lengths: Vec::new(),
        }
    }

    /// All of a whole file.
    pub fn copy_of(bytes: &[u8]) -> Self {
        let gguf = Gguf::from_bytes(bytes).expect("a good file to start from");
        let mut w = GgufWriter::new();
        w.version = gguf.version;
        w.alignment = gguf.metadata.opt_u32("general.alignment").unwrap().unwrap_or(32) as usize;
        w.kv = gguf
            .metadata
            .iter()
            .map(|(key, value)| (key.to_owned(), value.clone()))
            .collect();
        for t in &gguf.tensors {
            let data = bytes[t.offset as usize..][..t.size as usize].to_vec();
            w.tensors.push(Tensor {
                name: t.name.clone(),
                ty: t.ty.id(),
                ne: t.ne.clone(),
                data,
                offset: None,
            });
        }
        w
    }

    /// Adds a pair, or replaces the value of an existing key.
    pub fn set(&mut self, key: &str, value: Value) -> &mut Self {
        match self.kv.iter_mut().find(|(k, _)| k == key) {
            Some((_, old)) => *old = value,
            None => self.kv.push((key.to_owned(), value)),
        }
        self
    }

    /// Removes a key; it must be there.
    pub fn remove(&mut self, key: &str) -> &mut Self {
        let at = self.kv.iter().position(|(k, _)| k == key).expect("the key to remove");
        self.kv.remove(at);
        self
    }

    /// Adds a tensor of zeros.
    pub fn zeros(&mut self, name: &str, ty: GgmlType, ne: &[u64]) -> &mut Self {
        let n: u64 = ne.iter().product();
        self.raw(name, ty.id(), ne, vec![0; ty.row_bytes(n as usize)])
    }

    /// Adds a tensor of any type number with any bytes.
    pub fn raw(&mut self, name: &str, ty: u32, ne: &[u64], data: Vec<u8>) -> &mut Self {
        self.tensors.push(Tensor {
            name: name.to_owned(),
            ty,
            ne: ne.to_vec(),
            data,
            offset: None,
        });
        self
    }

    /// The tensor called `name`, to change or inspect.
    pub fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors
            .iter_mut()
            .find(|t| t.name == name)
            .expect("the tensor to change")
    }

    /// Removes a tensor; it must be there.
    pub fn remove_tensor(&mut self, name: &str) -> &mut Self {
        let at = self
            .tensors
            .iter()
            .position(|t| t.name == name)
            .expect("the tensor to remove");
        self.tensors.remove(at);
        self
    }

    /// The header alone, without padding. Fills `lengths`.
    pub fn header(&mut self) -> Vec<u8> {
        let mut lengths = vec![8, 16];
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.kv.len() as u64).to_le_bytes());
        for (key, value) in &self.kv {
            text(&mut out, &mut lengths, key);
            out.extend(value_type(value).to_le_bytes());
            put_value(&mut out, &mut lengths, value);
        }
        let mut next = 0u64;
        for t in &self.tensors {
            text(&mut out, &mut lengths, &t.name);
            out.extend((t.ne.len() as u32).to_le_bytes());
            for d in &t.ne {
                lengths.push(out.len());
                out.extend(d.to_le_bytes());
            }
            out.extend(t.ty.to_le_bytes());
            lengths.push(out.len());
            out.extend(t.offset.unwrap_or(next).to_le_bytes());
            next += t.data.len().next_multiple_of(self.alignment) as u64;
        }
        self.lengths = lengths;
        out
    }

    /// The whole file. Fills `lengths`.
    pub fn build(&mut self) -> Vec<u8> {
        let mut out = self.header();
        for t in &self.tensors {
            out.resize(out.len().next_multiple_of(self.alignment), 0);
            out.extend(&t.data);
        }
        out
    }
}

fn text(out: &mut Vec<u8>, lengths: &mut Vec<usize>, s: &str) {
    lengths.push(out.len());
    out.extend((s.len() as u64).to_le_bytes());
    out.extend(s.as_bytes());
}

fn value_type(value: &Value) -> u32 {
    match value {
        Value::U8(_) => 0,
        Value::I8(_) => 1,
        Value::U16(_) => 2,
        Value::I16(_) => 3,
        Value::U32(_) => 4,
        Value::I32(_) => 5,
        Value::F32(_) => 6,
        Value::Bool(_) => 7,
        Value::String(_) => 8,
        Value::Array(_) => 9,
        Value::U64(_) => 10,
        Value::I64(_) => 11,
        Value::F64(_) => 12,
    }
}

fn put_value(out: &mut Vec<u8>, lengths: &mut Vec<usize>, value: &Value) {
    match value {
        Value::U8(x) => out.push(*x),
        Value::I8(x) => out.extend(x.to_le_bytes()),
        Value::U16(x) => out.extend(x.to_le_bytes()),
        Value::I16(x) => out.extend(x.to_le_bytes()),
        Value::U32(x) => out.extend(x.to_le_bytes()),
        Value::I32(x) => out.extend(x.to_le_bytes()),
        Value::U64(x) => out.extend(x.to_le_bytes()),
        Value::I64(x) => out.extend(x.to_le_bytes()),
        Value::F32(x) => out.extend(x.to_le_bytes()),
        Value::F64(x) => out.extend(x.to_le_bytes()),
        Value::Bool(x) => out.push((*x).into()),
        Value::String(s) => text(out, lengths, s),
        Value::Array(a) => put_array(out, lengths, a),
    }
}

fn put_array(out: &mut Vec<u8>, lengths: &mut Vec<usize>, array: &Array) {
    let ty: u32 = match array {
        Array::U8(_) => 0,
        Array::I8(_) => 1,
        Array::U16(_) => 2,
        Array::I16(_) => 3,
        Array::U32(_) => 4,
        Array::I32(_) => 5,
        Array::F32(_) => 6,
        Array::Bool(_) => 7,
        Array::String(_) => 8,
        Array::Array(_) => 9,
        Array::U64(_) => 10,
        Array::I64(_) => 11,
        Array::F64(_) => 12,
    };
    out.extend(ty.to_le_bytes());
    lengths.push(out.len());
    out.extend((array.len() as u64).to_le_bytes());
    match array {
        Array::U8(v) => out.extend(v),
        Array::I8(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::U16(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::I16(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::U32(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::I32(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::U64(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::I64(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::F32(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::F64(v) => v.iter().for_each(|x| out.extend(x.to_le_bytes())),
        Array::Bool(v) => out.extend(v.iter().map(|&x| u8::from(x))),
        Array::String(v) => v.iter().for_each(|s| text(out, lengths, s)),
        Array::Array(v) => v.iter().for_each(|a| put_array(out, lengths, a)),
    }
}
