//! The loop's side of the journal, and the thread that writes it.
//!
//! What the loop does for a message is to clone a reference and to put it into a bounded queue. If the queue is full, or
//! the file has to be written anew, the thread is given the open documents instead, from which everything follows.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use proxy::{Mirror, OpenDocument};
use text::Encoding;
use wire::{Bytes, Envelope, Kind as Shape};

use super::book::Book;
use super::record::Kind;
use super::{EXTENSION, Head, SYNC_EVERY, now_ms, read};

/// How many messages may wait for the thread; beyond it they are dropped, and the open documents are taken instead.
const QUEUE_MESSAGES_MAX: usize = 1024;
/// How many bytes of them.
const QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How many edits that the editor was asked to apply are remembered until it answers.
const ASKED_MAX: usize = 64;
/// How long the end of the thread is waited for.
const END_PATIENCE: Duration = Duration::from_millis(500);

/// What the loop hands over.
enum Order {
    Note(Kind, Bytes),
    Snapshot(Arc<HashMap<Arc<str>, OpenDocument>>, Encoding),
}

/// What loop and thread share.
#[derive(Default)]
struct Shared {
    /// No journal is kept: the user wants none, or it cannot be made.
    off: AtomicBool,
    wants_snapshot: AtomicBool,
    bytes_waiting: AtomicUsize,
    /// The editor has left in good order.
    clean: AtomicBool,
}

/// Keeps the journal of one shim.
pub struct Keeper {
    dir: PathBuf,
    head: Head,
    enabled: fn() -> bool,
    writer: Option<Writer>,
    /// Edits that the editor was asked to apply, by the id of the request.
    asked: BTreeMap<u32, Bytes>,
    encoding: Option<Encoding>,
    /// Since when messages are dropped for want of room.
    gap: Option<Instant>,
}

struct Writer {
    orders: mpsc::SyncSender<Order>,
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
    ended: mpsc::Receiver<()>,
}

impl Keeper {
    /// A journal in `dir`. Nothing happens before the first document is opened; then, on the thread, `enabled` is asked
    /// whether the user wants a journal at all.
    #[must_use]
    pub fn new(dir: PathBuf, head: Head, enabled: fn() -> bool) -> Keeper {
        Keeper {
            dir,
            head,
            enabled,
            writer: None,
            asked: BTreeMap::new(),
            encoding: None,
            gap: None,
        }
    }

    /// The editor has sent a message, which `mirror` does not know yet.
    pub fn editor_sent(&mut self, envelope: &Envelope, mirror: &mut Mirror) {
        match &envelope.kind {
            Shape::Notification { method } => match &**method {
                "textDocument/didChange" | "textDocument/didClose" => {
                    self.note(Kind::Message, envelope.body.clone(), mirror);
                }
                "textDocument/didOpen" => {
                    self.start();
                    self.note(Kind::Message, envelope.body.clone(), mirror);
                }
                "demolish/didAccept" => {
                    self.note(Kind::Accepted, Bytes::copy_from_slice(envelope.params()), mirror);
                }
                _ => {}
            },
            Shape::Response { id } if !self.asked.is_empty() => {
                let edit = id.as_u32().and_then(|id| self.asked.remove(&id));
                if let Some(edit) = edit.filter(|_| is_applied(envelope)) {
                    self.note(Kind::Edit, edit, mirror);
                }
            }
            Shape::Response { .. } | Shape::Request { .. } => {}
        }
    }

    /// The editor was asked, under this id, to apply an edit.
    pub fn edit_asked(&mut self, id: u32, params: &[u8]) {
        if self.writer.is_some() && self.asked.len() < ASKED_MAX {
            self.asked.insert(id, Bytes::copy_from_slice(params));
        }
    }

