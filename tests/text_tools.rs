//! Tool calls in streamed replies: the same however the reply is cut into pieces.

use outcrop::text::{ReplyPart, ToolCall, ToolCalls};

fn text(text: &str) -> ReplyPart {
    ReplyPart::Content(text.into())
}

fn call(name: &str, arguments: &str) -> ReplyPart {
    ReplyPart::ToolCall(ToolCall {
        name: name.into(),
        arguments: arguments.into(),
    })
}

/// The parts of a reply that comes in these pieces, neighbouring texts joined.
fn parts<'a>(pieces: impl IntoIterator<Item = &'a str>) -> Vec<ReplyPart> {
    let mut calls = ToolCalls::new();
    let mut all: Vec<ReplyPart> = Vec::new();
    let mut streamed: Vec<ReplyPart> = pieces.into_iter().flat_map(|piece| calls.push(piece)).collect();
    streamed.extend(calls.finish());
    for part in streamed {
        match (all.last_mut(), part) {
            (_, ReplyPart::Content(text)) if text.is_empty() => panic!("an empty text"),
            (Some(ReplyPart::Content(last)), ReplyPart::Content(text)) => last.push_str(&text),
            (_, part) => all.push(part),
        }
    }
    all
}

fn cases() -> Vec<(&'static str, Vec<ReplyPart>)> {
    vec![
        ("", vec![]),
        ("Plain text.\n\n", vec![text("Plain text.\n\n")]),
        ("a <tool and <b> < c", vec![text("a <tool and <b> < c")]),
        (
            "<tool_call>\n{\"name\": \"tide_at\", \"arguments\": {\"port\": \"Brest\"}}\n</tool_call>",
            vec![call("tide_at", "{\"port\": \"Brest\"}")],
        ),
        (
            "checking\n<tool_call>{\"name\":\"f\",\"arguments\":{ \"a\":[1, 2.50] }}</tool_call>\n<tool_call>\n\n {\"arguments\": {}, \"name\": \"g\"} </tool_call>\n",
            vec![text("checking"), call("f", "{ \"a\":[1, 2.50] }"), call("g", "{}")],
        ),
        (
            "<tool_call>{\"name\": \"f\"}</tool_call> done",
            vec![call("f", "{}"), text("done")],
        ),
        (
            "<tool_call>{\"name\": \"f\", \"arguments\": null}</tool_call>",
            vec![call("f", "{}")],
        ),
        (
            "<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": \\\"é\\\"}\"}</tool_call>",
            vec![call("f", "{\"a\": \"é\"}")],
        ),
        // The tags within strings are text of the arguments.
        (
            "<tool_call>{\"name\": \"f\", \"arguments\": {\"s\": \"</tool_call><tool_call>\", \"t\": 1}}</tool_call>",
            vec![call("f", "{\"s\": \"</tool_call><tool_call>\", \"t\": 1}")],
        ),
        // No closing tag, but whole.
        (
            "x <tool_call>{\"name\": \"f\", \"arguments\": {\"é\": \"東\"}}",
            vec![text("x"), call("f", "{\"é\": \"東\"}")],
        ),
        // Not calls.
        (
            "x <tool_call>{\"name\": \"f\", \"arg",
            vec![text("x <tool_call>{\"name\": \"f\", \"arg")],
        ),
        ("<tool_call></tool_call>", vec![text("<tool_call></tool_call>")]),
        (
            "<tool_call>\nf(1)\n</tool_call> so",
            vec![text("<tool_call>\nf(1)\n</tool_call> so")],
        ),
        ("<tool_call>[1]</tool_call>", vec![text("<tool_call>[1]</tool_call>")]),
        (
            "<tool_call>{\"name\": 1}</tool_call>",
            vec![text("<tool_call>{\"name\": 1}</tool_call>")],
        ),
        (
            "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>",
            vec![text("<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>")],
        ),
        // A false start before a sound call.
        (
            "<tool_call> oh <tool_call>{\"name\": \"f\"}</tool_call>",
            vec![text("<tool_call> oh"), call("f", "{}")],
        ),
        ("</tool_call> <tool_cal", vec![text("</tool_call> <tool_cal")]),
    ]
}

#[test]
fn a_reply_is_the_same_in_any_pieces() {
    for (reply, expected) in cases() {
        assert_eq!(parts([reply]), expected, "{reply:?} in one piece");
        let bounds: Vec<usize> = reply.char_indices().map(|(at, _)| at).chain([reply.len()]).collect();
        assert_eq!(
            parts(bounds.windows(2).map(|w| &reply[w[0]..w[1]])),
            expected,
            "{reply:?} by characters"
        );
        for &a in &bounds {
            for &b in bounds.iter().filter(|&&b| b >= a) {
                assert_eq!(
                    parts([&reply[..a], &reply[a..b], &reply[b..]]),
                    expected,
                    "{reply:?} cut at {a} and {b}"
                );
            }
        }
    }
}

#[test]
fn text_is_shown_as_soon_as_it_can_be() {
    let mut calls = ToolCalls::new();
    assert_eq!(calls.push("Let me"), [text("Let me")]);
    assert_eq!(calls.push(" look <"), [text(" look")]);
    assert_eq!(calls.push("3 "), [text(" <3")]);
    assert_eq!(calls.push("\n<tool_"), []);
    assert_eq!(calls.push("call>{\"name\": \"f\"}</tool_call>"), [call("f", "{}")]);
    assert_eq!(calls.push("\n"), []);
    assert_eq!(calls.push("ok"), [text("ok")]);
    assert_eq!(calls.finish(), []);
    // It starts afresh.
    assert_eq!(calls.push("\nnext "), [text("\nnext")]);
    assert_eq!(calls.finish(), [text(" ")]);
}

#[test]
fn a_long_call_takes_linear_time() {
    let mut calls = ToolCalls::new();
    calls.push("<tool_call>{\"name\": \"f\", \"arguments\": {\"text\": \"");
    for _ in 0..200_000 {
        assert_eq!(calls.push("word "), []);
    }
    let parts = calls.push("\"}}</tool_call>");
    assert!(matches!(&parts[..], [ReplyPart::ToolCall(call)] if call.arguments.len() > 1_000_000));
}
