//! Places and documents that are out of the ordinary: what is wished there is answered with little or nothing, at once.

use std::sync::atomic::Ordering;

use serde_json::{Value as Json, json};

use super::{Editor, editor, editor_with, says};
use crate::twin::fake::PULL;

const AUTOMATIC: u32 = 2;
const INVOKED: u32 = 1;
/// Tokens that one wish may cost, whatever the document: the prompt's windows and header, and what is written for three suggestions
/// with all their retries. Bytes are tokens here.
const FED_MAX: usize = 4 << 10;

impl Editor {
    /// Asks for a completion with a context and other params of its own.
    async fn wished(&mut self, line: u32, character: u32, context: Json, more: Json) -> Json {
        let mut params = json!({
            "textDocument": {"uri": self.uri()},
            "position": {"line": line, "character": character},
            "context": context,
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            params[name] = value.clone();
        }
        self.ask("textDocument/inlineCompletion", &params).await.unwrap()
    }

    async fn triggered(&mut self, line: u32, character: u32, kind: u32) -> Json {
        self.wished(line, character, json!({"triggerKind": kind}), Json::Null).await
    }
}

#[tokio::test]
async fn documents_that_nobody_writes_by_hand_get_nothing_unless_it_is_asked_for() {
    let megabyte = "x = 1; ".repeat(150_000);
    let minified = format!("var a={{{}}}", "b:function(){return 1},".repeat(4_000));
    let junk: String = (0..20_000u32).map(|at| char::from((at * 7919 % 256) as u8)).collect();
    for (name, text) in [
        ("empty", ""),
        ("blank", "\n \n\t\n"),
        ("one line", &megabyte),
        ("minified", &minified),
        ("binary", &junk),
    ] {
        let mut editor = editor(says(&["good\n"])).await;
        editor.open(text);
        for (line, character) in [(0, 0), (0, 9_999_999), (9_999_999, 0), (u32::MAX, u32::MAX)] {
            let list = editor.triggered(line, character, AUTOMATIC).await;
            let is_end = line > 0 && name != "empty" && name != "blank";
            assert!(list["items"] == json!([]) || is_end, "{name} {line}:{character} {list}");
        }
        editor.fed.store(0, Ordering::SeqCst);
        let list = editor.triggered(0, 0, INVOKED).await;
        assert!(list["items"].is_array(), "{name}");
        let fed = editor.fed.load(Ordering::SeqCst);
        assert!(fed <= FED_MAX, "{name}: {fed}");
    }
}

#[tokio::test]
async fn what_is_not_wished_for_costs_the_model_nothing() {
    let mut editor = editor(says(&["good\n"])).await;
    editor.open("value = 1\n");
    assert_eq!(editor.triggered(0, 3, AUTOMATIC).await["items"], json!([]));
    assert_eq!(editor.fed.load(Ordering::SeqCst), 0, "inside a word");
    let asked = editor.triggered(0, 3, INVOKED).await;
    assert_eq!(asked["items"][0]["insertText"], "good");
}

#[tokio::test]
async fn positions_outside_of_the_text_and_inside_of_letters_are_the_nearest_ones() {
    let mut editor = editor(says(&["good\n"])).await;
    editor.open("é😀 = \n");
    for (line, character, expected) in [(0, 2, (0, 1)), (0, 99, (0, 6)), (7, 7, (1, 0))] {
        let list = editor.triggered(line, character, INVOKED).await;
        let start = &list["items"][0]["range"]["start"];
        assert_eq!((&start["line"], &start["character"]), (&expected.0.into(), &expected.1.into()));
    }
}

#[tokio::test]
async fn a_language_that_nobody_has_seen_is_completed_by_lines_and_not_checked() {
    let mut editor = editor(says(&["good\nbad\n"])).await;
    let uri = format!("{}x", editor.uri());
    let document = json!({"uri": uri, "languageId": "klingon", "version": 1, "text": "Qapla = \n"});
    editor.wire.notify("textDocument/didOpen", &json!({"textDocument": document}));
    let params = json!({
        "textDocument": {"uri": uri},
        "position": {"line": 0, "character": 8},
        "context": {"triggerKind": AUTOMATIC},
    });
    let list = editor.ask("textDocument/inlineCompletion", &params).await.unwrap();
    assert_eq!(list["items"][0]["insertText"], "good");
    assert_eq!(list["items"][0]["data"]["demolish"]["verdict"]["code"], "no_language");
}

#[tokio::test]
async fn a_suggestion_goes_on_with_what_is_selected_in_the_menu() {
    let mut editor = editor(says(&["bad\n", "good\n"])).await;
    editor.open("x = pri\n");
    let range = json!({"start": {"line": 0, "character": 4}, "end": {"line": 0, "character": 7}});
    let selected = json!({"range": range, "text": "print"});
    let context = json!({"triggerKind": AUTOMATIC, "selectedCompletionInfo": selected});
    let list = editor.wished(0, 7, context, Json::Null).await;
    let item = &list["items"][0];
    assert_eq!((&item["insertText"], &item["range"]), (&json!("printgood"), &range));
    let data = &item["data"]["demolish"];
    assert_eq!(data["verdict"]["kind"], "clean");
    assert_eq!(data["refused"][0]["text"], "printbad");
    let found = &data["refused"][0]["diagnostic"]["range"];
    assert_eq!((&found["start"]["character"], &found["end"]["character"]), (&json!(9), &json!(12)));
    // One that is not at the cursor is none.
    let far = json!({"range": range, "text": "print"});
    let context = json!({"triggerKind": INVOKED, "selectedCompletionInfo": far});
    let list = editor.wished(0, 4, context, Json::Null).await;
    assert_eq!(list["items"][0]["insertText"], "good");
}

#[tokio::test]
async fn an_editor_that_says_how_it_indents_gets_it_so() {
    let mut editor = editor(says(&["\n        good\n"])).await;
    editor.open("if x:\n");
    for (tab_size, insert_spaces, expected) in
        [(2, true, "\n  good"), (8, false, "\n\tgood"), (0, true, "\n good")]
    {
        let formatting = json!({"tabSize": tab_size, "insertSpaces": insert_spaces});
        let more = json!({"formattingOptions": formatting});
        let list = editor.wished(0, 5, json!({"triggerKind": INVOKED}), more).await;
        assert_eq!(list["items"][0]["insertText"], expected, "{formatting}");
    }
}

#[tokio::test]
async fn withholding_can_be_set_and_is_told() {
    let options = json!({"complete": {"withhold": "off"}});
    let mut editor = editor_with(says(&["good\n"]), PULL, options).await;
    editor.open("x = \n");
    let data = editor.triggered(0, 4, AUTOMATIC).await["items"][0]["data"]["demolish"].clone();
    assert_eq!((&data["withheld"], &data["confidence"]), (&json!(0), &Json::Null));
}
