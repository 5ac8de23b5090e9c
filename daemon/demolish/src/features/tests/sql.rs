//! SQL as an editor sees it: no server is started, and SQLite itself judges.

use serde_json::{Value as Json, json};

use super::{Editor, editor, says};
use crate::twin::plan::uri_of;

const TABLES: &str = "create table users (id integer primary key, name text);\n";

impl Editor {
    fn open_sql(&self, file: &str, text: &str) -> String {
        std::fs::create_dir_all(self.dir.path().join(".git")).unwrap();
        let uri = uri_of(&self.dir.path().join(file));
        let document = json!({"uri": uri, "languageId": "sql", "version": 1, "text": text});
        self.wire.notify("textDocument/didOpen", &json!({"textDocument": document}));
        uri
    }

    async fn wished_in(&mut self, uri: &str, line: u32, character: u32) -> Json {
        let params = json!({
            "textDocument": {"uri": uri},
            "position": {"line": line, "character": character},
            "context": {"triggerKind": 2},
        });
        self.ask("textDocument/inlineCompletion", &params).await.unwrap()
    }
}

#[tokio::test]
async fn sql_is_judged_by_the_schema_on_disk_and_in_the_editor() {
    let mut editor = editor(says(&["nme from users;\n", "name from users;\n"])).await;
    std::fs::write(editor.dir.path().join("schema.sql"), TABLES).unwrap();
    let query = editor.open_sql("q.sql", "-- é😀\r\nselect \n");
    let list = editor.wished_in(&query, 1, 7).await;
    let item = &list["items"][0];
    assert_eq!(item["insertText"], "name from users;");
    let told = &item["data"]["demolish"];
    assert_eq!(
        (&told["verdict"]["kind"], &told["verdict"]["server"]),
        (&json!("clean"), &json!("sqlite"))
    );
    let refused = &told["refused"][0]["diagnostic"];
    assert_eq!(
        (&refused["code"], &refused["source"]),
        (&json!("no_such_column"), &json!("sqlite"))
    );
    assert_eq!(refused["range"]["start"], json!({"line": 1, "character": 7}));
    // The schema is being changed in the same editor, and is not saved.
    editor.open_sql("schema.sql", "create table users (id integer primary key, nme text);\n");
    let list = editor.wished_in(&query, 1, 7).await;
    assert_eq!(list["items"][0]["insertText"], "nme from users;");
    assert_eq!(list["items"][0]["data"]["demolish"]["verdict"]["kind"], "clean");
}

#[tokio::test]
async fn without_a_schema_suggestions_are_marked_unknown() {
    let mut editor = editor(says(&["nme from users;\n"])).await;
    let query = editor.open_sql("q.sql", "select \n");
    let list = editor.wished_in(&query, 0, 7).await;
    let verdict = &list["items"][0]["data"]["demolish"]["verdict"];
    assert_eq!((&verdict["kind"], &verdict["code"]), (&json!("unknown"), &json!("no_schema")));
}
