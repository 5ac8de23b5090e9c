//! The two ends of a connection, as the proxy reads and writes them: sockets, pipes of children, our own stdin and stdout.
//!
//! What passes through should wake each process once. So a reader that got less than it had room for does not look
//! again before the system says that there is more, and a writer writes at once: only one that finds no room asks to be
//! told when there is. (Registered for both from the beginning, every message that the other side takes out would wake us.)

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;
use tokio::process::{ChildStdin, ChildStdout};

/// How much is read at once: what a pipe holds.
const READ_BYTES: usize = 64 * 1024;

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
    /// `None`: a regular file, which cannot be polled and never waits for long.
    polled: Option<AsyncFd<OwnedFd>>,
    /// What is read lands here first: the caller's buffer would have to be filled with zeros for every read, which costs
    /// more than copying the few bytes of a message.
    scratch: Box<[u8]>,
}

/// Where messages go to.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    /// Only while there was no room.
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
    let reader = Reader::new(Shared::new(stdout.into_owned_fd()?)?)?;
    Ok((reader, Writer::new(Shared::new(stdin.into_owned_fd()?)?)?))
}

impl Reader {
    fn new(shared: Arc<Shared>) -> io::Result<Reader> {
        let polled = registered(&shared, Interest::READABLE).ok();
        if polled.is_some() {
            shared.do_not_block()?;
        }
        Ok(Reader { shared, polled, scratch: vec![0; READ_BYTES].into_boxed_slice() })
    }
}

impl Writer {
    fn new(shared: Arc<Shared>) -> io::Result<Writer> {
        shared.do_not_block()?;
        Ok(Writer { shared, polled: None })
    }
}

/// A registration of its own: a descriptor can be registered only once.
#[expect(
    deprecated,
    reason = "an `OwnedFd` is always the same descriptor, which is what `with_interest` cannot know of its type"
)]
fn registered(shared: &Shared, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(shared.fd.try_clone()?, interest)
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Reader { shared, polled, scratch } = &mut *self;
        let room = buffer.remaining().min(scratch.len());
        let scratch = &mut scratch[..room];
        loop {
            let ready = match polled {
                Some(polled) => Some(ready!(polled.poll_read_ready(cx))?),
                None => None,
            };
            match rustix::io::read(&shared.fd, &mut *scratch) {
                Ok(bytes) => {
                    // Less than there was room for: there is no more, until the system says so.
                    if let Some(mut ready) = ready.filter(|_| bytes < room) {
                        ready.clear_ready();
                    }
                    buffer.put_slice(&scratch[..bytes]);
                    return Poll::Ready(Ok(()));
                }
                Err(Errno::AGAIN) => ready.into_iter().for_each(|mut ready| ready.clear_ready()),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

impl AsyncWrite for Writer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            match rustix::io::write(&self.shared.fd, bytes) {
                Ok(written) => {
                    self.polled = None;
                    return Poll::Ready(Ok(written));
                }
                Err(Errno::AGAIN) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Poll::Ready(Err(error.into())),
            }
            if self.polled.is_none() {
                self.polled = Some(registered(&self.shared, Interest::WRITABLE)?);
            }
            if let Some(polled) = &self.polled {
                ready!(polled.poll_write_ready(cx))?.clear_ready();
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Lets the other side of a socket see the end; a pipe ends when it is closed.
    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let _ = rustix::net::shutdown(&self.shared.fd, rustix::net::Shutdown::Write);
        Poll::Ready(Ok(()))
    }
}
