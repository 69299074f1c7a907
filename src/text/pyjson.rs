//! `tojson` as chat templates know it: Python's `json.dumps(x, ensure_ascii=False)`, byte for byte.
//!
//! Models were trained on that spelling: `", "` and `": "` between items, keys in the order given, floats as Python prints them and
//! nothing escaped for HTML, all of which differs from Jinja's and minijinja's own filter.

use std::fmt::Write;

use minijinja::{
    Error, ErrorKind, State,
    value::{Kwargs, Value, ValueKind},
};

/// Deeper values are refused, as `json.dumps` refuses them (at a thousand levels); a template can nest without end.
const MAX_DEPTH: usize = 128;

/// The filter, with the keyword arguments that Hugging Face gives it.
pub(super) fn tojson(state: &State, value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent = match options.get::<Option<Value>>("indent")? {
        None => None,
        Some(indent) if indent.is_none() => None,
        Some(indent) => Some(match indent.as_str() {
            Some(unit) => unit.to_owned(),
            None => " ".repeat(usize::try_from(indent)?.min(64)),
        }),
    };
    let (mut comma, mut colon) = (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned());
    if let Some(pair) = options.get::<Option<Value>>("separators")?.filter(|pair| !pair.is_none()) {
        let (Ok(first), Ok(second)) = (pair.get_item_by_index(0), pair.get_item_by_index(1)) else {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "tojson: separators must be a pair of strings",
            ));
        };
        (comma, colon) = (first.to_string(), second.to_string());
    }
    let writer = Writer {
        ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        indent,
        comma,
        colon,
    };
    options.assert_all_used()?;
    let mut out = String::new();
    writer.value(state, value, 0, &mut out)?;
    Ok(out)
}

struct Writer {
    ascii: bool,
    sort: bool,
    indent: Option<String>,
    comma: String,
    colon: String,
}

impl Writer {
    fn value(&self, state: &State, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        // A value can hold another many times over: what is written is paid for as it grows, not when it is done.
        let before = out.len();
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => write!(out, "{value}").expect("to a string"),
            ValueKind::Number => float(f64::try_from(value.clone())?, out),
            ValueKind::String => self.string(value.as_str().unwrap_or_default(), out),
            ValueKind::Seq | ValueKind::Iterable => self.list(state, value, depth, out)?,
            ValueKind::Map => self.map(state, value, depth, out)?,
            kind => {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    format!("tojson: {kind} has no JSON form"),
                ));
            }
        }
        let own = if matches!(value.kind(), ValueKind::String) {
            out.len() - before
        } else {
            0
        };
        state.consume_fuel(1 + own as u64 / 64)
    }

    fn list(&self, state: &State, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        let depth = deeper(depth)?;
        out.push('[');
        let mut empty = true;
        for item in value.try_iter()? {
            self.next(&mut empty, depth, out);
            self.value(state, &item, depth, out)?;
        }
        self.close(empty, depth, out, ']');
        Ok(())
    }

    fn map(&self, state: &State, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        let depth = deeper(depth)?;
        let mut keys: Vec<Value> = value.try_iter()?.collect();
        if self.sort {
            keys.sort();
        }
        out.push('{');
        let mut empty = true;
        for key in keys {
            self.next(&mut empty, depth, out);
            match key.kind() {
                ValueKind::String => self.string(key.as_str().unwrap_or_default(), out),
                // JSON has no other keys; Python writes these as the text of their value.
                ValueKind::Number | ValueKind::Bool | ValueKind::None => {
                    out.push('"');
                    self.value(state, &key, depth, out)?;
                    out.push('"');
                }
                kind => return Err(Error::new(ErrorKind::InvalidOperation, format!("tojson: {kind} is no key"))),
            }
            out.push_str(&self.colon);
            self.value(state, &value.get_item(&key)?, depth, out)?;
        }
        self.close(empty, depth, out, '}');
        Ok(())
    }

    /// What goes before an item.
    fn next(&self, empty: &mut bool, depth: usize, out: &mut String) {
        if !std::mem::take(empty) {
            out.push_str(&self.comma);
        }
        self.line(depth, out);
    }

    fn close(&self, empty: bool, depth: usize, out: &mut String, bracket: char) {
        if !empty {
            self.line(depth - 1, out);
        }
        out.push(bracket);
    }

    fn line(&self, depth: usize, out: &mut String) {
        if let Some(unit) = &self.indent {
            out.push('\n');
            (0..depth).for_each(|_| out.push_str(unit));
        }
    }

    fn string(&self, text: &str, out: &mut String) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if c < ' ' || self.ascii && !(' '..='~').contains(&c) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(out, "\\u{unit:04x}").expect("to a string");
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

fn deeper(depth: usize) -> Result<usize, Error> {
    match depth < MAX_DEPTH {
        true => Ok(depth + 1),
        false => Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("tojson: more than {MAX_DEPTH} levels deep"),
        )),
    }
}

/// A float as Python's `repr` writes it: the shortest digits that read back the same, an exponent below 1e-4 and from 1e16.
fn float(x: f64, out: &mut String) {
    if !x.is_finite() {
        out.push_str(if x.is_nan() {
            "NaN"
        } else if x > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        });
        return;
    }
    let scientific = format!("{x:e}");
    let (digits, exponent) = scientific.split_once('e').expect("the format has an exponent");
    let exponent: i32 = exponent.parse().expect("an integer");
    match exponent {
        -4..16 => write!(out, "{x:?}"),
        _ => write!(out, "{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs()),
    }
    .expect("to a string");
}
