//! `outcrop-wasm-bindgen IN.wasm OUT_DIR OUT_NAME`: JavaScript and TypeScript bindings for a page (`--target web`).
//!
//! The full command line tool brings an HTTP server, a WebDriver client and TLS with it, some ten minutes of compiling on a small
//! machine; the library behind it does not, and a lock file of its own keeps it out of the engine's dependencies.
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use wasm_bindgen_cli_support::Bindgen;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, folder, name] = arguments.as_slice() else {
        bail!("usage: outcrop-wasm-bindgen IN.wasm OUT_DIR OUT_NAME");
    };
    Bindgen::new()
        .input_path(PathBuf::from(input))
        .out_name(name)
        .web(true)?
        .typescript(true)
        .omit_default_module_path(false)
        .remove_producers_section(true)
        .generate(folder)
        .with_context(|| format!("bindings for {input}"))
}
