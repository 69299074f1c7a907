//! Tool calls in a reply, found while it is written: `<tool_call>{"name": .., "arguments": ..}</tool_call>`.
//!
//! A stream cannot take back what it has shown, so whatever may be the beginning of a tag is held until it is known not to be, and
//! white space too: the format puts some between text and calls that belongs to neither. What is not a well-formed call after
//! all is text, as the model wrote it.

use serde::de::IgnoredAny;

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// A call that the model asks for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ToolCall {
    /// The function's name. The model may have made it up.
    pub name: String,
    /// JSON text of the arguments as the model wrote it: given back in the next request, it gives the same tokens again.
    pub arguments: String,
}

/// The next piece of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyPart {
    /// Text to show, never empty.
    Content(String),
    /// A complete call.
    ToolCall(ToolCall),
}

/// Separates a reply into text and calls as it comes.
#[derive(Debug, Clone, Default)]
pub struct ToolCalls {
    /// Not yet passed on: white space, and what may be the start of a tag or is a call so far.
    held: String,
    /// Where the opening tag ends in `held`, once it is there; only white space is before the tag.
    body: Option<usize>,
    /// Where to look for the closing tag in `held`: before it there is none, or one inside a JSON string.
    searched: usize,
    /// Whether a call has ended and nothing but white space has come since.
    after_call: bool,
}

impl ToolCalls {
    /// Nothing seen.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next text of the reply.
    pub fn push(&mut self, text: &str) -> Vec<ReplyPart> {
        self.held.push_str(text);
        let mut parts = Vec::new();
        while match self.body {
            Some(body) => self.end_call(body, &mut parts),
            None => self.start_call(&mut parts),
        } {}
        parts
    }

    /// The reply is over: what is held is a call without its closing tag, or text.
    pub fn finish(&mut self) -> Vec<ReplyPart> {
        let mut parts = Vec::new();
        match self.body.map(|body| read_call(&self.held[body..])) {
            Some(Body::Call(call)) => parts.push(ReplyPart::ToolCall(call)),
            _ => self.show(self.held.len(), &mut parts),
        }
        *self = Self::default();
        parts
    }

    /// Passes on text up to the next opening tag. `true` if there is one.
    fn start_call(&mut self, parts: &mut Vec<ReplyPart>) -> bool {
        let tag = self.held.find(OPEN);
        let held = tag.unwrap_or_else(|| {
            let start = (1..OPEN.len()).rev().find(|&n| self.held.ends_with(&OPEN[..n]));
            self.held.len() - start.unwrap_or(0)
        });
        self.show(self.held[..held].trim_end().len(), parts);
        // What was shown is gone from the front.
        self.body = self.held.find(OPEN).map(|at| at + OPEN.len());
        self.searched = self.body.unwrap_or(0);
        self.body.is_some()
    }

    /// Passes on the call whose text begins at `body`. `false` if more has to come first.
    fn end_call(&mut self, body: usize, parts: &mut Vec<ReplyPart>) -> bool {
        let Some(at) = self.held[self.searched..].find(CLOSE).map(|at| self.searched + at) else {
            // The closing tag itself may come in pieces.
            self.searched = self
                .searched
                .max(self.held.floor_char_boundary(self.held.len().saturating_sub(CLOSE.len())));
            return false;
        };
        let end = at + CLOSE.len();
        match read_call(&self.held[body..at]) {
            Body::Unfinished => {
                self.searched = end;
                return true;
            }
            Body::Call(call) => {
                parts.push(ReplyPart::ToolCall(call));
                self.after_call = true;
                self.held.drain(..end);
            }
            Body::Malformed => {
                // A second opening tag may begin a sound call.
                let text = self.held[body..at].find(OPEN).map_or(end, |inner| body + inner);
                self.show(self.held[..text].trim_end().len(), parts);
            }
        }
        self.body = None;
        true
    }

    /// Passes on the first `n` bytes of `held` as text.
    fn show(&mut self, n: usize, parts: &mut Vec<ReplyPart>) {
        let shown: String = self.held.drain(..n).collect();
        let text = if self.after_call { shown.trim_start() } else { &shown };
        if text.is_empty() {
            return;
        }
        self.after_call = false;
        match parts.last_mut() {
            Some(ReplyPart::Content(last)) => last.push_str(text),
            _ => parts.push(ReplyPart::Content(text.to_owned())),
        }
    }
}

enum Body {
    Call(ToolCall),
    /// JSON that has not ended: a closing tag here stands in a string.
    Unfinished,
    Malformed,
}

fn read_call(body: &str) -> Body {
    match serde_json::from_str::<IgnoredAny>(body) {
        Ok(_) => {}
        Err(e) if e.is_eof() && !body.trim().is_empty() => return Body::Unfinished,
        Err(_) => return Body::Malformed,
    }
    let mut name = None;
    let mut arguments = Some("{}".to_owned());
    for (key, value) in fields(body).unwrap_or_default() {
        match key.as_str() {
            "name" => name = serde_json::from_str(value).ok(),
            "arguments" if value.starts_with('{') => arguments = Some(value.to_owned()),
            "arguments" if value == "null" => {}
            // JSON in a string, as OpenAI's API has it.
            "arguments" => arguments = serde_json::from_str(value).ok(),
            _ => {}
        }
    }
    match (name, arguments) {
        (Some(name), Some(arguments)) => Body::Call(ToolCall { name, arguments }),
        _ => Body::Malformed,
    }
}

/// Keys and values of a JSON object, the values as they are written. `None` if the text is another kind of JSON.
fn fields(json: &str) -> Option<Vec<(String, &str)>> {
    let mut fields = Vec::new();
    let mut rest = json.trim_start().strip_prefix('{')?.trim_start();
    while !rest.starts_with('}') {
        let (key, after) = first_value(rest)?;
        let (value, after) = first_value(after.trim_start().strip_prefix(':')?)?;
        fields.push((serde_json::from_str(key).ok()?, value));
        let after = after.trim_start();
        rest = after.strip_prefix(',').unwrap_or(after).trim_start();
    }
    Some(fields)
}

/// The JSON value that a text starts with, as it is written, and what comes after it.
fn first_value(text: &str) -> Option<(&str, &str)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    let (value, rest) = text.split_at(values.byte_offset());
    Some((value.trim(), rest))
}
