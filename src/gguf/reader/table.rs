//! The tensor table: each row as it comes, and what only the whole table shows.

use super::{HeaderReader, MAX_NAME_BYTES};
use crate::{
    Error, Result,
    gguf::{
        Gguf, TensorInfo,
        quant::{GgmlType, ggml_type_name},
    },
};

impl HeaderReader {
    /// One row of the table: the bytes that it took, 0 if they are not all there.
    pub(super) fn tensor(&mut self, input: &[u8]) -> Result<usize> {
        const WHAT: &str = "the tensor table";
        let Some(name) = self.text(WHAT, input, 0, MAX_NAME_BYTES)? else {
            return Ok(0);
        };
        let mut at = 8 + name.len();
        let Some(n_dims) = self.fixed(WHAT, input, at)? else {
            return Ok(0);
        };
        at += 4;
        let n_dims = match u32::from_le_bytes(n_dims) {
            n @ 1..=4 => n as usize,
            n => return Err(self.malformed(&format!("tensor {} has {n} dimensions, not 1 to 4", name.escape_ascii()))),
        };
        let tail = at + 8 * n_dims;
        let (Some(ty), Some(offset)) = (self.fixed(WHAT, input, tail)?, self.fixed(WHAT, input, tail + 4)?) else {
            return Ok(0);
        };
        let (ty, offset) = (u32::from_le_bytes(ty), u64::from_le_bytes(offset));
        let ne = input[at..tail]
            .as_chunks()
            .0
            .iter()
            .map(|&bytes| u64::from_le_bytes(bytes))
            .collect();
        let name = self.utf8(name, 8)?.to_owned();

        let tensor = self.checked_tensor(name, ne, ty, offset)?;
        self.tensors.push(tensor);
        self.rows.push(self.offset);
        self.n_tensors_left -= 1;
        self.next_entry();
        Ok(tail + 12)
    }

    fn checked_tensor(&self, name: String, ne: Vec<u64>, ty: u32, offset: u64) -> Result<TensorInfo> {
        if name.is_empty() {
            return Err(self.malformed("a tensor has no name"));
        }
        let Some(ty) = GgmlType::from_id(ty) else {
            let found = ggml_type_name(ty).map_or_else(|| format!("number {ty}"), str::to_owned);
            return Err(Error::UnsupportedTensorType { name, found });
        };
        let (block_len, block_bytes) = (ty.block_len() as u64, ty.block_bytes() as u64);
        if ne.contains(&0) {
            return Err(self.malformed(&format!("tensor {name} has a dimension of 0: {ne:?}")));
        }
        if !ne[0].is_multiple_of(block_len) {
            return Err(self.malformed(&format!(
                "tensor {name}: rows of {} elements do not hold whole {ty} blocks of {block_len}",
                ne[0]
            )));
        }
        // The element count must fit too: later code multiplies dimensions freely.
        let n_elements = ne.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
        let size = n_elements.and_then(|n| (n / block_len).checked_mul(block_bytes));
        let end = size
            .and_then(|size| offset.checked_add(size))
            .filter(|&end| end <= u64::MAX / 2);
        let (Some(size), Some(_)) = (size, end) else {
            return Err(self.malformed(&format!(
                "tensor {name} of dimensions {ne:?} at {offset} is larger than any file"
            )));
        };
        if !offset.is_multiple_of(self.alignment) {
            return Err(self.malformed(&format!(
                "tensor {name} starts at {offset}, which is not a multiple of {}",
                self.alignment
            )));
        }
        if let Some(len) = self.file_len
            && self.offset + offset + size > len
        {
            return Err(Error::Truncated {
                section: "tensor data",
                needed: size,
                offset: self.offset + offset,
                len,
            });
        }
        Ok(TensorInfo {
            name,
            ty,
            ne,
            part: 0,
            offset,
            size,
        })
    }

    /// Checks what only the whole table shows, and makes offsets absolute.
    pub(super) fn complete(&mut self) -> Result<Gguf> {
        let header_len = self.offset;
        let data_offset = header_len.next_multiple_of(self.alignment);
        let mut tensors = std::mem::take(&mut self.tensors);
        let row_error = |i: usize, what: String| Error::MalformedGguf {
            offset: self.rows[i],
            what,
        };

        // 32 bits are enough: MAX_HEADER_BYTES / MIN_TENSOR_BYTES rows at most.
        let mut order: Vec<u32> = (0..tensors.len() as u32).collect();
        order.sort_unstable_by_key(|&i| tensors[i as usize].offset);
        for pair in order.windows(2) {
            let (a, b) = (&tensors[pair[0] as usize], &tensors[pair[1] as usize]);
            if a.offset + a.size > b.offset {
                return Err(row_error(
                    pair[1] as usize,
                    format!("tensors {} and {} overlap", a.name, b.name),
                ));
            }
        }
        order.sort_unstable_by(|&i, &j| tensors[i as usize].name.cmp(&tensors[j as usize].name));
        for pair in order.windows(2) {
            let (i, j) = (pair[0].max(pair[1]) as usize, pair[0].min(pair[1]) as usize);
            if tensors[i].name == tensors[j].name {
                return Err(row_error(i, format!("tensor {} appears twice", tensors[i].name)));
            }
        }
        for t in &mut tensors {
            t.offset += data_offset;
            if let Some(len) = self.file_len.filter(|&len| t.offset + t.size > len) {
                return Err(Error::Truncated {
                    section: "tensor data",
                    needed: t.size,
                    offset: t.offset,
                    len,
                });
            }
        }
        let end = tensors.iter().map(|t| t.offset + t.size).max().unwrap_or(header_len);
        Ok(Gguf {
            version: self.version,
            metadata: std::mem::take(&mut self.metadata),
            tensors,
            data_offset,
            file_len: self.file_len,
            ends: vec![end],
            by_name: order,
        })
    }
}
