//! The vocabulary as the GGUF holds it: the bytes and the type of every token, and the ids with a meaning.
//!
//! NORMAL tokens are written in GPT-2's byte alphabet (each byte is one printable character, so that a space is `Ġ`); all others
//! are written as they read. Ids index the model's logits, so every id is kept, the unused ones too.

use std::ops::Range;

use crate::{Error, Result, gguf::Gguf};

/// `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenType {
    /// Comes out of merging bytes.
    Normal,
    /// Stands for what has no token. Byte-level vocabularies never need it; handled as [`TokenType::Control`].
    Unknown,
    /// Structure, `<|start_of_role|>`: only the template writes it, never a text.
    Control,
    /// Found in any text before it is cut into words, `<tool_call>`.
    UserDefined,
    /// Padding up to the size of the embedding: no text gives it.
    Unused,
    /// A byte of another kind of vocabulary: no text gives it here.
    Byte,
}

impl TokenType {
    fn from_ggml(n: i32) -> Option<Self> {
        Some(match n {
            1 => TokenType::Normal,
            2 => TokenType::Unknown,
            3 => TokenType::Control,
            4 => TokenType::UserDefined,
            5 => TokenType::Unused,
            6 => TokenType::Byte,
            _ => return None,
        })
    }

    fn is_control(self) -> bool {
        matches!(self, TokenType::Control | TokenType::Unknown)
    }
}

/// A stretch of text, or a token that was found in it whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Byte range of text without such tokens.
    Text(Range<usize>),
    /// A token's id.
    Token(u32),
}

/// Bytes, types and special ids of all tokens.
#[derive(Debug)]
pub(crate) struct Vocab {
    /// Every token's bytes, one after the other.
    bytes: Vec<u8>,
    /// Where each token ends in `bytes`.
    ends: Vec<u32>,
    types: Vec<TokenType>,
    /// CONTROL, UNKNOWN and USER_DEFINED ids, longest text first: the order in which a text is searched for them.
    special: Vec<u32>,
    pub(crate) bos: Option<u32>,
    pub(crate) eos: u32,
    pub(crate) unk: Option<u32>,
    pub(crate) pad: Option<u32>,
    pub(crate) add_bos: bool,
    /// Ids that end a reply, `eos` first.
    pub(crate) stop: Vec<u32>,
}

impl Vocab {
    pub(crate) fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let meta = &gguf.metadata;
        let model = meta.str("tokenizer.ggml.model")?;
        if model != "gpt2" {
            return Err(Error::UnsupportedModel {
                what: "the tokenizer",
                found: format!("tokenizer.ggml.model = {model:?}"),
                supported: "gpt2, byte-level BPE",
            });
        }
        let tokens = meta.strings(TOKENS)?;
        let n_vocab = tokens.len();
        if n_vocab == 0 || u32::try_from(n_vocab).is_err() {
            return Err(bad_key(TOKENS, format!("{n_vocab} tokens"), "a vocabulary"));
        }
        let mut types = token_types(gguf, n_vocab)?;

        let id = |name: &str| -> Result<Option<u32>> {
            let key = format!("tokenizer.ggml.{name}_token_id");
            match meta.opt_u32(&key)? {
                Some(id) if id as usize >= n_vocab => Err(bad_key(&key, id.to_string(), format!("an id below {n_vocab}"))),
                id => Ok(id),
            }
        };
        let (bos, eos, unk, pad) = (id("bos")?, id("eos")?, id("unknown")?, id("padding")?);
        let eos = eos.ok_or_else(|| Error::MissingKey {
            key: "tokenizer.ggml.eos_token_id".into(),
        })?;
        let ends = [Some(eos), id("eot")?, id("eom")?];
        // What ends a turn is structure whatever type the file gives it: a text must not be able to write it. The start of a text
        // too, unless it is an ordinary token that the file names for want of one.
        let start = bos.filter(|&id| types[id as usize] != TokenType::Normal);
        for id in ends.into_iter().chain([start]).flatten() {
            types[id as usize] = TokenType::Control;
        }

        let mut vocab = Vocab {
            bytes: Vec::with_capacity(n_vocab * 8),
            ends: Vec::with_capacity(n_vocab),
            types,
            special: Vec::new(),
            bos,
            eos,
            unk,
            pad,
            add_bos: meta.opt_bool("tokenizer.ggml.add_bos_token")?.unwrap_or(false),
            stop: Vec::new(),
        };
        let alphabet = Alphabet::new();
        for (id, token) in tokens.iter().enumerate() {
            if token.is_empty() {
                return Err(bad_key(TOKENS, format!("token {id} is empty"), "text in every token"));
            }
            match vocab.types[id] {
                TokenType::Normal => alphabet.decode(token, &mut vocab.bytes),
                _ => vocab.bytes.extend_from_slice(token.as_bytes()),
            }
            let end = u32::try_from(vocab.bytes.len()).map_err(|_| bad_key(TOKENS, "more than 4 GiB".into(), "less"))?;
            vocab.ends.push(end);
        }
        let is_special = |&id: &u32| vocab.is_control(id) || vocab.token_type(id) == TokenType::UserDefined;
        let mut special: Vec<u32> = (0..n_vocab as u32).filter(is_special).collect();
        special.sort_by_key(|&id| std::cmp::Reverse(vocab.bytes(id).len()));
        vocab.special = special;

