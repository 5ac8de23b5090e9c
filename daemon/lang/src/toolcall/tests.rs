mod random;

use serde_json::json;

use super::*;

fn tools() -> Vec<Tool> {
    let tool = |name: &str, properties: Value| Tool {
        name: name.to_owned(),
        parameters: json!({"type": "object", "properties": properties}),
    };
    vec![
        tool(
            "edit",
            json!({"path": {"type": "string"}, "old": {"type": "string"}, "new": {"type": "string"}}),
        ),
        tool(
            "run",
            json!({"command": {"type": "string"}, "timeout": {"type": "integer"}, "env": {"type": "object"}, "tags": {"type": "array"}, "quick": {"type": "boolean"}, "limit": {"type": ["number", "null"]}}),
        ),
    ]
}

/// The events of `output` given in one piece. `{…}` around names of tokens makes these tokens: see `feed`.
fn read(id: &str, output: &str, end: End) -> Vec<Event> {
    let mut parser = Parser::new(by_id(id).unwrap(), &tools(), [], false);
    let mut events = parser.text(output);
    events.extend(parser.finish(end));
    joined(events)
}

/// Neighbouring texts as one.
fn joined(events: Vec<Event>) -> Vec<Event> {
    let mut joined: Vec<Event> = Vec::new();
    for event in events {
        match (joined.last_mut(), event) {
            (Some(Event::Text(text)), Event::Text(more)) => text.push_str(&more),
            (Some(Event::Reasoning(text)), Event::Reasoning(more)) => text.push_str(&more),
            (_, event) => joined.push(event),
        }
    }
    joined
}

