//! The envelope of a message: what a router needs to know, and the body as it arrived.
//!
//! Only `id`, `method`, `params`, `result` and `error` are looked at; their values stay raw. A body that nobody rewrites
//! leaves as exactly the bytes that came in, and [`Envelope::with_id`] changes the id's bytes alone.

use std::fmt;
use std::ops::{Deref, Range};

use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::json;

/// Error codes of JSON-RPC and LSP.
pub mod codes {
    /// The text is not JSON.
    pub const PARSE_ERROR: i64 = -32700;
    /// The JSON is not a request.
    pub const INVALID_REQUEST: i64 = -32600;
    /// Nobody serves this method.
    pub const METHOD_NOT_FOUND: i64 = -32601;
    /// The parameters do not fit the method.
    pub const INVALID_PARAMS: i64 = -32602;
    /// Something broke on the way.
    pub const INTERNAL_ERROR: i64 = -32603;
    /// A request before `initialize` was answered.
    pub const SERVER_NOT_INITIALIZED: i64 = -32002;
    /// The request was right and could not be done.
    pub const REQUEST_FAILED: i64 = -32803;
    /// The server gave up on the request.
    pub const SERVER_CANCELLED: i64 = -32802;
    /// The document changed; asking again is sensible.
    pub const CONTENT_MODIFIED: i64 = -32801;
    /// The client gave up on the request.
    pub const REQUEST_CANCELLED: i64 = -32800;
}

/// A request id: the JSON text of a number, a string or `null`, kept byte for byte.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(Box<str>);

/// The name of a method; a slice of the body it came in.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Method(Bytes);

/// Which of the three shapes a message has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Wants an answer.
    Request {
        /// What the answer is to carry.
        id: Id,
        /// What is asked for.
        method: Method,
    },
    /// Wants none.
    Notification {
        /// What happened.
        method: Method,
    },
    /// Answers a request.
    Response {
        /// The request's id.
        id: Id,
    },
}

/// One message. Cloning is cheap: the body is shared.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// What kind of message it is.
    pub kind: Kind,
    /// The JSON text, untouched.
    pub body: Bytes,
    spans: Spans,
}

#[derive(Clone, Debug, Default)]
struct Spans {
    id: Option<Range<u32>>,
    method: Option<Range<u32>>,
    params: Option<Range<u32>>,
    result: Option<Range<u32>>,
    error: Option<Range<u32>>,
}

/// What could be read of a body that is not a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// Its id, if that was readable.
    pub id: Option<Id>,
    /// Its method, if that was readable.
    pub method: Option<String>,
}

/// Why a body is not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The text is not JSON.
    #[error("not JSON at byte {at}")]
    Json {
        /// Where that shows.
        at: usize,
    },
    /// The JSON is neither a request nor a notification nor a response.
    #[error("neither request nor notification nor response")]
    Shape,
}

/// The error of a response.
#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{message} ({code})")]
pub struct ResponseError {
    /// One of [`codes`], or the server's own.
    pub code: i64,
    /// What happened.
    pub message: String,
    /// Anything more, raw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
}

impl ResponseError {
    /// An error without data.
    pub fn new(code: i64, message: impl Into<String>) -> ResponseError {
        ResponseError { code, message: message.into(), data: None }
    }
}

impl Id {
    /// The id that is this number.
    pub fn number(number: u32) -> Id {
        Id(number.to_string().into())
    }

    /// The id that is this string.
    pub fn string(text: &str) -> Id {
        Id(serde_json::Value::from(text).to_string().into())
    }

    /// The id `null`.
    pub fn null() -> Id {
        Id("null".into())
    }

    /// The id whose JSON text is `raw`, if that is a number, a string or `null`.
    pub fn from_raw(raw: &[u8]) -> Option<Id> {
        let raw = std::str::from_utf8(raw).ok()?;
        let right = matches!(raw.as_bytes().first()?, b'"' | b'-' | b'0'..=b'9') || raw == "null";
        right.then(|| Id(raw.into()))
    }

    /// The number that [`Id::number`] made it from, if it is one.
    pub fn as_u32(&self) -> Option<u32> {
        self.0.parse().ok()
    }

