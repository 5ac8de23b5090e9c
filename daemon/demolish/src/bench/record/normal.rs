//! Makes a recording the same on every machine: paths, versions, pids and times are replaced, and what only fills the file
//! is left out.

use std::path::Path;

use serde_json::Value as Json;
use serde_json::value::RawValue;

use super::super::transcript::Line;
use crate::env_vars;
use crate::twin::plan::uri_of;

/// How many reports of one progress are kept.
const REPORTS_MAX: usize = 2;
/// What stands for the text of a log message.
const LOG_LINE: &str = "(a line of the log)";

/// What is replaced by what, the longest first.
pub(super) struct Normal {
    pairs: Vec<(String, &'static str)>,
}

impl Normal {
    pub(super) fn new(project: &Path) -> Normal {
        let mut pairs = Vec::new();
        let mut replace = |path: &Path, word: &'static str| {
            pairs.push((path.display().to_string(), word));
            let uri = uri_of(path);
            pairs.push((uri.trim_start_matches("file://").to_owned(), word));
        };
        replace(project, "/project");
        if let Some(folder) = project.parent() {
            replace(folder, "/sandbox");
        }
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools");
        if let Ok(tools) = tools.canonicalize() {
            replace(&tools, "/tools");
        }
        if let Some(home) = env_vars::home() {
            replace(&home, "/home");
        }
        pairs.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        pairs.dedup();
        Normal { pairs }
    }

    /// The whole file.
    pub(super) fn text(&self, lines: Vec<Line>) -> Result<String, String> {
        let mut text = String::new();
        let mut reports = std::collections::HashMap::<String, usize>::new();
        for mut line in lines {
            if let Line::Server(raw) = &mut line {
                if is_filler(raw, &mut reports) {
                    continue;
                }
                *raw = plain(raw)?;
            }
            let json = serde_json::to_string(&line).map_err(|error| error.to_string())?;
            text.push_str(&self.replaced(json));
            text.push('\n');
        }
        Ok(text)
    }

    fn replaced(&self, mut text: String) -> String {
        for (path, word) in &self.pairs {
            text = text.replace(path.as_str(), word);
        }
        text
    }
}

/// Whether a message only shows how far the server is, and enough of these are there.
fn is_filler(raw: &RawValue, reports: &mut std::collections::HashMap<String, usize>) -> bool {
    let message: Json = serde_json::from_str(raw.get()).unwrap_or_default();
    if message["method"] != "$/progress" || message["params"]["value"]["kind"] != "report" {
        return false;
    }
    let count = reports.entry(message["params"]["token"].to_string()).or_default();
    *count += 1;
    *count > REPORTS_MAX
}

/// A message without what is of one moment only. Its other bytes stay.
fn plain(raw: &RawValue) -> Result<Box<RawValue>, String> {
    let message: Json = serde_json::from_str(raw.get()).unwrap_or_default();
    let mut text = raw.get().to_owned();
    let mut put = |old: &Json, new: &str| {
        if old.is_string() {
            text = text.replacen(&find(&text, old), &Json::from(new).to_string(), 1);
        }
    };
    match message["method"].as_str() {
        Some("window/logMessage") => put(&message["params"]["message"], LOG_LINE),
        Some("$/progress") => put(&message["params"]["value"]["message"], "(how far it is)"),
        _ => put(&message["result"]["serverInfo"]["version"], "0"),
    }
    RawValue::from_string(text).map_err(|error| error.to_string())
}

/// How a string is spelled in a text: servers escape differently.
fn find(text: &str, value: &Json) -> String {
    let wanted = value.as_str().unwrap_or_default();
    let mut at = 0;
    while let Some(start) = text[at..].find('"').map(|found| at + found) {
        let mut stream = serde_json::Deserializer::from_str(&text[start..]).into_iter::<String>();
        let Some(Ok(found)) = stream.next() else { break };
        let end = start + stream.byte_offset();
        if found == wanted {
            return text[start..end].to_owned();
        }
        at = end;
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &str, expected: &str) {
        let raw = RawValue::from_string(message.to_owned()).unwrap();
        assert_eq!(plain(&raw).unwrap().get(), expected);
    }

    #[test]
    fn what_is_of_one_moment_is_replaced_and_other_bytes_stay() {
        check(
            r#"{"method" :"window/logMessage","params":{"type":3,"message":"at 14:02 \u00e9"}}"#,
            r#"{"method" :"window/logMessage","params":{"type":3,"message":"(a line of the log)"}}"#,
        );
        check(
            r#"{"id":1,"result":{"serverInfo":{"name":"x", "version":"1.2"}}}"#,
            r#"{"id":1,"result":{"serverInfo":{"name":"x", "version":"0"}}}"#,
        );
        check(r#"{"id":1, "result":null}"#, r#"{"id":1, "result":null}"#);
    }

    #[test]
    fn longer_paths_are_replaced_first() {
        let normal = Normal::new(Path::new("/tmp/x y/project"));
        let text = "file:///tmp/x%20y/project/a /tmp/x y/project/b /tmp/x y/c".to_owned();
        assert_eq!(normal.replaced(text), "file:///project/a /project/b /sandbox/c");
    }
}
