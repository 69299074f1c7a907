//! From a model file's bytes, as they arrive, to a session: header, tokenizer and template first, then weights onto the device.
//!
//! Whatever can be wrong with a file shows as soon as its header is complete, long before the last gigabyte has come. Of a model split
//! into several files the headers of the later parts must be there before the first part: only all of them tell what the model is.

use std::rc::Rc;

use super::Session;
use crate::{
    Error, Result,
    backend::{Backend, KvType},
    gguf::{Gguf, HeaderReader, TensorInfo},
    model::{Loader, Model},
    source::Sink,
    text::{ChatTemplate, Tokenizer},
};

/// What a model file says about itself, for people.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct About {
    /// `general.name`, empty if it has none.
    pub name: String,
    /// `general.architecture`.
    pub arch: String,
    /// The mix of quantisations, `Q4_K_M`; its number if it has no usual name.
    pub file_type: Option<String>,
    /// Layers.
    pub n_layer: u32,
    /// Width of the residual stream.
    pub n_embd: u32,
    /// Tokens in the vocabulary.
    pub n_vocab: u32,
    /// Tokens that the model was trained to attend to.
    pub n_ctx_train: u32,
}

/// Takes a file front to back, or the parts of a split model one after another, and makes a [`Session`] of it.
///
/// What has been taken is on the device: a file that turns out to have changed meanwhile needs a receiver of its own.
pub struct Receiver<B: Backend> {
    /// Headers of parts 2 and on, as they were read before; until the first one is complete too.
    heads: Vec<Gguf>,
    n_parts: usize,
    /// The current part, from 0.
    part: usize,
    /// Whether its last byte has come.
    ended: bool,
    /// Its header, on the way ..
    header: HeaderReader,
    /// .. until it is complete.
    header_done: bool,
    /// Until the first header is complete.
    backend: Option<B>,
    /// From then on.
    body: Option<Body<B>>,
    len: Option<u64>,
}

struct Body<B: Backend> {
    about: About,
    tokenizer: Rc<Tokenizer>,
    template: Option<ChatTemplate>,
    loader: Loader<B>,
    /// The tensors of each part.
    tables: Vec<Vec<TensorInfo>>,
    /// Bytes that it must have.
    needs: Vec<u64>,
}

impl<B: Backend> Receiver<B> {
    /// Loads a model of one file onto `backend`.
    pub fn new(backend: B) -> Self {
        Self::with_parts(backend, Vec::new())
    }

    /// Loads a split model: `heads` are the headers of parts 2 and on, in order. [`Sink::begin`], [`Sink::push`] and [`Sink::end`] are
    /// then called for every part, the first one too, and offsets are those within the part.
    pub fn with_parts(backend: B, heads: Vec<Gguf>) -> Self {
        Self {
            n_parts: 1 + heads.len(),
            heads,
            part: 0,
            ended: false,
            header_done: false,
            header: HeaderReader::new(None),
            backend: Some(backend),
            body: None,
            len: None,
        }
    }

    /// What the file says about itself, once its header is complete.
    pub fn about(&self) -> Option<&About> {
        self.body.as_ref().map(|body| &body.about)
    }

    /// Lets the backend make ready, while bytes arrive, for sessions of such a context. For when the header is complete.
    ///
    /// # Errors
    /// What the backend could not do with this model.
    pub fn prepare(&mut self, n_ctx: u32, kv: KvType) -> Result<()> {
        self.body.as_mut().map_or(Ok(()), |body| body.loader.prepare(n_ctx, kv))
    }

    /// Waits until all weights are on the device. For when the last part has come.
    ///
    /// # Errors
    /// [`Error::Truncated`] if bytes are missing, the backend's.
    pub async fn finish(self) -> Result<Received<B>> {
        let Some(Body {
            about,
            tokenizer,
            template,
            loader,
            ..
        }) = self.body
        else {
            return Err(self.header.finish());
        };
        Ok(Received {
            about,
            tokenizer,
            template,
            model: loader.finish().await?,
        })
    }

