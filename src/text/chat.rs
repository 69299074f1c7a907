//! The prompt of a chat: the GGUF's own Jinja template, rendered as Hugging Face renders it.
//!
//! A prompt is structure (control tokens, which the template writes) around text (which anyone may have written), and rendering
//! makes one string of both. So that text can never become structure, the control tokens in the *template's source* are replaced by
//! marks before it is compiled, and only marks become control ids afterwards. Whatever a caller supplies, however the template
//! cuts and joins it, has no marks: `<|start_of_role|>` in a message, a tool's name or a document is the ids of its characters.
//!
//! A mark is a noncharacter, the token's id in digits, and another noncharacter. These two and a third may still occur in a
//! caller's text: there they are escaped with the third, and unescaped in what comes out.

use std::fmt::Write;

use minijinja::{
    Environment, ErrorKind,
    machinery::{Token, tokenize},
    syntax::SyntaxConfig,
    value::Value,
};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde_json::Value as Json;

use super::{
    ChatRequest, Tokenizer, clock,
    pyjson::tojson,
    vocab::{Piece, Vocab, cut},
};
use crate::{Error, Result, gguf::Gguf};

const MARK: char = '\u{fdd0}';
const MARK_END: char = '\u{fdd1}';
const ESCAPE: char = '\u{fdd2}';

/// What a template may do, in minijinja's fuel: an instruction or 64 bytes of data each. Templates take about a hundred a
/// message, and copy each text several times.
///
/// The budget is what stops a template that runs or doubles a string for ever. It is small also because a list in a list in a
/// list.. is dropped by recursion: the first summand does not pay for enough of them to overflow a browser's stack.
const FUEL: u64 = 50_000;
const FUEL_PER_VALUE: u64 = 100;
const FUEL_PER_BYTE: u64 = 4;

/// Words and operators between `{{` and `}}` or `{%` and `%}`; real ones have a few dozen.
const MAX_TAG_TOKENS: usize = 2000;
const MAX_ELIFS: usize = 500;

const NAME: &str = "chat_template";
const KEY: &str = "tokenizer.chat_template";

/// A rendered chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// As the template wrote it, control tokens spelled out. For people: the ids cannot be had from it, because text that looks
    /// like a control token looks the same here.
    pub text: String,
    /// What the model reads.
    pub ids: Vec<u32>,
}

/// A model's chat template, compiled.
#[derive(Debug)]
pub struct ChatTemplate {
    env: Environment<'static>,
    /// Control tokens, longest first.
    controls: Vec<(u32, String)>,
    /// `bos_token` and its like, as marks.
    names: Vec<(&'static str, String)>,
}

impl ChatTemplate {
    /// The file's template.
    ///
    /// # Errors
    /// [`Error::MissingKey`] if the file has none. [`Error::ChatTemplate`] if it does not compile, or builds control tokens from
    /// pieces (`'<|' + role + '|>'`), which would leave them text.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        Self::compile(gguf.metadata.str(KEY)?, &Vocab::from_gguf(gguf)?)
    }

    /// Another template for the same vocabulary.
    ///
    /// # Errors
    /// As [`Self::from_gguf`].
    pub fn new(source: &str, tokenizer: &Tokenizer) -> Result<Self> {
        Self::compile(source, tokenizer.vocab())
    }

    /// Sets what `strftime_now` tells: seconds since 1970 in local time.
    pub fn with_clock(mut self, now: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        set_clock(&mut self.env, now);
        self
    }

    fn compile(source: &str, vocab: &Vocab) -> Result<Self> {
        let controls: Vec<(u32, String)> = vocab.controls().map(|(id, text)| (id, text.to_owned())).collect();
        let mut marked = String::with_capacity(source.len() * 2);
        for piece in cut(source, controls.iter().map(|(id, text)| (*id, text.as_str()))) {
            match piece {
                Piece::Token(id) => marked.push_str(&mark(id)),
                Piece::Text(range) => escape(&source[range], &mut marked),
            }
        }
        let mut env = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        let syntax = syntax.expect("the default delimiters are fine");
        check_size(&marked, &syntax)?;
        env.set_syntax(syntax);
        env.set_unknown_method_callback(unknown_method_callback);
        env.add_filter("tojson", tojson);
        env.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        set_clock(&mut env, clock::now);
        let named = [
            ("bos_token", vocab.bos),
            ("eos_token", Some(vocab.eos)),
            ("unk_token", vocab.unk),
            ("pad_token", vocab.pad),
        ];
        let spell = |(name, id): (_, Option<u32>)| {
            let id = id?;
            let text = match vocab.is_control(id) {
                true => mark(id),
                false => String::from_utf8_lossy(vocab.bytes(id)).into_owned(),
            };
            Some((name, text))
        };
        let mut template = ChatTemplate {
            env,
            controls,
            names: named.into_iter().filter_map(spell).collect(),
        };
        template
            .env
            .add_template_owned(NAME, marked)
            .map_err(|e| template.error(&e))?;
        template.refuse_pieces()?;
        Ok(template)
    }

