//! One end of the wire: what the suite writes there, and what has arrived.

use std::collections::VecDeque;

use tokio::sync::mpsc;
use wire::codec::{Codec, Incoming};
use wire::{Bytes, Envelope, frame};

use crate::conformance_server::{Tag, record};

/// How much of what arrived is kept as it arrived, to look at how it was written.
const RAW_BYTES_MAX: usize = 1 << 20;
/// Writes that may wait for a proxy that does not read.
pub(super) const WRITES_MAX: usize = 64 * 1024;

/// An end of the wire.
#[derive(Debug)]
pub(super) struct Port {
    writer: Option<mpsc::Sender<Bytes>>,
    /// Records to a scripted server, instead of bare bytes to a proxy.
    recorded: bool,
    codec: Codec,
    /// What arrived and was not taken yet.
    inbox: VecDeque<Envelope>,
    /// Everything that arrived, in order.
    pub(super) heard: Vec<Envelope>,
    /// What arrived and was no message.
    pub(super) odd: Vec<String>,
    /// The first bytes that arrived.
    pub(super) raw: Vec<u8>,
    pub(super) closed: bool,
}

impl Port {
    pub(super) fn new(writer: mpsc::Sender<Bytes>, recorded: bool) -> Port {
        Port {
            writer: Some(writer),
            recorded,
            codec: Codec::default(),
            inbox: VecDeque::new(),
            heard: Vec::new(),
            odd: Vec::new(),
            raw: Vec::new(),
            closed: false,
        }
    }

    /// Bytes as they are.
    pub(super) fn write(&self, bytes: impl Into<Bytes>) -> Result<(), String> {
        let bytes = bytes.into();
        self.put(if self.recorded { record(Tag::Output, &bytes).into() } else { bytes })
    }

    /// A body in its frame.
    pub(super) fn send(&self, body: &[u8]) -> Result<(), String> {
        self.write(frame::encode(body))
    }

    /// A record to the scripted server.
    pub(super) fn order(&self, tag: Tag, bytes: &[u8]) -> Result<(), String> {
        self.put(record(tag, bytes).into())
    }

    fn put(&self, bytes: Bytes) -> Result<(), String> {
        let full = || "nobody reads what is written there".to_owned();
        self.writer.as_ref().ok_or_else(full)?.try_send(bytes).map_err(|_| full())
    }

    /// Nothing more is written: the other side sees the end.
    pub(super) fn close(&mut self) {
        self.writer = None;
    }

    /// Takes in what arrived, and returns the messages in it.
    pub(super) fn arrive(&mut self, bytes: &[u8]) -> Vec<Envelope> {
        let room = RAW_BYTES_MAX.saturating_sub(self.raw.len());
        self.raw.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.codec.push(bytes);
        let mut messages = Vec::new();
        while let Some(incoming) = self.codec.next_incoming() {
            match incoming {
                Incoming::Message(envelope) => messages.push(envelope),
                Incoming::Malformed(malformed) => self.odd.push(malformed.excerpt),
                Incoming::Junk(junk) => self.odd.push(excerpt(&junk)),
            }
        }
        self.heard.extend(messages.iter().cloned());
        messages
    }

    /// Puts a message where checks look for it.
    pub(super) fn keep(&mut self, envelope: Envelope) {
        self.inbox.push_back(envelope);
    }

    /// The first message of this kind that nobody took; those before it stay.
    pub(super) fn take(&mut self, wanted: impl Fn(&Envelope) -> bool) -> Option<Envelope> {
        let at = self.inbox.iter().position(wanted)?;
        self.inbox.remove(at)
    }

    /// How many messages of this method arrived, taken or not.
    pub(super) fn count(&self, method: &str) -> usize {
        self.heard.iter().filter(|envelope| envelope.method() == Some(method)).count()
    }
}

/// The start of something, for a reason in words.
pub(super) fn excerpt(bytes: &[u8]) -> String {
    const EXCERPT_CHARS_MAX: usize = 80;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * EXCERPT_CHARS_MAX)]);
    let mut short: String = text.chars().take(EXCERPT_CHARS_MAX).collect();
    if short.len() < bytes.len() {
        short.push('…');
    }
    short.replace(['\r', '\n'], "⏎")
}
