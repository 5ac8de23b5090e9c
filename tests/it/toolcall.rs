//! From the tokens of an answer to the calls in it: the engine's tokenizer and `lang`'s formats, joined as whoever serves an
//! answer joins them.

use std::{fs, path::Path};

use engine::{Piece, Tokenizer};
use lang::toolcall::{self, End, Event, Parser, Tool, ToolCall};
use serde_json::{Value, json};

/// Ids behind the vocabulary of the checkpoint whose tokenizer this is.
const FIRST_ID: usize = 272;

/// A byte-level tokenizer that has the marks as tokens; those in bars are special, as in published ones.
fn tokenizer(marks: &[&str]) -> Tokenizer {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let fixture = root.join("tests/engine/fixtures/qwen3_moe-q4/tokenizer.json");
    let mut json: Value = serde_json::from_slice(&fs::read(fixture).unwrap()).unwrap();
    let tokens = json["added_tokens"].as_array_mut().unwrap();
    for (index, mark) in marks.iter().enumerate() {
        tokens.push(json!({
            "id": FIRST_ID + index, "content": mark, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": mark.starts_with("<|"),
        }));
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("tokenizer.json"), json.to_string()).unwrap();
    Tokenizer::load(dir.path(), &[]).unwrap()
}

fn read(format: &'static toolcall::Format, tools: &[Tool], answer: &str) -> Vec<Event> {
    let is_one_token = |mark: &&str| {
        mark.matches(['<', '[']).count() == 1
            && mark.starts_with(['<', '['])
            && mark.ends_with(['>', ']'])
    };
    let marks: Vec<&str> = format.marks().into_iter().filter(is_one_token).collect();
    let tokenizer = tokenizer(&marks);
    let mut parser = Parser::new(format, tools, tokenizer.special_names(), false);
    let mut stream = tokenizer.stream();
    let mut events = Vec::new();
    for token in tokenizer.encode_prompt(answer) {
        for piece in stream.pieces(token) {
            events.extend(match piece {
                Piece::Text(text) => parser.text(&text),
                Piece::Mark { name, is_control } => parser.mark(name, is_control),
            });
        }
    }
    events.extend(parser.text(&stream.finish()));
    events.extend(parser.finish(End::Stopped));
    events
}

/// Blanks at both ends, characters of several bytes, what looks like a mark of another format.
#[test]
fn a_call_is_read_from_tokens_to_the_byte() {
    let text = "    fn grüße() {\n\treturn \"<arg_key>\";\n    }\n";
    let schema = json!({"type": "object", "properties": {"path": {"type": "string"}, "old": {"type": "string"}}});
    let tools = [Tool { name: "edit".to_owned(), parameters: schema }];
    let mut seen = 0;
    for format in toolcall::all() {
        let arguments = json!({"path": "src/lib.rs", "old": text});
        let call = ToolCall {
            name: "edit".to_owned(),
            arguments: arguments.to_string(),
            ..ToolCall::default()
        };
        // A format says so where it cannot write a value.
        let Ok(written) = format.render(std::slice::from_ref(&call), &tools) else { continue };
        let events = read(format, &tools, &written);
        let calls: Vec<&ToolCall> = events
            .iter()
            .filter_map(|event| match event {
                Event::Call(call) => Some(call),
                _ => None,
            })
            .collect();
        assert_eq!(calls.len(), 1, "{}: {events:?}", format.id());
        let told: Value = serde_json::from_str(&calls[0].arguments).unwrap();
        assert_eq!((calls[0].name.as_str(), told), ("edit", arguments), "{}", format.id());
        seen += 1;
    }
    assert!(seen >= 10, "only {seen} formats wrote the call");
}