    /// Renders a request and encodes it: control ids where the template has control tokens, plainly encoded text between them.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for a request of the wrong shape, [`Error::ChatTemplate`] if the template fails or refuses.
    pub fn render(&self, tokenizer: &Tokenizer, request: &ChatRequest) -> Result<Prompt> {
        request.validate()?;
        let rendered = self.render_marked(request)?;
        let mut prompt = Prompt {
            text: String::with_capacity(rendered.len()),
            ids: Vec::with_capacity(rendered.len() / 3),
        };
        for segment in self.segments(&rendered) {
            match segment {
                Segment::Control(id, text) => {
                    prompt.ids.push(id);
                    prompt.text.push_str(text);
                }
                Segment::Text(text) => {
                    prompt.ids.extend(tokenizer.encode(&text)?);
                    prompt.text.push_str(&text);
                }
            }
        }
        // A template may write the first token itself or leave it to the tokenizer: one is right either way.
        if let Some(bos) = tokenizer
            .bos_id()
            .filter(|bos| tokenizer.add_bos() && prompt.ids.first() != Some(bos))
        {
            prompt.ids.insert(0, bos);
        }
        Ok(prompt)
    }

    fn render_marked(&self, request: &ChatRequest) -> Result<String> {
        let mut fuel = FUEL;
        let mut list = |items: &[Json]| {
            let before = fuel;
            let values = items.iter().map(|item| to_value(item, &mut fuel)).collect::<Value>();
            // `text = text + item` copies what there is for every item.
            fuel += (fuel - before) * items.len() as u64 / 64;
            values
        };
        let messages = list(&request.messages);
        // As in Hugging Face's call, what was not given is none rather than undefined.
        let tools = request.tools.as_deref().map_or(Value::from(()), &mut list);
        let documents = request.documents.as_deref().map_or(Value::from(()), &mut list);
        let mut variables: Vec<(&str, Value)> = Vec::new();
        for (name, value) in request.chat_template_kwargs.iter().flatten() {
            variables.push((name, to_value(value, &mut fuel)));
        }
        variables.extend(self.names.iter().map(|(name, text)| (*name, Value::from(text.as_str()))));
        variables.extend([
            ("messages", messages),
            ("tools", tools),
            ("documents", documents),
            ("add_generation_prompt", Value::from(request.add_generation_prompt)),
        ]);
        let mut env = self.env.clone();
        env.set_fuel(Some(fuel));
        let template = env.get_template(NAME).map_err(|e| self.error(&e))?;
        template.render(Value::from_pairs(variables)).map_err(|e| self.error(&e))
    }

    /// Renders the simplest of chats and fails if a control token comes out that is not a mark.
    fn refuse_pieces(&self) -> Result<()> {
        let request = ChatRequest::new(vec![serde_json::json!({"role": "user", "content": "."})]);
        // A template may well refuse so simple a chat.
        let Ok(rendered) = self.render_marked(&request) else {
            return Ok(());
        };
        for segment in self.segments(&rendered) {
            if let Segment::Text(text) = segment
                && let Some((_, token)) = self.controls.iter().find(|(_, token)| text.contains(token.as_str()))
            {
                return Err(Error::ChatTemplate {
                    what: format!(
                        "it puts {token} together from pieces, which cannot be told from text; it has to write it whole"
                    ),
                });
            }
        }
        Ok(())
    }

