//! The local socket between shims, command-line verbs and the daemon: the user's alone (0600 in a 0700 folder, and the
//! other side's user is checked), and one daemon per user (an advisory lock that dies with its holder).

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;
use tokio::net::{UnixListener, UnixStream};

/// The longest path that a socket address can hold on every platform we run on.
pub const PATH_BYTES_MAX: usize = 103;
/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another daemon of this user holds the lock.
    #[error("another daemon is running at {}", .0.display())]
    Taken(PathBuf),
    /// The folder belongs to somebody else, or others may enter it.
    #[error("{dir} is not private to this user: run `chmod 700 {dir}` if it is yours, or set XDG_RUNTIME_DIR to a folder that is", dir = .0.display())]
    NotPrivate(PathBuf),
    /// The path does not fit into a socket address.
    #[error("the socket's path {} is longer than {PATH_BYTES_MAX} bytes; set XDG_RUNTIME_DIR to a shorter folder", .0.display())]
    TooLong(PathBuf),
    /// The other side of the connection is another user.
    #[error(
        "the other side of the socket is user {0}; set XDG_RUNTIME_DIR to a folder that only you may enter"
    )]
    Stranger(u32),
    /// The folder of the socket is not there and cannot be made.
    #[error("the socket's folder {dir} cannot be made ({why}); set XDG_RUNTIME_DIR to a folder that you may write to", dir = .0.display(), why = .1)]
    Folder(PathBuf, #[source] io::Error),
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Where the socket is: in `$XDG_RUNTIME_DIR/demolish` (`runtime_dir`) if that is set, and otherwise in a folder of this
/// user in the system's folder for temporary files.
pub fn default_path(runtime_dir: Option<&Path>) -> PathBuf {
    let dir = match runtime_dir {
        Some(dir) if dir.is_absolute() && dir.is_dir() => dir.join("demolish"),
        _ => std::env::temp_dir().join(format!("demolish-{}", geteuid().as_raw())),
    };
    dir.join("demolish.sock")
}

/// Makes `dir` if it is missing; it must be this user's, and nobody else may enter it.
pub fn private_dir(dir: &Path) -> Result<(), SocketError> {
    match DirBuilder::new().recursive(true).mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(SocketError::Folder(dir.to_owned(), error));
        }
        _ => {}
    }
    let found = std::fs::symlink_metadata(dir)?;
    let private = found.uid() == geteuid().as_raw() && found.mode() & 0o077 == 0;
    if found.is_dir() && private { Ok(()) } else { Err(SocketError::NotPrivate(dir.to_owned())) }
}

/// The daemon's end. Dropping it removes the socket and gives the lock back.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
    _lock: File,
}

impl Listener {
    /// Listens at `path`. A socket that a dead daemon left is replaced; the lock beside it decides who is dead.
    pub fn bind(path: &Path) -> Result<Listener, SocketError> {
        let path = path.to_owned();
        if path.as_os_str().len() > PATH_BYTES_MAX {
            return Err(SocketError::TooLong(path));
        }
        private_dir(path.parent().unwrap_or(Path::new(".")))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.with_extension("lock"))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(SocketError::Taken(path)),
            Err(error) => return Err(io::Error::from(error).into()),
        }
        // For people who look: whose lock it is. Nothing reads it, so a full disk may do without.
        let _ = lock.set_len(0).and_then(|()| writeln!(&lock, "{}", std::process::id()));
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(Listener { listener, path, _lock: lock })
    }

    /// The next connection of this user; connections of others are closed at once.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            match check(&stream) {
                Ok(()) => return Ok(stream),
                Err(error) => tracing::warn!(%error, "connection refused"),
            }
        }
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Connects to the daemon at `path`, if it is this user's.
pub async fn connect(path: &Path) -> Result<UnixStream, SocketError> {
    let stream = UnixStream::connect(path).await?;
    check(&stream)?;
    Ok(stream)
}

fn check(stream: &UnixStream) -> Result<(), SocketError> {
    let user = stream.peer_cred()?.uid();
    if user == geteuid().as_raw() { Ok(()) } else { Err(SocketError::Stranger(user)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_daemon_per_path_and_a_stale_socket_is_replaced() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("d/demolish.sock");
        let first = Listener::bind(&path).unwrap();
        assert!(matches!(Listener::bind(&path), Err(SocketError::Taken(_))));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&temp.path().join("d")), mode(first.path())), (0o700, 0o600));
        let (near, far) = tokio::join!(connect(&path), first.accept());
        near.unwrap();
        far.unwrap();
        drop(first);
        std::os::unix::net::UnixListener::bind(&path).unwrap();
        Listener::bind(&path).unwrap();
    }

    #[test]
    fn a_long_path_is_refused_with_its_reason() {
        let path = PathBuf::from(format!("/tmp/{}", "x".repeat(120)));
        assert!(matches!(Listener::bind(&path), Err(SocketError::TooLong(_))));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named_with_a_remedy() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let dir = file.path().join("d");
        let said = Listener::bind(&dir.join("demolish.sock")).unwrap_err().to_string();
        assert!(said.contains(&*dir.to_string_lossy()), "{said}");
        assert!(said.contains("set XDG_RUNTIME_DIR"), "{said}");
    }

    #[tokio::test]
    async fn a_folder_that_others_may_enter_is_refused_and_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::set_permissions(temp.path(), Permissions::from_mode(0o755)).unwrap();
        let path = temp.path().join("demolish.sock");
        assert!(matches!(Listener::bind(&path), Err(SocketError::NotPrivate(_))));
        assert_eq!(std::fs::metadata(temp.path()).unwrap().mode() & 0o777, 0o755);
    }
}
