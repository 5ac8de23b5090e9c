//! What the recorded editor does: opens, breaks, repairs, asks for this and that, and leaves.

use std::path::Path;

use serde_json::{Value as Json, json};

use super::{RealPeer, Recorder};

/// Plays it.
pub(super) async fn play(
    recorder: &mut Recorder,
    peer: &RealPeer,
    project: &Path,
) -> Result<(), String> {
    recorder.request("initialize", &peer.initialize(project)).await?;
    recorder.notify("initialized", &json!({}));
    let uri = peer.uri(project);
    let document = json!({ "uri": uri });
    recorder.notify("textDocument/didOpen", &peer.open(&uri));
    recorder.quiet().await?;
    recorder.verdict(&uri, true).await?;
    recorder.quiet().await?;

    recorder.notify("textDocument/didChange", &peer.change(&uri, 2));
    recorder.verdict(&uri, false).await?;
    recorder.quiet().await?;
    let action = json!({
        "textDocument": document,
        "range": peer.range(),
        "context": { "diagnostics": [], "only": ["quickfix"], "triggerKind": 1 },
    });
    recorder.request("textDocument/codeAction", &action).await?;

    recorder.notify("textDocument/didChange", &peer.change(&uri, 3));
    recorder.verdict(&uri, true).await?;
    recorder.quiet().await?;
    let settings = json!({ "settings": {} });
    recorder.notify("workspace/didChangeConfiguration", &settings);
    recorder.quiet().await?;

    let mut completion = at(&document, peer.completion);
    completion["context"] = json!({ "triggerKind": 1 });
    recorder.request("textDocument/completion", &completion).await?;
    recorder.request("textDocument/hover", &at(&document, peer.hover)).await?;
    recorder.request("textDocument/documentSymbol", &json!({ "textDocument": document })).await?;
    let mut rename = at(&document, peer.rename);
    rename["newName"] = json!("put");
    recorder.request("textDocument/rename", &rename).await?;
    let mut references = at(&document, peer.rename);
    references["context"] = json!({ "includeDeclaration": true });
    let asked = recorder.ask("textDocument/references", &references);
    let id: Json = serde_json::from_str(asked.raw()).map_err(|error| error.to_string())?;
    recorder.notify("$/cancelRequest", &json!({ "id": id }));
    recorder.answer(&asked).await?;
    recorder.notify("textDocument/didClose", &json!({ "textDocument": document }));
    recorder.quiet().await?;
    recorder.request("shutdown", &Json::Null).await?;
    Ok(())
}

fn at(document: &Json, place: [u32; 2]) -> Json {
    let position = json!({ "line": place[0], "character": place[1] });
    json!({ "textDocument": document, "position": position })
}
