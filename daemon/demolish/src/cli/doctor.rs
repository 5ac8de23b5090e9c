//! `demolish doctor`

use std::fmt::Write as _;
use std::path::Path;

use engine::Engine;
use serde_json::{Value as Json, json};
use wire::ext::GetStatus;

use super::model::meter::loading;
use super::{Exit, Outcome, clock, control};
use crate::config;
use crate::config::read::{self, Layers, Loaded};
use crate::model::Role;
use crate::twin::plan::which;
use crate::{env_vars, logging, model};

/// Look at everything that Demolish needs, and say what is missing and what would help
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  demolish doctor
  demolish doctor --json | jq '.checks[] | select(.state == \"bad\")'

Exits with 3 when something is missing that Demolish cannot work without.")]
pub(super) struct Args {
    /// Print an object: checks [{name, state (good, note, bad), says, remedy}]
    #[arg(long)]
    json: bool,
}

/// What one look found.
pub(super) struct Check {
    name: String,
    state: State,
    says: String,
    remedy: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    /// Something that is less than it could be.
    Note,
    Bad,
}

impl Check {
    fn new(name: &str, state: State, says: impl Into<String>) -> Check {
        Check { name: name.to_owned(), state, says: says.into(), remedy: None }
    }

    fn remedy(mut self, remedy: &str) -> Check {
        self.remedy = Some(remedy.to_owned());
        self
    }
}

pub(super) fn run(args: &Args) -> Outcome {
    let loaded = read::load(&Layers::of_process(Some(std::path::Path::new("."))));
    let checks = checks(&loaded);
    let bad = checks.iter().any(|check| check.state == State::Bad);
    if args.json {
        super::print_json(&as_json(&checks));
    } else {
        super::print(&told(&checks));
    }
    Ok(if bad { Exit::Missing } else { Exit::Done })
}

/// Looks at everything.
pub(super) fn checks(loaded: &Loaded) -> Vec<Check> {
    let mut checks = settings(loaded);
    checks.push(folder());
    checks.push(daemon());
    checks.extend(environment());
    checks.extend(model(loaded));
    checks.extend(servers(loaded));
    checks.push(neovim());
    checks
}

/// What was found, as an object.
pub(super) fn as_json(checks: &[Check]) -> Json {
    let rows: Vec<Json> = checks
        .iter()
        .map(|check| json!({"name": check.name, "state": word(check.state), "says": check.says, "remedy": check.remedy}))
        .collect();
    let bad = checks.iter().any(|check| check.state == State::Bad);
    json!({"ok": !bad, "checks": rows})
}

fn word(state: State) -> &'static str {
    match state {
        State::Good => "good",
        State::Note => "note",
        State::Bad => "bad",
    }
}

fn told(checks: &[Check]) -> String {
    let mut out = String::new();
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    for check in checks {
        let _ = writeln!(out, "{:4}  {:width$}  {}", word(check.state), check.name, check.says);
        if let Some(remedy) = &check.remedy {
            let _ = writeln!(out, "      {:width$}  -> {remedy}", "");
        }
    }
    out
}

fn settings(loaded: &Loaded) -> Vec<Check> {
    let file = env_vars::config_file()
        .map_or_else(|| "no home folder".to_owned(), |file| file.display().to_string());
    if loaded.problems.is_empty() {
        return vec![Check::new(
            "settings",
            State::Good,
            format!("{} set, in {file}", loaded.decided.len()),
        )];
    }
    let remedy = "correct it; until then the default holds";
    loaded
        .problems
        .iter()
        .map(|problem| Check::new("settings", State::Note, problem.to_string()).remedy(remedy))
        .collect()
}

/// Whether logs can be written.
fn folder() -> Check {
    let dir = env_vars::state_dir();
    match std::fs::create_dir_all(&dir) {
        Ok(()) => Check::new("logs", State::Good, logging::daemon_log().display().to_string()),
        Err(error) => {
            Check::new("logs", State::Bad, format!("{} cannot be written ({error})", dir.display()))
                .remedy("make it writable, or set XDG_STATE_HOME")
        }
    }
}

/// Variables that do not have the effect that whoever set them expects.
fn environment() -> Vec<Check> {
    let runtime_dir = env_vars::runtime_dir_trouble().map(|trouble| {
        Check::new("environment", State::Note, trouble).remedy(
            "make the folder, or set it to one that is there; daemon and editors must agree on it",
        )
    });
    let unknown = env_vars::unknown().into_iter().map(|name| {
        Check::new("environment", State::Note, format!("{name} is set, and nothing reads it"))
            .remedy("`docs/config.md` lists the variables")
    });
    runtime_dir.into_iter().chain(unknown).collect()
}

fn daemon() -> Check {
    let socket = env_vars::socket_path();
    match control::ask::<GetStatus>(()) {
        Ok(Some(status)) => {
            let links = status.links.len();
            let says = format!(
                "{} (pid {}), {links} links, at {}",
                status.version,
                status.pid,
                socket.display()
            );
            Check::new("daemon", State::Good, says)
        }
        Ok(None) => {
            let says = format!("none is running at {}; editors start one", socket.display());
            Check::new("daemon", State::Good, says)
        }
        Err(failure) => Check::new("daemon", State::Bad, failure.message)
            .remedy("`demolish stop`, or end it by its pid"),
    }
}

