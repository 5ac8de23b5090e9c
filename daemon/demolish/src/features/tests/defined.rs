//! What the language server says of the names near the cursor.

use std::time::Duration;

use recall::index::Place;

use super::{editor, says};

#[tokio::test]
async fn behind_a_completion_the_server_tells_where_names_are_defined() {
    let mut editor = editor(says(&["good\n"])).await;
    editor.open("x = other(nothing,\ny = \n");
    assert_eq!(editor.complete(1, 4).await["items"][0]["insertText"], "good");
    let path = editor.dir.path().join("a.py");
    let known = loop {
        let known = editor.definitions.known(&path);
        if !known.is_empty() {
            break known;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    assert_eq!(known, [Place { path: editor.dir.path().join("other.py"), line: 0 }]);
}
