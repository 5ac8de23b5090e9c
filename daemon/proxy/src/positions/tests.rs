//! Positions against a naive model, and every place in the protocol where one can be.

use proptest::prelude::*;

use super::*;
use crate::raw::arbitrary;

const ENCODINGS: [Encoding; 3] = [Encoding::Utf8, Encoding::Utf16, Encoding::Utf32];
const URI: &str = "file:///a";

fn text_of(text: &str) -> impl Fn(&str) -> Option<Document> {
    move |uri| (uri == URI).then(|| Document::new(Revision(1), text))
}

/// Converts with `é😀x` as the one line of the document, from bytes to UTF-16: 2 → 1, 6 → 3, 7 → 4.
fn converted(half: &str, method: &str, raw: &str) -> Converted {
    let text_of = text_of("é😀x");
    let by = Conversion { from: Encoding::Utf8, to: Encoding::Utf16, text_of: &text_of };
    match half {
        "params" => by.params(method, URI, raw.as_bytes()),
        _ => by.result(method, URI, raw.as_bytes()),
    }
}

/// In `template` every `@` stands for the character of a position that is to be converted.
fn check(half: &str, method: &str, template: &str) {
    let template = template
        .replace("{R}", r#"{"start":{"line":0,"character":@},"end":{"character":@,"line":0,"x":6}}"#)
        .replace("{P}", r#"{"line":0,"character":@}"#)
        .replace("{O}", r#"{"range":{"start":{"line":0,"character":6},"end":{"line":0,"character":6}},"line":0,"character":6}"#);
    let got = converted(half, method, &template.replace('@', "6"));
    assert_eq!(
        String::from_utf8(got.raw).unwrap(),
        template.replace('@', "3"),
        "{half} of {method}"
    );
    assert_eq!(got.left, Vec::<String>::new(), "{half} of {method}");
    assert!(is_typed(method));
}

/// `{R}` is a range, `{P}` a position, `{O}` something opaque with positions in it that must stay.
const RESULTS: &[(&str, &str)] = &[
    (
        "textDocument/completion",
        r#"[{"label":"l","textEdit":{"range":{R},"newText":""},"additionalTextEdits":[{"range":{R}}],"data":{O},"command":{"arguments":[{O}]}}]"#,
    ),
    (
        "textDocument/completion",
        r#"{"items":[{"textEdit":{"insert":{R},"replace":{R}}}],"itemDefaults":{"editRange":{R},"data":{O}}}"#,
    ),
    (
        "textDocument/completion",
        r#"{"items":[],"itemDefaults":{"editRange":{"insert":{R},"replace":{R}}}}"#,
    ),
    ("completionItem/resolve", r#"{"textEdit":{"range":{R}},"data":{O},"x":{O}}"#),
    ("textDocument/hover", r#"{"contents":"line","range":{R},"actions":[{O}]}"#),
    ("textDocument/definition", r#"{"uri":"file:///a","range":{R}}"#),
    ("textDocument/declaration", r#"[{"uri":"file:///a","range":{R}}]"#),
    (
        "textDocument/typeDefinition",
        r#"[{"targetUri":"file:///a","targetRange":{R},"targetSelectionRange":{R},"originSelectionRange":{R}}]"#,
    ),
    ("textDocument/implementation", r#"[{"uri":"file:///a","range":{R},"x":{O}}]"#),
    (
        "textDocument/references",
        r#"[{"uri":"file:///a","range":{R}},{"uri":"file:///a","range":{R}}]"#,
    ),
    ("textDocument/documentHighlight", r#"[{"range":{R},"kind":6}]"#),
    (
        "textDocument/documentSymbol",
        r#"[{"range":{R},"selectionRange":{R},"children":[{"range":{R},"selectionRange":{R}}]}]"#,
    ),
    ("textDocument/documentSymbol", r#"[{"name":"n","location":{"uri":"file:///a","range":{R}}}]"#),
    ("workspace/symbol", r#"[{"name":"n","location":{"uri":"file:///a","range":{R}},"data":{O}}]"#),
    ("workspaceSymbol/resolve", r#"{"location":{"uri":"file:///a","range":{R}},"data":{O}}"#),
    (
        "textDocument/codeAction",
        r#"[{"diagnostics":[{"range":{R},"relatedInformation":[{"location":{"uri":"file:///a","range":{R}}}],"data":{O}}],"edit":{"changes":{"file:///a":[{"range":{R}}]}},"data":{O}},{"command":"c","arguments":[{O}]}]"#,
    ),
    (
        "codeAction/resolve",
        r#"{"edit":{"documentChanges":[{"kind":"create","uri":"file:///n"},{"textDocument":{"uri":"file:///a"},"edits":[{"range":{R},"snippet":{"value":"v"}}]}]}}"#,
    ),
    ("textDocument/codeLens", r#"[{"range":{R},"command":{"arguments":[{O}]},"data":{O}}]"#),
    ("codeLens/resolve", r#"{"range":{R}}"#),
    (
        "textDocument/inlayHint",
        r#"[{"position":{P},"label":[{"value":"v","location":{"uri":"file:///a","range":{R}},"command":{"arguments":[{O}]}}],"textEdits":[{"range":{R}}],"data":{O}},{"position":{P},"label":"l"}]"#,
    ),
    ("inlayHint/resolve", r#"{"position":{P},"data":{O}}"#),
    ("textDocument/inlineValue", r#"[{"range":{R},"text":"t"}]"#),
    ("textDocument/documentLink", r#"[{"range":{R},"data":{O}}]"#),
    ("documentLink/resolve", r#"{"range":{R}}"#),
    ("textDocument/documentColor", r#"[{"range":{R},"color":{}}]"#),
    (
        "textDocument/colorPresentation",
        r#"[{"textEdit":{"range":{R}},"additionalTextEdits":[{"range":{R}}]}]"#,
    ),
    ("textDocument/formatting", r#"[{"range":{R},"newText":"n"}]"#),
    ("textDocument/rangeFormatting", r#"[{"range":{R}}]"#),
    ("textDocument/rangesFormatting", r#"[{"range":{R}}]"#),
    ("textDocument/onTypeFormatting", r#"[{"range":{R}}]"#),
    ("textDocument/willSaveWaitUntil", r#"[{"range":{R}}]"#),
    (
        "textDocument/rename",
        r#"{"documentChanges":[{"textDocument":{"uri":"file:///a","version":6},"edits":[{"range":{R},"annotationId":"6"}]}]}"#,
    ),
    ("workspace/willCreateFiles", r#"{"changes":{"file:///a":[{"range":{R}}]}}"#),
    ("workspace/willRenameFiles", r#"{"changes":{"file:///a":[{"range":{R}}]}}"#),
    ("workspace/willDeleteFiles", r#"{"changes":{"file:///a":[{"range":{R}}]}}"#),
    ("textDocument/prepareRename", r#"{"range":{R},"placeholder":"p"}"#),
    ("textDocument/prepareRename", "{R}"),
    ("textDocument/prepareRename", r#"{"defaultBehavior":true}"#),
    (
        "textDocument/foldingRange",
        r#"[{"startLine":0,"startCharacter":@,"endLine":0,"endCharacter":@},{"startLine":0,"endLine":6}]"#,
    ),
    (
        "textDocument/selectionRange",
        r#"[{"range":{R},"parent":{"range":{R},"parent":{"range":{R}}}}]"#,
    ),
    ("textDocument/linkedEditingRange", r#"{"ranges":[{R},{R}],"wordPattern":"6"}"#),
    (
        "textDocument/prepareCallHierarchy",
        r#"[{"uri":"file:///a","range":{R},"selectionRange":{R},"data":{O}}]"#,
    ),
    (
        "callHierarchy/incomingCalls",
        r#"[{"from":{"uri":"file:///a","range":{R},"selectionRange":{R}},"fromRanges":[{R}]}]"#,
    ),
    (
        "callHierarchy/outgoingCalls",
        r#"[{"to":{"uri":"file:///a","range":{R},"selectionRange":{R}},"fromRanges":[{R}]}]"#,
    ),
    (
        "textDocument/prepareTypeHierarchy",
        r#"[{"uri":"file:///a","range":{R},"selectionRange":{R}}]"#,
    ),
    ("typeHierarchy/supertypes", r#"[{"uri":"file:///a","range":{R},"selectionRange":{R}}]"#),
    ("typeHierarchy/subtypes", r#"[{"uri":"file:///a","range":{R},"selectionRange":{R}}]"#),
    (
        "textDocument/inlineCompletion",
        r#"{"items":[{"range":{R},"insertText":"t","command":{"arguments":[{O}]}}]}"#,
    ),
    ("textDocument/inlineCompletion", r#"[{"range":{R}}]"#),
    (
        "textDocument/diagnostic",
        r#"{"kind":"full","items":[{"range":{R}}],"relatedDocuments":{"file:///a":{"items":[{"range":{R}}]}}}"#,
    ),
    (
        "workspace/diagnostic",
        r#"{"items":[{"uri":"file:///a","items":[{"range":{R},"data":{O}}]}]}"#,
    ),
    ("textDocument/signatureHelp", r#"{"signatures":[{"parameters":[{"label":[0,6]}]}]}"#),
];

const PARAMS: &[(&str, &str)] = &[
    (
        "textDocument/completion",
        r#"{"textDocument":{"uri":"file:///a"},"position":{P},"context":{"triggerKind":1}}"#,
    ),
    (
        "textDocument/hover",
        r#"{"position":{P},"textDocument":{"uri":"file:///a"},"workDoneToken":6}"#,
    ),
    ("textDocument/signatureHelp", r#"{"textDocument":{"uri":"file:///a"},"position":{P}}"#),
    (
        "textDocument/references",
        r#"{"textDocument":{"uri":"file:///a"},"position":{P},"context":{"includeDeclaration":true}}"#,
    ),
    (
        "textDocument/selectionRange",
        r#"{"textDocument":{"uri":"file:///a"},"positions":[{P},{P}]}"#,
    ),
    (
        "textDocument/codeAction",
        r#"{"textDocument":{"uri":"file:///a"},"range":{R},"context":{"diagnostics":[{"range":{R},"data":{O}}]}}"#,
    ),
    ("textDocument/inlayHint", r#"{"textDocument":{"uri":"file:///a"},"range":{R}}"#),
    (
        "textDocument/inlineValue",
        r#"{"textDocument":{"uri":"file:///a"},"range":{R},"context":{"frameId":6,"stoppedLocation":{R}}}"#,
    ),
    (
        "textDocument/colorPresentation",
        r#"{"textDocument":{"uri":"file:///a"},"range":{R},"color":{}}"#,
    ),
    (
        "textDocument/rangeFormatting",
        r#"{"textDocument":{"uri":"file:///a"},"range":{R},"options":{"tabSize":6}}"#,
    ),
    ("textDocument/rangesFormatting", r#"{"textDocument":{"uri":"file:///a"},"ranges":[{R}]}"#),
    (
        "textDocument/onTypeFormatting",
        r#"{"textDocument":{"uri":"file:///a"},"position":{P},"ch":"}"}"#,
    ),
    ("textDocument/rename", r#"{"textDocument":{"uri":"file:///a"},"position":{P},"newName":"n"}"#),
    ("textDocument/prepareRename", r#"{"textDocument":{"uri":"file:///a"},"position":{P}}"#),
    ("textDocument/moniker", r#"{"textDocument":{"uri":"file:///a"},"position":{P}}"#),
    ("textDocument/semanticTokens/range", r#"{"textDocument":{"uri":"file:///a"},"range":{R}}"#),
    (
        "textDocument/inlineCompletion",
        r#"{"textDocument":{"uri":"file:///a"},"position":{P},"context":{"selectedCompletionInfo":{"range":{R},"text":"t"}}}"#,
    ),
    (
        "callHierarchy/incomingCalls",
        r#"{"item":{"uri":"file:///a","range":{R},"selectionRange":{R},"data":{O}}}"#,
    ),
    ("typeHierarchy/subtypes", r#"{"item":{"uri":"file:///a","range":{R},"selectionRange":{R}}}"#),
    ("completionItem/resolve", r#"{"textEdit":{"range":{R}},"data":{O}}"#),
    ("codeAction/resolve", r#"{"diagnostics":[{"range":{R}}],"data":{O}}"#),
    ("codeLens/resolve", r#"{"range":{R},"data":{O}}"#),
    (
        "textDocument/publishDiagnostics",
        r#"{"uri":"file:///a","version":6,"diagnostics":[{"range":{R},"data":{O}}]}"#,
    ),
    ("workspace/applyEdit", r#"{"label":"l","edit":{"changes":{"file:///a":[{"range":{R}}]}}}"#),
    ("window/showDocument", r#"{"uri":"file:///a","selection":{R}}"#),
    ("workspace/executeCommand", r#"{"command":"c","arguments":[{O}]}"#),
    ("textDocument/didOpen", r#"{"textDocument":{"uri":"file:///a"},"position":{O}}"#),
];

#[test]
fn rule_4_26_every_position_of_the_protocol_is_converted_and_nothing_else() {
    for (method, template) in RESULTS {
        check("result", method, template);
    }
    for (method, template) in PARAMS {
        check("params", method, template);
    }
}

#[test]
fn rule_4_26_every_method_that_is_merged_has_a_shape() {
    for row in crate::merge::results::TABLE {
        assert!(is_typed(row.method), "{}", row.method);
    }
}

#[test]
fn rule_4_27_what_the_protocol_does_not_know_is_opaque() {
    let raw = r#"{"textDocument":{"uri":"file:///a"},"position":{"line":0,"character":6}}"#;
    for method in [
        "rust-analyzer/expandMacro",
        "textDocument/inactiveRegions",
        "$/any",
        "workspace/configuration",
    ] {
        assert_eq!(converted("params", method, raw).raw, raw.as_bytes());
        assert_eq!(converted("result", method, raw).raw, raw.as_bytes());
    }
    assert!(!is_typed("rust-analyzer/expandMacro"));
}

#[test]
fn rule_4_26_documents_without_text_are_left_and_named() {
    let raw = concat!(
        r#"[{"uri":"file:///z","range":{"start":{"line":0,"character":0},"end":{"line":0,"character":6}}},"#,
        r#"{"uri":"file:///a","range":{"start":{"line":0,"character":6},"end":{"line":0,"character":7}}},"#,
        r#"{"uri":"file:///z","range":{"start":{"line":3,"character":6},"end":{"line":4,"character":0}}}]"#
    );
    let got = converted("result", "textDocument/references", raw);
    let expected = raw.replacen(
        r#""character":6},"end":{"line":0,"character":7}"#,
        r#""character":3},"end":{"line":0,"character":4}"#,
        1,
    );
    assert_eq!(String::from_utf8(got.raw).unwrap(), expected);
    assert_eq!(got.left, ["file:///z"]);
}

#[test]
fn rule_4_28_beyond_a_line_is_its_end_and_beyond_the_text_stays() {
    let at = |line: u32, character: u32| {
        let raw = format!(r#"{{"range":{{"start":{{"line":{line},"character":{character}}}}}}}"#);
        let converted = converted("result", "textDocument/hover", &raw);
        Raw::new(&converted.raw).path("range.start.character").and_then(Raw::number).unwrap()
    };
    assert_eq!(at(0, 4_294_967_295), 4);
    assert_eq!(at(0, 3), 1, "inside of a character is before it");
    assert_eq!(at(7, 9), 9);
}

#[test]
fn rule_4_25_each_change_counts_in_the_text_that_the_one_before_left() {
    let raw = concat!(
        r#"{"textDocument":{"uri":"file:///a","version":2},"contentChanges":["#,
        r#"{"range":{"start":{"line":0,"character":2},"end":{"line":0,"character":6}},"rangeLength":4,"text":"ßß"},"#,
        r#"{"range":{"start":{"line":0,"character":6},"end":{"line":0,"character":6}},"text":"y"},"#,
        r#"{"text":"ü"},{"range":{"start":{"line":0,"character":2},"end":{"line":0,"character":2}},"text":""}]}"#
    );
    let expected = concat!(
        r#"{"textDocument":{"uri":"file:///a","version":2},"contentChanges":["#,
        r#"{"range":{"start":{"line":0,"character":1},"end":{"line":0,"character":3}},"rangeLength":2,"text":"ßß"},"#,
        r#"{"range":{"start":{"line":0,"character":3},"end":{"line":0,"character":3}},"text":"y"},"#,
        r#"{"text":"ü"},{"range":{"start":{"line":0,"character":1},"end":{"line":0,"character":1}},"text":""}]}"#
    );
    let got = converted("params", "textDocument/didChange", raw);
    assert_eq!(String::from_utf8(got.raw).unwrap(), expected);
}

#[test]
fn rule_4_24_tokens_are_converted_with_their_relative_columns_and_lengths() {
    // é at 0, 😀 at 2, x at 6; then the second line of the text, which does not exist.
    let raw = r#"{"resultId":"1","data":[0,0,2,1,0, 0,2,4,2,0, 0,4,1,3,0, 1,5,2,4,0, 0,3,1,5,0]}"#;
    let expected =
        r#"{"resultId":"1","data":[0,0,1,1,0, 0,1,2,2,0, 0,2,1,3,0, 1,5,2,4,0, 0,3,1,5,0]}"#;
    for method in ["textDocument/semanticTokens/full", "textDocument/semanticTokens/range"] {
        let got = converted("result", method, raw);
        assert_eq!(String::from_utf8(got.raw).unwrap(), expected);
    }
    for odd in [r#"{"data":[1,2,3]}"#, r#"{"data":[0,0,-1,0,0]}"#, r#"{"data":"x"}"#] {
        assert_eq!(
            converted("result", "textDocument/semanticTokens/full", odd).raw,
            odd.as_bytes()
        );
    }
    let delta = r#"{"edits":[{"start":0,"deleteCount":5,"data":[0,6,1,0,0]}]}"#;
    let got = converted("result", "textDocument/semanticTokens/full/delta", delta);
    assert_eq!((got.raw, got.refused), (delta.as_bytes().to_vec(), true));
}

/// How many units of `encoding` the characters take.
fn units(text: &str, encoding: Encoding) -> u32 {
    let of = |character: char| match encoding {
        Encoding::Utf8 => character.len_utf8(),
        Encoding::Utf16 => character.len_utf16(),
        Encoding::Utf32 => 1,
    };
    text.chars().map(of).sum::<usize>() as u32
}

fn lines() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec("(a|b|\t|é|€|😀|\u{1F468}\u{200D}|\u{2028}){0,12}", 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn rule_4_26_there_and_back_is_where_one_was(
        lines in lines(),
        ending in proptest::sample::select(vec!["\n", "\r\n", "\r"]),
        places in proptest::collection::vec((0usize..9, 0usize..13), 1..6),
    ) {
        let text = lines.join(ending);
        let text_of = text_of(&text);
        // Valid places: so many characters into a line that there is.
        let places: Vec<(usize, String)> = places
            .iter()
            .map(|(line, characters)| {
                let line = line % lines.len();
                (line, lines[line].chars().take(*characters).collect())
            })
            .collect();
        let message = |encoding| {
            let ranges: Vec<String> = places
                .iter()
                .map(|(line, before)| {
                    let place = format!(r#"{{"line":{line},"character":{}}}"#, units(before, encoding));
                    format!(r#"{{"range":{{"start":{place},"end":{place}}},"data":{place}}}"#)
                })
                .collect();
            format!("[{}]", ranges.join(","))
        };
        for from in ENCODINGS {
            for to in ENCODINGS {
                let there = Conversion { from, to, text_of: &text_of };
                let back = Conversion { from: to, to: from, text_of: &text_of };
                let original = message(from);
                let converted = there.result("textDocument/documentHighlight", URI, original.as_bytes()).raw;
                let naive: serde_json::Value = serde_json::from_str(&message(to)).unwrap();
                let got: serde_json::Value = serde_json::from_slice(&converted).unwrap();
                for (got, naive) in got.as_array().unwrap().iter().zip(naive.as_array().unwrap()) {
                    prop_assert_eq!(&got["range"], &naive["range"]);
                }
                let again = back.result("textDocument/documentHighlight", URI, &converted).raw;
                prop_assert_eq!(String::from_utf8(again).unwrap(), original);
            }
        }
    }

    #[test]
    fn rule_4_24_tokens_there_and_back_are_what_they_were(lines in lines(), cuts in proptest::collection::vec(1usize..4, 1..20)) {
        let text = lines.join("\n");
        let document = Document::new(Revision(0), &text);
        let tokens = |encoding| {
            let (mut out, mut last_line, mut last) = (Vec::new(), 0, 0);
            for (number, line) in lines.iter().enumerate() {
                let (mut rest, mut column) = (line.as_str(), 0);
                for cut in &cuts {
                    let end = rest.char_indices().nth(*cut).map_or(rest.len(), |(at, _)| at);
                    let (token, after) = rest.split_at(end);
                    if token.is_empty() {
                        break;
                    }
                    let start = if number > last_line { 0 } else { last };
                    let length = units(token, encoding);
                    out.extend([(number - last_line) as u32, column - start, length, 7, 0]);
                    (last_line, last) = (number, column);
                    column += length;
                    rest = after;
                }
            }
            out
        };
        for from in ENCODINGS {
            for to in ENCODINGS {
                let got = tokens::convert(&tokens(from), &document, from, to);
                prop_assert_eq!(got, Some(tokens(to)));
            }
        }
    }

    #[test]
    fn rule_4_28_nothing_is_too_odd_to_be_converted(json in arbitrary::json(), odd in arbitrary::bytes(), line in lines()) {
        let text = line.join("\r\n");
        let text_of = |uri: &str| uri.len().is_multiple_of(2).then(|| Document::new(Revision(1), &text));
        let by = Conversion { from: Encoding::Utf8, to: Encoding::Utf16, text_of: &text_of };
        for (method, _) in RESULTS.iter().chain(PARAMS) {
            for converted in [by.params(method, URI, json.as_bytes()), by.result(method, "", json.as_bytes())] {
                prop_assert!(arbitrary::is_json(&converted.raw));
            }
            by.params(method, URI, &odd);
            by.result(method, URI, &odd);
        }
        by.params("textDocument/didChange", "", json.as_bytes());
        by.params("notebookDocument/didChange", "", json.as_bytes());
    }
}
