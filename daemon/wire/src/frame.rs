//! Frames: `Content-Length: N`, an empty line, N bytes.
//!
//! The decoder is lenient, because a proxy that dies of a stray line costs the user their language server (rule 4.1):
//! header names in any case and order, unknown headers, bare `\n` line ends; junk before a header is set aside, and
//! reading goes on at the next `Content-Length:`. The encoder is strict.

use bytes::{Buf, Bytes, BytesMut};

/// The longest body; a longer one is skipped and reported, and the connection lives (rule 4.4).
pub const FRAME_BYTES_MAX: usize = 128 * 1024 * 1024;
/// The longest length that is believed; a header that declares more is junk, or reading would wait for its body for ever.
pub const FRAME_BYTES_BELIEVED: usize = 16 * FRAME_BYTES_MAX;
/// The longest header block; more is junk.
pub const HEADER_BYTES_MAX: usize = 8 * 1024;
/// How many header lines a block may have; more is junk.
pub const HEADERS_MAX: usize = 32;
/// How much of the start of a skipped body is kept, to find its id and method.
pub const HEAD_BYTES: usize = 4 * 1024;
/// How much of the end of a skipped body is kept, because some servers write the id last.
pub const TAIL_BYTES: usize = 256;

const NAME: &[u8] = b"content-length:";

/// What the decoder found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A body as it arrived.
    Body(Bytes),
    /// A body beyond [`FRAME_BYTES_MAX`] that was skipped.
    TooLong {
        /// Its declared length.
        bytes: usize,
        /// Its first [`HEAD_BYTES`].
        head: Bytes,
        /// Its last [`TAIL_BYTES`].
        tail: Bytes,
    },
    /// Bytes that are no frame: for the log, never for a peer.
    Junk(Bytes),
}

/// Cuts a stream of bytes into frames.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
    state: State,
    /// How far the buffer was searched for the end of a line.
    searched: usize,
    /// Header lines and bytes since the last frame.
    headers: usize,
    header_bytes: usize,
    length: Option<usize>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Header,
    Body(usize),
    Skip {
        bytes: usize,
        left: usize,
        head: BytesMut,
        tail: BytesMut,
    },
}

/// `body` with its header, as one run of bytes.
pub fn encode(body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(body.len() + 32);
    encode_into(&mut out, body);
    out.freeze()
}

/// Appends `body` with its header to `out`.
pub fn encode_into(out: &mut BytesMut, body: &[u8]) {
    encode_header(out, body.len());
    out.extend_from_slice(body);
}

/// Appends the header of a body of `bytes` bytes to `out`.
pub fn encode_header(out: &mut BytesMut, bytes: usize) {
    use std::fmt::Write;
    let _ = write!(out, "Content-Length: {bytes}\r\n\r\n");
}

impl Decoder {
    /// Appends what arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The buffer behind the decoder, for a reader that appends to it in place.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Whether the stream may end here: no frame has been begun.
    pub fn is_between_frames(&self) -> bool {
        matches!(self.state, State::Header) && self.buffer.is_empty() && self.length.is_none()
    }

    /// How many more bytes the frame that is being read is known to need.
    pub fn missing(&self) -> usize {
        match &self.state {
            State::Header => 0,
            State::Body(bytes) => bytes.saturating_sub(self.buffer.len()),
            State::Skip { left, .. } => *left,
        }
    }

    /// Takes back a body that turned out not to be a message but contains a header, so that reading goes on there
    /// (a wrong length swallows its successors). Returns what came before that header, or all of it if there is none.
    pub fn reread(&mut self, body: &Bytes) -> Bytes {
        let Some(at) = find_header(body) else {
            return body.clone();
        };
        let mut buffer = BytesMut::with_capacity(body.len() - at + self.buffer.len());
        buffer.extend_from_slice(&body[at..]);
        buffer.extend_from_slice(&self.buffer);
        self.buffer = buffer;
        self.state = State::Header;
        self.start_header();
        body.slice(..at)
    }

    /// The next frame, or `None` until more bytes arrive.
    pub fn next_frame(&mut self) -> Option<Frame> {
        loop {
            match &mut self.state {
                State::Header => match self.header()? {
                    Some(junk) => return Some(Frame::Junk(junk)),
                    None => continue,
                },
                State::Body(bytes) => {
                    let bytes = *bytes;
                    if self.buffer.len() < bytes {
                        self.buffer.reserve(bytes - self.buffer.len());
                        return None;
                    }
                    self.state = State::Header;
                    return Some(Frame::Body(self.buffer.split_to(bytes).freeze()));
                }
                State::Skip { bytes, left, head, tail } => {
                    let taken = self.buffer.split_to((*left).min(self.buffer.len()));
                    *left -= taken.len();
                    head.extend_from_slice(&taken[..taken.len().min(HEAD_BYTES - head.len())]);
                    tail.extend_from_slice(&taken[taken.len().saturating_sub(TAIL_BYTES)..]);
                    tail.advance(tail.len().saturating_sub(TAIL_BYTES));
                    if *left > 0 {
                        return None;
                    }
                    let (bytes, head) = (*bytes, head.split().freeze());
                    let tail = tail.split().freeze();
                    self.state = State::Header;
                    return Some(Frame::TooLong { bytes, head, tail });
                }
            }
        }
    }

