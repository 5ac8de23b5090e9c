//! How a server lets itself be asked, and what it is asked.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

/// What is known of a server before it has said anything; from the language data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Habits {
    /// What it is called in verdicts; its program's name if nothing is known of it.
    pub name: Option<String>,
    /// A cheap request whose answer proves that every change before it has been applied: the server takes one message
    /// after the other.
    pub barrier: Option<String>,
    /// How long it waits after a change before it publishes.
    pub debounce: Duration,
    /// What it can be asked in its own words.
    pub ask: Option<Ask>,
    /// How it says that it has read the project.
    pub ready: Option<Ready>,
}

impl Habits {
    /// The same; a server that has no name is called as its program.
    #[must_use]
    pub fn name_or(mut self, program: &str) -> Habits {
        let name = program.rsplit(['/', '\\']).next().unwrap_or(program);
        self.name.get_or_insert_with(|| name.to_owned());
        self
    }
}

/// Commands of the server's own that check a document at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The command, which the server must have advertised.
    pub command: String,
    /// The first argument, once for each request: what they find is joined.
    pub arguments: Vec<String>,
    /// The shape of the second argument and of the answer.
    pub form: AskForm,
}

/// What a server's own commands take and give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskForm {
    /// `tsserver`'s: a file's path; diagnostics with lines and offsets from 1.
    Tsserver,
}

/// How a server says that it has read the project: until then it finds nothing wrong anywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// The notification whose `quiescent` says it, for clients that accept it
    /// (`experimental.serverStatusNotification`).
    pub status: Option<String>,
    /// Starts of the tokens of the progress that it makes while it reads.
    pub progress: Vec<String>,
    /// How long no such progress may be going on before it counts as done.
    pub settle: Duration,
}

/// One request of a question.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) params: Value,
}

/// How a verdict is come by.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Way {
    /// The server is asked; the answers together are the verdict.
    Asked(Vec<Request>, Form),
    /// The server publishes.
    Heard,
}

/// The shape of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Report,
    Own(AskForm),
}

/// What this server, in this life, has said that it can do.
#[derive(Clone, Debug, Default)]
pub(super) struct Offers {
    /// Pulled diagnostics that stand in its capabilities: the identifier.
    pub(super) pull: Option<Option<String>>,
    /// Those that it has registered: the registration's id, and the identifier.
    pub(super) registered: Vec<(String, Option<String>)>,
    /// Commands.
    pub(super) commands: Vec<String>,
    /// Whether it has refused to be pulled although it offered.
    pub(super) refuses: bool,
}

impl Offers {
    /// What the result of `initialize` says.
    pub(super) fn read(result: &[u8]) -> Offers {
        let value: Value = wire::parse(result).unwrap_or_default();
        let capabilities = &value["capabilities"];
        let provider = &capabilities["diagnosticProvider"];
        let commands = capabilities["executeCommandProvider"]["commands"].as_array();
        let commands = commands.into_iter().flatten();
        Offers {
            pull: provider.is_object().then(|| identifier(provider)),
            registered: Vec::new(),
            commands: commands.filter_map(|name| name.as_str().map(str::to_owned)).collect(),
            refuses: false,
        }
    }

    /// What is asked about a document.
    pub(super) fn way(&self, habits: &Habits, uri: &Arc<str>) -> Way {
        let mut pulls: Vec<&Option<String>> =
            self.pull.iter().chain(self.registered.iter().map(|(_, name)| name)).collect();
        pulls.sort();
        pulls.dedup();
        if !pulls.is_empty() && !self.refuses {
            let pull = |name: &Option<String>| {
                let mut params = json!({ "textDocument": { "uri": &**uri } });
                if let Some(name) = name {
                    params["identifier"] = name.as_str().into();
                }
                Request { method: "textDocument/diagnostic".to_owned(), params }
            };
            return Way::Asked(pulls.into_iter().map(pull).collect(), Form::Report);
        }
        let own = habits.ask.as_ref().filter(|ask| self.commands.contains(&ask.command));
        match own.and_then(|ask| Some((ask, file_path(uri)?))) {
            Some((ask, path)) => {
                let request = |argument: &String| Request {
                    method: "workspace/executeCommand".to_owned(),
                    params: json!({ "command": ask.command, "arguments": [argument, { "file": path }] }),
                };
                let requests = ask.arguments.iter().map(request).collect();
                Way::Asked(requests, Form::Own(ask.form))
            }
            None => Way::Heard,
        }
    }
}

pub(super) fn identifier(options: &Value) -> Option<String> {
    options["identifier"].as_str().map(str::to_owned)
}

fn file_path(uri: &str) -> Option<String> {
    let uri: wire::lsp::Uri = uri.strip_prefix("file:").map(|_| uri)?.parse().ok()?;
    uri.to_file_path().map(|path| path.to_string_lossy().into_owned())
}