    /// When [`Keeper::tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.gap.map(|since| since + SYNC_EVERY)
    }

    /// Makes up for what was dropped.
    pub fn tick(&mut self, mirror: &mut Mirror, now: Instant) {
        if self.next_deadline().is_some_and(|at| at <= now) {
            self.gap = Some(now);
            self.snapshot(mirror);
        }
    }

    /// The shim ends: in good order, which removes the journal, or not.
    pub fn end(self, clean: bool) {
        let Some(Writer { orders, shared, thread, ended }) = self.writer else { return };
        shared.clean.store(clean, Ordering::Relaxed);
        drop(orders);
        thread.thread().unpark();
        let _ = ended.recv_timeout(END_PATIENCE);
    }

    fn start(&mut self) {
        if self.writer.is_some() {
            return;
        }
        let (orders, queue) = mpsc::sync_channel(QUEUE_MESSAGES_MAX);
        let (on_end, ended) = mpsc::sync_channel(1);
        let shared = Arc::<Shared>::default();
        let desk = Desk {
            dir: self.dir.clone(),
            head: self.head.clone(),
            enabled: self.enabled,
            shared: Arc::clone(&shared),
        };
        let builder = thread::Builder::new().name("journal".to_owned()).stack_size(512 * 1024);
        let started = builder.spawn(move || {
            desk.write(&queue);
            let _ = on_end.send(());
        });
        match started {
            Ok(thread) => self.writer = Some(Writer { orders, shared, thread, ended }),
            Err(error) => tracing::warn!(%error, "no thread for the journal"),
        }
    }

    fn note(&mut self, kind: Kind, content: Bytes, mirror: &mut Mirror) {
        let Some(writer) = &self.writer else { return };
        if writer.shared.off.load(Ordering::Relaxed) || self.gap.is_some() {
            return;
        }
        if writer.shared.wants_snapshot.load(Ordering::Relaxed) {
            self.snapshot(mirror);
        }
        if self.encoding != Some(mirror.encoding()) {
            self.encoding = Some(mirror.encoding());
            let name = Bytes::from_static(mirror.encoding().as_lsp().as_bytes());
            self.hand_over(Order::Note(Kind::Encoding, name));
        }
        self.hand_over(Order::Note(kind, content));
    }

    fn snapshot(&mut self, mirror: &mut Mirror) {
        self.encoding = Some(mirror.encoding());
        let order = Order::Snapshot(mirror.documents(), mirror.encoding());
        if self.hand_over(order) {
            self.gap = None;
            if let Some(writer) = &self.writer {
                writer.shared.wants_snapshot.store(false, Ordering::Relaxed);
            }
        }
    }

    fn hand_over(&mut self, order: Order) -> bool {
        let Some(writer) = &self.writer else { return false };
        let bytes = match &order {
            Order::Note(_, content) => content.len(),
            Order::Snapshot(..) => 0,
        };
        let waiting = writer.shared.bytes_waiting.fetch_add(bytes, Ordering::Relaxed);
        let room = bytes == 0 || waiting + bytes <= QUEUE_BYTES_MAX;
        let taken = room && writer.orders.try_send(order).is_ok();
        if !taken {
            writer.shared.bytes_waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.gap.get_or_insert_with(Instant::now);
        }
        taken
    }
}

/// Whether the answer to `workspace/applyEdit` says that the edit was applied.
fn is_applied(answer: &Envelope) -> bool {
    #[derive(serde::Deserialize)]
    struct Outcome {
        applied: bool,
    }
    let outcome = answer.outcome().ok().and_then(|raw| wire::parse::<Outcome>(raw).ok());
    outcome.is_some_and(|outcome| outcome.applied)
}

/// The thread's side.
struct Desk {
    dir: PathBuf,
    head: Head,
    enabled: fn() -> bool,
    shared: Arc<Shared>,
}

impl Desk {
    fn write(&self, queue: &mpsc::Receiver<Order>) {
        let Some(mut book) = self.open() else {
            self.shared.off.store(true, Ordering::Relaxed);
            return;
        };
        while let Ok(first) = queue.recv() {
            let begun = Instant::now();
            self.take(&mut book, first);
            while let Ok(order) = queue.try_recv() {
                self.take(&mut book, order);
            }
            book.sync();
            let wanted = book.wants_snapshot(Instant::now());
            if wanted {
                self.shared.wants_snapshot.store(true, Ordering::Relaxed);
            }
            // Whoever sends meanwhile has nobody to wake. The end of the shim does wake us.
            thread::park_timeout(SYNC_EVERY.saturating_sub(begun.elapsed()));
        }
        if self.shared.clean.load(Ordering::Relaxed) {
            book.remove();
        }
    }

    fn take(&self, book: &mut Book, order: Order) {
        match order {
            Order::Note(kind, content) => {
                self.shared.bytes_waiting.fetch_sub(content.len(), Ordering::Relaxed);
                book.note(kind, content);
            }
            Order::Snapshot(documents, encoding) => {
                let each = documents.iter().map(|(uri, open)| (&**uri, open));
                book.snapshot(each, encoding);
            }
        }
    }

    fn open(&self) -> Option<Book> {
        if !(self.enabled)() {
            return None;
        }
        let opened =
            wire::socket::private_dir(&self.dir).map_err(std::io::Error::other).and_then(|()| {
                read::prune(&self.dir);
                let name = format!("{}.{EXTENSION}", read::id(&self.head));
                Book::create(&self.dir.join(name), &self.head)
            });
        match opened {
            Ok(book) => Some(book),
            Err(error) => {
                let dir = self.dir.display();
                tracing::warn!(%error, %dir, "no journal; nothing else is affected");
                None
            }
        }
    }
}

impl Head {
    /// The head of this process's journal.
    #[must_use]
    pub fn of_process(command: &[std::ffi::OsString]) -> Head {
        Head {
            version: crate::VERSION.to_owned(),
            pid: std::process::id(),
            editor_pid: std::os::unix::process::parent_id(),
            command: command.iter().map(|arg| arg.to_string_lossy().into_owned()).collect(),
            cwd: std::env::current_dir().unwrap_or_default().to_string_lossy().into_owned(),
            started_ms: now_ms(),
        }
    }
}

#[cfg(test)]
mod tests;
