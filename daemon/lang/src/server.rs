//! The language servers that are known, as the `[[server]]` tables of `grammars/<lang>/lang.toml` describe them: how each is
//! started, how its word about a revision is had, and what a second instance of it needs to be quick and quiet.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::Policy;

/// One language server that is known for a language.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    name: String,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    builtin: Option<Builtin>,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    roots: Vec<String>,
    #[serde(default)]
    steer: bool,
    #[serde(default)]
    linter: bool,
    #[serde(default)]
    pull: bool,
    #[serde(default)]
    push_version: bool,
    #[serde(default)]
    debounce_ms: u32,
    #[serde(default)]
    barrier: Option<Barrier>,
    #[serde(default)]
    ask: Option<Ask>,
    #[serde(default)]
    ready: Option<Ready>,
    #[serde(default)]
    lease: bool,
    #[serde(default)]
    environment: Vec<String>,
    #[serde(default)]
    initialization_options: Option<Value>,
    #[serde(default)]
    settings: Option<Value>,
    #[serde(default)]
    twin: Twin,
    #[serde(skip)]
    policy: Policy,
}

/// A checker that is part of the program, where a process of its own would only be slower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Builtin {
    /// SQLite prepares the statements against the project's schema, in memory.
    Sqlite,
    /// A PostgreSQL server that the user has named parses them.
    Postgres,
}

/// A cheap request about one document whose answer tells how far the server has come.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Barrier {
    /// The request; its parameters are the document's address alone (`textDocument/documentSymbol`).
    pub method: String,
    /// Whether the server takes one message after the other, so that the answer proves that every change that was sent before
    /// the request has been applied. Without this an answer proves nothing.
    #[serde(default)]
    pub in_order: bool,
}

/// Commands of a server's own that check a document at once, for servers that can neither be pulled nor say which revision
/// they publish about.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// The command (`workspace/executeCommand`).
    pub command: String,
    /// Its first argument, once for each request; what they find is joined.
    pub arguments: Vec<String>,
    /// The shape of its second argument and of the answer.
    pub form: AskForm,
}

/// What such a command takes and gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AskForm {
    /// `tsserver`'s: the path of a file; diagnostics whose lines and offsets count from 1.
    Tsserver,
}

/// How a server says that it has read the project, for servers that find nothing wrong before.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// The notification whose `quiescent` says it, for clients that accept `experimental.serverStatusNotification`.
    #[serde(default)]
    pub status: Option<String>,
    /// How the tokens of the progress begin that it makes while it reads.
    #[serde(default)]
    pub progress: Vec<String>,
    /// For how long there has to be no such progress before it is taken to be done.
    #[serde(default)]
    pub settle_ms: u32,
}

/// How a server's word about exactly one revision is had, the surest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence<'s> {
    /// It is asked (`textDocument/diagnostic`).
    Pull,
    /// It publishes with the version.
    Version,
    /// It publishes without a version; this request's answer proves which revision it has processed.
    Barrier(&'s Barrier),
    /// Not at all: every verdict is *unknown*.
    None,
}

/// What a twin is given instead of the user's own values; keys that are absent here stay the user's.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Twin {
    /// Arguments behind those of the command line.
    #[serde(default)]
    pub args: Vec<String>,
    /// Laid over the environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Merged over the initialization options.
    #[serde(default)]
    pub initialization_options: Option<Value>,
    /// Merged over the settings that `workspace/configuration` answers with.
    #[serde(default)]
    pub settings: Option<Value>,
    /// Merged over the client capabilities of a twin, which are only what it uses.
    #[serde(default)]
    pub capabilities: Option<Value>,
    /// Members that are added to the parameters of every `textDocument/didChange`.
    #[serde(default)]
    pub did_change: Option<Value>,
}

impl Server {
    /// The name that the policy file and the verdict use.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it goes by this name.
    pub fn is_named(&self, name: &str) -> bool {
        self.name == name || self.aliases.iter().any(|alias| alias == name)
    }

    /// What it is, where it is part of the program: then there is no command.
    pub fn builtin(&self) -> Option<Builtin> {
        self.builtin
    }