    /// The header of the current part is complete.
    fn take_header(&mut self, gguf: Gguf) -> Result<()> {
        self.header_done = true;
        if let Some(len) = self.len.filter(|&len| len < gguf.end()) {
            return Err(truncated(gguf.end(), len));
        }
        match &self.body {
            None => self.first_header(gguf),
            // Where each tensor lies was decided by the header that was read first: by another one the same bytes are garbage.
            Some(body) if body.tables[self.part] == gguf.tensors => Ok(()),
            Some(_) => Err(Error::SplitFile {
                what: format!("part {} changed while the model was being loaded", self.part + 1),
            }),
        }
    }

    fn first_header(&mut self, gguf: Gguf) -> Result<()> {
        let mut tables = vec![gguf.tensors.clone()];
        let heads = std::mem::take(&mut self.heads);
        let gguf = &gguf.join(&heads)?;
        tables.extend(heads.into_iter().map(|head| head.tensors));
        let backend = self.backend.take().expect("the header is complete once");
        let tokenizer = Rc::new(Tokenizer::from_gguf(gguf)?);
        // Models without a template can be scored and continued, so only a template that does not parse is an error.
        let template = gguf.metadata.opt_str("tokenizer.chat_template")?;
        let template = template.map(|source| ChatTemplate::new(source, &tokenizer)).transpose()?;
        let loader = Loader::new(gguf, backend)?;
        let (meta, hp) = (&gguf.metadata, loader.hparams());
        let about = About {
            name: meta.str("general.name").unwrap_or_default().to_owned(),
            arch: meta.str("general.architecture")?.to_owned(),
            file_type: meta.u32("general.file_type").ok().map(file_type),
            n_layer: hp.layers.len() as u32,
            n_embd: hp.n_embd,
            n_vocab: hp.n_vocab,
            n_ctx_train: hp.n_ctx_train,
        };
        self.body = Some(Body {
            about,
            tokenizer,
            template,
            loader,
            tables,
            needs: gguf.ends().to_vec(),
        });
        Ok(())
    }
}

impl<B: Backend> Sink for Receiver<B> {
    fn begin(&mut self, len: Option<u64>) -> Result<()> {
        let part = self.part + usize::from(self.ended);
        if part == self.n_parts {
            return Err(Error::SplitFile {
                what: format!("the model has {part} parts, there is one more"),
            });
        }
        (self.part, self.ended) = (part, false);
        self.len = len;
        self.header = HeaderReader::new(len);
        self.header_done = false;
        Ok(())
    }

    fn push(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        if !self.header_done
            && let Some(gguf) = self.header.push(bytes)?
        {
            self.take_header(gguf)?;
        }
        match &mut self.body {
            Some(body) => body.loader.push(offset, bytes),
            None => Ok(()),
        }
    }

    fn needs(&self) -> Option<u64> {
        self.body.as_ref().map(|body| body.needs[self.part])
    }

    fn end(&mut self, len: u64) -> Result<()> {
        match &mut self.body {
            Some(body) if self.header_done => {
                let needs = body.needs[self.part];
                if len < needs {
                    return Err(truncated(needs, len));
                }
                body.loader.end_part()?;
                self.ended = true;
                Ok(())
            }
            _ => Err(self.header.finish()),
        }
    }
}

/// A whole model on its device.
pub struct Received<B: Backend> {
    /// What the file says about itself.
    pub about: About,
    /// Shared with the session, so that texts can be encoded while it is busy.
    pub tokenizer: Rc<Tokenizer>,
    template: Option<ChatTemplate>,
    model: Model<B>,
}

impl<B: Backend> Received<B> {
    /// Waits for what [`Receiver::prepare`] began.
    ///
    /// # Errors
    /// The backend's.
    pub async fn ready(&mut self) -> Result<()> {
        self.model.backend.ready().await
    }

