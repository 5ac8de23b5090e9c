//! Tool calls in every format, at random: what is written reads back, and rubbish does no harm.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Bare values may contain what would be taken for marks.
fn may_be_ambiguous(format: &Format) -> bool {
    ["glm45", "glm47", "qwen3_coder", "minimax_m2", "deepseek_v32", "harmony"]
        .contains(&format.id())
}

/// Values that look like everything that could confuse a reader.
fn value() -> impl Strategy<Value = String> {
    let words = vec![
        "    ",
        "\n",
        "\n\n",
        "\t",
        " ",
        "a",
        "def f():",
        "\\",
        "\"",
        "'",
        "{",
        "}",
        "[",
        "]",
        "<",
        ">",
        "</",
        "<arg_key>",
        "<arg_value",
        "</parameter",
        "<parameter=x>",
        "<tool_call>",
        "</tool_call",
        "<function=",
        "<｜DSML｜",
        "[TOOL_CALLS]",
        "[ARGS]",
        "<|call|",
        "<think>",
        "ä",
        "日本",
        "🦀",
        "\u{1}",
        "3",
        "null",
        "true",
        ",",
        ":",
        "(",
        ")",
        "\r\n",
        "```",
    ];
    prop::collection::vec(prop::sample::select(words), 0..12).prop_map(|words| words.concat())
}

fn call() -> impl Strategy<Value = ToolCall> {
    let edit = (value(), value(), value())
        .prop_map(|(path, old, new)| ("edit", json!({"path": path, "old": old, "new": new})));
    let run = (value(), any::<i32>(), any::<bool>(), prop::collection::vec(value(), 0..3)).prop_map(|(command, timeout, quick, tags)| {
        ("run", json!({"command": command, "timeout": timeout, "quick": quick, "tags": tags, "env": {"A": command}, "limit": null}))
    });
    prop_oneof![edit, run].prop_map(|(name, arguments)| ToolCall {
        id: None,
        name: name.to_owned(),
        arguments: arguments.to_string(),
        in_reasoning: false,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// What is rendered reads back as the same calls, however it is cut; and what cannot, is not rendered.
    #[test]
    fn calls_survive_in_every_format(
        calls in prop::collection::vec(call(), 1..4),
        cuts in prop::collection::vec(1usize..9, 1..40),
        which in 0..all().len(),
    ) {
        let format = &all()[which];
        match format.render(&calls, &tools()) {
            Ok(text) => {
                let mut parser = Parser::new(format, &tools(), [], false);
                let mut events = Vec::new();
                let mut rest: Vec<char> = text.chars().collect();
                let mut cuts = cuts.iter().cycle();
                while !rest.is_empty() {
                    let len = cuts.next().copied().unwrap_or(1).min(rest.len());
                    let piece: String = rest.drain(..len).collect();
                    events.extend(parser.text(&piece));
                }
                events.extend(parser.finish(End::Stopped));
                let read: Vec<ToolCall> = events.into_iter().filter_map(|event| match event {
                    Event::Call(call) => Some(call),
                    Event::Begun { .. } => None,
                    other => panic!("{}: {other:?} in {text:?}", format.id()),
                }).collect();
                prop_assert_eq!(read.len(), calls.len());
                for (read, call) in read.iter().zip(&calls) {
                    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
                    prop_assert_eq!(&read.name, &call.name);
                    prop_assert_eq!(parse(&read.arguments), parse(&call.arguments), "{} {:?}", format.id(), text);
                }
            }
            // Only where marks are text, values are bare, and one of them has a mark in it.
            Err(error) => prop_assert!(
                may_be_ambiguous(format) && calls.iter().any(|call| call.arguments.contains('<')),
                "{}: {}", format.id(), error
            ),
        }
    }

    /// A call that is cut off anywhere is either not begun, or reported, or whole.
    #[test]
    fn nothing_is_dropped_when_the_answer_is_cut_off(call in call(), share in 0.0..1.0f64, which in 0..all().len()) {
        let format = &all()[which];
        let Ok(text) = format.render(std::slice::from_ref(&call), &tools()) else { return Ok(()) };
        let mut at = (text.len() as f64 * share) as usize;
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        let mut parser = Parser::new(format, &tools(), [], false);
        let mut events = parser.text(&text[..at]);
        events.extend(parser.finish(End::Cut));
        let events = joined(events);
        let told = events.iter().filter(|event| matches!(event, Event::Call(_) | Event::Broken(_))).count();
        let is_text = matches!(&events[..], [Event::Text(said)] if *said == text[..at]);
        // The head of a message is nothing yet before it says for whom it is.
        let is_head = format.id() == "harmony" && !text[..at].contains("to=");
        prop_assert!(told == 1 || at == 0 || is_text || is_head, "{} {:?} {:?}", format.id(), &text[..at], events);
    }

    /// Whatever comes, in whatever pieces: nothing panics, and the pieces make no difference.
    #[test]
    fn rubbish_is_read_alike_in_any_pieces(
        words in prop::collection::vec(prop::sample::select(vec![
            "<tool_call>", "</tool_call>", "<function=f>", "</function>", "<parameter=a>", "</parameter>", "<arg_key>", "</arg_key>",
            "<arg_value>", "</arg_value>", "<think>", "</think>", "{", "}", "[", "]", "\"name\"", ": ", "\"x\"", "\"arguments\"", "\n", " ", "f",
            "[TOOL_CALLS]", "[ARGS]", "<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|call|>", "commentary to=functions.f", "final", "(", ")", "=",
            "<minimax:tool_call>", "</minimax:tool_call>", "<invoke name=\"", "\">", "</invoke>", "<parameter name=\"",
            "<|tool_calls_section_begin|>", "<|tool_call_begin|>", "functions.f:0", "<|tool_call_argument_begin|>", "<|tool_call_end|>", "<|tool_calls_section_end|>",
        ]), 0..30),
        which in 0..all().len(),
        is_cut in any::<bool>(),
    ) {
        let format = &all()[which];
        let end = if is_cut { End::Cut } else { End::Stopped };
        let text = words.concat();
        let mut parser = Parser::new(format, &tools(), [], false);
        let mut whole = parser.text(&text);
        whole.extend(parser.finish(end));
        let mut parser = Parser::new(format, &tools(), [], false);
        let mut events = Vec::new();
        for c in text.chars() {
            events.extend(parser.text(&c.to_string()));
        }
        events.extend(parser.finish(end));
        prop_assert_eq!(joined(events), joined(whole), "{} {:?}", format.id(), text);
    }
}
