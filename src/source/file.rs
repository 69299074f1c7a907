//! A model file on a native machine's disk, for tests, examples and anyone who embeds the crate.
//!
//! Reads front to back in pieces, as a download arrives, so that native programs walk the same path as the browser. Nothing is
//! mapped or held: a piece is gone when the next one comes. (A `File` picked in the browser is the web half's business.)

use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
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

/// All files of a model in `count` parts, in order: `path` is part `no`, from 0, and the others lie beside it under the names that
/// llama.cpp's `gguf-split` gives them, `NAME-00001-of-00003.gguf` and so on.
///
/// # Errors
/// [`Error::SplitFile`] if `path` is not called so. Whether the others exist shows when they are read.
pub fn parts(path: &Path, no: u16, count: u16) -> Result<Vec<PathBuf>> {
    let tail = |no: u16| format!("-{:05}-of-{count:05}.gguf", u32::from(no) + 1);
    let name = path.file_name().and_then(|name| name.to_str());
    let Some(stem) = name.and_then(|name| name.strip_suffix(&tail(no))) else {
        return Err(Error::SplitFile {
            what: format!(
                "{} is part {} of {count} of a model, but its name does not end in {}: the other parts cannot be found",
                path.display(),
                u32::from(no) + 1,
                tail(no)
            ),
        });
    };
    Ok((0..count)
        .map(|no| path.with_file_name(format!("{stem}{}", tail(no))))
        .collect())
}

fn file_error(path: &Path, e: &std::io::Error) -> Error {
    Error::File {
        name: path.display().to_string(),
        what: e.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a file, hands its path to the test, and removes it.
    fn with_file(name: &str, bytes: &[u8], test: impl FnOnce(&Path)) {
        let path = std::env::temp_dir().join(format!("outcrop-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        test(&path);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn pieces_make_up_the_file() {
        for n in [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 77] {
            let bytes: Vec<u8> = (0..n).map(|i| (i % 251) as u8).collect();
            with_file(&format!("pieces-{n}"), &bytes, |path| {
                let mut seen = Vec::new();
                pieces(path, |offset, piece| {
                    assert_eq!(offset, seen.len() as u64);
                    assert!(!piece.is_empty() && piece.len() <= PIECE);
                    seen.extend_from_slice(piece);
                    Ok(true)
                })
                .unwrap();
                assert!(seen == bytes, "{n} bytes");
                assert_eq!(len(path).unwrap(), n as u64);
            });
        }
    }

    #[test]
    fn reading_ends_when_asked() {
        with_file("ends", &vec![1; 2 * PIECE], |path| {
            let mut calls = 0;
            pieces(path, |_, _| {
                calls += 1;
                Ok(false)
            })
            .unwrap();
            assert_eq!(calls, 1);
            let failed = pieces(path, |_, _| Err(Error::Aborted));
            assert!(matches!(failed, Err(Error::Aborted)));
        });
    }

    #[test]
    fn parts_lie_beside_each_other() {
        let path = |name: &str| Path::new("models.d").join(name);
        let expected = [
            "a.b-00001-of-00003.gguf",
            "a.b-00002-of-00003.gguf",
            "a.b-00003-of-00003.gguf",
        ]
        .map(path);
        for no in 0..3 {
            assert_eq!(parts(&expected[usize::from(no)], no, 3).unwrap(), expected);
        }
        let last = parts(&path("m-65535-of-65535.gguf"), 65534, 65535).unwrap();
        assert_eq!((last.len(), &last[9999]), (65535, &path("m-10000-of-65535.gguf")));
        for (name, no, count) in [
            ("a-00001-of-00003.gguf", 1, 3),
            ("a-00001-of-00003.gguf", 0, 2),
            ("a-1-of-3.gguf", 0, 3),
            ("a.gguf", 0, 2),
        ] {
            let error = parts(&path(name), no, count).unwrap_err();
            assert!(matches!(&error, Error::SplitFile { what } if what.contains(name)), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for path in ["/nowhere/at/all.gguf", env!("CARGO_MANIFEST_DIR")] {
            let error = pieces(Path::new(path), |_, _| Ok(true)).unwrap_err();
            assert!(matches!(&error, Error::File { name, .. } if name == path), "{error}");
        }
    }
}
