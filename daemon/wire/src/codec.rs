//! Bytes in, messages out: framing, batches and the repair of what peers get wrong, without any I/O.

use bytes::{Bytes, BytesMut};

use crate::frame::{Decoder, Frame};
use crate::{Envelope, EnvelopeError, Id, json, salvage};

/// How much of a malformed body is shown in logs.
const EXCERPT_BYTES_MAX: usize = 200;

/// What arrives from a peer.
#[derive(Clone, Debug)]
pub enum Incoming {
    /// A message.
    Message(Envelope),
    /// A body that is no message.
    Malformed(Malformed),
    /// Bytes outside of any frame: for that peer's log.
    Junk(Bytes),
}

/// A body that could not be read as a message.
#[derive(Clone, Debug)]
pub struct Malformed {
    /// Its id, if readable: a request can then be answered.
    pub id: Option<Id>,
    /// Its method, if readable; without one, an id is that of a response.
    pub method: Option<String>,
    /// What is wrong with it.
    pub why: Why,
    /// How it starts.
    pub excerpt: String,
}

/// What is wrong with a body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// It is not JSON, or not a message.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// It is longer than [`crate::frame::FRAME_BYTES_MAX`].
    #[error("a message of {bytes} bytes, more than {max}", max = crate::frame::FRAME_BYTES_MAX)]
    TooLong {
        /// Its declared length.
        bytes: usize,
    },
}

/// Turns a stream of bytes into messages.
#[derive(Debug, Default)]
pub struct Codec {
    decoder: Decoder,
    /// Elements of a batch that are still to be handed out; JSON-RPC allows batches, LSP never uses them (rule 4.3).
    batch: std::collections::VecDeque<Bytes>,
}

impl Codec {
    /// The buffer to which a reader appends what arrived.
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.decoder.buffer()
    }

    /// Appends what arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.decoder.push(bytes);
    }

    /// How many more bytes the frame that is being read is known to need.
    pub fn missing(&self) -> usize {
        self.decoder.missing()
    }

    /// Whether the stream may end here.
    pub fn is_between_frames(&self) -> bool {
        self.decoder.is_between_frames()
    }

    /// The next message, or `None` until more bytes arrive.
    pub fn next_incoming(&mut self) -> Option<Incoming> {
        loop {
            if let Some(element) = self.batch.pop_front() {
                return Some(match Envelope::read(element.clone()) {
                    Ok(envelope) => Incoming::Message(envelope),
                    Err(error) => {
                        Incoming::Malformed(Malformed::new(&element, &element, error.into()))
                    }
                });
            }
            let body = match self.decoder.next_frame()? {
                Frame::Body(body) => body,
                Frame::Junk(junk) => return Some(Incoming::Junk(junk)),
                Frame::TooLong { bytes, head, tail } => {
                    return Some(Incoming::Malformed(Malformed::new(
                        &head,
                        &tail,
                        Why::TooLong { bytes },
                    )));
                }
            };
            if json::first(&body) == Some(b'[') && self.explode(&body) {
                continue;
            }
            return Some(match Envelope::read(body.clone()) {
                Ok(envelope) => Incoming::Message(envelope),
                Err(error) => {
                    let kept = self.decoder.reread(&body);
                    Incoming::Malformed(Malformed::new(&kept, &kept, error.into()))
                }
            });
        }
    }

    fn explode(&mut self, body: &Bytes) -> bool {
        let mut elements = Vec::new();
        let read = json::elements(body, |span| elements.push(body.slice(span))).is_ok();
        if read {
            self.batch.extend(elements);
        }
        read
    }
}

impl Malformed {
    fn new(head: &[u8], tail: &[u8], why: Why) -> Malformed {
        let salvaged = salvage(head, tail);
        let excerpt = &head[..head.len().min(EXCERPT_BYTES_MAX)];
        Malformed {
            id: salvaged.id,
            method: salvaged.method,
            why,
            excerpt: String::from_utf8_lossy(excerpt).into_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