/// One line per event.
fn show(events: &[Event]) -> String {
    let lines = events.iter().filter_map(|event| {
        Some(match event {
            Event::Text(text) => format!("text {text:?}"),
            Event::Reasoning(text) => format!("reasoning {text:?}"),
            Event::Begun { .. } => return None,
            Event::Call(call) => {
                let id = call.id.as_ref().map_or(String::new(), |id| format!(" #{id}"));
                let inside = if call.in_reasoning { " in reasoning" } else { "" };
                format!("call {}{id} {}{inside}", call.name, call.arguments)
            }
            Event::Broken(broken) => {
                format!(
                    "broken {:?} {:?}: {}",
                    broken.at,
                    broken.name.as_deref().unwrap_or("?"),
                    broken.fault
                )
            }
        })
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn check(id: &str, output: &str, expected: &str) {
    assert_eq!(show(&read(id, output, End::Stopped)), expected, "{id}: {output}");
    // One byte after the other gives the same.
    let mut parser = Parser::new(by_id(id).unwrap(), &tools(), [], false);
    let mut events = Vec::new();
    for c in output.chars() {
        events.extend(parser.text(&c.to_string()));
    }
    events.extend(parser.finish(End::Stopped));
    assert_eq!(show(&joined(events)), expected, "{id}, by characters: {output}");
}

#[test]
fn every_file_reads_and_is_named_for_its_format() {
    let ids: Vec<&str> = all().iter().map(Format::id).collect();
    assert_eq!(
        ids,
        [
            "harmony",
            "deepseek_v32",
            "minimax_m2",
            "deepseek_v3_fenced",
            "deepseek_v3",
            "kimi_k2",
            "glm47",
            "glm45",
            "qwen3_coder",
            "mistral",
            "mistral_list",
            "pythonic",
            "llama_json",
            "qwen3"
        ]
    );
}

#[test]
fn tags_are_read() {
    check(
        "glm45",
        "I look.\n<tool_call>run\n<arg_key>command</arg_key>\n<arg_value>ls</arg_value>\n<arg_key>timeout</arg_key>\n<arg_value>3</arg_value>\n</tool_call>",
        "text \"I look.\\n\"\ncall run {\"command\": \"ls\", \"timeout\": 3}",
    );
    check(
        "glm47",
        "<think>Hm.</think><tool_call>run<arg_key>command</arg_key><arg_value>3</arg_value></tool_call>",
        "reasoning \"Hm.\"\ncall run {\"command\": \"3\"}",
    );
    check(
        "qwen3",
        "<tool_call>\n{\"name\": \"run\", \"arguments\": {\"command\": \"echo '</tool_call>'\", \"n\": 1.50}}\n</tool_call>\n<tool_call>\n{\"name\": \"x\", \"arguments\": {}}\n</tool_call>",
        "call run {\"command\": \"echo '</tool_call>'\", \"n\": 1.50}\ncall x {}",
    );
    check(
        "qwen3_coder",
        "<tool_call>\n<function=edit>\n<parameter=old>\n\n  a\n\n</parameter>\n<parameter=new>\n<b></parameter> c\n</parameter>\n</function>\n</tool_call>",
        "call edit {\"old\": \"\\n  a\\n\", \"new\": \"<b></parameter> c\"}",
    );
}

#[test]
fn json_is_read() {
    check(
        "deepseek_v3",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>run<｜tool▁sep｜>{\"a\": 1}<｜tool▁call▁end｜><｜tool▁call▁begin｜>x<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "call run {\"a\": 1}\ncall x {}",
    );
    check(
        "deepseek_v3_fenced",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>run\n```json\n{\"a\": \"```\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "call run {\"a\": \"```\"}",
    );
    check(
        "deepseek_v32",
        "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"run\">\n<｜DSML｜parameter name=\"command\" string=\"true\">3</｜DSML｜parameter>\n<｜DSML｜parameter name=\"env\" string=\"false\">{\"A\": [1]}</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>",
        "call run {\"command\": \"3\", \"env\": {\"A\": [1]}}",
    );
    check(
        "kimi_k2",
        "Go.<|tool_calls_section_begin|><|tool_call_begin|>functions.run:7<|tool_call_argument_begin|>{\"a\": 1}<|tool_call_end|><|tool_calls_section_end|>",
        "text \"Go.\"\ncall run #functions.run:7 {\"a\": 1}",
    );
    check(
        "harmony",
        "<|channel|>analysis<|message|>I must look.<|end|><|start|>assistant<|channel|>commentary to=functions.run <|constrain|>json<|message|>{\"a\": 1}<|call|>",
        "reasoning \"I must look.\"\ncall run {\"a\": 1}",
    );
    check(
        "harmony",
        "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant to=functions.run<|channel|>commentary json<|message|>{}<|call|><|start|>assistant<|channel|>final<|message|>Done.<|return|>",
        "reasoning \"Hm\"\ncall run {}\ntext \"Done.\"",
    );
    check(
        "mistral",
        "[TOOL_CALLS]run[CALL_ID]a1b[ARGS]{\"a\": 1}[TOOL_CALLS]x[ARGS]{}",
        "call run #a1b {\"a\": 1}\ncall x {}",
    );
    check(
        "mistral",
        "[TOOL_CALLS] [{\"name\": \"x\", \"arguments\": {\"b\": \"]\"}}]",
        "call x {\"b\": \"]\"}",
    );
    check(
        "mistral_list",
        "[TOOL_CALLS][{\"name\": \"x\", \"arguments\": {}, \"id\": \"abc\"}, {\"name\": \"y\", \"arguments\": \"{\\\"q\\\": 1}\"}]",
        "call x #abc {}\ncall y {\"q\": 1}",
    );
}

#[test]
fn what_else_there_is_is_read() {
    check(
        "minimax_m2",
        "<minimax:tool_call>\n<invoke name=\"run\">\n<parameter name=\"command\"> ls\n</parameter>\n<parameter name=\"quick\">true</parameter>\n</invoke>\n<invoke name=\"x\">\n</invoke>\n</minimax:tool_call>",
        "call run {\"command\": \" ls\\n\", \"quick\": true}\ncall x {}",
    );
    check(
        "llama_json",
        "{\"name\": \"x\", \"parameters\": {\"a\": 1}}; {\"name\": \"y\", \"parameters\": {}}",
        "call x {\"a\": 1}\ncall y {}",
    );
    check("llama_json", "<|python_tag|>{\"name\": \"x\", \"parameters\": {}}", "call x {}");
    check("llama_json", "{\"answer\": 42} is JSON", "text \"{\\\"answer\\\": 42} is JSON\"");
    check(
        "pythonic",
        "[run(command='it\\'s', timeout=3, env={'A': None, 'B': [True, -1.5]}), x()]",
        "call run {\"command\": \"it's\", \"timeout\": 3, \"env\": {\"A\": null, \"B\": [true, -1.5]}}\ncall x {}",
    );
    check(
        "pythonic",
        "Look: <|tool_call_start|>[x(a=\"\")]<|tool_call_end|>",
        "text \"Look: \"\ncall x {\"a\": \"\"}",
    );
    check("pythonic", "[a link](url) and [1, 2]", "text \"[a link](url) and [1, 2]\"");
}

#[test]
fn a_call_may_be_made_while_reasoning() {
    check(
        "glm47",
        "<think>I call <tool_call>run<arg_key>command</arg_key><arg_value>ls</arg_value></tool_call> now.</think>Yes.",
        "reasoning \"I call \"\ncall run {\"command\": \"ls\"} in reasoning\nreasoning \" now.\"\ntext \"Yes.\"",
    );
    let mut parser = Parser::new(by_id("qwen3").unwrap(), &[], [], true);
    let mut events = parser.text("first</think>then");
    events.extend(parser.finish(End::Stopped));
    assert_eq!(show(&joined(events)), "reasoning \"first\"\ntext \"then\"");
}

#[test]
fn what_is_cut_off_is_reported() {
    let cut = |id: &str, output: &str| show(&read(id, output, End::Cut));
    let told = |range: &str, name: &str| {
        format!("broken {range} {name:?}: the answer was cut off in the middle of a call")
    };
    assert_eq!(
        cut("glm47", "a<tool_call>run<arg_key>command</arg_key><arg_value>ls"),
        format!("text \"a\"\n{}", told("1..54", "run"))
    );
    assert_eq!(
        cut("glm47", "<tool_call>run<arg_key>command</arg_key><arg_value>ls</arg_value>"),
        told("0..65", "run")
    );
    assert_eq!(cut("qwen3", "<tool_call>\n{\"name\": \"run\", \"argum"), told("0..34", "?"));
    assert_eq!(cut("qwen3_coder", "<tool_call>\n<func"), told("0..17", "?"));
    assert_eq!(
        cut(
            "kimi_k2",
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{\"a\""
        ),
        told("0..92", "f")
    );
    assert_eq!(
        cut("harmony", "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{\"a\""),
        told("0..69", "f")
    );
    assert_eq!(cut("mistral", "[TOOL_CALLS]run[ARGS]{"), told("0..22", "run"));
    assert_eq!(cut("pythonic", "[run(command='l"), told("0..15", "?"));
    assert_eq!(cut("llama_json", "{\"name\": \"run\", \"par"), told("0..20", "?"));
    // What only lacks its closing mark is whole.
    assert_eq!(cut("qwen3", "<tool_call>\n{\"name\": \"x\", \"arguments\": {}}"), "call x {}");
    // The beginning of a mark that never came is text.
    assert_eq!(cut("glm47", "a < b <tool_"), "text \"a < b <tool_\"");
    // A model that ends its answer by itself may leave out the last mark.
    assert_eq!(
        show(&read(
            "glm47",
            "<tool_call>run<arg_key>command</arg_key><arg_value>ls</arg_value>",
            End::Stopped
        )),
        "call run {\"command\": \"ls\"}"
    );
    assert_eq!(
        show(&read(
            "qwen3_coder",
            "<tool_call>\n<function=run>\n<parameter=command>\nls",
            End::Stopped
        )),
        "broken 0..49 \"run\": the answer ended in the middle of a call"
    );
}

#[test]
fn what_is_malformed_is_reported_with_its_place_and_later_calls_are_read() {
    let fault = |output: &str, reason: &str| {
        let expected = format!("broken {reason}\ncall x {{}}");
        check(
            "qwen3",
            &format!("{output}<tool_call>{{\"name\": \"x\", \"arguments\": {{}}}}</tool_call>"),
            &expected,
        );
    };
    fault(
        "<tool_call>hello</tool_call>",
        "0..28 \"?\": a malformed call, at byte 11: expected {, found 'h'",
    );
    fault(
        "<tool_call>{\"arguments\": {}}</tool_call>",
        "0..40 \"?\": a malformed call, at byte 11: the call has no \"name\" that is text",
    );
    fault(
        "<tool_call>{\"name\": \"y\", \"arguments\": [1]}</tool_call>",
        "0..54 \"?\": a malformed call, at byte 11: the arguments are no JSON object",
    );
    check(
        "qwen3",
        "<tool_call>{\"name\": \"y\"} and more</tool_call>",
        "call y {}\nbroken 25..45 \"?\": a malformed call, at byte 25: expected </tool_call>, found 'a'",
    );
}

#[test]
fn malformed_tags_are_reported() {
    check(
        "glm47",
        "<tool_call>run<arg_key>a</arg_key>3</tool_call>ok",
        "broken 0..47 \"run\": a malformed call, at byte 34: expected <arg_value>, found '3'\ntext \"ok\"",
    );
    check(
        "glm47",
        "<tool_call>a b</tool_call>",
        "broken 0..26 \"?\": a malformed call, at byte 11: \"a b\" is no name of a tool",
    );
    check(
        "glm47",
        "<tool_call>run<arg_key>a</arg_key><arg_value>1</arg_value><arg_key>a</arg_key><arg_value>2</arg_value></tool_call>",
        "broken 0..114 \"run\": a malformed call, at byte 89: the argument \"a\" has no name, or comes twice",
    );
    check(
        "harmony",
        "<|channel|>commentary to=functions.run<|message|>{1}<|call|><|start|>assistant<|channel|>final<|message|>Oh.",
        "broken 0..52 \"run\": a malformed call, at byte 49: the arguments are no JSON: key must be a string at line 1 column 2\ntext \"Oh.\"",
    );
    check(
        "deepseek_v32",
        "<｜DSML｜function_calls><｜DSML｜invoke name=\"run\"><｜DSML｜parameter name=\"a\" string=\"false\">x</｜DSML｜parameter></｜DSML｜invoke></｜DSML｜function_calls>",
        "broken 0..142 \"run\": a malformed call, at byte 100: the value of \"a\" is no JSON: expected value at line 1 column 1",
    );
}

#[test]
fn values_have_the_types_of_the_schema_and_no_other() {
    let schema = json!({
        "properties": {
            "text": {"type": "string"}, "whole": {"type": "integer"}, "real": {"type": "number"}, "yes": {"type": "boolean"},
            "maybe": {"type": ["string", "null"]}, "either": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
            "list": {"type": "array"}, "map": {"$ref": "#/$defs/map"}, "word": {"enum": ["1", "2"]}, "open": {},
        },
        "$defs": {"map": {"type": "object"}},
    });
    let check = |property: &str, text: &str, json: &str| {
        assert_eq!(schema::coerce(text, &schema, property), json, "{property}: {text}");
    };
    check("text", "3", "\"3\"");
    check("text", "null", "\"null\"");
    check("text", " {\"a\": 1}\n", "\" {\\\"a\\\": 1}\\n\"");
    check("whole", " 3 ", "3");
    check("whole", "3.5", "\"3.5\"");
    check("whole", "three", "\"three\"");
    check("real", "1e3", "1e3");
    check("real", "1.10", "1.10");
    check("yes", "True", "true");
    check("maybe", "null", "null");
    check("maybe", "nil", "\"nil\"");
    check("either", "3", "3");
    check("either", "x", "\"x\"");
    check("list", "['a', None]", "[\"a\", null]");
    check("list", "[1", "\"[1\"");
    check("map", "{\"a\": {\"b\": 1}}", "{\"a\": {\"b\": 1}}");
    check("word", "1", "\"1\"");
    check("open", "3", "\"3\"");
    check("unknown", "3", "\"3\"");
}

#[test]
fn a_mark_that_is_a_token_cannot_be_spelled() {
    let names = [
        "<tool_call>",
        "</tool_call>",
        "<arg_key>",
        "</arg_key>",
        "<arg_value>",
        "</arg_value>",
        "<think>",
        "<|user|>",
    ];
    let mut parser = Parser::new(by_id("glm47").unwrap(), &tools(), names, false);
    let mut events = parser.text("Write <tool_call>x</tool_call>: ");
    events.extend(parser.mark("<tool_call>", false));
    events.extend(parser.text("edit"));
    events.extend(parser.mark("<arg_key>", false));
    events.extend(parser.text("old"));
    events.extend(parser.mark("</arg_key>", false));
    events.extend(parser.mark("<arg_value>", false));
    events.extend(parser.text("a</arg_value></tool_"));
    events.extend(parser.text("call> "));
    // A token that may be meant as text is, inside a value; one that ends turns is not.
    events.extend(parser.mark("<think>", false));
    events.extend(parser.mark("<|user|>", true));
    events.extend(parser.mark("</arg_value>", false));
    events.extend(parser.mark("</tool_call>", false));
    // And neither is part of plain text.
    events.extend(parser.text("b"));
    events.extend(parser.mark("<|user|>", true));
    events.extend(parser.finish(End::Stopped));
    assert_eq!(
        show(&joined(events)),
        "text \"Write <tool_call>x</tool_call>: \"\ncall edit {\"old\": \"a</arg_value></tool_call> <think>\"}\ntext \"b\""
    );
    let mut parser = Parser::new(by_id("deepseek_v32").unwrap(), &tools(), ["｜DSML｜"], false);
    let mut events = parser.text("<｜DSML｜function_calls> ");
    for piece in [
        "<",
        "｜DSML｜",
        "function_calls>\n<",
        "｜DSML｜",
        "invoke name=\"x\">\n</",
        "｜DSML｜",
        "invoke>\n</",
        "｜DSML｜",
        "function_calls>",
    ] {
        events.extend(if piece == "｜DSML｜" {
            parser.mark(piece, false)
        } else {
            parser.text(piece)
        });
    }
    events.extend(parser.finish(End::Stopped));
    assert_eq!(show(&joined(events)), "text \"<｜DSML｜function_calls> \"\ncall x {}");
}

#[test]
fn formats_are_recognised_by_templates_and_by_types() {
    let check = |template: Option<&str>, model_type: &str, id: Option<&str>| {
        assert_eq!(detect(template, model_type).map(Format::id), id, "{template:?} {model_type}");
    };
    check(Some("<tool_call>{name}\n<arg_key>k</arg_key>\n<arg_value>"), "", Some("glm45"));
    check(Some("<tool_call>{name}<arg_key>k</arg_key><arg_value>"), "glm4_moe", Some("glm47"));
    check(Some("'<tool_call>\\n<function=' + name"), "qwen3_moe", Some("qwen3_coder"));
    check(
        Some("{{ '<tool_call>\\n{\"name\": \"' + tool_call.name + '\", \"arguments\": ' }}"),
        "",
        Some("qwen3"),
    );
    check(
        Some("<｜tool▁call▁begin｜>function<｜tool▁sep｜>x\\n```json"),
        "",
        Some("deepseek_v3_fenced"),
    );
    check(Some("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>"), "", Some("deepseek_v3"));
    check(Some("[TOOL_CALLS] [ARGS]"), "", Some("mistral"));
    check(Some("[TOOL_CALLS]"), "", Some("mistral_list"));
    check(Some("nothing"), "gpt_oss", Some("harmony"));
    check(None, "glm_moe_dsa", Some("glm47"));
    check(None, "kimi_k25", Some("kimi_k2"));
    check(None, "deepseek_v32", Some("deepseek_v32"));
    check(None, "bert", None);
}
