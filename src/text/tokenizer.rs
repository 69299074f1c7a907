//! Text to token ids: USER_DEFINED tokens are cut out, the rest is cut into words by a regular expression, and each word's bytes
//! are merged by Hugging Face's BPE.
//!
//! The BPE knows only the tokens that text may become, so no text can give a control token, whatever the merges say.

use tokenizers::{Model, models::bpe::BPE, utils::SysRegex};

use super::vocab::{Alphabet, Piece, TokenType, Vocab};
use crate::{Error, Result, gguf::Gguf};

/// `tokenizer.ggml.pre` and the expression that finds the words: every character must belong to some match.
const PRE: &[(&str, &str)] = &[(
    "dbrx",
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)];

/// Words whose tokens are remembered; prose repeats itself.
const CACHED_WORDS: usize = 8192;

/// Converts between text and token ids, as the GGUF's `tokenizer.ggml.*` keys define it.
pub struct Tokenizer {
    vocab: Vocab,
    alphabet: Alphabet,
    words: SysRegex,
    bpe: BPE,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("n_vocab", &self.n_vocab())
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Builds the tokenizer from the file's own tokens, types and merges.
    ///
    /// # Errors
    /// Another kind of tokenizer or `pre`: [`Error::UnsupportedModel`]. Absent or contradictory keys: [`Error::MissingKey`],
    /// [`Error::BadKey`]. Merges that do not fit the tokens: [`Error::Tokenizer`].
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let vocab = Vocab::from_gguf(gguf)?;
        let pre = gguf.metadata.str("tokenizer.ggml.pre")?;
        let (_, pattern) = PRE
            .iter()
            .find(|(name, _)| *name == pre)
            .ok_or_else(|| Error::UnsupportedModel {
                what: "the pre-tokenizer",
                found: format!("tokenizer.ggml.pre = {pre:?}"),
                supported: "dbrx",
            })?;
        let alphabet = Alphabet::new();
        let bpe = bpe(gguf, &vocab)?;
        for byte in (0..=u8::MAX).filter(|b| occurs_in_utf8(*b)) {
            // Without its token a byte would vanish from the text without a word.
            if bpe.token_to_id(alphabet.char(byte).encode_utf8(&mut [0; 4])).is_none() {
                return Err(Error::Tokenizer {
                    what: format!("the vocabulary has no token for byte 0x{byte:02x}"),
                });
            }
        }
        let words = SysRegex::new(pattern).map_err(|e| Error::Tokenizer { what: e.to_string() })?;
        Ok(Tokenizer {
            vocab,
            alphabet,
            words,
            bpe,
        })
    }

    /// Number of ids, unused ones included: the model has as many logits.
    pub fn n_vocab(&self) -> usize {
        self.vocab.len()
    }

    /// The id that ends a turn.
    pub fn eos_id(&self) -> u32 {
        self.vocab.eos
    }

    /// The id that begins a text, if the file names one.
    pub fn bos_id(&self) -> Option<u32> {
        self.vocab.bos
    }

    /// Whether the model expects [`Self::bos_id`] before every text (Granite does not).
    pub fn add_bos(&self) -> bool {
        self.vocab.add_bos
    }

    /// Ids that end a reply: end of turn first.
    pub fn stop_ids(&self) -> &[u32] {
        &self.vocab.stop
    }

    /// Whether the id is structure: never part of a text, never shown.
    pub fn is_control(&self, id: u32) -> bool {
        self.vocab.is_control(id)
    }

    /// The bytes that an id stands for, not necessarily whole characters. For a control or unused id: its name.
    /// For an id outside the vocabulary: nothing.
    pub fn piece_bytes(&self, id: u32) -> &[u8] {
        self.vocab.bytes(id)
    }

    /// The ids of a text. Control tokens are not recognised: `<|end_of_text|>` becomes the ids of its characters.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the word splitter gives up (a run of millions of spaces).
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_pieces(text, false)
    }

    /// The ids of a text in which control tokens are written out. Only for text that no user can influence.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_special(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_pieces(text, true)
    }

    /// The text of ids, control tokens left out; what is not UTF-8 becomes U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut detokenizer = super::Detokenizer::new(self);
        let mut text: String = ids.iter().map(|&id| detokenizer.push(id)).collect();
        text.push_str(&detokenizer.finish());
        text
    }

    /// Whether the id is a placeholder that no text has and no model should say.
    pub fn is_unused(&self, id: u32) -> bool {
        (id as usize) < self.n_vocab() && self.vocab.token_type(id) == TokenType::Unused
    }

    /// Whether the id shows as text in a reply.
    pub(super) fn is_shown(&self, id: u32) -> bool {
        (id as usize) < self.n_vocab() && matches!(self.vocab.token_type(id), TokenType::Normal | TokenType::UserDefined)
    }

    pub(super) fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    fn encode_pieces(&self, text: &str, control: bool) -> Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        for piece in self.vocab.partition(text, control) {
            match piece {
                Piece::Token(id) => ids.push(id),
                Piece::Text(range) => self.encode_words(&text[range], &mut ids)?,
            }
        }
        Ok(ids)
    }

    fn encode_words(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let mut word = String::new();
        let mut done = 0;
        for (start, end) in self.words.find_iter(text) {
            if start != done {
                break;
            }
            word.clear();
            word.extend(text.as_bytes()[start..end].iter().map(|&b| self.alphabet.char(b)));
            let tokens = self
                .bpe
                .tokenize(&word)
                .map_err(|e| Error::Tokenizer { what: e.to_string() })?;
            ids.extend(tokens.iter().map(|token| token.id));
            done = end;
        }
        // The library's iterator ends early where the expression's engine gives up, and says nothing.
        match done == text.len() {
            true => Ok(()),
            false => Err(Error::Tokenizer {
                what: format!("the text could not be cut into words at byte {done} of {}", text.len()),
            }),
        }
    }
}

