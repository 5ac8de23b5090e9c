//! Frames (rules 4.1 to 4.4): however a stream is cut into pieces, the same comes out of it; and what we write is read.

use wire::codec::{Codec, Incoming};
use wire::frame;

use super::input::Input;

/// What comes out of a codec.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Message(Vec<u8>),
    Malformed(Option<String>, Option<String>, String, String),
    Junk(Vec<u8>),
}

/// Pieces of a stream.
const PIECES: &[&str] = &[
    "Content-Length: 2\r\n\r\n{}",
    "content-length:14\r\n\r\n{\"method\":\"m\"}",
    "Content-Length: 13\r\n\r\n{\"id\":\"x\\u00\"}",
    "Content-Length: 25\r\n\r\n[{\"method\":\"a\"},{\"id\":1}]",
    "Content-Length: ",
    "CONTENT-LENGTH:",
    "Content-Type: x\r\n",
    "X-Odd: 1\r\n",
    "\r\n",
    "\n",
    "\r",
    "0",
    "1",
    "2",
    "13",
    "134217729",
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}",
    "{\"id\":7,\"result\":null}",
    "{}",
    "[]",
    "[",
    "log: hello",
    " ",
    ":",
    "Content-Length: 0\r\n\r\n",
    "Content-Length: 99999999999\r\n\r\n",
];

/// One input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (first, second) = (1 + input.below(16), 1 + input.below(64));
    let stream = if input.one_in(4) { input.rest().to_vec() } else { stream(&mut input) };

    let whole = events(&stream, &[stream.len().max(1)]);
    assert_eq!(whole, events(&stream, &[1]), "byte by byte");
    assert_eq!(whole, events(&stream, &[first, second]), "in pieces of {first} and {second}");
    for event in &whole {
        if let Event::Message(body) = event {
            assert!(contains(&stream, body), "bytes that nobody sent");
            let written = events(&frame::encode(body), &[3]);
            assert_eq!(written.last(), Some(event), "what we write is read");
        }
    }
}

fn stream(input: &mut Input<'_>) -> Vec<u8> {
    let mut stream = Vec::new();
    while !input.is_empty() && stream.len() < 512 {
        match input.byte() {
            byte if (byte as usize) < 4 * PIECES.len() => {
                stream.extend_from_slice(PIECES[byte as usize / 4].as_bytes());
            }
            byte if byte < 140 => {
                let body = input.soup(24);
                stream.extend_from_slice(&frame::encode(&body));
            }
            byte => stream.push(byte),
        }
    }
    stream
}

/// What comes out of the stream when it arrives in pieces of these sizes, in turn. Junk has no borders of its own.
fn events(stream: &[u8], sizes: &[usize]) -> Vec<Event> {
    let mut codec = Codec::default();
    let mut events: Vec<Event> = Vec::new();
    let mut sizes = sizes.iter().cycle();
    let mut left = stream;
    while let Some(size) = sizes.next().filter(|_| !left.is_empty()) {
        let (piece, rest) = left.split_at((*size).min(left.len()));
        left = rest;
        codec.push(piece);
        while let Some(incoming) = codec.next_incoming() {
            let event = match incoming {
                Incoming::Message(envelope) => Event::Message(envelope.body.to_vec()),
                Incoming::Malformed(bad) => Event::Malformed(
                    bad.id.map(|id| id.raw().to_owned()),
                    bad.method,
                    bad.why.to_string(),
                    bad.excerpt,
                ),
                Incoming::Junk(junk) => Event::Junk(junk.to_vec()),
            };
            match (events.last_mut(), event) {
                (Some(Event::Junk(before)), Event::Junk(more)) => before.extend_from_slice(&more),
                (_, event) => events.push(event),
            }
        }
    }
    events
}

fn contains(stream: &[u8], part: &[u8]) -> bool {
    let starts = stream.iter().enumerate().filter(|(_, byte)| part.first() == Some(*byte));
    starts.into_iter().any(|(at, _)| stream[at..].starts_with(part))
}
