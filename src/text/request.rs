//! The part of an OpenAI chat request that becomes the prompt, and what it must look like.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, Result};

/// What a chat template is given, in OpenAI's shape.
///
/// Messages, tools and documents stay JSON: templates read fields that no fixed type could list. [`Self::validate`] says what they
/// must be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChatRequest {
    /// `{role, content}` objects; `content` is text, `[{type: "text", text}, ..]`, or null beside `tool_calls`.
    pub messages: Vec<Value>,
    /// `{type: "function", function: {name, description, parameters}}` objects.
    pub tools: Option<Vec<Value>>,
    /// Objects to answer from, `{doc_id, title, text, ..}`.
    pub documents: Option<Vec<Value>>,
    /// Whether the prompt ends with the opening of the assistant's turn.
    pub add_generation_prompt: bool,
    /// Further variables of the template.
    pub chat_template_kwargs: Option<Map<String, Value>>,
}

impl Default for ChatRequest {
    fn default() -> Self {
        ChatRequest {
            messages: Vec::new(),
            tools: None,
            documents: None,
            add_generation_prompt: true,
            chat_template_kwargs: None,
        }
    }
}

/// Nesting that `serde_json` allows a document, and as much as the template engine is asked to walk.
const MAX_DEPTH: usize = 128;

impl ChatRequest {
    /// A request with these messages and nothing else.
    pub fn new(messages: Vec<Value>) -> Self {
        ChatRequest {
            messages,
            ..Self::default()
        }
    }

    /// Reads a request from JSON; fields that are not the template's (`max_tokens`, ..) are ignored.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`].
    pub fn from_json(json: &str) -> Result<Self> {
        let read = serde_json::from_str::<Map<String, Value>>(json).and_then(|fields| serde_json::from_value(fields.into()));
        read.map_err(|e| invalid(format!("the request cannot be read: {e}")))
    }

    /// Checks the shape of everything in the request.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] that names the place: `messages[2].content[0].text is missing; it must be text`.
    pub fn validate(&self) -> Result<()> {
        if self.messages.is_empty() {
            return Err(invalid("messages is empty: there must be at least one message"));
        }
        for (i, message) in self.messages.iter().enumerate() {
            check_message(message, &format!("messages[{i}]"))?;
        }
        for (i, tool) in self.tools.iter().flatten().enumerate() {
            check_tool(tool, &format!("tools[{i}]"))?;
        }
        for (i, document) in self.documents.iter().flatten().enumerate() {
            let at = format!("documents[{i}]");
            object(document, &at)?;
            check_depth(document, &at)?;
        }
        for (name, value) in self.chat_template_kwargs.iter().flatten() {
            check_depth(value, &format!("chat_template_kwargs.{name}"))?;
        }
        Ok(())
    }
}

fn check_message(message: &Value, at: &str) -> Result<()> {
    check_depth(message, at)?;
    let fields = object(message, at)?;
    let role = text(fields.get("role"), &format!("{at}.role"))?;
    // Templates write the role between control tokens, some as part of one: it has to be a word.
    if role.is_empty() || !role.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c)) {
        return Err(invalid(format!(
            "{at}.role is {role:?}: a role is a word, such as user, assistant, system or tool"
        )));
    }
    for name in ["name", "tool_call_id"] {
        if let Some(value) = fields.get(name).filter(|v| !v.is_null()) {
            text(Some(value), &format!("{at}.{name}"))?;
        }
    }
    match fields.get("content") {
        Some(Value::String(_)) => {}
        Some(Value::Array(parts)) => {
            for (i, part) in parts.iter().enumerate() {
                check_part(part, &format!("{at}.content[{i}]"))?;
            }
        }
        // A reply that only calls tools has no text.
        None | Some(Value::Null) if role == "assistant" => {}
        other => return Err(wrong(other, &format!("{at}.content"), "text or a list of text parts")),
    }
    match fields.get("tool_calls") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Array(calls)) => {
            let mut calls = calls.iter().enumerate();
            calls.try_for_each(|(i, call)| check_call(call, &format!("{at}.tool_calls[{i}]")))
        }
        other => Err(wrong(other, &format!("{at}.tool_calls"), "a list")),
    }
}

fn check_part(part: &Value, at: &str) -> Result<()> {
    let fields = object(part, at)?;
    match text(fields.get("type"), &format!("{at}.type"))? {
        "text" => text(fields.get("text"), &format!("{at}.text")).map(drop),
        other => Err(invalid(format!("{at}.type is {other:?}: this model reads text only"))),
    }
}

fn check_call(call: &Value, at: &str) -> Result<()> {
    let fields = object(call, at)?;
    let (fields, at) = match fields.get("function") {
        Some(function) => (object(function, &format!("{at}.function"))?, format!("{at}.function")),
        None => (fields, at.to_owned()),
    };
    text(fields.get("name"), &format!("{at}.name"))?;
    match fields.get("arguments") {
        Some(Value::String(_) | Value::Object(_)) => Ok(()),
        other => Err(wrong(other, &format!("{at}.arguments"), "JSON text or an object")),
    }
}

fn check_tool(tool: &Value, at: &str) -> Result<()> {
    check_depth(tool, at)?;
    let fields = object(tool, at)?;
    if let Some(kind) = fields.get("type").filter(|kind| *kind != "function") {
        return Err(invalid(format!("{at}.type is {kind}: only functions are supported")));
    }
    let (function, at) = match fields.get("function") {
        Some(function) => (object(function, &format!("{at}.function"))?, format!("{at}.function")),
        None => (fields, at.to_owned()),
    };
    text(function.get("name"), &format!("{at}.name")).map(drop)
}

fn check_depth(value: &Value, at: &str) -> Result<()> {
    fn fits(value: &Value, left: usize) -> bool {
        match value {
            Value::Array(items) => left > 0 && items.iter().all(|item| fits(item, left - 1)),
            Value::Object(fields) => left > 0 && fields.values().all(|field| fits(field, left - 1)),
            _ => true,
        }
    }
    match fits(value, MAX_DEPTH) {
        true => Ok(()),
        false => Err(invalid(format!("{at} is nested more than {MAX_DEPTH} levels deep"))),
    }
}

fn object<'a>(value: &'a Value, at: &str) -> Result<&'a Map<String, Value>> {
    value.as_object().ok_or_else(|| wrong(Some(value), at, "an object"))
}

fn text<'a>(value: Option<&'a Value>, at: &str) -> Result<&'a str> {
    value.and_then(Value::as_str).ok_or_else(|| wrong(value, at, "text"))
}

fn wrong(found: Option<&Value>, at: &str, expected: &str) -> Error {
    let found = match found {
        None => "missing",
        Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "a boolean",
        Some(Value::Number(_)) => "a number",
        Some(Value::String(_)) => "text",
        Some(Value::Array(_)) => "a list",
        Some(Value::Object(_)) => "an object",
    };
    invalid(format!("{at} is {found}; it must be {expected}"))
}

fn invalid(what: impl Into<String>) -> Error {
    Error::InvalidRequest { what: what.into() }
}
