//! Looks for the next message a moment longer before the thread sleeps.
//!
//! Messages come in company: an answer after its question, a request after the change that it is about. To wake a thread on
//! a processor that has gone idle costs more than all that is done with a message, so a loop that has just passed one on
//! asks the system a few times more, for a few microseconds, before it lets itself be put to sleep. (Kernels and
//! hypervisors know this as halt polling.) A loop to which nothing happens pays nothing.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

/// How long a loop looks on. A typist causes some twenty messages a second: this is a thousandth of a processor.
const LINGER: Duration = Duration::from_micros(25);
/// On fewer processors than this, whoever looks on keeps the one from working that it waits for.
const PROCESSORS_MIN: usize = 4;

/// Whether and how a loop lingers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linger(bool);

impl Linger {
    /// As is right on this machine.
    pub(crate) fn here() -> Linger {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Linger(processors >= PROCESSORS_MIN)
    }

    /// Returns once there is something in the inbox, or the moment is over.
    pub(crate) async fn wait<T>(self, inbox: &mpsc::Receiver<T>) {
        if !self.0 {
            return;
        }
        let since = Instant::now();
        while inbox.is_empty() && since.elapsed() < LINGER {
            // Gives way to readers and writers, for whom the runtime asks the system.
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_moment_ends_and_so_it_does_with_a_message() {
        let (sender, mut inbox) = mpsc::channel(1);
        Linger(true).wait(&inbox).await;
        assert!(inbox.is_empty());
        tokio::spawn(async move { sender.send(()).await });
        Linger(true).wait(&inbox).await;
        assert_eq!(inbox.recv().await, Some(()));
    }
}