    /// A session on it. See [`Session::new`].
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn session(self, n_ctx: u32, kv: KvType) -> Result<Session<B>> {
        Session::new(self.model, self.tokenizer, self.template, n_ctx, kv)
    }
}

fn truncated(needs: u64, len: u64) -> Error {
    Error::Truncated {
        section: "the whole file",
        needed: needs,
        offset: 0,
        len,
    }
}

/// `general.file_type` in words: ggml's `llama_ftype`.
fn file_type(number: u32) -> String {
    let name = match number {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        32 => "BF16",
        other => return other.to_string(),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backend::cpu::Cpu, generate::NativeHost};

    fn file() -> Vec<u8> {
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/gguf/tiny-g2-Q4_K_M.gguf")).unwrap()
    }

    /// Feeds `bytes` in pieces of `piece` bytes, as a source that knows the length or does not.
    fn feed(bytes: &[u8], piece: usize, len: Option<u64>) -> Result<Receiver<Cpu>> {
        let mut receiver = Receiver::new(Cpu::new(8));
        receiver.begin(len)?;
        for (i, bytes) in bytes.chunks(piece).enumerate() {
            receiver.push((i * piece) as u64, bytes)?;
        }
        receiver.end(bytes.len() as u64)?;
        Ok(receiver)
    }

    fn scores(receiver: Receiver<Cpu>) -> Vec<f32> {
        pollster::block_on(async {
            let mut session = receiver.finish().await.unwrap().session(64, KvType::F32).unwrap();
            session.score(&NativeHost::new(), &[1, 2, 3]).await.unwrap()
        })
    }

    #[test]
    fn any_pieces_make_the_same_model() {
        let bytes = file();
        let expected = scores(feed(&bytes, usize::MAX, Some(bytes.len() as u64)).unwrap());
        for piece in [1021, 65536, 1 << 20] {
            let receiver = feed(&bytes, piece, None).unwrap();
            assert_eq!(receiver.about().unwrap().arch, "granitehybrid");
            assert_eq!(receiver.about().unwrap().file_type.as_deref(), Some("Q4_K_M"));
            assert_eq!(scores(receiver), expected, "pieces of {piece}");
        }
        let padded = [&bytes[..], &[0; 1000]].concat();
        assert_eq!(
            scores(feed(&padded, 4096, None).unwrap()),
            expected,
            "bytes behind the tensors"
        );
    }

    #[test]
    fn a_file_that_is_too_short_is_refused() {
        let bytes = file();
        let short = &bytes[..bytes.len() - 1];
        let code = |result: Result<Receiver<Cpu>>| result.err().map(|e| e.code());
        // A length that is too small is noticed at the header, before the weights have come ..
        let mut receiver = Receiver::new(Cpu::new(8));
        receiver.begin(Some(short.len() as u64)).unwrap();
        let at_header = (0..)
            .step_by(4096)
            .find_map(|i| receiver.push(i as u64, &bytes[i..i + 4096]).err().map(|e| (i, e.code())));
        let (offset, found) = at_header.unwrap();
        assert_eq!(found, "truncated_file");
        assert!(offset < bytes.len() / 2, "at {offset} of {}", bytes.len());
        // .. and without one, at the end.
        assert_eq!(code(feed(short, 4096, None)), Some("truncated_file"));
        assert_eq!(
            code(feed(&bytes[..1000], 64, None)),
            Some("truncated_file"),
            "inside the header"
        );
        assert_eq!(code(feed(&[], 1, None)), Some("truncated_file"), "an empty answer");
    }

    #[test]
    fn a_page_in_the_models_place_is_refused_at_once() {
        let mut receiver = Receiver::new(Cpu::new(8));
        receiver.begin(None).unwrap();
        assert_eq!(receiver.push(0, b"<!doctype html>").unwrap_err().code(), "not_gguf");
    }
}
