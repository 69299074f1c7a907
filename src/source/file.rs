//! A model file on a native machine's disk, for tests, examples and anyone who embeds the crate.
//!
//! Reads front to back in pieces, as a download arrives, so that native programs walk the same path as the browser. Nothing is
//! mapped or held: a piece is gone when the next one comes. (A `File` picked in the browser is the web half's business.)

use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::Path,
};

use crate::{Error, Result};

/// Bytes in a piece: large enough that system calls cost nothing, small enough that two of them are nothing beside a model.
pub const PIECE: usize = 4 << 20;

/// Length of a file in bytes.
///
/// # Errors
/// [`Error::File`] if it does not exist, is not a plain file or may not be read.
pub fn len(path: &Path) -> Result<u64> {
    let meta = std::fs::metadata(path).map_err(|e| file_error(path, &e))?;
    match meta.is_file() {
        true => Ok(meta.len()),
        false => Err(Error::File {
            name: path.display().to_string(),
            what: "it is not a plain file".into(),
        }),
    }
}

/// Calls `each(offset, bytes)` with consecutive pieces of the file from its start, until it answers `false` or the file ends.
/// Pieces are [`PIECE`] bytes, the last one shorter.
///
/// # Errors
/// [`Error::File`] if reading fails, or whatever `each` returns.
pub fn pieces(path: &Path, mut each: impl FnMut(u64, &[u8]) -> Result<bool>) -> Result<()> {
    // A piece is no larger than the file: a small file needs little memory.
    let piece = len(path)?.clamp(1, PIECE as u64) as usize;
    let mut file = File::open(path).map_err(|e| file_error(path, &e))?;
    let mut buffer = vec![0; piece];
    let mut offset = 0;
    loop {
        let mut filled = 0;
        while filled < piece {
            match file.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(file_error(path, &e)),
            }
        }
        if filled == 0 || !each(offset, &buffer[..filled])? {
            return Ok(());
        }
        offset += filled as u64;
    }
}

fn file_error(path: &Path, e: &std::io::Error) -> Error {
    Error::File {
        name: path.display().to_string(),
        what: e.to_string(),
    }
}