    /// The command line that starts it when the user has configured none; empty where it is built in.
    pub fn command(&self) -> &[String] {
        &self.command
    }

    /// Other names of its program.
    pub fn aliases(&self) -> &[String] {
        &self.aliases
    }

    /// Files and folders that mark the root of its projects, the more telling first; empty where the language's own hold.
    pub fn root_markers(&self) -> &[String] {
        &self.roots
    }

    /// Whether its diagnostics were measured well enough to steer decoding. Where not, it is asked only about whole suggestions.
    pub fn steers(&self) -> bool {
        self.steer
    }

    /// Whether it can judge a suggestion once that is whole: it looks at more than style, and its word about exactly one text can be
    /// had. What was not measured may be wrong about text that goes on, and is not asked about that.
    pub fn judges(&self) -> bool {
        !self.linter && matches!(self.evidence(), Evidence::Pull | Evidence::Version)
    }

    /// Whether it answers `textDocument/diagnostic`, at least a client that says it can ask.
    pub fn pulls(&self) -> bool {
        self.pull
    }

    /// Whether its `textDocument/publishDiagnostics` carry the version of the document.
    pub fn publishes_versions(&self) -> bool {
        self.push_version
    }

    /// How long it waits after a change before it begins to look for diagnostics to publish, as measured.
    pub fn debounce_ms(&self) -> u32 {
        self.debounce_ms
    }

    /// A cheap request whose answer tells how far it has come.
    pub fn barrier(&self) -> Option<&Barrier> {
        self.barrier.as_ref()
    }

    /// Commands of its own that check a document at once.
    pub fn ask(&self) -> Option<&Ask> {
        self.ask.as_ref()
    }

    /// How it says that it has read the project; `None`: it answers when it has.
    pub fn ready(&self) -> Option<&Ready> {
        self.ready.as_ref()
    }

