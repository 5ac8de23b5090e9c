//! A daemon of its own for a measurement: its socket, its logs and its settings are in a folder that goes with it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use wire::child::{Child, ChildOptions};
use wire::client::{Client, Handler};
use wire::ends::{Reader, Writer};

use crate::env_vars;

/// How long the daemon may take to hear that it is to end.
const STOP_PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// A folder for one measurement, and the environment that keeps a daemon within it.
pub(super) struct Sandbox {
    folder: PathBuf,
    env: BTreeMap<OsString, OsString>,
}

impl Sandbox {
    /// Makes the folder. `settings` is the daemon's whole configuration.
    #[allow(clippy::disallowed_methods, reason = "the folder is the measurement's own")]
    pub(super) fn new(name: &str, settings: &str) -> Result<Sandbox, String> {
        let folder =
            std::env::temp_dir().join(format!("demolish-bench-{name}-{}", std::process::id()));
        let failed =
            |error: std::io::Error| format!("{} cannot be written ({error})", folder.display());
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let config = folder.join("demolish.toml");
        std::fs::write(&config, settings).map_err(failed)?;
        let mut env = env_vars::everything();
        env.retain(|name, _| {
            !name.to_string_lossy().starts_with("DEMOLISH_") || name == env_vars::DEMOLISH_MODEL
        });
        let mut set =
            |name: &str, value: &OsStr| env.insert(OsString::from(name), value.to_owned());
        set(env_vars::DEMOLISH_CONFIG, config.as_os_str());
        set(env_vars::DEMOLISH_SOCKET, folder.join("socket").join("demolish.sock").as_os_str());
        set(env_vars::XDG_STATE_HOME, folder.join("state").as_os_str());
        set(env_vars::PATH, &search_path());
        Ok(Sandbox { folder, env })
    }

    /// The environment.
    pub(super) fn env(&self) -> &BTreeMap<OsString, OsString> {
        &self.env
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the daemon listens.
    pub(super) fn socket(&self) -> PathBuf {
        self.folder.join("socket").join("demolish.sock")
    }

    /// Ends the daemon that a shim has started here; it would outlive the measurement.
    pub(super) async fn stop_daemon(&self) {
        let program = program();
        if let Ok((_client, mut child)) =
            self.start(&[&program, OsStr::new("stop")], wire::client::Quiet).await
        {
            let _ = tokio::time::timeout(STOP_PATIENCE, child.wait()).await;
        }
    }

    /// Starts a child in the sandbox and a client on its stdin and stdout.
    pub(super) async fn start(
        &self,
        command: &[&OsStr],
        handler: impl Handler,
    ) -> Result<(Client, Child), String> {
        let (child, stdin, stdout) = self.spawn(command).await?;
        Ok((Client::start(stdout, stdin, handler), child))
    }

    /// Starts a child in a folder of its own, with further variables.
    pub(super) async fn spawn_in(
        &self,
        command: &[String],
        folder: &Path,
        env: &BTreeMap<String, String>,
    ) -> Result<(Child, Writer, Reader), String> {
        let more = env.iter().map(|(name, value)| (name.into(), value.into()));
        let options = ChildOptions {
            command: command.iter().map(OsString::from).collect(),
            cwd: Some(folder.to_owned()),
            env: Some(self.env.clone().into_iter().chain(more).collect()),
            log: None,
        };
        Child::spawn(options).await.map_err(|error| error.to_string())
    }

    /// Starts a child in the sandbox: it, its stdin and its stdout.
    pub(super) async fn spawn(
        &self,
        command: &[&OsStr],
    ) -> Result<(Child, Writer, Reader), String> {
        let options = ChildOptions {
            command: command.iter().map(|part| (*part).to_owned()).collect(),
            cwd: Some(self.folder.clone()),
            env: Some(self.env.clone()),
            log: None,
        };
        Child::spawn(options).await.map_err(|error| error.to_string())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// `PATH`, and behind it the tools of the source tree that this was built from.
fn search_path() -> OsString {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/bin");
    let dirs = env_vars::search_path().into_iter().chain(tools.canonicalize());
    std::env::join_paths(dirs).unwrap_or_default()
}

/// This program.
pub(super) fn program() -> OsString {
    std::env::current_exe().map_or_else(|_| OsString::from("demolish"), PathBuf::into_os_string)
}
