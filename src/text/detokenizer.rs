//! Token ids to text as they come, in whole characters only.

use super::Tokenizer;

/// Turns ids into text while they are generated. A character's bytes may be spread over several tokens: they are held until the
/// character is complete. Bytes that cannot become one are U+FFFD, as soon as that is certain.
#[derive(Debug)]
pub struct Detokenizer<'a> {
    tokenizer: &'a Tokenizer,
    /// The start of a character: at most three bytes between calls.
    held: Vec<u8>,
}

impl<'a> Detokenizer<'a> {
    /// Nothing held.
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        Detokenizer {
            tokenizer,
            held: Vec::new(),
        }
    }

    /// Takes the next id and returns the text that it completes. Control and unused ids are not text: they give none, and leave
    /// what is held alone.
    pub fn push(&mut self, id: u32) -> String {
        if self.tokenizer.is_shown(id) {
            self.held.extend_from_slice(self.tokenizer.piece_bytes(id));
        }
        let mut text = String::new();
        let mut rest = self.held.as_slice();
        while !rest.is_empty() {
            let error = match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => error,
            };
            let (valid, bad) = rest.split_at(error.valid_up_to());
            text.push_str(std::str::from_utf8(valid).expect("checked by the line above"));
            rest = bad;
            let Some(n) = error.error_len() else { break };
            text.push(char::REPLACEMENT_CHARACTER);
            rest = &rest[n..];
        }
        self.held.drain(..self.held.len() - rest.len());
        text
    }

    /// What is left at the end: U+FFFD if a character was never completed.
    pub fn finish(&mut self) -> String {
        match std::mem::take(&mut self.held).is_empty() {
            true => String::new(),
            false => char::REPLACEMENT_CHARACTER.to_string(),
        }
    }
}
