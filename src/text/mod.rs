//! Text: token ids from strings and back, and the prompt of a chat.
//!
//! Everything comes from the GGUF: vocabulary, merges, word splitter and Jinja template. The rule that matters most: what callers
//! supply (messages, tools, documents) is text and can never become a control token; see [`ChatTemplate`].

mod chat;
mod clock;
mod detokenizer;
mod pyjson;
mod request;
mod tokenizer;
mod tools;
mod vocab;

pub use chat::{ChatTemplate, Prompt};
pub use detokenizer::Detokenizer;
pub use request::ChatRequest;
pub use tokenizer::Tokenizer;
pub use tools::{ReplyPart, ToolCall, ToolCalls};
