//! Templates and requests: what templates may use, what of them fails, and the requests that make no sense.

mod common;

use common::chat::{granite_4_0, request, tiny};
use outcrop::{
    Error,
    gguf::Gguf,
    text::{ChatRequest, ChatTemplate},
};
use serde_json::{Value, json};

fn render(source: &str, value: Value) -> Result<String, Error> {
    let (tokenizer, _) = tiny();
    Ok(ChatTemplate::new(source, &tokenizer)?
        .render(&tokenizer, &request(value))?
        .text)
}

fn hello() -> Value {
    json!({"messages": [{"role": "user", "content": "hello"}]})
}

#[test]
fn what_templates_use() {
    let two = json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "n": 3});
    // Expected: what jinja2 3.1 gives with trim_blocks and lstrip_blocks, Hugging Face's settings.
    let cases = [
        (
            "{% for m in messages %}\n  {% if loop.first %}\n[{{ m.role }}\n  {%- endif %}\n{% endfor %}\n",
            "[user",
        ),
        (
            "{% for m in messages %}{{ loop.index0 }}{{ loop.last }}{{ messages[loop.index0 + 1] is defined }};{% endfor %}",
            "0FalseTrue;1TrueFalse;",
        ),
        (
            "{{ messages[7] is defined }}{{ messages[7] }}{{ nothing }}{{ none }}{{ true }}",
            "FalseNoneTrue",
        ),
        (
            "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
            "2",
        ),
        ("{% set t %}a{{ 1 }}b{% endset %}{{ t | upper + 'c' }}", "A1Bc"),
        (
            "{{ messages is iterable }}{{ 'x' is string }}{{ messages[0] is mapping }}{{ messages is mapping }}{{ 'x' is iterable }}",
            "TrueTrueTrueFalseTrue",
        ),
        (
            "{{ messages[0].content.startswith('a') }}{{ ' a '.strip() }}{{ 'a,b'.split(',')[-1] }}{{ messages[-1]['role'] }}",
            "Trueabassistant",
        ),
        (
            "{% for m in messages %}{% if loop.index0 == 0 %}{% continue %}{% endif %}{{ m.role }}{% break %}{% endfor %}",
            "assistant",
        ),
        (
            "{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}",
            "role=user;content=a;",
        ),
        (
            "{{ messages | map(attribute='role') | join(',') }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }}",
            "user,assistant 1",
        ),
        (
            "{% macro f(x, y=2) %}{{ x }}{{ y }}{% endmacro %}{{ f(1) }}{{ f(x=3, y=4) }}",
            "1234",
        ),
        (
            "{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}{{ bos_token == eos_token }}{{ eos_token }}",
            "TrueTrueTrueTrue<|end_of_text|>",
        ),
        ("{{ '<b>&\"' }}{{ 'a' ~ 1 ~ true }}", "<b>&\"a1True"),
        (
            "{{ 7 // 2 }} {{ 7 % 2 }} {{ 2 ** 3 }} {{ 1 / 2 }} {{ -7 // 2 }} {{ 1.0 }}",
            "3 1 8 0.5 -4 1.0",
        ),
        (
            "{{ 'yes' if messages else 'no' }}{{ messages | length }}{{ (messages | last).content }}",
            "yes2b",
        ),
        ("{{ strftime_now('%d %b %Y') | length }}", "11"),
    ];
    for (source, expected) in cases {
        assert_eq!(render(source, two.clone()).unwrap(), expected, "{source}");
    }
    let (tokenizer, _) = tiny();
    let dated = ChatTemplate::new("Today is {{ strftime_now('%A, %d %B %Y') }}.", &tokenizer)
        .unwrap()
        .with_clock(|| 1_767_225_600);
    assert_eq!(
        dated.render(&tokenizer, &request(hello())).unwrap().text,
        "Today is Thursday, 01 January 2026."
    );
    let more = json!({"messages": [{"role": "user", "content": "a"}], "chat_template_kwargs": {"thinking": true, "messages": 1}});
    assert_eq!(
        render("{% if thinking %}{{ messages[0].content }}{% endif %}", more).unwrap(),
        "a"
    );
}

