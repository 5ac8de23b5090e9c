//! Which server a twin is a twin of, and how it is started. Pure but for looking whether programs and root markers exist.
//!
//! If an editor runs a server for the document through us, the twin is started as that one was: the same command, the same
//! root, the same options and settings. Without an editor the language's own table says what to start.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use decode::Unknown;
use lang::{Language, Server};
use serde_json::{Value as Json, json};

use crate::config::Config;
use crate::env_vars;
use crate::handlers::lease::Leaser;

/// The environment of a process.
pub type Environment = BTreeMap<OsString, OsString>;

/// A server that an editor runs through us.
#[derive(Debug, Clone, Default)]
pub struct UserServer {
    /// The command line that started it.
    pub command: Vec<String>,
    /// Where it runs.
    pub cwd: Option<PathBuf>,
    /// Its environment; `None` is ours.
    pub env: Option<Environment>,
    /// The parameters of the editor's `initialize`.
    pub initialize: Json,
    /// Its process, while there is one.
    pub pid: Option<u32>,
    /// How candidates are shown to it.
    pub leaser: Option<Leaser>,
    /// What the editor has told it with `workspace/didChangeConfiguration`, or answered to `workspace/configuration`.
    pub settings: Json,
}

/// How to start a twin.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The server's name in the language data.
    pub name: String,
    /// The language's id in the language data.
    pub language: &'static str,
    /// The program and its arguments; the program is a path that exists.
    pub command: Vec<String>,
    /// The project, in which it runs.
    pub root: PathBuf,
    /// Its environment; `None` is ours.
    pub env: Option<Environment>,
    /// The parameters of `initialize`.
    pub initialize: Json,
    /// What `workspace/configuration` is answered from.
    pub settings: Json,
    /// Whether the server can be asked for diagnostics, as the language data says; its own word counts too.
    pub pulls: bool,
    /// Members that are added to every change.
    pub did_change: Option<&'static Json>,
    /// Its entry in the language data.
    pub server: &'static Server,
    /// The user's own instance: its process, and how candidates are shown to it.
    pub users: (Option<u32>, Option<Leaser>),
}

/// Why there is no twin, and what would help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// The reason that every verdict gets.
    pub reason: Unknown,
    /// The server that was wanted.
    pub server: Option<String>,
    /// What the user can do, one sentence.
    pub hint: Option<String>,
}

impl Lack {
    fn of(reason: Unknown) -> Lack {
        Lack { reason, server: None, hint: None }
    }
}

impl Plan {
    /// Whether a twin that was started by this plan serves for `other` too: one command in one root with the same settings.
    #[must_use]
    pub fn is_like(&self, other: &Plan) -> bool {
        self.command == other.command
            && self.root == other.root
            && self.settings == other.settings
            && self.initialize == other.initialize
            && shaping(self.env.as_ref()) == shaping(other.env.as_ref())
    }
}

/// Variables that change what a language server finds. Others differ between any two shells and make no difference.
const SHAPING: &[&str] = &[
    "PATH",
    "HOME",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "PYTHONPATH",
    "NODE_PATH",
    "GOPATH",
    "GOROOT",
    "GOFLAGS",
    "CARGO_HOME",
    "RUSTUP_TOOLCHAIN",
];

fn shaping(env: Option<&Environment>) -> Vec<Option<OsString>> {
    let ours = env.is_none().then(env_vars::everything);
    let env = env.or(ours.as_ref());
    SHAPING.iter().map(|name| env.and_then(|env| env.get(OsStr::new(name))).cloned()).collect()
}

/// The plan for a document. `env` is the environment of whoever asks: programs are looked for in its `PATH`, not in that of
/// a daemon that another shell has started.
///
/// # Errors
/// No server can check it: the reason, and what would help.
pub fn plan(
    path: &Path,
    language: Option<&'static Language>,
    users: &[UserServer],
    env: Option<&Environment>,
    config: &Config,
) -> Result<Plan, Lack> {
    let language = language.ok_or_else(|| Lack::of(Unknown::NoLanguage))?;
    let of_language = users.iter().filter_map(|user| Some((user, named(language, &user.command)?)));
    let holding = of_language
        .filter(|(user, _)| roots(&user.initialize).iter().all(|root| path.starts_with(root)));
    let mut users: Vec<_> = holding.collect();
    users.sort_by_key(|(_, server)| rank(server));
    if let Some((user, server)) = users.first() {
        return like_the_users(path, language, user, server);
    }
    headless(path, language, env, config)
}

