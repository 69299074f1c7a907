//! From a file on a native machine's disk to a model: the short way for tests, examples and embedders.

use std::path::Path;

use crate::{
    Result,
    backend::Backend,
    gguf::{Gguf, HeaderReader},
    model::{Loader, Model},
    source::file,
};

/// The header of a GGUF file.
///
/// # Errors
/// [`Error::File`] if it cannot be read, or what is wrong with the header.
pub fn read_header(path: &Path) -> Result<Gguf> {
    let mut reader = HeaderReader::new(Some(file::len(path)?));
    let mut header = None;
    file::pieces(path, |_, bytes| {
        header = reader.push(bytes)?;
        Ok(header.is_none())
    })?;
    header.ok_or_else(|| reader.finish())
}

/// Loads a GGUF file onto a backend, through the same incremental path as a download.
///
/// # Errors
/// As [`read_header`], or that the model, a tensor or the memory it needs is not supported.
pub async fn load_file<B: Backend>(path: &Path, backend: B) -> Result<(Gguf, Model<B>)> {
    let gguf = read_header(path)?;
    let mut loader = Loader::new(&gguf, backend)?;
    file::pieces(path, |offset, bytes| {
        loader.push(offset, bytes)?;
        Ok(true)
    })?;
    let model = loader.finish().await?;
    Ok((gguf, model))
}