#[test]
fn tojson_is_pythons() {
    // Expected: json.dumps(x, ensure_ascii=False, **kwargs) of Python 3.11.
    let value = json!({"b": [1, -2.0, 0.1, 1e16, 1e-5, 123456789.125, 1e22, 5e-324, -92714.21730095723, 18446744073709551615u64], "a": {"é": "🙂\"\\\n\t\u{8}\u{c}\u{1}\u{7f}<&'>/"}, "": [null, true, false, [], {}]});
    let dumps = |arguments: &str| {
        let request = json!({"messages": [{"role": "user", "content": ""}], "documents": [value]});
        render(&format!("{{{{ documents[0] | tojson({arguments}) }}}}"), request).unwrap()
    };
    assert_eq!(
        dumps(""),
        r#"{"b": [1, -2.0, 0.1, 1e+16, 1e-05, 123456789.125, 1e+22, 5e-324, -92714.21730095723, 18446744073709551615], "a": {"é": "🙂\"\\\n\t\b\f\u0001"#.to_owned()
            + "\u{7f}" + r#"<&'>/"}, "": [null, true, false, [], {}]}"#
    );
    assert_eq!(
        dumps("indent=2, sort_keys=true, ensure_ascii=true"),
        r#"{
  "": [
    null,
    true,
    false,
    [],
    {}
  ],
  "a": {
    "\u00e9": "\ud83d\ude42\"\\\n\t\b\f\u0001\u007f<&'>/"
  },
  "b": [
    1,
    -2.0,
    0.1,
    1e+16,
    1e-05,
    123456789.125,
    1e+22,
    5e-324,
    -92714.21730095723,
    18446744073709551615
  ]
}"#
    );
    assert_eq!(dumps("separators=(',', ':')").len(), dumps("").len() - 19);
    assert_eq!(
        render("{{ {1: 'a', none: 2.5, false: []} | tojson }}", hello()).unwrap(),
        r#"{"1": "a", "null": 2.5, "false": []}"#
    );
    assert!(matches!(
        render("{{ nothing | tojson }}", hello()),
        Err(Error::ChatTemplate { .. })
    ));
}

#[test]
fn templates_that_fail() {
    let cases = [
        (
            "{{ raise_exception('roles must ' + '<|end_of_text|>') }}",
            "roles must <|end_of_text|> (line 1)",
        ),
        ("a\n{% if %}", "(line 2)"),
        ("a\nb\n{{ messages[9].role }}", "(line 3)"),
        ("{{ 'a' + 1 }}", "(line 1)"),
        ("{{ '<|end_of_' ~ 'text|>' }}", "puts <|end_of_text|> together from pieces"),
        (
            "{% for x in range(100000) %}{% for y in range(100000) %}{% endfor %}{% endfor %}",
            "runs without end",
        ),
        (
            "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
            "without measure",
        ),
        (
            "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}",
            "",
        ),
        ("{{ 'abc' * 1000000000 }}", ""),
        ("{{ 'x'.center(9999999999) }}", ""),
        ("{{ '%999999999d' | format(1) }}", ""),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", ""),
    ];
    for (source, expected) in cases {
        match render(source, hello()) {
            Err(Error::ChatTemplate { what }) => assert!(what.contains(expected), "{source}: {what}"),
            other => panic!("{source}: {other:?}"),
        }
    }
    let deep = [
        "{{ ".to_owned() + &"(".repeat(100_000),
        "{% if true %}".repeat(100_000),
        "{{ ".to_owned() + &"[".repeat(100_000) + &"]".repeat(100_000) + " }}",
        "{{ 1".to_owned() + &" + 1".repeat(200_000) + " }}",
        "{{ x".to_owned() + &".a".repeat(200_000) + " }}",
        "{{ x".to_owned() + &"|trim".repeat(200_000) + " }}",
        "{{ ".to_owned() + &"not ".repeat(200_000) + "x }}",
        "{{ ".to_owned() + &"1 if 1 else ".repeat(200_000) + "1 }}",
        "{% if 0 %}".to_owned() + &"{% elif 0 %}".repeat(100_000) + "{% endif %}{{ nothing.at_all }}",
    ];
    on_a_browser_stack(move || {
        for source in deep {
            assert!(
                matches!(render(&source, hello()), Err(Error::ChatTemplate { .. })),
                "{}",
                &source[..20]
            );
        }
        // Just within the limit. And a list nested as deep as the fuel allows: dropping it must not run out of stack either.
        render(&("{{ 1".to_owned() + &" + 1".repeat(998) + " }}"), hello()).unwrap();
        let _ = render(
            "{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = [ns.x] %}{% endfor %}",
            hello(),
        );
    });
}

/// Runs on 1 MiB of stack, what the linker gives a wasm module.
fn on_a_browser_stack(f: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(f).expect("a thread");
    thread.join().expect("no panic");
}

