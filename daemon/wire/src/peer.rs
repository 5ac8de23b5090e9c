//! A peer: one end of a connection that speaks framed messages, with one reader task, one writer task and one bounded
//! queue (rule 4.7).
//!
//! The reader awaits nothing but the next bytes, its [`Gate`] and room in the inbox of the loop, which never waits for a
//! peer. The writer alone touches the sink, and writes as soon as something is queued. Whoever holds the [`Sender`] never
//! waits: what does not fit follows the policy of its [`Lane`].

mod queue;

use std::future::Future;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::codec::{Codec, Incoming};
use crate::frame;
pub use queue::{Lane, Level, Load, QUEUE_BYTES_MAX, QUEUE_MESSAGES_MAX, SendError, Sender};

/// How much room is made for what arrives: several times what one read brings, so that few messages lie across its end
/// and have to be moved.
const READ_BYTES: usize = 256 * 1024;
/// How much room is made at most for a frame whose length is announced but which has not arrived.
const READ_AHEAD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How much is handed to the system in one write; a longer body is written without being copied.
const WRITE_BYTES: usize = 64 * 1024;

/// What happens at a peer.
#[derive(Debug)]
pub enum PeerEvent {
    /// Something arrived.
    Incoming(Incoming),
    /// The peer is gone: end of file, or an error of reading or writing. May come twice.
    Closed(Option<std::io::Error>),
}

/// A running peer. Dropping it ends both tasks at once; what was queued is lost.
#[derive(Debug)]
pub struct Peer {
    sender: Sender,
    gate: Gate,
    reader: JoinHandle<()>,
    writer: JoinHandle<()>,
}

/// Lets a reader run, or holds it before its next read. Several queues may hold it; it runs when the last lets go.
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<u32>>);

impl Gate {
    fn new() -> Gate {
        Gate(Arc::new(watch::Sender::new(0)))
    }

    /// Holds the reader, until [`Gate::open`] was called as often.
    pub fn close(&self) {
        self.0.send_modify(|held| *held += 1);
    }

    /// Takes one [`Gate::close`] back.
    pub fn open(&self) {
        self.0.send_modify(|held| *held = held.saturating_sub(1));
    }

    fn is(&self, other: &Gate) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    async fn passed(&self) {
        if *self.0.borrow() > 0 {
            let _ = self.0.subscribe().wait_for(|held| *held == 0).await;
        }
    }
}

impl Peer {
    /// Starts the tasks of a peer. `deliver` is awaited for every event, in order; it should wait only for room in the
    /// inbox of whoever reads the events.
    pub fn start<R, W, D, F>(reader: R, writer: W, deliver: D) -> Peer
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
        D: Fn(PeerEvent) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let sender = Sender::new();
        let gate = Gate::new();
        let on_write = deliver.clone();
        let reader = tokio::spawn(read_all(reader, gate.clone(), deliver));
        let queue = sender.clone();
        let writer = tokio::spawn(async move {
            if let Err(error) = write_all(writer, &queue).await {
                queue.close();
                on_write(PeerEvent::Closed(Some(error))).await;
            }
        });
        Peer { sender, gate, reader, writer }
    }

    /// The way in to the queue.
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// The gate of the reader.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Takes no more messages, and waits until the queued ones are written and the sink is closed, or for `patience`.
    pub async fn finish(mut self, patience: Duration) {
        self.sender.close();
        let _ = tokio::time::timeout(patience, &mut self.writer).await;
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.reader.abort();
        self.writer.abort();
        self.sender.close();
    }
}

async fn read_all<R, D, F>(mut reader: R, gate: Gate, deliver: D)
where
    R: AsyncRead + Unpin,
    D: Fn(PeerEvent) -> F,
    F: Future<Output = ()>,
{
    let mut codec = Codec::default();
    let end = loop {
        gate.passed().await;
        let room = codec.missing().clamp(READ_BYTES, READ_AHEAD_BYTES_MAX);
        let buffer = codec.buffer();
        if buffer.capacity() - buffer.len() < READ_BYTES / 4 {
            buffer.reserve(room);
        }
        match reader.read_buf(buffer).await {
            Ok(0) => break None,
            Ok(_) => {}
            Err(error) => break Some(error),
        }
        while let Some(incoming) = codec.next_incoming() {
            deliver(PeerEvent::Incoming(incoming)).await;
        }
    };
    deliver(PeerEvent::Closed(end)).await;
}

async fn write_all<W: AsyncWrite + Unpin>(mut writer: W, queue: &Sender) -> std::io::Result<()> {
    let mut buffer = BytesMut::new();
    while let Some(batch) = queue.take().await {
        for body in &batch {
            frame::encode_header(&mut buffer, body.len());
            if body.len() >= WRITE_BYTES {
                write(&mut writer, &buffer, body, queue).await?;
                buffer.clear();
            } else {
                buffer.extend_from_slice(body);
            }
            if buffer.len() >= WRITE_BYTES {
                write(&mut writer, &buffer, &[], queue).await?;
                buffer.clear();
            }
        }
        write(&mut writer, &buffer, &[], queue).await?;
        buffer.clear();
        writer.flush().await?;
        queue.written();
    }
    writer.shutdown().await
}

/// Writes all of `head` and `body`, in one go if there is room, and notes every step, so that a slow sink can be told from
/// a dead one.
async fn write<W: AsyncWrite + Unpin>(
    writer: &mut W,
    mut head: &[u8],
    mut body: &[u8],
    queue: &Sender,
) -> std::io::Result<()> {
    while !head.is_empty() || !body.is_empty() {
        let slices = [IoSlice::new(head), IoSlice::new(body)];
        let written = writer.write_vectored(&slices[usize::from(head.is_empty())..]).await?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        let of_head = written.min(head.len());
        head = &head[of_head..];
        body = &body[written - of_head..];
        queue.note_progress();
    }
    Ok(())
}

#[cfg(test)]
mod tests;
