//! Where a fault run takes place: its own socket and folders, and the processes that belong to it.
//!
//! Signals are sent only to processes that carry the run's socket in their environment: numbers of processes are used again
//! soon when thousands are started.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use wire::child::Child;
use wire::ends::{Reader, Writer};

use super::super::sandbox::{Sandbox, program};
use super::trace::Trace;

/// How long a daemon may take to listen on a machine that is busy with other runs.
const LISTEN_PATIENCE: Duration = Duration::from_secs(20);
/// The daemon's settings: one that is left behind ends by itself.
const SETTINGS: &str = "[daemon]\nidle_exit_s = 20\n";

/// A run's own corner of the machine.
pub(super) struct Place {
    sandbox: Sandbox,
    /// Whether the editors share one server.
    shared: bool,
    marker: Vec<u8>,
    trace: Trace,
}

impl Place {
    /// Makes it, with a daemon that listens.
    pub(super) async fn new(seed: u64, shared: bool, trace: &Trace) -> Result<Place, String> {
        let sandbox = Sandbox::new(&format!("faults-{seed}"), SETTINGS)?;
        let marker = sandbox.socket().into_os_string().into_encoded_bytes();
        let place = Place { sandbox, shared, marker, trace: trace.clone() };
        let daemon: [&OsStr; 2] = [&program(), "daemon".as_ref()];
        let (mut daemon, ..) = place.sandbox.spawn(&daemon).await?;
        tokio::spawn(async move { daemon.wait().await });
        let until = Instant::now() + LISTEN_PATIENCE;
        while wire::socket::connect(&place.sandbox.socket()).await.is_err() {
            if Instant::now() > until {
                return Err("no daemon listens".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(place)
    }

    /// Starts a shim around the fake server of the editor `name`.
    pub(super) async fn shim(&self, name: &str) -> Result<(Child, Writer, Reader), String> {
        let (program, record) = (program(), self.record(name).into_os_string());
        let words = ["lsp", "--"].map(OsString::from);
        let server = [program.clone(), "fake-server".into(), "--record".into(), record];
        let command: Vec<OsString> = std::iter::once(program).chain(words).chain(server).collect();
        let command: Vec<&OsStr> = command.iter().map(OsString::as_os_str).collect();
        self.sandbox.spawn(&command).await
    }

    /// Whether the editors share one server.
    pub(super) fn is_shared(&self) -> bool {
        self.shared
    }

    /// Where the servers of the editor `name` write down what they hear. It is part of their command: those with the same are
    /// the same server.
    fn record(&self, name: &str) -> PathBuf {
        let name = if self.shared { "shared" } else { name };
        self.sandbox.folder().join(format!("{name}.record"))
    }

    /// What they have written: name, process, number.
    pub(super) fn recorded(&self, name: &str) -> Vec<(String, i32, u64)> {
        let text = std::fs::read_to_string(self.record(name)).unwrap_or_default();
        let line = |line: &str| {
            let mut words = line.split(' ');
            let what = words.next()?.to_owned();
            Some((what, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        };
        text.lines().filter_map(line).collect()
    }

    /// The server of the editor `name` that was started last, if it is there.
    pub(super) fn server(&self, name: &str) -> Option<i32> {
        let recorded = self.recorded(name);
        let started = recorded.iter().rev().find(|(what, ..)| what == "start");
        started.map(|(_, pid, _)| *pid).filter(|pid| self.is_ours(*pid))
    }

    /// The daemon, if it is there.
    pub(super) fn daemon(&self) -> Option<i32> {
        let lock = std::fs::read_to_string(self.sandbox.socket().with_extension("lock")).ok()?;
        lock.trim().parse().ok().filter(|pid| self.is_ours(*pid))
    }

    /// Sends a signal to a process of this run; `false` if it is not there.
    pub(super) fn signal(&self, what: &str, pid: i32, signal: Signal) -> bool {
        let sent = self.is_ours(pid)
            && Pid::from_raw(pid).is_some_and(|pid| kill_process(pid, signal).is_ok());
        self.trace
            .add(format!("{signal:?} to the {what} {pid}{}", if sent { "" } else { ": gone" }));
        sent
    }

    /// Ends the daemons, and waits for everything else to end; returns the commands of what is left, which is killed.
    pub(super) async fn clear(&self, patience: Duration) -> Vec<String> {
        let until = Instant::now() + patience;
        for (pid, command) in self.processes() {
            if command.ends_with(" daemon") {
                self.signal("daemon", pid, Signal::TERM);
            }
        }
        loop {
            let left = self.processes();
            if left.is_empty() || Instant::now() > until {
                for (pid, _) in &left {
                    self.signal("rest", *pid, Signal::KILL);
                }
                return left.into_iter().map(|(pid, command)| format!("{pid} {command}")).collect();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What the daemon has logged, for the trace of a run that failed.
    pub(super) fn daemon_log(&self) -> String {
        let log = self.sandbox.folder().join("state/demolish/daemon.log");
        std::fs::read_to_string(log).unwrap_or_default()
    }

    /// The processes of this run that are there.
    fn processes(&self) -> Vec<(i32, String)> {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let ours = pids.filter(|pid| self.is_ours(*pid));
        ours.map(|pid| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            (pid, command.trim_end().to_owned())
        })
        .collect()
    }

    /// A process that has ended and was not waited for has no environment any more.
    fn is_ours(&self, pid: i32) -> bool {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.windows(self.marker.len()).any(|window| window == self.marker)
    }
}
