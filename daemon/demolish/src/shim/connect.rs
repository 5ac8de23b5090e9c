//! The way to the daemon: connect, start one if there is none, and agree on the version.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use wire::codec::{Codec, Incoming};
use wire::ext::{Hello, HelloParams, Mode, PROTOCOL};
use wire::lsp::request::Request as _;
use wire::socket::{self, SocketError};
use wire::{Bytes, Envelope, Id, child, ends, frame};

use super::{ShimMode, ShimOptions};
use crate::env_vars;

/// How long a daemon that is there may be silent, when an editor starts a server.
const SILENCE_MAX: Duration = Duration::from_millis(200);
/// How long a daemon that we start may take until it listens, when an editor starts a server.
const START_MAX: Duration = Duration::from_millis(1000);
/// The same where there is no server to step aside for, or where one has been lost: patience is all there is.
const PATIENCE_MAX: Duration = Duration::from_secs(5);
/// How long another daemon may take that was quicker than ours.
const OTHER_MAX: Duration = Duration::from_millis(200);
/// How many daemons are started in the hope that one stays.
const STARTS_MAX: u32 = 3;
/// How long a daemon may take to answer when it is asked whether it still does.
pub(super) const PROBE_PATIENCE: Duration = Duration::from_secs(2);
/// How often a daemon that we started is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How patient to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    silence: Duration,
    start: Duration,
}

/// The editor is starting: the real server is a fine alternative.
pub(super) const FIRST: Patience = Patience { silence: SILENCE_MAX, start: START_MAX };
/// The editor is working, and its server is gone.
pub(super) const AGAIN: Patience = Patience { silence: PATIENCE_MAX, start: PATIENCE_MAX };

/// A connection on which the daemon has said hello.
pub(super) struct Connection {
    /// What it says from here on.
    pub(super) reader: tokio::io::Chain<io::Cursor<Bytes>, ends::Reader>,
    /// The way to it.
    pub(super) writer: ends::Writer,
}

/// Why there is no daemon for us.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoDaemon {
    /// It says no: another version.
    #[error("{0}")]
    Refused(String),
    /// It ends instead of answering.
    #[error("it ended")]
    Gone,
    /// It says nothing.
    #[error("it does not answer")]
    Silent,
    /// The socket is not as it must be.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// It cannot be started or talked to.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Connects to the daemon; starts one if there is none. `resumed`: the editor has had a server from another one before.
pub(super) async fn connect(
    options: &ShimOptions,
    patience: Patience,
    resumed: bool,
) -> Result<Connection, NoDaemon> {
    let patience = match options.mode {
        ShimMode::Wrap(_) | ShimMode::Merge(_) => patience,
        ShimMode::Own => AGAIN,
    };
    let mode = match &options.mode {
        ShimMode::Wrap(command) => Mode::Wrap {
            command: command.iter().map(|arg| arg.to_string_lossy().into_owned()).collect(),
        },
        ShimMode::Merge(merged) => {
            Mode::Merge { servers: merged.servers.clone(), owners: merged.owners.clone() }
        }
        ShimMode::Own => Mode::Own,
    };
    let until = Instant::now() + patience.start;
    loop {
        let stream = match socket::connect(&options.socket).await {
            Ok(stream) => stream,
            Err(SocketError::Io(_)) => {
                // A daemon would refuse, and say why where nobody looks.
                socket::private_dir(options.socket.parent().unwrap_or(Path::new(".")))?;
                start(options, until).await?
            }
            Err(error) => return Err(error.into()),
        };
        match tokio::time::timeout(patience.silence, hello(stream, mode.clone(), resumed, options))
            .await
        {
            // A daemon that is only just dying still takes connections.
            Ok(Err(NoDaemon::Gone | NoDaemon::Io(_))) if Instant::now() < until => {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Ok(greeted) => return greeted,
            Err(_) => return Err(NoDaemon::Silent),
        }
    }
}

/// Whether the daemon still answers, or has at least not stopped to: asked over a connection of its own, because the one that
/// messages pass on may be held for good reasons. A daemon that is gone is noticed elsewhere.
pub(super) async fn answers(options: &ShimOptions) -> bool {
    let ask = async {
        let stream = match socket::connect(&options.socket).await {
            Ok(stream) => stream,
            // So many connections wait already that there is no room for another.
            Err(SocketError::Io(error)) => return error.kind() != io::ErrorKind::WouldBlock,
            Err(_) => return true,
        };
        let _ = hello(stream, Mode::Control, false, options).await;
        true
    };
    tokio::time::timeout(PROBE_PATIENCE, ask).await.unwrap_or(false)
}

/// Starts a daemon and waits until it listens. Of several that are started at once, one stays; and one that finds the lock of a
/// daemon that is only just dying ends, so that another has to be started.
async fn start(options: &ShimOptions, until: Instant) -> Result<UnixStream, NoDaemon> {
    for _ in 0..STARTS_MAX {
        if let Some(stream) = start_once(options, until).await? {
            return Ok(stream);
        }
        if Instant::now() >= until {
            break;
        }
    }
    Err(NoDaemon::Silent)
}

/// `None`: nothing listens, and what was started has ended or had its time.
async fn start_once(options: &ShimOptions, until: Instant) -> Result<Option<UnixStream>, NoDaemon> {
    let program = options.daemon.first().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let args: Vec<&std::ffi::OsStr> = options.daemon[1..].iter().map(AsRef::as_ref).collect();
    // A disk without room for a log is no reason to do without the daemon.
    let log = log_file(&options.daemon_log).or_else(|_| File::create("/dev/null"))?;
    let mut daemon = child::detach(Path::new(program), &args, log)?;
    let mut until = until;
    let mut ended = false;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if !ended && daemon.has_ended() {
            // It failed, or another shim's daemon was quicker; that one is about to listen.
            ended = true;
            until = until.min(Instant::now() + OTHER_MAX);
        }
        match socket::connect(&options.socket).await {
            Ok(stream) => return Ok(Some(stream)),
            Err(SocketError::Io(_)) if Instant::now() < until => {}
            Err(SocketError::Io(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

fn log_file(path: &Path) -> io::Result<File> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

async fn hello(
    stream: UnixStream,
    mode: Mode,
    resumed: bool,
    options: &ShimOptions,
) -> Result<Connection, NoDaemon> {
    let (mut reader, mut writer) = ends::of_socket(stream)?;
    let cwd = std::env::current_dir().unwrap_or_default();
    let params = HelloParams {
        protocol: PROTOCOL,
        version: options.version.clone(),
        mode,
        cwd: cwd.to_string_lossy().into_owned(),
        pid: std::process::id(),
        env: env_vars::whole(),
        editor_pid: std::os::unix::process::parent_id(),
        resumed,
    };
    let request = Envelope::request(Id::number(1), Hello::METHOD, &params);
    writer.write_all(&frame::encode(&request.body)).await?;
    let mut codec = Codec::default();
    loop {
        match codec.next_incoming() {
            Some(Incoming::Message(answer)) => {
                answer.outcome().map_err(|error| NoDaemon::Refused(error.message))?;
                let rest = codec.buffer().split().freeze();
                return Ok(Connection { reader: io::Cursor::new(rest).chain(reader), writer });
            }
            Some(_) => {}
            None if reader.read_buf(codec.buffer()).await? == 0 => return Err(NoDaemon::Gone),
            None => {}
        }
    }
}
