//! The one queue of a peer: bounded by count and by bytes, with a policy for every class of message.
//!
//! | state | what happens |
//! |---|---|
//! | low | nothing |
//! | high ([`Level::High`]) | the sender may hold whoever feeds the queue until it is half as high |
//! | full | `Log` is dropped and counted; `Latest` replaces its predecessor of the same key; `Keep` is queued |
//! | twice full | the message is refused with [`SendError::Full`]: the peer is to be declared wedged |

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;

use super::Gate;
pub use crate::Lane;

/// How many messages a full queue holds.
pub const QUEUE_MESSAGES_MAX: usize = 8 * 1024;
/// How many bytes a full queue holds: one largest frame always fits.
pub const QUEUE_BYTES_MAX: usize = 160 * 1024 * 1024;
/// How many messages make a queue high.
const HIGH_MESSAGES: usize = QUEUE_MESSAGES_MAX / 2;
/// How many bytes do: much more than a pipe holds, and little enough that a flood stays in the processor's cache and
/// does not leave the process swollen.
const HIGH_BYTES: usize = 2 * 1024 * 1024;
/// How many messages the writer takes at once.
const BATCH_MESSAGES_MAX: usize = 256;

/// How full a queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Less than high.
    Normal,
    /// Whoever feeds it should be held.
    High,
}

/// Why a message was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The queue is twice full: the peer does not read.
    #[error("the peer does not read")]
    Full,
    /// The peer is gone.
    #[error("the peer is gone")]
    Closed,
}

/// What a queue holds and has done with what did not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Messages that wait or are being written.
    pub messages: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Log messages that were dropped.
    pub dropped: u64,
    /// Messages that were replaced by a later one.
    pub coalesced: u64,
}

/// The way in to a peer's queue; never waits. Clones share the queue.
#[derive(Clone, Debug)]
pub struct Sender(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    ready: Notify,
}

#[derive(Debug)]
struct Queue {
    items: VecDeque<Item>,
    /// What `items` and the batch at the writer add up to.
    load: Load,
    in_flight: Load,
    closed: bool,
    /// When the writer last got something written, or had nothing to do.
    progress: Instant,
    held: Vec<Gate>,
}

#[derive(Debug)]
struct Item {
    body: Bytes,
    lane: Lane,
    tag: Option<u32>,
}

impl Sender {
    pub(super) fn new() -> Sender {
        Sender(Arc::new(Shared {
            queue: Mutex::new(Queue {
                items: VecDeque::new(),
                load: Load::default(),
                in_flight: Load::default(),
                closed: false,
                progress: Instant::now(),
                held: Vec::new(),
            }),
            ready: Notify::new(),
        }))
    }

    /// Queues a body. `tag` names a request that may still be [withdrawn](Sender::withdraw).
    pub fn send(&self, body: Bytes, lane: Lane, tag: Option<u32>) -> Result<Level, SendError> {
        let mut queue = self.lock();
        if queue.closed {
            return Err(SendError::Closed);
        }
        if queue.load.messages == 0 {
            queue.progress = Instant::now();
        }
        if queue.load.reaches(QUEUE_MESSAGES_MAX, QUEUE_BYTES_MAX) {
            match &lane {
                Lane::Log => {
                    queue.load.dropped += 1;
                    return Ok(Level::High);
                }
                Lane::Latest(_) => queue.replace(&lane),
                Lane::Keep => {}
            }
        }
        if queue.load.reaches(2 * QUEUE_MESSAGES_MAX, 2 * QUEUE_BYTES_MAX) {
            return Err(SendError::Full);
        }
        queue.load.messages += 1;
        queue.load.bytes += body.len();
        queue.items.push_back(Item { body, lane, tag });
        let level =
            if queue.load.reaches(HIGH_MESSAGES, HIGH_BYTES) { Level::High } else { Level::Normal };
        drop(queue);
        self.0.ready.notify_one();
        Ok(level)
    }

    /// Takes a request back that was not written yet.
    pub fn withdraw(&self, tag: u32) -> bool {
        let mut queue = self.lock();
        let found = queue.items.iter().position(|item| item.tag == Some(tag));
        match found.and_then(|at| queue.items.remove(at)) {
            Some(item) => {
                queue.load.messages -= 1;
                queue.load.bytes -= item.body.len();
                true
            }
            None => false,
        }
    }

    /// Holds `gate` until the queue is half as high as [`Level::High`].
    pub fn hold(&self, gate: &Gate) {
        let mut queue = self.lock();
        if !queue.closed && !queue.held.iter().any(|held| held.is(gate)) {
            gate.close();
            queue.held.push(gate.clone());
        }
    }

    /// How long the writer has been waiting for the peer to take something.
    pub fn stalled_for(&self) -> Duration {
        let queue = self.lock();
        if queue.load.messages == 0 { Duration::ZERO } else { queue.progress.elapsed() }
    }

    /// Whether a reader is held because of this queue.
    pub fn is_holding(&self) -> bool {
        !self.lock().held.is_empty()
    }

    /// What the queue holds.
    pub fn load(&self) -> Load {
        self.lock().load
    }

    /// Takes no more messages; the queued ones are still written.
    pub fn close(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        queue.release();
        drop(queue);
        self.0.ready.notify_one();
    }

    /// The next batch for the writer; `None` once the queue is closed and empty.
    pub(super) async fn take(&self) -> Option<Vec<Bytes>> {
        loop {
            {
                let mut queue = self.lock();
                if !queue.items.is_empty() {
                    let count = queue.items.len().min(BATCH_MESSAGES_MAX);
                    let batch: Vec<Bytes> =
                        queue.items.drain(..count).map(|item| item.body).collect();
                    queue.in_flight.messages = batch.len();
                    queue.in_flight.bytes = batch.iter().map(Bytes::len).sum();
                    return Some(batch);
                }
                if queue.closed {
                    return None;
                }
            }
            self.0.ready.notified().await;
        }
    }

    /// Notes that the batch is written.
    pub(super) fn written(&self) {
        let mut queue = self.lock();
        queue.load.messages -= queue.in_flight.messages;
        queue.load.bytes -= queue.in_flight.bytes;
        queue.in_flight = Load::default();
        queue.progress = Instant::now();
        if !queue.load.reaches(HIGH_MESSAGES / 2, HIGH_BYTES / 2) {
            queue.release();
        }
    }

    pub(super) fn note_progress(&self) {
        self.lock().progress = Instant::now();
    }

    /// Nothing panics while the lock is held, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Queue {
    fn replace(&mut self, lane: &Lane) {
        let found = self.items.iter().position(|item| item.lane == *lane);
        if let Some(old) = found.and_then(|at| self.items.remove(at)) {
            self.load.messages -= 1;
            self.load.bytes -= old.body.len();
            self.load.coalesced += 1;
        }
    }

    fn release(&mut self) {
        for gate in self.held.drain(..) {
            gate.open();
        }
    }
}

impl Load {
    fn reaches(&self, messages: usize, bytes: usize) -> bool {
        self.messages >= messages || self.bytes >= bytes
    }
}