    /// What was rendered, with marks read and escapes undone.
    fn segments<'a>(&'a self, rendered: &'a str) -> Vec<Segment<'a>> {
        let mut segments = Vec::new();
        let mut text = String::new();
        let mut rest = rendered;
        while let Some(at) = rest.find([MARK, ESCAPE]) {
            text.push_str(&rest[..at]);
            rest = &rest[at..];
            let mut chars = rest.chars();
            let first = chars.next().expect("just found");
            let after = chars.as_str();
            if first == ESCAPE {
                // A template that cuts strings may have taken the second half away.
                let escaped = chars.next().and_then(unescape);
                text.push(escaped.unwrap_or(ESCAPE));
                rest = if escaped.is_some() { chars.as_str() } else { after };
                continue;
            }
            let end = after
                .find(MARK_END)
                .map(|end| (&after[..end], &after[end + MARK_END.len_utf8()..]));
            let marked = end.and_then(|(digits, tail)| Some((digits.parse::<u32>().ok()?, tail)));
            let control = marked.and_then(|(id, tail)| Some((self.controls.iter().find(|(c, _)| *c == id)?, tail)));
            match control {
                Some(((id, token), tail)) => {
                    if !text.is_empty() {
                        segments.push(Segment::Text(std::mem::take(&mut text)));
                    }
                    segments.push(Segment::Control(*id, token));
                    rest = tail;
                }
                None => {
                    text.push(MARK);
                    rest = after;
                }
            }
        }
        text.push_str(rest);
        if !text.is_empty() {
            segments.push(Segment::Text(text));
        }
        segments
    }

    /// minijinja's words, with the line and without marks.
    fn error(&self, e: &minijinja::Error) -> Error {
        let mut what = match (e.kind(), e.detail()) {
            (ErrorKind::OutOfFuel, _) => "it runs without end or writes without measure".to_owned(),
            // Mostly `raise_exception`, whose message is the template's own.
            (ErrorKind::InvalidOperation, Some(detail)) => detail.to_owned(),
            (kind, Some(detail)) => format!("{kind}: {detail}"),
            (kind, None) => kind.to_string(),
        };
        if let Some(line) = e.line() {
            write!(what, " (line {line})").expect("to a string");
        }
        let texts = self.segments(&what).into_iter().map(|segment| match segment {
            Segment::Control(_, token) => token.to_owned(),
            Segment::Text(text) => text,
        });
        Error::ChatTemplate { what: texts.collect() }
    }
}

enum Segment<'a> {
    Control(u32, &'a str),
    Text(String),
}

/// Refuses a template with an overlong expression or chain of `elif`: the engine walks both by recursion, without a limit of
/// its own.
fn check_size(source: &str, syntax: &SyntaxConfig) -> Result<()> {
    let (mut tokens, mut elifs) = (0, 0);
    // What is not a token stops the compiler too, with better words.
    for (token, span) in tokenize(source, false, syntax.clone()).map_while(std::result::Result::ok) {
        tokens = if matches!(token, Token::BlockEnd | Token::VariableEnd) {
            0
        } else {
            tokens + 1
        };
        elifs += usize::from(matches!(token, Token::Ident("elif")));
        if tokens > MAX_TAG_TOKENS || elifs > MAX_ELIFS {
            let what = format!("it has a tag of more than {MAX_TAG_TOKENS} words or more than {MAX_ELIFS} elif tags");
            return Err(Error::ChatTemplate {
                what: format!("{what} (line {})", span.start_line),
            });
        }
    }
    Ok(())
}

fn set_clock(env: &mut Environment, now: impl Fn() -> i64 + Send + Sync + 'static) {
    env.add_function("strftime_now", move |format: String| clock::strftime(now(), &format));
}

fn mark(id: u32) -> String {
    format!("{MARK}{id}{MARK_END}")
}

/// Appends a text in which no mark can be read.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            MARK => out.extend([ESCAPE, '0']),
            MARK_END => out.extend([ESCAPE, '1']),
            ESCAPE => out.extend([ESCAPE, '2']),
            c => out.push(c),
        }
    }
}

fn unescape(c: char) -> Option<char> {
    Some(match c {
        '0' => MARK,
        '1' => MARK_END,
        '2' => ESCAPE,
        _ => return None,
    })
}

/// A caller's JSON as the template sees it; adds to `fuel` what it may cost.
fn to_value(json: &Json, fuel: &mut u64) -> Value {
    fn text(text: &str, fuel: &mut u64) -> String {
        *fuel += FUEL_PER_BYTE * text.len() as u64;
        let mut escaped = String::with_capacity(text.len());
        escape(text, &mut escaped);
        escaped
    }
    *fuel += FUEL_PER_VALUE;
    match json {
        Json::Null => Value::from(()),
        Json::Bool(b) => Value::from(*b),
        Json::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(n), _) => Value::from(n),
            (_, Some(n)) => Value::from(n),
            _ => Value::from(n.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(s) => Value::from(text(s, fuel)),
        Json::Array(items) => items.iter().map(|item| to_value(item, fuel)).collect(),
        Json::Object(fields) => Value::from_pairs(fields.iter().map(|(key, value)| (text(key, fuel), to_value(value, fuel)))),
    }
}