/// The models: the one for whoever types is loaded, of the agent's the plan is looked at, since it may take minutes to load and
/// much of the memory.
fn model(loaded: &Loaded) -> Vec<Check> {
    let settings = &loaded.config.model;
    if !settings.enabled {
        return vec![Check::new("model", State::Note, "switched off (`model.enabled`)")];
    }
    // Held while the other one is looked at: both have to fit at once.
    let (mut checks, _engine) = match model::find(settings) {
        Ok(dir) => loads(&dir, settings),
        Err(reason) => (vec![missing("model", reason)], None),
    };
    if settings.agent_path.is_some() {
        checks.push(match model::find_for(settings, Role::Agent) {
            Ok(dir) => fits(&dir, settings),
            Err(reason) => missing("agent's model", reason),
        });
    }
    checks
}

fn missing(what: &'static str, reason: String) -> Check {
    Check::new(what, State::Bad, reason)
        .remedy("`demolish model list` shows where models are looked for")
}

fn loads(dir: &Path, settings: &config::Model) -> (Vec<Check>, Option<Engine>) {
    let engine = match loading(|watch| model::load_watched(dir, model::options(settings), watch)) {
        Ok(engine) => engine,
        Err(reason) => return (vec![Check::new("model", State::Bad, reason)], None),
    };
    let info = engine.info();
    let says = format!(
        "{} ({}, {}) in {}",
        info.name,
        info.architecture,
        clock::bytes(info.bytes_resident),
        dir.display()
    );
    let mut checks = vec![Check::new("model", State::Good, says)];
    if engine.tokenizer().fim().is_none() {
        checks.push(
            Check::new(
                "model",
                State::Note,
                "it has no fill-in-the-middle tokens, so it cannot complete in place",
            )
            .remedy("take a model that was trained to fill in the middle"),
        );
    }
    (checks, Some(engine))
}

fn fits(dir: &Path, settings: &config::Model) -> Check {
    let what = "agent's model";
    let survey = match Engine::survey(dir, model::options(settings)) {
        Ok(survey) => survey,
        Err(error) => return Check::new(what, State::Bad, model::refused(Some(dir), &error)),
    };
    let (info, memory) = (survey.info, survey.memory);
    let (name, weights) = (info.name, clock::bytes(info.bytes_resident));
    if memory.fits {
        let context = info.context_fits;
        let says = format!(
            "{name} ({}, {weights}, {context} tokens fit) in {}",
            info.architecture,
            dir.display()
        );
        return Check::new(what, State::Good, says);
    }
    let room = memory.available.map_or_else(|| "?".to_owned(), clock::bytes);
    let says = format!("{name} does not fit: {weights} of weights, {room} {}", memory.limit);
    let check = Check::new(what, State::Bad, says);
    match memory.advice.first() {
        Some(advice) => check.remedy(advice),
        None => check,
    }
}

/// The language servers: one line per language, with the first that is installed.
fn servers(loaded: &Loaded) -> Vec<Check> {
    let configured = &loaded.config.servers.command;
    let mut checks = Vec::new();
    for language in lang::all() {
        let name = language.name();
        if let Some(command) = configured.get(language.id()) {
            let program = command.first().cloned().unwrap_or_default();
            checks.push(match which(&program, None) {
                Some(path) => Check::new(
                    name,
                    State::Good,
                    format!("{} (by `servers.command`)", path.display()),
                ),
                None => Check::new(name, State::Bad, format!("`{program}` was not found"))
                    .remedy("correct `servers.command`, or install it"),
            });
            continue;
        }
        let installed: Vec<_> = language
            .servers()
            .iter()
            .filter(|server| {
                server.builtin() == Some(lang::Builtin::Sqlite)
                    || server
                        .command()
                        .first()
                        .is_some_and(|program| which(program, None).is_some())
            })
            .collect();
        let checker = installed.iter().find(|server| server.steers());
        checks.push(
            match (
                checker,
                installed.first(),
                language.servers().iter().find(|server| server.steers()),
            ) {
                (Some(server), ..) if server.builtin().is_some() => {
                    let told = format!("{} checks suggestions (built in)", server.name());
                    Check::new(name, State::Good, told)
                }
                (Some(server), ..) => {
                    Check::new(name, State::Good, format!("{} checks suggestions", server.name()))
                }
                (None, found, Some(able)) => {
                    let found = found
                        .map_or_else(|| "no server".to_owned(), |server| server.name().to_owned());
                    Check::new(name, State::Note, format!("{found}; suggestions are not checked"))
                        .remedy(&format!("install {}", able.name()))
                }
                (None, Some(server), None) => Check::new(
                    name,
                    State::Note,
                    format!("{}; its suggestions are not checked yet", server.name()),
                ),
                (None, None, None) => {
                    Check::new(name, State::Note, "no server; suggestions are not checked")
                }
            },
        );
    }
    checks
}

fn neovim() -> Check {
    match which("nvim", None) {
        Some(path) => Check::new(
            "Neovim",
            State::Good,
            format!("{}; `:checkhealth demolish` knows more", path.display()),
        ),
        None => Check::new(
            "Neovim",
            State::Note,
            "not found; any editor with LSP can start `demolish lsp`",
        ),
    }
}
