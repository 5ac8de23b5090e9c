//! The real language servers that verdicts are measured and recorded with: a small project for each, and a line of it that
//! is right or wrong. The data is `tests/peers/NAME.toml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::twin::plan::{uri_of, which};

/// The data, in the order in which servers are asked.
const DATA: &[&str] = &[
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/peers/rust-analyzer.toml")),
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/peers/gopls.toml")),
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/peers/clangd.toml")),
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/peers/ty.toml")),
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/peers/basedpyright.toml")),
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/peers/tsc.toml")),
    include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/peers/typescript-language-server.toml"
    )),
];

/// A server and a project for it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RealPeer {
    /// What it is called.
    pub(crate) name: String,
    /// The version that was tested and recorded.
    pub(crate) version: String,
    /// The server and its arguments.
    command: Vec<String>,
    /// The language id.
    language: String,
    /// The document, below the project's folder.
    file: String,
    /// Its text, with the good line.
    text: String,
    /// The line that changes, from 0.
    line: u32,
    /// What stands there when nothing is wrong.
    good: String,
    /// What stands there when something is.
    bad: String,
    /// Where something can be completed: line and character.
    pub(crate) completion: [u32; 2],
    /// Where there is something to tell.
    pub(crate) hover: [u32; 2],
    /// A name that can be changed.
    pub(crate) rename: [u32; 2],
    /// Further files.
    #[serde(default)]
    files: BTreeMap<String, String>,
    /// Variables that the server is started with.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// `initializationOptions`.
    #[serde(default)]
    options: Option<Json>,
}

/// All of them.
pub(crate) fn all() -> Result<Vec<RealPeer>, String> {
    DATA.iter().map(|text| toml::from_str(text).map_err(|error| error.to_string())).collect()
}

impl RealPeer {
    /// Its command with the program's path: that of the tools of the source tree, else what `PATH` finds; `None`: it is
    /// not installed.
    pub(crate) fn located(&self) -> Option<Vec<String>> {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/bin");
        let ours = tools.canonicalize().ok().map(|tools| tools.join(&self.command[0]));
        let program =
            ours.filter(|path| path.exists()).or_else(|| which(&self.command[0], None))?;
        let mut command = self.command.clone();
        command[0] = program.to_string_lossy().into_owned();
        Some(command)
    }

    /// Writes the project.
    #[allow(clippy::disallowed_methods, reason = "the project is the measurement's own")]
    pub(crate) fn write(&self, project: &Path) -> Result<(), String> {
        let all = self.files.iter().chain([(&self.file, &self.text)]);
        for (name, text) in all {
            let path = project.join(name);
            let folder = path.parent().unwrap_or(project);
            std::fs::create_dir_all(folder)
                .and_then(|()| std::fs::write(&path, text))
                .map_err(|error| format!("{} cannot be written ({error})", path.display()))?;
        }
        Ok(())
    }

    /// The document's address.
    pub(crate) fn uri(&self, project: &Path) -> String {
        uri_of(&project.join(&self.file))
    }

    /// The parameters of `initialize`, as an editor sends them.
    pub(crate) fn initialize(&self, project: &Path) -> Json {
        let uri = uri_of(project);
        let mut params = json!({
            "processId": null,
            "clientInfo": { "name": "a recorded editor" },
            "rootUri": uri,
            "workspaceFolders": [{ "uri": uri, "name": "peer" }],
            "capabilities": capabilities(),
        });
        if let Some(options) = &self.options {
            params["initializationOptions"] = options.clone();
        }
        params
    }

    /// The parameters of `didOpen`: version 1 is good.
    pub(crate) fn open(&self, uri: &str) -> Json {
        let item =
            json!({ "uri": uri, "languageId": self.language, "version": 1, "text": self.text });
        json!({ "textDocument": item })
    }

    /// The parameters of the `didChange` to a version: odd ones are good, even ones bad.
    pub(crate) fn change(&self, uri: &str, version: i32) -> Json {
        let text = if is_good(version) { &self.good } else { &self.bad };
        let start = json!({ "line": self.line, "character": 0 });
        // The whole line, whatever stands there: a character beyond its end means the end.
        let end = json!({ "line": self.line + 1, "character": 0 });
        json!({
            "textDocument": { "uri": uri, "version": version },
            "contentChanges": [{ "range": { "start": start, "end": end }, "text": format!("{text}\n") }],
        })
    }

    /// The line that changes, as a range.
    pub(crate) fn range(&self) -> Json {
        let start = json!({ "line": self.line, "character": 0 });
        json!({ "start": start, "end": { "line": self.line + 1, "character": 0 } })
    }
}

/// Whether the text of a version has nothing wrong.
pub(crate) fn is_good(version: i32) -> bool {
    version % 2 == 1
}

/// What a usual editor can do.
fn capabilities() -> Json {
    json!({
        "general": { "positionEncodings": ["utf-16"] },
        "window": { "workDoneProgress": true, "showMessage": {} },
        "workspace": {
            "configuration": true,
            "workspaceFolders": true,
            "applyEdit": true,
            "workspaceEdit": { "documentChanges": true },
            "didChangeConfiguration": { "dynamicRegistration": true },
            "didChangeWatchedFiles": { "dynamicRegistration": true },
            "diagnostics": { "refreshSupport": true },
        },
        "textDocument": {
            "synchronization": { "dynamicRegistration": true, "didSave": true },
            "publishDiagnostics": { "versionSupport": true, "relatedInformation": true },
            "diagnostic": { "dynamicRegistration": true },
            "completion": {
                "completionItem": { "snippetSupport": false },
                "contextSupport": true,
            },
            "hover": { "contentFormat": ["markdown", "plaintext"] },
            "documentSymbol": { "hierarchicalDocumentSymbolSupport": true },
            "codeAction": {
                "dataSupport": true,
                "resolveSupport": { "properties": ["edit"] },
                "codeActionLiteralSupport": { "codeActionKind": { "valueSet": ["quickfix", "refactor"] } },
            },
            "rename": { "prepareSupport": true },
        },
        "experimental": { "serverStatusNotification": true },
    })
}

/// Where the recordings are.
pub(crate) fn recordings() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_has_a_project_in_which_the_places_are_there() {
        let peers = all().unwrap();
        assert_eq!(peers.len(), 7);
        for peer in peers {
            let lines: Vec<&str> = peer.text.lines().collect();
            assert_eq!(lines[peer.line as usize], peer.good, "{}", peer.name);
            assert_ne!(peer.good, peer.bad);
            for [line, character] in [peer.completion, peer.hover, peer.rename] {
                assert!(lines[line as usize].len() > character as usize, "{}", peer.name);
            }
            assert!(lang::server_for(&peer.command).is_some(), "{}", peer.name);
        }
    }
}
