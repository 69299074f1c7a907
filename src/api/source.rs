//! Where a model's bytes are to come from, read from what JavaScript gave: the `Source` of worker.js.

use js_sys::{Array, Reflect};
use serde::Deserialize;
use wasm_bindgen::prelude::*;
use web_sys::Blob;

use crate::{
    Error, Result,
    source::{
        digest::Digest,
        download::{ChunkDigests, Spec},
        manifest::ModelId,
        stored::Import,
        web::{Origin, scope},
    },
};

/// A source and how to read it.
pub(super) struct Source {
    pub(super) origin: Origin,
    /// The address, for `stats()`.
    pub(super) url: Option<String>,
    pub(super) use_store: bool,
    pub(super) speedup: f64,
}

/// One file on the network.
#[derive(Deserialize)]
struct Remote {
    url: String,
    #[serde(default)]
    mirrors: Vec<String>,
    sha256: Option<Digest>,
    bytes: Option<u64>,
    chunks: Option<ChunkDigests>,
}

/// The plain part of the options; files come beside it.
#[derive(Default, Deserialize)]
struct Options {
    url: Option<String>,
    #[serde(default)]
    mirrors: Vec<String>,
    sha256: Option<Digest>,
    bytes: Option<u64>,
    chunks: Option<ChunkDigests>,
    parts: Option<Vec<Remote>>,
    stored: Option<String>,
    store: Option<bool>,
    name: Option<String>,
    #[serde(default)]
    debug: Debug,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Debug {
    download: Download,
}

/// For tests and measurements.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Download {
    chunk_bytes: Option<u64>,
    parallel: Option<u32>,
    speedup: Option<f64>,
}

fn invalid(what: String) -> Error {
    Error::InvalidRequest { what }
}

fn plain<T: for<'de> Deserialize<'de>>(options: &JsValue) -> Result<T> {
    serde_wasm_bindgen::from_value(options.clone()).map_err(|e| invalid(format!("the model's source makes no sense: {e}")))
}

fn field(options: &JsValue, name: &str) -> Option<JsValue> {
    let value = Reflect::get(options, &name.into()).ok()?;
    (!value.is_undefined() && !value.is_null()).then_some(value)
}

fn absolute(url: &str) -> Result<String> {
    web_sys::Url::new_with_base(url, &scope().location().href())
        .map(|url| url.href())
        .map_err(|_| invalid(format!("{url} is not the address of a model")))
}

fn blob(value: JsValue) -> Result<Blob> {
    value.dyn_into().map_err(|_| invalid("a file must be a File or Blob".into()))
}

/// Reads a load's source.
///
/// # Errors
/// [`Error::InvalidRequest`] names what is wrong.
pub(super) fn read(options: &JsValue) -> Result<Source> {
    let Options {
        url,
        mirrors,
        sha256,
        bytes,
        chunks,
        parts,
        stored,
        store,
        name,
        debug,
    } = plain(options)?;
    let files = match (field(options, "file"), field(options, "files")) {
        (Some(file), None) => Some(vec![blob(file)?]),
        (None, Some(files)) => Some(Array::from(&files).iter().map(blob).collect::<Result<Vec<_>>>()?),
        (None, None) => None,
        _ => return Err(invalid("a load takes either file or files".into())),
    };
    let one = url.map(|url| {
        vec![Remote {
            url,
            mirrors,
            sha256,
            bytes,
            chunks,
        }]
    });
    let (origin, url) = match (one.or(parts), files, stored) {
        (Some(parts), None, None) if !parts.is_empty() => {
            let specs = specs(parts, name.as_deref(), &debug.download)?;
            let url = specs[0].urls[0].clone();
            (Origin::Remote(specs), Some(url))
        }
        (None, Some(files), None) if !files.is_empty() => (Origin::Files(files), None),
        (None, None, Some(id)) => (Origin::Stored(id.clone()), Some(id)),
        _ => return Err(invalid("a load needs one of url, parts, file, files and stored".into())),
    };
    Ok(Source {
        origin,
        url,
        use_store: store.unwrap_or(true),
        speedup: debug.download.speedup.filter(|speedup| speedup.is_finite()).unwrap_or(1.0),
    })
}

fn specs(parts: Vec<Remote>, name: Option<&str>, debug: &Download) -> Result<Vec<Spec>> {
    let mut specs: Vec<Spec> = Vec::with_capacity(parts.len());
    let split = parts.len() > 1;
    for part in parts {
        let mut urls = vec![absolute(&part.url)?];
        for mirror in &part.mirrors {
            urls.push(absolute(mirror)?);
        }
        if part.chunks.as_ref().is_some_and(|chunks| chunks.bytes == 0) {
            return Err(invalid("chunks must have bytes".into()));
        }
        let sha256 = part.sha256.or_else(|| Digest::in_url(&urls[0]));
        let group = split.then(|| specs.first().map_or_else(|| ModelId::from_url(&urls[0]), Spec::id));
        specs.push(Spec {
            urls,
            sha256,
            bytes: part.bytes,
            chunks: part.chunks,
            name: name.map(Into::into),
            group,
            chunk_bytes: debug.chunk_bytes.filter(|&bytes| bytes > 0),
            parallel: debug.parallel,
            stored_only: false,
        });
    }
    Ok(specs)
}

/// Reads the options of an import of `file`.
///
/// # Errors
/// [`Error::InvalidRequest`] names what is wrong.
pub(super) fn import(file: &JsValue, options: &JsValue) -> Result<(Blob, Import)> {
    #[derive(Deserialize)]
    struct Options {
        url: Option<String>,
        name: Option<String>,
        sha256: Option<Digest>,
    }
    let Options { url, name, sha256 } = plain(options)?;
    let file = blob(file.clone())?;
    let file_name = file.dyn_ref::<web_sys::File>().map(web_sys::File::name);
    let name = name.or(file_name);
    let url = match url {
        Some(url) => absolute(&url)?,
        None => format!("file:{}", name.as_deref().unwrap_or("model.gguf")),
    };
    Ok((file, Import { url, name, sha256 }))
}
