//! From a file on a native machine's disk to a model: the short way for tests, examples and embedders.

use std::path::{Path, PathBuf};

use crate::{
    Result,
    backend::Backend,
    gguf::{Gguf, HeaderReader},
    model::{Loader, Model},
    source::file,
};

/// The header of a model. Of one that is split into several files (`NAME-00001-of-00003.gguf`), `path` is any of them, and the others
/// lie beside it.
///
/// # Errors
/// [`Error::File`](crate::Error::File) if a file cannot be read, or what is wrong with the header.
pub fn read_header(path: &Path) -> Result<Gguf> {
    Ok(open(path)?.0)
}

/// The header of a model and all its files.
fn open(path: &Path) -> Result<(Gguf, Vec<PathBuf>)> {
    let gguf = header_of(path)?;
    let Some(split) = gguf.split()? else {
        return Ok((gguf, vec![path.to_owned()]));
    };
    let paths = file::parts(path, split.no, split.count)?;
    let first = header_of(&paths[0])?;
    let rest = paths[1..].iter().map(|path| header_of(path)).collect::<Result<Vec<_>>>()?;
    Ok((first.join(&rest)?, paths))
}

/// The header of one file.
fn header_of(path: &Path) -> Result<Gguf> {
    let mut reader = HeaderReader::new(Some(file::len(path)?));
    let mut header = None;
    file::pieces(path, |_, bytes| {
        header = reader.push(bytes)?;
        Ok(header.is_none())
    })?;
    header.ok_or_else(|| reader.finish())
}

/// Loads a model onto a backend, through the same incremental path as a download. A split one is found as [`read_header`] finds it.
///
/// # Errors
/// As [`read_header`], or that the model, a tensor or the memory it needs is not supported.
pub async fn load_file<B: Backend>(path: &Path, backend: B) -> Result<(Gguf, Model<B>)> {
    let (gguf, paths) = open(path)?;
    let mut loader = Loader::new(&gguf, backend)?;
    for path in &paths {
        file::pieces(path, |offset, bytes| {
            loader.push(offset, bytes)?;
            Ok(true)
        })?;
        loader.end_part()?;
    }
    let model = loader.finish().await?;
    Ok((gguf, model))
}