fn named(language: &'static Language, command: &[String]) -> Option<&'static Server> {
    language.servers().iter().find(|server| server.recognises(command))
}

/// The folders that an `initialize` names, if any.
fn roots(initialize: &Json) -> Vec<PathBuf> {
    let folders = initialize["workspaceFolders"].as_array().map_or(&[][..], Vec::as_slice);
    let of_folders: Vec<PathBuf> =
        folders.iter().filter_map(|folder| path_of(folder["uri"].as_str()?)).collect();
    if !of_folders.is_empty() {
        // A document belongs if any of the folders holds it; more than one folder is not asked about closely.
        return if of_folders.len() == 1 { of_folders } else { Vec::new() };
    }
    initialize["rootUri"].as_str().and_then(path_of).into_iter().collect()
}

fn like_the_users(
    path: &Path,
    language: &'static Language,
    user: &UserServer,
    server: &'static Server,
) -> Result<Plan, Lack> {
    supported(server)?;
    let root = roots(&user.initialize).pop().unwrap_or_else(|| root_for(path, language, server));
    let mut initialize = user.initialize.clone();
    let options = merged(
        initialize["initializationOptions"].take(),
        server.twin().initialization_options.as_ref(),
    );
    complete_initialize(&mut initialize, &root, options, server);
    Ok(Plan {
        name: server.name().to_owned(),
        language: language.id(),
        command: with_args(located(&user.command, server, user.env.as_ref())?, server),
        root: user.cwd.clone().unwrap_or(root),
        env: with_env(user.env.as_ref(), server),
        initialize,
        settings: merged(user.settings.clone(), server.twin().settings.as_ref()),
        pulls: server.pulls(),
        did_change: server.twin().did_change.as_ref(),
        server,
        users: (user.pid, user.leaser.clone()),
    })
}

fn headless(
    path: &Path,
    language: &'static Language,
    env: Option<&Environment>,
    config: &Config,
) -> Result<Plan, Lack> {
    let configured =
        config.servers.command.get(language.id()).filter(|command| !command.is_empty());
    let (server, command) = match configured {
        Some(command) => {
            let server = named(language, command).ok_or_else(|| Lack {
                server: command.first().cloned(),
                ..Lack::of(Unknown::NotSupported(command[0].clone()))
            })?;
            (server, located(command, server, env)?)
        }
        None => found(language, env)?,
    };
    supported(server)?;
    let root = root_for(path, language, server);
    let mut initialize = json!({});
    let options = server.initialization_options().cloned().unwrap_or(Json::Null);
    complete_initialize(
        &mut initialize,
        &root,
        merged(options, server.twin().initialization_options.as_ref()),
        server,
    );
    Ok(Plan {
        name: server.name().to_owned(),
        language: language.id(),
        command: with_args(command, server),
        root,
        env: with_env(env, server),
        initialize,
        settings: merged(
            server.settings().cloned().unwrap_or(Json::Null),
            server.twin().settings.as_ref(),
        ),
        pulls: server.pulls(),
        did_change: server.twin().did_change.as_ref(),
        server,
        users: (None, None),
    })
}

/// The first server of the language that is installed, those that can check first.
fn found(
    language: &'static Language,
    env: Option<&Environment>,
) -> Result<(&'static Server, Vec<String>), Lack> {
    let mut servers: Vec<&'static Server> = language.servers().iter().collect();
    servers.sort_by_key(|server| rank(server));
    let mut first_lack = None;
    for server in servers {
        match located(server.command(), server, env) {
            Ok(command) => return Ok((server, command)),
            Err(lack) => first_lack = first_lack.or(Some(lack)),
        }
    }
    Err(first_lack.unwrap_or_else(|| Lack::of(Unknown::NoServer)))
}

/// The better a server can judge, the earlier: those that were measured, those that can be taken at their word, the others.
fn rank(server: &Server) -> u8 {
    match (server.steers(), server.judges()) {
        (true, _) => 0,
        (false, true) => 1,
        (false, false) => 2,
    }
}

/// Whether its word about exactly one text can be had. Servers that were not measured do not steer, but they judge what is whole.
fn supported(server: &'static Server) -> Result<(), Lack> {
    if server.judges() {
        return Ok(());
    }
    let name = server.name().to_owned();
    Err(Lack { server: Some(name.clone()), ..Lack::of(Unknown::NotSupported(name)) })
}

/// The command with what a twin is told beyond the user's arguments.
fn with_args(mut command: Vec<String>, server: &Server) -> Vec<String> {
    for arg in &server.twin().args {
        if !command.contains(arg) {
            command.push(arg.clone());
        }
    }
    command
}

/// The environment with what a twin is given beyond the user's.
fn with_env(env: Option<&Environment>, server: &Server) -> Option<Environment> {
    let more = &server.twin().env;
    if more.is_empty() {
        return env.cloned();
    }
    let mut env = env.cloned().unwrap_or_else(env_vars::everything);
    env.extend(more.iter().map(|(name, value)| (name.into(), value.into())));
    Some(env)
}

/// The command with its program as a path that exists.
fn located(
    command: &[String],
    server: &Server,
    env: Option<&Environment>,
) -> Result<Vec<String>, Lack> {
    let lack = |program: &str| Lack {
        reason: Unknown::NoServer,
        server: Some(server.name().to_owned()),
        hint: Some(format!(
            "`{program}` was not found in PATH; install {}, or set `servers.command`",
            server.name()
        )),
    };
    let program = command.first().ok_or_else(|| lack(""))?;
    let found = which(program, env).ok_or_else(|| lack(program))?;
    let mut located = command.to_vec();
    located[0] = found.to_string_lossy().into_owned();
    Ok(located)
}

/// The file that a program's name stands for, in the `PATH` of `env`.
#[must_use]
pub fn which(program: &str, env: Option<&Environment>) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| path.is_file());
    }
    let dirs = match env {
        Some(env) => env
            .get(OsStr::new(env_vars::PATH))
            .map_or_else(Vec::new, |path| std::env::split_paths(path).collect()),
        None => env_vars::search_path(),
    };
    dirs.into_iter().map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// The project that a file belongs to: the nearest folder above it with one of the language's markers, else its own folder.
