//! The same through a real language server: `ty`, from `.tools/bin`. Skipped unless `DEMOLISH_SLOW=1`.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::house::{DEMOLISH, House, kill};

/// `ty`, if slow tests are wanted.
fn ty() -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../.tools/bin/ty");
    if !crate::house::slow() {
        println!("skipped: needs DEMOLISH_SLOW=1 and a real ty");
        return None;
    }
    Some(path.canonicalize().expect("`make setup` installs ty into .tools"))
}

async fn diagnostics(editor: &mut crate::house::Editor, version: i32) -> Vec<String> {
    let found = editor
        .wire
        .find_where(|envelope| {
            let params: Value = envelope.params_as().unwrap_or_default();
            envelope.method() == Some("textDocument/publishDiagnostics")
                && params["version"] == version
        })
        .await;
    let params: Value = found.params_as().unwrap();
    let items = params["diagnostics"].as_array().unwrap();
    items.iter().map(|item| item["code"].as_str().unwrap_or("").to_owned()).collect()
}

#[tokio::test]
async fn a_real_server_behind_the_daemon_survives_both_deaths() {
    let Some(ty) = ty() else { return };
    let house = House::new();
    house.daemon().await;
    let file = house.dir.path().join("a.py");
    std::fs::write(&file, "x: int = 1\n").unwrap();
    let uri = format!("file://{}", file.display());
    let mut editor = house.start(&[DEMOLISH, "lsp", "--", ty.to_str().unwrap(), "server"]).await;
    let root = format!("file://{}", house.dir.path().display());
    let params = json!({
        "processId": std::process::id(), "rootUri": root,
        "workspaceFolders": [{ "uri": root, "name": "r" }],
        "capabilities": { "textDocument": { "publishDiagnostics": { "versionSupport": true } } },
    });
    let id = editor.wire.request("initialize", &params);
    editor.answer(&id).await.unwrap();
    editor.wire.notify("initialized", &json!({}));
    editor.open(&uri, "x: int = 'a'\n");
    assert_eq!(diagnostics(&mut editor, 1).await, ["invalid-assignment"]);
    editor.change(&uri, 2, "x: int = 2\n");
    assert!(diagnostics(&mut editor, 2).await.is_empty());
    editor.change(&uri, 3, "y: str = 3\n");
    assert_eq!(diagnostics(&mut editor, 3).await, ["invalid-assignment"]);
    let server = house.status().await.links[0].server.as_ref().unwrap().pid.unwrap();
    kill(server as i32);
    // Cleared without a version, then the new server's view of the same text.
    assert_eq!(diagnostics(&mut editor, 3).await, ["invalid-assignment"]);
    house.kill_daemon();
    assert_eq!(diagnostics(&mut editor, 3).await, ["invalid-assignment"]);
    editor.change(&uri, 4, "y: str = 'fine'\n");
    assert!(diagnostics(&mut editor, 4).await.is_empty());
    let (code, took) = editor.leave().await;
    assert_eq!(code, Some(0));
    assert!(took < std::time::Duration::from_secs(2), "{took:?}");
}
