//! `demolish lsp`: holds the editor's connection, so that the daemon may come and go.
//!
//! A shim is a [`proxy::Link`] between the editor and the daemon. If there is no daemon to be had when it starts, it
//! becomes the real server (rule 4.48). If the daemon dies later, it finds another, which is told what the old one knew;
//! if none can be had, or the daemon hangs, it runs the real server itself. Nothing here touches the engine, the configuration or the network.

mod connect;
mod serve;
mod suspicion;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use wire::child;
use wire::ext::MergedServer;

use connect::NoDaemon;
use serve::Beginning;

/// What a shim is told.
#[derive(Clone, Debug)]
pub struct ShimOptions {
    /// What it stands for.
    pub mode: ShimMode,
    /// Whether to become the real server at once.
    pub bypass: bool,
    /// Where the daemon listens.
    pub socket: PathBuf,
    /// The program and arguments that start a daemon.
    pub daemon: Vec<OsString>,
    /// The file for what a daemon that this shim starts has to say before it has a log of its own.
    pub daemon_log: PathBuf,
    /// The version that the daemon must have.
    pub version: String,
    /// The folder of the journals.
    pub journal_dir: PathBuf,
    /// Whether the user wants one: asked off the path of the messages, once there is a document.
    pub journal: fn() -> bool,
}

/// What a shim stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShimMode {
    /// A language server: its command.
    Wrap(Vec<OsString>),
    /// Several language servers as one.
    Merge(Merged),
    /// Demolish's own features.
    Own,
}

/// Several language servers as one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// The servers; the first is the primary.
    pub servers: Vec<MergedServer>,
    /// Features that one server has for all, and its name.
    pub owners: BTreeMap<String, String>,
}

impl ShimMode {
    /// The server that is run where there is no daemon: of several the first, because joining them is the daemon's work.
    fn command(&self) -> Option<Vec<OsString>> {
        match self {
            ShimMode::Wrap(command) => Some(command.clone()),
            ShimMode::Merge(Merged { servers, .. }) => {
                servers.first().map(|server| server.command.iter().map(Into::into).collect())
            }
            ShimMode::Own => None,
        }
    }

    /// What the user is to know when that server runs: the names of those that do not.
    fn without(&self) -> Vec<&str> {
        match self {
            ShimMode::Merge(Merged { servers, .. }) => {
                servers.iter().skip(1).map(|server| server.name.as_str()).collect()
            }
            ShimMode::Wrap(_) | ShimMode::Own => Vec::new(),
        }
    }
}

/// Runs a shim until its editor is gone.
pub fn run(options: ShimOptions) -> ExitCode {
    if let (true, Some(command)) = (options.bypass, options.mode.command()) {
        return step_aside(&command, &options);
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return without_daemon(&NoDaemon::Io(error), &options),
    };
    let code = match runtime.block_on(connect::connect(&options, connect::FIRST, false)) {
        Ok(connection) => runtime.block_on(serve::run(&options, Beginning::Connected(connection))),
        Err(error) => {
            drop(runtime);
            return without_daemon(&error, &options);
        }
    };
    // A reader of a stdin that cannot be polled must not keep us here.
    runtime.shutdown_background();
    code
}

fn without_daemon(error: &NoDaemon, options: &ShimOptions) -> ExitCode {
    tracing::warn!(%error, mode = ?options.mode, "no daemon");
    match &options.mode {
        ShimMode::Wrap(command) => step_aside(command, options),
        // Who becomes the server cannot say any more that the others are missing.
        ShimMode::Merge(_) => stay(options, Beginning::Alone),
        ShimMode::Own => {
            let remedy = format!("see {}, or run `demolish doctor`", options.daemon_log.display());
            apologise(options, format!("Demolish: no daemon: {error}; {remedy}"))
        }
    }
}

/// Becomes the real server; comes back only to say that it cannot be started.
fn step_aside(command: &[OsString], options: &ShimOptions) -> ExitCode {
    let error = child::become_program(command);
    let remedy = "install it, or correct the command in the editor's configuration";
    apologise(
        options,
        format!("Demolish: the language server cannot be started: {error}; {remedy}"),
    )
}

/// Says why there is nothing, in the protocol's words, until the editor has understood.
fn apologise(options: &ShimOptions, reason: String) -> ExitCode {
    stay(options, Beginning::Refused(reason))
}

/// Holds the editor's connection without a daemon.
fn stay(options: &ShimOptions, beginning: Beginning) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(serve::run(options, beginning));
            runtime.shutdown_background();
            code
        }
        Err(_) => ExitCode::FAILURE,
    }
}