    fn start_header(&mut self) {
        self.searched = 0;
        self.headers = 0;
        self.header_bytes = 0;
        self.length = None;
    }

    /// Takes one line of the header block. `None`: more bytes are needed. `Some(Some(junk))`: it was none.
    #[expect(clippy::option_option, reason = "private, and explained in its comment")]
    fn header(&mut self) -> Option<Option<Bytes>> {
        let Some(end) = memchr::memchr(b'\n', &self.buffer[self.searched..]) else {
            return self.long_line().map(Some);
        };
        let line_bytes = self.searched + end + 1;
        self.searched = 0;
        let content = self.buffer[..line_bytes].trim_ascii_end();
        if content.is_empty() {
            self.buffer.advance(line_bytes);
            return Some(self.block_end());
        }
        if let Some(at) = find_header(content).filter(|at| *at > 0) {
            return Some(Some(self.buffer.split_to(at).freeze()));
        }
        self.headers += 1;
        self.header_bytes += line_bytes;
        if let Some(length) = content_length(content) {
            // Lines before it were not this frame's headers if there were too many of them.
            self.length = Some(length);
            self.buffer.advance(line_bytes);
            return Some(None);
        }
        let is_type = is_content_type(content);
        if self.headers > HEADERS_MAX || self.header_bytes > HEADER_BYTES_MAX {
            self.start_header();
        }
        let is_header = self.length.is_some() || is_type;
        let line = self.buffer.split_to(line_bytes).freeze();
        Some(if is_header && is_header_like(&line) { None } else { Some(line) })
    }

    /// After the empty line: the body starts if a length was given.
    fn block_end(&mut self) -> Option<Bytes> {
        let length = self.length;
        self.start_header();
        if let Some(bytes) = length {
            self.state = if bytes > FRAME_BYTES_MAX {
                State::Skip { bytes, left: bytes, head: BytesMut::new(), tail: BytesMut::new() }
            } else {
                State::Body(bytes)
            };
        }
        None
    }

    /// There is no line end yet. A line beyond the limit is junk, except for an end that may be the start of a header.
    fn long_line(&mut self) -> Option<Bytes> {
        self.searched = self.buffer.len();
        if self.buffer.len() <= HEADER_BYTES_MAX {
            return None;
        }
        let keep = find_header(&self.buffer).unwrap_or(self.buffer.len() - NAME.len());
        if keep == 0 {
            // A header whose line does not end: its name is junk like the rest.
            self.searched = 0;
            return Some(self.buffer.split_to(NAME.len()).freeze());
        }
        self.searched = 0;
        Some(self.buffer.split_to(keep).freeze())
    }
}

/// Where the first `Content-Length:` (in any case) starts that is followed by a number and the end of a line.
fn find_header(bytes: &[u8]) -> Option<usize> {
    let mut end = bytes.len();
    let mut found = None;
    while let Some(colon) = memchr::memrchr(b':', &bytes[..end]) {
        end = colon;
        let Some(start) = (colon + 1).checked_sub(NAME.len()) else { continue };
        if bytes[start..=colon].eq_ignore_ascii_case(NAME) && number(&bytes[colon + 1..]).is_some()
        {
            found = Some(start);
        }
    }
    found
}

/// A decimal number at the start of `bytes`, after blanks, that is followed by the end of the line or of `bytes`.
fn number(bytes: &[u8]) -> Option<usize> {
    let blanks = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let digits = bytes[blanks..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = bytes[blanks + digits..].trim_ascii_start();
    let ends = rest.len() < bytes.len() - blanks - digits || rest.is_empty();
    if digits == 0 || !ends {
        return None;
    }
    std::str::from_utf8(&bytes[blanks..blanks + digits]).ok()?.parse().ok()
}

fn content_length(line: &[u8]) -> Option<usize> {
    let (name, value) = line.split_at_checked(NAME.len())?;
    if !name.eq_ignore_ascii_case(NAME) {
        return None;
    }
    number(value).filter(|bytes| *bytes <= FRAME_BYTES_BELIEVED)
}

fn is_content_type(line: &[u8]) -> bool {
    line.len() >= 13 && line[..13].eq_ignore_ascii_case(b"content-type:")
}

fn is_header_like(line: &[u8]) -> bool {
    memchr::memchr(b':', line).is_some_and(|colon| {
        colon > 0 && line[..colon].iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    })
}

#[cfg(test)]
mod tests;
