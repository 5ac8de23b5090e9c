//! Our own stdin and stdout without a thread between: the shim's two ends towards the editor.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A pipe, socket or terminal that is polled; anything else (a regular file) is read and written in place, which never
/// waits for long.
#[derive(Debug)]
pub struct Stdio {
    end: End,
    flags: OFlags,
}

#[derive(Debug)]
enum End {
    Polled(AsyncFd<OwnedFd>),
    Plain(OwnedFd),
}

/// Our stdin.
pub fn stdin() -> io::Result<Stdio> {
    Stdio::new(io::stdin().as_fd().try_clone_to_owned()?)
}

/// Our stdout.
pub fn stdout() -> io::Result<Stdio> {
    Stdio::new(io::stdout().as_fd().try_clone_to_owned()?)
}

impl Stdio {
    #[expect(
        deprecated,
        reason = "an `OwnedFd` is always the same descriptor, which is what `new` cannot know of its type"
    )]
    fn new(fd: OwnedFd) -> io::Result<Stdio> {
        let flags = fcntl_getfl(&fd)?;
        let again = fd.try_clone()?;
        let end = match AsyncFd::new(fd) {
            Ok(polled) => {
                fcntl_setfl(&again, flags | OFlags::NONBLOCK)?;
                End::Polled(polled)
            }
            Err(_) => End::Plain(again),
        };
        Ok(Stdio { end, flags })
    }
}

impl Drop for Stdio {
    /// Gives the descriptor back as it was: whoever inherits it may not expect it not to block.
    fn drop(&mut self) {
        let _ = match &self.end {
            End::Polled(fd) => fcntl_setfl(fd.get_ref(), self.flags),
            End::Plain(fd) => fcntl_setfl(fd, self.flags),
        };
    }
}

impl AsyncRead for Stdio {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = match &self.end {
            End::Plain(fd) => {
                let bytes = rustix::io::read(fd, buffer.initialize_unfilled())?;
                buffer.advance(bytes);
                return Poll::Ready(Ok(()));
            }
            End::Polled(polled) => polled,
        };
        loop {
            let mut ready = ready!(polled.poll_read_ready(cx))?;
            let space = buffer.initialize_unfilled();
            match ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut *space)?)) {
                Ok(result) => {
                    buffer.advance(result?);
                    return Poll::Ready(Ok(()));
                }
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Stdio {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = match &self.end {
            End::Plain(fd) => return Poll::Ready(Ok(rustix::io::write(fd, bytes)?)),
            End::Polled(polled) => polled,
        };
        loop {
            let mut ready = ready!(polled.poll_write_ready(cx))?;
            match ready.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?)) {
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
