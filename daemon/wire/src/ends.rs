//! The two ends of a connection, as the proxy reads and writes them: sockets, pipes of children, our own stdin and stdout.
//!
//! What passes through should wake each process once. So a reader that got less than it had room for does not look
//! again before the system says that there is more, and a writer writes at once: only one that finds no room asks to be
//! told when there is. (Registered for both from the beginning, every message that the other side takes out would wake us.)

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::process::{ChildStdin, ChildStdout};

/// How much a pipe to or from a server may hold.
#[cfg(target_os = "linux")]
const PIPE_BYTES: usize = 256 * 1024;

/// A descriptor that both ends may share. Gets its flags back in the end: whoever inherits it may not expect it not to
/// block.
#[derive(Debug)]
struct Shared {
    fd: OwnedFd,
    flags: OFlags,
}

impl Shared {
    fn new(fd: OwnedFd) -> io::Result<Arc<Shared>> {
        let flags = fcntl_getfl(&fd)?;
        Ok(Arc::new(Shared { fd, flags }))
    }

    fn do_not_block(&self) -> io::Result<()> {
        Ok(fcntl_setfl(&self.fd, self.flags | OFlags::NONBLOCK)?)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = fcntl_setfl(&self.fd, self.flags);
    }
}

/// Where messages come from.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    /// `None`: a regular file, which cannot be polled and never waits for long. tokio calls it a pipe, but asks nothing of
    /// it that a socket or a terminal could not do: it is told only when there is something to read, and reads into
    /// memory that nobody had to fill with zeros.
    polled: Option<pipe::Receiver>,
}

/// Where messages go to.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    /// From when there was no room until all is written.
    polled: Option<AsyncFd<OwnedFd>>,
}

/// Our stdin.
///
/// # Errors
/// It is closed, or the system refuses to poll it.
pub fn stdin() -> io::Result<Reader> {
    Reader::new(Shared::new(io::stdin().as_fd().try_clone_to_owned()?)?)
}

/// Our stdout.
///
/// # Errors
/// It is closed.
pub fn stdout() -> io::Result<Writer> {
    Writer::new(Shared::new(io::stdout().as_fd().try_clone_to_owned()?)?)
}

/// The ends of a connected socket.
///
/// # Errors
/// The system refuses to poll it.
pub fn of_socket(stream: UnixStream) -> io::Result<(Reader, Writer)> {
    let shared = Shared::new(stream.into_std()?.into())?;
    Ok((Reader::new(Arc::clone(&shared))?, Writer::new(shared)?))
}

/// The ends of a child: what it writes, and what it reads.
///
/// # Errors
/// The system refuses to poll a pipe.
pub fn of_child(stdin: ChildStdin, stdout: ChildStdout) -> io::Result<(Reader, Writer)> {
    let (stdin, stdout) = (stdin.into_owned_fd()?, stdout.into_owned_fd()?);
    for pipe in [&stdin, &stdout] {
        widen(pipe);
    }
    Ok((Reader::new(Shared::new(stdout)?)?, Writer::new(Shared::new(stdin)?)?))
}

impl Reader {
    fn new(shared: Arc<Shared>) -> io::Result<Reader> {
        shared.do_not_block()?;
        let polled = pipe::Receiver::from_owned_fd_unchecked(shared.fd.try_clone()?).ok();
        Ok(Reader { shared, polled })
    }
}

impl Writer {
    fn new(shared: Arc<Shared>) -> io::Result<Writer> {
        shared.do_not_block()?;
        Ok(Writer { shared, polled: None })
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(polled) = &mut self.polled {
            return Pin::new(polled).poll_read(cx, buffer);
        }
        let bytes = rustix::io::read(&self.shared.fd, buffer.initialize_unfilled())?;
        buffer.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Writer {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            match rustix::io::writev(&self.shared.fd, slices) {
                Ok(written) => return Poll::Ready(Ok(written)),
                Err(Errno::AGAIN) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Poll::Ready(Err(error.into())),
            }
            if self.polled.is_none() {
                self.polled = Some(registered(&self.shared)?);
            }
            if let Some(polled) = &self.polled {
                ready!(polled.poll_write_ready(cx))?.clear_ready();
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.polled = None;
        Poll::Ready(Ok(()))
    }

    /// Lets the other side of a socket see the end; a pipe ends when it is closed.
    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let _ = rustix::net::shutdown(&self.shared.fd, rustix::net::Shutdown::Write);
        Poll::Ready(Ok(()))
    }
}

/// A big message should not have to stop and go. A system that refuses has its reasons.
#[cfg(target_os = "linux")]
fn widen(pipe: &OwnedFd) {
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE_BYTES);
}

/// Elsewhere pipes grow by themselves.
#[cfg(not(target_os = "linux"))]
fn widen(_pipe: &OwnedFd) {}

/// A registration of its own: a descriptor can be registered only once.
#[expect(
    deprecated,
    reason = "an `OwnedFd` is always the same descriptor, which is what `with_interest` cannot know of its type"
)]
fn registered(shared: &Shared) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(shared.fd.try_clone()?, Interest::WRITABLE)
}