    /// The JSON text.
    pub fn raw(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Method {
    fn new(name: &str) -> Method {
        Method(Bytes::copy_from_slice(name.as_bytes()))
    }
}

impl Deref for Method {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl PartialEq<str> for Method {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Method {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl Envelope {
    /// Reads the envelope of `body`.
    pub fn read(body: Bytes) -> Result<Envelope, EnvelopeError> {
        let mut spans = Spans::default();
        json::members(&body, |key, value| spans.note(&body[key], value))
            .map_err(|bad| EnvelopeError::Json { at: bad.at })?;
        let id = match &spans.id {
            Some(span) => Some(Id::from_raw(slice(&body, span)).ok_or(EnvelopeError::Shape)?),
            None => None,
        };
        let method = match &spans.method {
            Some(span) => Some(method(&body, span).ok_or(EnvelopeError::Shape)?),
            None => None,
        };
        let kind = match (id, method) {
            (Some(id), Some(method)) => Kind::Request { id, method },
            (None, Some(method)) => Kind::Notification { method },
            // Some servers leave out a result that is null.
            (Some(id), None) => Kind::Response { id },
            (None, None) => return Err(EnvelopeError::Shape),
        };
        Ok(Envelope { kind, body, spans })
    }

    /// A request.
    pub fn request(id: Id, method: &str, params: &impl Serialize) -> Envelope {
        let mut writer = Writer::new();
        writer.member("id", id.raw().as_bytes());
        writer.value("method", &method);
        writer.value("params", params);
        writer.envelope(Kind::Request { id, method: Method::new(method) })
    }

    /// A notification.
    pub fn notification(method: &str, params: &impl Serialize) -> Envelope {
        let mut writer = Writer::new();
        writer.value("method", &method);
        writer.value("params", params);
        writer.envelope(Kind::Notification { method: Method::new(method) })
    }

    /// A response that succeeds.
    pub fn response(id: Id, result: &impl Serialize) -> Envelope {
        let mut writer = Writer::new();
        writer.member("id", id.raw().as_bytes());
        writer.value("result", result);
        writer.envelope(Kind::Response { id })
    }

    /// A response that fails.
    pub fn error(id: Id, error: &ResponseError) -> Envelope {
        let mut writer = Writer::new();
        writer.member("id", id.raw().as_bytes());
        writer.value("error", error);
        writer.envelope(Kind::Response { id })
    }

    /// The same message under another id; every other byte stays. A message without id stays as it is.
    pub fn with_id(&self, id: Id) -> Envelope {
        let Some(old) = &self.spans.id else { return self.clone() };
        let (start, end) = (old.start as usize, old.end as usize);
        let new = id.raw().as_bytes();
        let mut body = BytesMut::with_capacity(self.body.len() - (end - start) + new.len());
        body.extend_from_slice(&self.body[..start]);
        body.extend_from_slice(new);
        body.extend_from_slice(&self.body[end..]);
        let mut spans = self.spans.clone();
        spans.shift(old.end, new.len() as i64 - (end - start) as i64);
        spans.id = Some(old.start..old.start + new.len() as u32);
        let kind = match &self.kind {
            Kind::Request { method, .. } => Kind::Request { id, method: method.clone() },
            Kind::Notification { method } => Kind::Notification { method: method.clone() },
            Kind::Response { .. } => Kind::Response { id },
        };
        Envelope { kind, body: body.freeze(), spans }
    }

    /// The id of a request or response.
    pub fn id(&self) -> Option<&Id> {
        match &self.kind {
            Kind::Request { id, .. } | Kind::Response { id } => Some(id),
            Kind::Notification { .. } => None,
        }
    }

    /// The method of a request or notification.
    pub fn method(&self) -> Option<&str> {
        match &self.kind {
            Kind::Request { method, .. } | Kind::Notification { method } => Some(method),
            Kind::Response { .. } => None,
        }
    }

    /// The JSON text of the parameters; `null` if there are none.
    pub fn params(&self) -> &[u8] {
        self.spans.params.as_ref().map_or(b"null", |span| slice(&self.body, span))
    }

    /// The parameters as a type; see [`parse`].
    pub fn params_as<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        parse(self.params())
    }

    /// The JSON text of a member of the parameters, if they are an object that has it.
    pub fn param(&self, name: &str) -> Option<&[u8]> {
        let span = self.param_span(name)?;
        Some(&self.body[span])
    }

    /// The same message with another value of a member of its parameters; every other byte stays. A message whose
    /// parameters do not have that member stays as it is.
    pub fn with_param(&self, name: &str, raw: &[u8]) -> Envelope {
        let Some(span) = self.param_span(name) else { return self.clone() };
        let mut body = BytesMut::with_capacity(self.body.len() - span.len() + raw.len());
        body.extend_from_slice(&self.body[..span.start]);
        body.extend_from_slice(raw);
        body.extend_from_slice(&self.body[span.end..]);
        Envelope::read(body.freeze()).unwrap_or_else(|_| self.clone())
    }

    fn param_span(&self, name: &str) -> Option<Range<usize>> {
        let params = self.spans.params.as_ref()?;
        let mut found = None;
        // What was found before rubbish counts; there is none in what was read once.
        let _ = json::members(slice(&self.body, params), |key, value| {
            if &self.body[params.start as usize..][key] == name.as_bytes() {
                found = Some(value);
            }
        });
        let (found, at) = (found?, params.start as usize);
        Some(found.start + at..found.end + at)
    }

    /// What a response says: the JSON text of its result, or its error. Where both are given, a null result means that
    /// the error counts (rule 4.6). A missing result is `null`.
    pub fn outcome(&self) -> Result<&[u8], ResponseError> {
        let raw = |span: &Option<Range<u32>>| match span {
            Some(span) => slice(&self.body, span),
            None => b"null",
        };
        let (result, error) = (raw(&self.spans.result), raw(&self.spans.error));
        if error == b"null" || result != b"null" {
            return Ok(result);
        }
        Err(parse(error).unwrap_or_else(|_| {
            ResponseError::new(codes::INTERNAL_ERROR, String::from_utf8_lossy(error))
        }))
    }
}

impl Spans {
    fn note(&mut self, key: &[u8], value: Range<usize>) {
        let unescaped;
        let key = if key.contains(&b'\\') {
            let quoted = [b"\"", key, b"\""].concat();
            unescaped = serde_json::from_slice::<String>(&quoted).unwrap_or_default();
            unescaped.as_bytes()
        } else {
            key
        };
        let span = Some(value.start as u32..value.end as u32);
        match key {
            b"id" => self.id = span,
            b"method" => self.method = span,
            b"params" => self.params = span,
            b"result" => self.result = span,
            b"error" => self.error = span,
            _ => {}
        }
    }

    /// Moves the spans from byte `from` on by `by` bytes.
    fn shift(&mut self, from: u32, by: i64) {
        let spans = [&mut self.method, &mut self.params, &mut self.result, &mut self.error];
        for span in spans.into_iter().flatten().filter(|span| span.start >= from) {
            let moved = |at: u32| (i64::from(at) + by) as u32;
            *span = moved(span.start)..moved(span.end);
        }
    }
}

fn slice<'b>(body: &'b [u8], span: &Range<u32>) -> &'b [u8] {
    &body[span.start as usize..span.end as usize]
}

fn method(body: &Bytes, span: &Range<u32>) -> Option<Method> {
    let raw = slice(body, span);
    let inner = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if inner.contains(&b'\\') {
        return serde_json::from_slice::<String>(raw).ok().map(|name| Method(name.into()));
    }
    std::str::from_utf8(inner).ok()?;
    Some(Method(body.slice_ref(inner)))
}

/// Writes the members of a message one after the other, and notes where they are.
struct Writer {
    body: Vec<u8>,
    spans: Spans,
}

impl Writer {
    fn new() -> Writer {
        Writer { body: br#"{"jsonrpc":"2.0""#.to_vec(), spans: Spans::default() }
    }

    fn member(&mut self, key: &str, raw: &[u8]) {
        self.body.extend_from_slice(format!(",\"{key}\":").as_bytes());
        let start = self.body.len();
        self.body.extend_from_slice(raw);
        self.spans.note(key.as_bytes(), start..self.body.len());
    }

    /// Our own types always serialise; a foreign one that does not becomes `null`.
    fn value(&mut self, key: &str, value: &impl Serialize) {
        let raw = serde_json::to_vec(value).unwrap_or_else(|_| b"null".to_vec());
        if key == "params" && raw == b"null" {
            return;
        }
        self.member(key, &raw);
    }

    fn envelope(mut self, kind: Kind) -> Envelope {
        self.body.push(b'}');
        Envelope { kind, body: self.body.into(), spans: self.spans }
    }
}

/// Reads what can be read of the start (and the end) of a body that is not a message.
pub fn salvage(head: &[u8], tail: &[u8]) -> Salvaged {
    let mut spans = Spans::default();
    let _ = json::members(head, |key, value| spans.note(&head[key], value));
    let name = |span: &Range<u32>| serde_json::from_slice::<String>(slice(head, span)).ok();
    let id = match &spans.id {
        Some(span) => Id::from_raw(slice(head, span)),
        None => last_id(tail),
    };
    Salvaged { id, method: spans.method.as_ref().and_then(name) }
}

/// The id at the very end of an object, as in `…],"id":7}`.
fn last_id(tail: &[u8]) -> Option<Id> {
    let key = memchr::memmem::rfind(tail, br#""id""#)?;
    let colon = key + 4 + tail[key + 4..].iter().position(|byte| *byte == b':')?;
    let span = json::value_end(tail, colon + 1)?;
    // Anything after the bracket, and the id belongs to something inside of the result.
    let closes = tail[span.end..].trim_ascii() == b"}";
    Id::from_raw(&tail[span]).filter(|_| closes)
}

/// Reads a value from JSON text that may hold what serde refuses: lone surrogates and bytes that are not UTF-8 become
/// U+FFFD, which is one unit of UTF-16 like the surrogate, so that positions stay right.
pub fn parse<T: DeserializeOwned>(raw: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(raw).or_else(|error| match repaired(raw) {
        Some(text) => serde_json::from_str(&text),
        None => Err(error),
    })
}

fn repaired(raw: &[u8]) -> Option<String> {
    let mut text = String::from_utf8_lossy(raw).into_owned();
    let mut changed = text.as_bytes() != raw;
    let unit = |text: &str, at: usize| {
        let escape = text.as_bytes().get(at..at + 6)?;
        let digits = escape.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut at = 0;
    while let Some(ahead) = memchr::memchr(b'\\', &text.as_bytes()[at..]) {
        at += ahead;
        at += match (unit(&text, at), unit(&text, at + 6)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => {
                text.replace_range(at..at + 6, "\\ufffd");
                changed = true;
                6
            }
            (Some(_), _) => 6,
            (None, _) => 2,
        };
        at = at.min(text.len());
    }
    changed.then_some(text)
}

#[cfg(test)]
mod tests;