/// Whether well-formed UTF-8 has this byte anywhere.
fn occurs_in_utf8(byte: u8) -> bool {
    !matches!(byte, 0xc0 | 0xc1 | 0xf5..)
}

fn bpe(gguf: &Gguf, vocab: &Vocab) -> Result<BPE> {
    let tokens = gguf.metadata.strings("tokenizer.ggml.tokens")?;
    let mut ids = ahash::AHashMap::with_capacity(tokens.len());
    let mut longest = 0;
    // A token written twice is its first id, and a NORMAL one wins: the other is matched before words are cut.
    for kind in [TokenType::Normal, TokenType::UserDefined] {
        for (id, token) in tokens
            .iter()
            .enumerate()
            .filter(|&(id, _)| vocab.token_type(id as u32) == kind)
        {
            ids.entry(token.to_owned()).or_insert(id as u32);
            longest = longest.max(token.len());
        }
    }
    let merges = gguf.metadata.strings("tokenizer.ggml.merges")?;
    let mut pairs = Vec::with_capacity(merges.len());
    for (rank, merge) in merges.iter().enumerate() {
        // The builder takes it on trust that the result is no longer than the longest token.
        let pair = merge
            .split_once(' ')
            .filter(|(a, b)| !a.is_empty() && !b.is_empty() && a.len() + b.len() <= longest);
        let Some((a, b)) = pair else {
            return Err(Error::Tokenizer {
                what: format!("merge {rank}, {merge:?}, does not join two tokens into a third"),
            });
        };
        pairs.push((a.to_owned(), b.to_owned()));
    }
    let bpe = BPE::builder()
        .vocab_and_merges(ids, pairs)
        .cache_capacity(CACHED_WORDS)
        .build();
    bpe.map_err(|e| Error::Tokenizer {
        what: format!("the merges do not fit the vocabulary: {e}"),
    })
}