#[must_use]
pub fn root_of(path: &Path, language: &Language) -> PathBuf {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let marked =
        |dir: &&Path| language.root_markers().iter().any(|marker| dir.join(marker).exists());
    folder.ancestors().find(marked).unwrap_or(folder).to_owned()
}

/// The same with the markers of the server's own, which come before those of the language.
pub(super) fn root_for(path: &Path, language: &Language, server: &Server) -> PathBuf {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let marked = |dir: &&Path| server.root_markers().iter().any(|name| dir.join(name).exists());
    folder.ancestors().find(marked).map_or_else(|| root_of(path, language), Path::to_owned)
}

/// `over` laid on `base`: tables are merged, everything else is replaced.
#[must_use]
pub fn merged(base: Json, over: Option<&Json>) -> Json {
    match (base, over) {
        (base, None | Some(Json::Null)) => base,
        (Json::Object(mut base), Some(Json::Object(over))) => {
            for (key, value) in over {
                let below = base.remove(key).unwrap_or(Json::Null);
                base.insert(key.clone(), merged(below, Some(value)));
            }
            Json::Object(base)
        }
        (_, Some(over)) => over.clone(),
    }
}

fn complete_initialize(initialize: &mut Json, root: &Path, options: Json, server: &Server) {
    if !initialize.is_object() {
        *initialize = json!({});
    }
    let uri = uri_of(root);
    let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if initialize["rootUri"].is_null() && initialize["workspaceFolders"].is_null() {
        initialize["rootUri"] = Json::from(uri.clone());
        initialize["rootPath"] = Json::from(root.to_string_lossy());
        initialize["workspaceFolders"] = json!([{"uri": uri, "name": name}]);
    }
    if let Some(fields) = initialize.as_object_mut() {
        fields.remove("workDoneToken");
        fields.remove("trace");
    }
    initialize["processId"] = Json::from(std::process::id());
    initialize["clientInfo"] = json!({"name": "demolish", "version": env!("CARGO_PKG_VERSION")});
    initialize["initializationOptions"] = options;
    initialize["capabilities"] = merged(capabilities(), server.twin().capabilities.as_ref());
}

/// What a twin says that it can do: no more than it does.
fn capabilities() -> Json {
    json!({
        "general": {"positionEncodings": ["utf-8", "utf-16"]},
        "workspace": {
            "configuration": true,
            "workspaceFolders": true,
            "didChangeConfiguration": {"dynamicRegistration": false},
            "didChangeWatchedFiles": {"dynamicRegistration": true},
        },
        "textDocument": {
            "synchronization": {"dynamicRegistration": false},
            "publishDiagnostics": {"versionSupport": true, "codeDescriptionSupport": true, "dataSupport": true},
            "diagnostic": {"dynamicRegistration": true, "relatedDocumentSupport": false, "dataSupport": true},
            "completion": {
                "completionItem": {"snippetSupport": false, "labelDetailsSupport": true},
                "contextSupport": true,
            },
            "codeAction": {
                "dataSupport": true,
                "disabledSupport": true,
                "isPreferredSupport": true,
                "resolveSupport": {"properties": ["edit"]},
                "codeActionLiteralSupport": {"codeActionKind": {"valueSet": ["quickfix"]}},
            },
        },
    })
}