        // A model that begins a new turn by itself has nothing more to say: some do instead of ending theirs.
        let role = vocab
            .controls()
            .find(|(_, text)| *text == "<|start_of_role|>")
            .map(|(id, _)| id);
        for id in ends.into_iter().chain([role]).flatten() {
            if !vocab.stop.contains(&id) {
                vocab.stop.push(id);
            }
        }
        Ok(vocab)
    }

    pub(crate) fn len(&self) -> usize {
        self.types.len()
    }

    pub(crate) fn token_type(&self, id: u32) -> TokenType {
        self.types[id as usize]
    }

    pub(crate) fn is_control(&self, id: u32) -> bool {
        self.types.get(id as usize).is_some_and(|t| t.is_control())
    }

    /// The token's bytes; none for an id that is not in the vocabulary.
    pub(crate) fn bytes(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let Some(&end) = self.ends.get(id) else { return &[] };
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.bytes[start as usize..end as usize]
    }

    /// The text of a token that is not NORMAL.
    fn literal(&self, id: u32) -> &str {
        std::str::from_utf8(self.bytes(id)).expect("copied from a string")
    }

    /// Ids and texts of the tokens that only a template may write, longest first.
    pub(crate) fn controls(&self) -> impl Iterator<Item = (u32, &str)> {
        self.special
            .iter()
            .filter(|&&id| self.is_control(id))
            .map(|&id| (id, self.literal(id)))
    }

    /// Cuts out USER_DEFINED tokens, and the control tokens too if `control`; see [`cut`].
    pub(crate) fn partition(&self, text: &str, control: bool) -> Vec<Piece> {
        let wanted = self.special.iter().filter(|&&id| control || !self.is_control(id));
        cut(text, wanted.map(|&id| (id, self.literal(id))))
    }
}

/// Cuts tokens, longest first, out of a text.
///
/// As llama.cpp does: the longest token takes all its occurrences in the whole text, then the next longest takes its own in
/// what is left. That is not the same as the longest at each place from left to right.
pub(crate) fn cut<'a>(text: &str, tokens: impl Iterator<Item = (u32, &'a str)>) -> Vec<Piece> {
    let mut pieces = vec![Piece::Text(0..text.len())];
    for (id, literal) in tokens {
        if !text.contains(literal) {
            continue;
        }
        let mut finer = Vec::with_capacity(pieces.len() + 2);
        for piece in pieces {
            let Piece::Text(range) = piece else {
                finer.push(piece);
                continue;
            };
            let mut start = range.start;
            for (at, _) in text[range.clone()].match_indices(literal) {
                let at = range.start + at;
                if start < at {
                    finer.push(Piece::Text(start..at));
                }
                finer.push(Piece::Token(id));
                start = at + literal.len();
            }
            if start < range.end {
                finer.push(Piece::Text(start..range.end));
            }
        }
        pieces = finer;
    }
    pieces
}

const TOKENS: &str = "tokenizer.ggml.tokens";
const TOKEN_TYPE: &str = "tokenizer.ggml.token_type";

fn token_types(gguf: &Gguf, n_vocab: usize) -> Result<Vec<TokenType>> {
    // A file without types has normal tokens only, as llama.cpp reads it.
    if gguf.metadata.get(TOKEN_TYPE).is_none() {
        return Ok(vec![TokenType::Normal; n_vocab]);
    }
    let types = gguf.metadata.i32s(TOKEN_TYPE)?;
    if types.len() != n_vocab {
        return Err(bad_key(
            TOKEN_TYPE,
            format!("{} types", types.len()),
            format!("one for each of {n_vocab} tokens"),
        ));
    }
    let convert = |(id, &n): (usize, &i32)| {
        TokenType::from_ggml(n).ok_or_else(|| bad_key(TOKEN_TYPE, format!("type {n} of token {id}"), "1 to 6"))
    };
    types.iter().enumerate().map(convert).collect()
}

fn bad_key(key: &str, found: String, expected: impl Into<String>) -> Error {
    Error::BadKey {
        key: key.into(),
        found,
        expected: expected.into(),
    }
}

/// GPT-2's byte alphabet: printable Latin-1 characters stand for themselves, the other bytes for U+0100 onwards in order.
pub(crate) struct Alphabet {
    chars: [char; 256],
    /// Byte of each character below U+0144, if it has one.
    bytes: [Option<u8>; 0x144],
}

impl Alphabet {
    pub(crate) fn new() -> Self {
        let mut alphabet = Alphabet {
            chars: ['\0'; 256],
            bytes: [None; 0x144],
        };
        let mut next = 0x100;
        for b in 0..=255u8 {
            let printable = matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
            let code = if printable { u32::from(b) } else { next };
            next += u32::from(!printable);
            alphabet.chars[usize::from(b)] = char::from_u32(code).expect("below the surrogates");
            alphabet.bytes[code as usize] = Some(b);
        }
        alphabet
    }

    /// The character that stands for a byte.
    pub(crate) fn char(&self, byte: u8) -> char {
        self.chars[usize::from(byte)]
    }

    /// Appends what a NORMAL token stands for; characters outside the alphabet (no converter writes them) stay as they are.
    fn decode(&self, token: &str, out: &mut Vec<u8>) {
        for c in token.chars() {
            match self.bytes.get(c as usize).copied().flatten() {
                Some(b) => out.push(b),
                None => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }
}