/// Real requests are larger than hostile templates' test requests, and templates copy what they gather for every tool.
#[test]
fn large_requests_have_fuel() {
    let (tokenizer, newer) = tiny();
    let older = granite_4_0(&tokenizer);
    let turn = |i: usize| json!({"role": if i.is_multiple_of(2) { "user" } else { "assistant" }, "content": "ab"});
    let document = |size: usize| json!({"doc_id": 1, "title": "", "text": "word ".repeat(size / 5)});
    let properties: Value = (0..20)
        .map(|i| {
            (
                format!("p{i}"),
                json!({"type": "string", "description": "some words about it"}),
            )
        })
        .collect();
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": properties}}});
    let requests = [
        json!({"messages": (0..2000).map(turn).collect::<Vec<_>>()}),
        json!({"messages": [turn(0)], "documents": vec![document(10_000); 50]}),
        json!({"messages": [turn(0)], "documents": vec![document(500); 400]}),
        json!({"messages": [turn(0)], "tools": vec![tool; 128]}),
        json!({"messages": [{"role": "user", "content": "word ".repeat(200_000)}]}),
    ];
    for (i, value) in requests.into_iter().enumerate() {
        for template in [&newer, &older] {
            let prompt = template.render(&tokenizer, &request(value.clone()));
            assert!(prompt.is_ok(), "request {i}: {:?}", prompt.err());
        }
    }
}

#[test]
fn requests_that_make_no_sense() {
    let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
    let user = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
    let cases = [
        (json!({}), "at least one message"),
        (json!({"messages": ["hi"]}), "messages[0] is text; it must be an object"),
        (json!({"messages": [{"content": "hi"}]}), "messages[0].role is missing"),
        (
            json!({"messages": [{"role": 1, "content": "hi"}]}),
            "messages[0].role is a number",
        ),
        (
            json!({"messages": [{"role": "<|end_of_text|>", "content": "hi"}]}),
            "messages[0].role is",
        ),
        (json!({"messages": [{"role": "", "content": "hi"}]}), "messages[0].role is"),
        (
            json!({"messages": [{"role": "user", "content": "a"}, {"role": "user"}]}),
            "messages[1].content is missing",
        ),
        (user(json!(null)), "messages[0].content is null"),
        (user(json!({"text": "a"})), "messages[0].content is an object"),
        (
            user(json!([{"type": "text", "text": "a"}, {"type": "image_url"}])),
            "messages[0].content[1].type is \"image_url\"",
        ),
        (user(json!([{"type": "text"}])), "messages[0].content[0].text is missing"),
        (user(json!(["a"])), "messages[0].content[0] is text"),
        (
            json!({"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]}]}),
            "messages[0].tool_calls[0].function.name is missing",
        ),
        (
            json!({"messages": [{"role": "assistant", "tool_calls": [{"name": "f", "arguments": 1}]}]}),
            "messages[0].tool_calls[0].arguments is a number",
        ),
        (
            json!({"messages": [{"role": "assistant", "tool_calls": {}}]}),
            "messages[0].tool_calls is an object",
        ),
        (
            json!({"messages": [{"role": "user", "content": "a", "name": 3}]}),
            "messages[0].name is a number",
        ),
        (
            json!({"messages": [{"role": "user", "content": "a"}], "tools": [{"type": "function"}]}),
            "tools[0].name is missing",
        ),
        (
            json!({"messages": [{"role": "user", "content": "a"}], "tools": [{"type": "retrieval"}]}),
            "only functions",
        ),
        (
            json!({"messages": [{"role": "user", "content": "a"}], "documents": ["a"]}),
            "documents[0] is text",
        ),
    ];
    for (value, expected) in cases {
        match render("", value.clone()) {
            Err(Error::InvalidRequest { what }) => assert!(what.contains(expected), "{value}: {what}"),
            other => panic!("{value}: {other:?}"),
        }
    }
    let mut request = ChatRequest::new(vec![json!({"role": "user", "content": "a"})]);
    request.documents = Some(vec![json!({"x": deep})]);
    assert!(matches!(request.validate(), Err(Error::InvalidRequest { what }) if what.contains("documents[0] is nested")));
    for text in ["", "[]", "{\"messages\": 1}", "{\"messages\": [], \"tools\": {}}"] {
        assert!(
            matches!(ChatRequest::from_json(text), Err(Error::InvalidRequest { .. })),
            "{text}"
        );
    }
}

#[test]
fn a_file_without_template() {
    assert_eq!(
        ChatTemplate::from_gguf(&Gguf::from_bytes(&EMPTY_GGUF).unwrap())
            .unwrap_err()
            .code(),
        "bad_metadata"
    );
}

/// A header that declares nothing.
const EMPTY_GGUF: [u8; 24] = *b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