/// The `file:` address of a path.
#[must_use]
pub fn uri_of(path: &Path) -> String {
    wire::lsp::Uri::from_file_path(path)
        .map_or_else(|| format!("file://{}", path.display()), |uri| uri.to_string())
}

/// The path of a `file:` address.
#[must_use]
pub fn path_of(uri: &str) -> Option<PathBuf> {
    let uri: wire::lsp::Uri = uri.strip_prefix("file:").map(|_| uri)?.parse().ok()?;
    uri.to_file_path().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn python() -> Option<&'static Language> {
        lang::by_id("python")
    }

    fn user(command: &str, initialize: Json) -> UserServer {
        UserServer {
            command: vec![command.to_owned(), "server".to_owned()],
            initialize,
            ..UserServer::default()
        }
    }

    /// A folder with a program `ty` in it, and a project with a marker.
    fn project() -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("project/src")).unwrap();
        for file in ["ty", "ruff", "project/pyproject.toml"] {
            std::fs::File::create(dir.path().join(file)).unwrap();
        }
        let ty = dir.path().join("ty").to_string_lossy().into_owned();
        (dir, ty)
    }

    #[test]
    fn a_twin_is_started_as_the_user_s_server_was() {
        let (dir, ty) = project();
        let root = dir.path().join("project");
        let options = json!({"settings": {"x": 1}});
        let initialize = json!({
            "processId": 1,
            "rootUri": uri_of(&root),
            "initializationOptions": options,
            "capabilities": {"experimental": true},
            "workDoneToken": "t",
        });
        let path = root.join("src/a.py");
        let plan =
            plan(&path, python(), &[user(&ty, initialize)], None, &Config::default()).unwrap();
        assert_eq!((plan.name.as_str(), &plan.root), ("ty", &root));
        assert_eq!(plan.command, [ty, "server".to_owned()]);
        assert_eq!(plan.initialize["initializationOptions"], options);
        assert_eq!(plan.initialize["processId"], std::process::id());
        assert_eq!(plan.initialize["capabilities"]["general"]["positionEncodings"][0], "utf-8");
        assert!(plan.initialize.get("workDoneToken").is_none());
    }

    #[test]
    fn a_server_of_another_project_or_language_is_not_taken() {
        let (dir, ty) = project();
        let elsewhere = json!({"rootUri": uri_of(&dir.path().join("other"))});
        let mut config = Config::default();
        config.servers.command.insert("python".to_owned(), vec![ty.clone(), "server".to_owned()]);
        let path = dir.path().join("project/src/a.py");
        let plan =
            plan(&path, python(), &[user(&ty, elsewhere), user("gopls", json!({}))], None, &config)
                .unwrap();
        assert_eq!(
            plan.root,
            dir.path().join("project"),
            "by the root markers, not by the other project's server"
        );
        assert_eq!(plan.initialize["workspaceFolders"][0]["name"], "project");
    }

    #[test]
    fn what_is_lacking_is_said() {
        let (dir, _) = project();
        let path = dir.path().join("project/src/a.py");
        let check = |language, command: Option<&str>, reason: Unknown| {
            let mut config = Config::default();
            if let Some(command) = command {
                config.servers.command.insert("python".to_owned(), vec![command.to_owned()]);
            }
            let lack = plan(&path, language, &[], None, &config).unwrap_err();
            assert_eq!(lack.reason, reason);
            lack.hint
        };
        check(None, None, Unknown::NoLanguage);
        let ruff = dir.path().join("ruff").to_string_lossy().into_owned();
        check(python(), Some(&ruff), Unknown::NotSupported("ruff".to_owned()));
        let hint = check(python(), Some("/nowhere/ty"), Unknown::NoServer).unwrap();
        assert_eq!(
            hint,
            "`/nowhere/ty` was not found in PATH; install ty, or set `servers.command`"
        );
    }

    #[test]
    fn tables_are_merged() {
        let base = json!({"a": {"x": 1, "y": 2}, "b": 1});
        assert_eq!(
            merged(base.clone(), Some(&json!({"a": {"y": 3}, "b": [1]}))),
            json!({"a": {"x": 1, "y": 3}, "b": [1]})
        );
        assert_eq!(merged(base.clone(), None), base);
        assert_eq!(merged(Json::Null, Some(&json!({"a": 1}))), json!({"a": 1}));
    }

    #[test]
    fn addresses_and_paths() {
        let path = Path::new("/tmp/a b/ü#.py");
        assert_eq!(uri_of(path), "file:///tmp/a%20b/%C3%BC%23.py");
        assert_eq!(path_of(&uri_of(path)).as_deref(), Some(path));
        assert_eq!(path_of("untitled:1"), None);
    }
}
