//! A language server as a child process: a group of its own that dies with us, and a stderr that is always drained.
//!
//! A full stderr pipe blocks a server (rule 4.16), so a thread of its own reads it, whatever the loop is doing. Children
//! are started on one thread that never ends, because Linux ties the death signal to the thread that forked.

mod log;
mod platform;
mod watchdog;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::ends::{self, Reader, Writer};

pub use log::{LINE_BYTES_MAX, LOG_BYTES_MAX, LOG_FILES, Log, TAIL_LINES};

/// How long a child may take to end after it was asked to (SIGTERM), before its group is killed.
pub const TERMINATE_GRACE: Duration = Duration::from_secs(2);
/// How many starts may wait for the thread that starts children.
const SPAWNS_MAX: usize = 64;

/// What to start.
#[derive(Clone, Debug, Default)]
pub struct ChildOptions {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// Where it runs; `None` is where we run.
    pub cwd: Option<PathBuf>,
    /// Its whole environment; `None` is ours.
    pub env: Option<BTreeMap<OsString, OsString>>,
    /// The file that takes its stderr; `None` keeps only the last lines.
    pub log: Option<PathBuf>,
}

/// Why a child did not start.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// There is no command.
    #[error("the command is empty")]
    Empty,
    /// The program is not there.
    #[error("`{0}` was not found")]
    NotFound(String),
    /// The folder to run in is not there.
    #[error("the folder {} does not exist", .0.display())]
    NoFolder(PathBuf),
    /// The system refused.
    #[error("`{0}` could not be started: {1}")]
    Io(String, #[source] io::Error),
}

/// A running child. Dropping it kills its whole group.
#[derive(Debug)]
pub struct Child {
    process: tokio::process::Child,
    group: Option<Pid>,
    log: Log,
}

impl Child {
    /// Starts a child; the pipes are its stdin and stdout.
    pub async fn spawn(options: ChildOptions) -> Result<(Child, Writer, Reader), SpawnError> {
        let program = options.command.first().ok_or(SpawnError::Empty)?;
        let name = program.to_string_lossy().into_owned();
        if let Some(folder) = options.cwd.as_ref().filter(|folder| !folder.is_dir()) {
            return Err(SpawnError::NoFolder(folder.clone()));
        }
        let log = Log::open(options.log.clone());
        let stderr = log.clone();
        let started = on_spawner(move || start(&options, stderr)).await;
        let mut process = started.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => SpawnError::NotFound(name.clone()),
            _ => SpawnError::Io(name.clone(), error),
        })?;
        let group = process.id().and_then(|id| Pid::from_raw(id as i32));
        let pipes = process.stdin.take().zip(process.stdout.take());
        let child = Child { process, group, log };
        platform::register(child.group);
        let broken = || io::ErrorKind::BrokenPipe.into();
        let ends =
            pipes.ok_or_else(broken).and_then(|(stdin, stdout)| ends::of_child(stdin, stdout));
        match ends {
            Ok((reader, writer)) => Ok((child, writer, reader)),
            Err(error) => Err(SpawnError::Io(name, error)),
        }
    }

    /// Its process id, until it has ended.
    pub fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// Its stderr, and whatever else it said that was no message.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Waits until it has ended, and then kills what is left of its group.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.process.wait().await;
        self.kill_group();
        status
    }

    /// Asks it to end (SIGTERM to the group), waits for [`TERMINATE_GRACE`], and then kills the group. Returns how it
    /// ended, unless it had to be killed.
    pub async fn terminate(&mut self) -> Option<ExitStatus> {
        if let Some(group) = self.group {
            let _ = kill_process_group(group, Signal::TERM);
        }
        let ended = tokio::time::timeout(TERMINATE_GRACE, self.process.wait()).await;
        self.kill_group();
        ended.ok()?.ok()
    }

    /// Kills the group once; what is left of it after its leader has ended has nobody to serve.
    fn kill_group(&mut self) {
        if let Some(group) = self.group.take() {
            let _ = kill_process_group(group, Signal::KILL);
            platform::unregister(group);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill_group();
    }
}

/// Becomes `command`; returns only if that is impossible.
#[expect(clippy::disallowed_methods, reason = "the shim steps aside for the real server")]
pub fn become_program(command: &[OsString]) -> SpawnError {
    let Some(program) = command.first() else { return SpawnError::Empty };
    let error = std::process::Command::new(program).args(&command[1..]).exec();
    let name = program.to_string_lossy().into_owned();
    match error.kind() {
        io::ErrorKind::NotFound => SpawnError::NotFound(name),
        _ => SpawnError::Io(name, error),
    }
}

/// Starts a program that outlives us, in a session of its own, with `log` as its output. Used for the daemon.
#[expect(clippy::disallowed_methods, reason = "the daemon is no child: it must outlive the shim")]
pub fn detach(
    program: &std::path::Path,
    args: &[&std::ffi::OsStr],
    log: std::fs::File,
) -> io::Result<Detached> {
    let mut command = std::process::Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir("/");
    platform::own_session(&mut command);
    Ok(Detached(command.spawn()?))
}

/// A program that outlives us.
#[derive(Debug)]
pub struct Detached(std::process::Child);

impl Detached {
    /// Whether it has ended already.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place where children are started")]
fn start(options: &ChildOptions, log: Log) -> io::Result<tokio::process::Child> {
    let (stderr, theirs) = io::pipe()?;
    let mut command = std::process::Command::new(&options.command[0]);
    command.args(&options.command[1..]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(theirs).process_group(0);
    if let Some(cwd) = &options.cwd {
        command.current_dir(cwd);
    }
    if let Some(env) = &options.env {
        command.env_clear().envs(env);
    }
    platform::die_with_parent(&mut command);
    let process = tokio::process::Command::from(command).spawn()?;
    log.drain(stderr);
    Ok(process)
}

type Job = Box<dyn FnOnce() + Send>;

/// Runs `job` on the thread that starts children, inside the caller's runtime.
async fn on_spawner<T: Send + 'static>(
    job: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    static SPAWNER: OnceLock<Option<mpsc::SyncSender<Job>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, jobs) = mpsc::sync_channel::<Job>(SPAWNS_MAX);
        let thread = std::thread::Builder::new().name("spawner".to_owned()).stack_size(256 * 1024);
        thread.spawn(move || jobs.into_iter().for_each(|job| job())).ok().map(|_| sender)
    });
    let gone = || io::Error::other("the thread that starts children is gone");
    let runtime = tokio::runtime::Handle::current();
    let (answer, result) = tokio::sync::oneshot::channel();
    let job: Job = Box::new(move || {
        let _inside = runtime.enter();
        let _ = answer.send(job());
    });
    spawner.as_ref().ok_or_else(gone)?.try_send(job).map_err(|_| gone())?;
    result.await.map_err(|_| gone())?
}

#[cfg(test)]
mod tests;