    /// How its word about exactly one revision is had.
    pub fn evidence(&self) -> Evidence<'_> {
        match &self.barrier {
            _ if self.pull => Evidence::Pull,
            _ if self.push_version => Evidence::Version,
            Some(barrier) if barrier.in_order => Evidence::Barrier(barrier),
            _ => Evidence::None,
        }
    }

    /// Whether the user's own instance may be shown a candidate for a moment. Never where that would leave something behind: a
    /// cache on disk, a run of a compiler.
    pub fn leases(&self) -> bool {
        self.lease
    }

    /// Codes of what is wrong with the machine and not with the text: packages that are not installed. A text that has several of one has
    /// them for that reason, and no more of it counts.
    pub fn environment(&self) -> &[String] {
        &self.environment
    }

    /// What `initialize` carries when the user has configured nothing.
    pub fn initialization_options(&self) -> Option<&Value> {
        self.initialization_options.as_ref()
    }

    /// What `workspace/configuration` is answered with when the user has configured nothing.
    pub fn settings(&self) -> Option<&Value> {
        self.settings.as_ref()
    }

    /// What a twin is given instead.
    pub fn twin(&self) -> &Twin {
        &self.twin
    }

    /// How far its diagnostics can be trusted.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether a command line starts this server: the program's name, without its folder and `.exe`, is the known one.
    pub fn recognises(&self, command: &[String]) -> bool {
        let Some(program) = command.first() else { return false };
        let name = program.rsplit(['/', '\\']).next().unwrap_or(program);
        let name = name.strip_suffix(".exe").unwrap_or(name);
        self.command.first().is_some_and(|known| known == name)
            || self.aliases.iter().any(|alias| alias == name)
    }

    pub(crate) fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::Language;

    /// One line per server: what decides how it is asked.
    fn table() -> String {
        let row = |language: &'static Language, server: &'static Server| {
            let evidence = match server.evidence() {
                Evidence::Pull => "pull",
                Evidence::Version => "version",
                Evidence::Barrier(_) => "barrier",
                Evidence::None => "none",
            };
            let barrier = server.barrier().map_or("-", |barrier| barrier.method.as_str());
            let flag = |set: bool, word: &'static str| if set { word } else { "-" };
            format!(
                "{:<11}{:<27}{:<8} {:<28} {:<5} {:<5} {:>3} ms\n",
                language.id(),
                server.name(),
                evidence,
                barrier,
                flag(server.steers(), "steer"),
                flag(server.leases(), "lease"),
                server.debounce_ms(),
            )
        };
        crate::all()
            .iter()
            .flat_map(|language| language.servers().iter().map(move |server| row(language, server)))
            .collect()
    }

    #[test]
    fn the_table_of_servers() {
        expect![[r#"
            c          clangd                     version  textDocument/documentSymbol  -     lease  50 ms
            cpp        clangd                     version  textDocument/documentSymbol  -     lease  50 ms
            go         gopls                      version  textDocument/documentSymbol  -     -       0 ms
            lua        lua-language-server        none     textDocument/documentSymbol  -     -       0 ms
            python     ty                         pull     textDocument/foldingRange    steer lease   0 ms
            python     ruff                       pull     -                            -     lease   0 ms
            python     pyright                    pull     textDocument/documentSymbol  -     lease 250 ms
            python     basedpyright               pull     textDocument/documentSymbol  -     lease 250 ms
            rust       rust-analyzer              pull     textDocument/documentSymbol  -     lease   0 ms
            sql        sqlite                     pull     -                            steer -       0 ms
            sql        postgres                   pull     -                            -     -       0 ms
            typescript tsc                        pull     textDocument/foldingRange    steer lease   0 ms
            typescript typescript-language-server none     textDocument/documentSymbol  -     -     300 ms
            typescript vtsls                      none     textDocument/documentSymbol  -     -     300 ms
        "#]].assert_eq(&table());
    }

    #[test]
    fn a_server_that_steers_or_is_leased_can_be_taken_at_its_word() {
        for server in crate::all().iter().flat_map(Language::servers) {
            let trusted = server.steers() || server.leases();
            assert!(!trusted || server.evidence() != Evidence::None, "{}", server.name());
        }
    }

    #[test]
    fn one_server_is_the_same_under_all_its_languages() {
        let all: Vec<&Server> = crate::all().iter().flat_map(Language::servers).collect();
        for (at, server) in all.iter().enumerate() {
            for other in all[..at].iter().filter(|other| other.name() == server.name()) {
                let of = |server: &Server| format!("{server:?}");
                assert_eq!(of(server), of(other));
            }
        }
    }

    #[test]
    fn what_is_not_in_the_schema_is_refused() {
        let check = |text: &str, word: &str| {
            let error = toml::from_str::<Server>(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        };
        let minimal = "name = 'x'\ncommand = ['x']\n";
        assert!(toml::from_str::<Server>(minimal).is_ok());
        check(&format!("{minimal}pulls = true"), "unknown field `pulls`");
        check(&format!("{minimal}[twin]\narguments = []"), "unknown field `arguments`");
        check(
            &format!("{minimal}barrier = {{ method = 'x', proves = true }}"),
            "unknown field `proves`",
        );
        check(&format!("{minimal}barrier = {{ in_order = true }}"), "missing field `method`");
    }

    #[test]
    fn a_server_has_a_command_or_is_built_in_and_is_never_leased_then() {
        for server in crate::all().iter().flat_map(Language::servers) {
            let builtin = server.builtin().is_some();
            assert_eq!(server.command().is_empty(), builtin, "{}", server.name());
            assert!(!builtin || !server.leases(), "{}", server.name());
        }
    }

    #[test]
    fn a_barrier_of_a_server_that_answers_out_of_order_is_no_evidence() {
        let check = |rest: &str, evidence: &str| {
            let server: Server =
                toml::from_str(&format!("name = 'x'\ncommand = ['x']\n{rest}")).unwrap();
            assert!(format!("{:?}", server.evidence()).starts_with(evidence), "{rest}");
        };
        check("", "None");
        check("barrier = { method = 'm' }", "None");
        check("barrier = { method = 'm', in_order = true }", "Barrier");
        check("push_version = true\nbarrier = { method = 'm', in_order = true }", "Version");
        check("pull = true\npush_version = true", "Pull");
    }
}
