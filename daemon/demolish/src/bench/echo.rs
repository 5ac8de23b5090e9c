//! A language server that says back what it is told: the other end of the proxy's measurements. Plain blocking input and
//! output, so that what is measured is not its own.

use std::io::{self, BufRead, BufReader, Read as _, Write as _};

/// How much of a flood is written at once.
const WRITE_BYTES: usize = 64 * 1024;

/// Serves stdin until it ends.
///
/// # Errors
/// Stdin or stdout is broken.
pub(crate) fn serve() -> io::Result<()> {
    let mut input = BufReader::with_capacity(1 << 16, io::stdin().lock());
    let mut output = io::stdout().lock();
    let mut body = Vec::new();
    while let Some(len) = length(&mut input)? {
        body.resize(len, 0);
        input.read_exact(&mut body)?;
        let Ok(envelope) = wire::Envelope::read(body.clone().into()) else { continue };
        let params = || envelope.params_as::<Flood>().unwrap_or_default();
        match envelope.method() {
            Some("bench/flood") => swallow(&mut input, params().bytes)?,
            Some("bench/gush") => gush(&mut output, &params())?,
            _ => {}
        }
        let answer = match (envelope.method(), envelope.id()) {
            (Some("initialize"), Some(id)) => {
                wire::Envelope::response(id.clone(), &serde_json::json!({"capabilities": {}}))
            }
            (Some("exit"), _) => return Ok(()),
            (Some(method), Some(id)) if method.starts_with("echo") => {
                let params = serde_json::value::RawValue::from_string(
                    String::from_utf8_lossy(envelope.params()).into_owned(),
                )?;
                wire::Envelope::response(id.clone(), &params)
            }
            (Some(_), Some(id)) => wire::Envelope::response(id.clone(), &()),
            (Some("echo/note"), None) => {
                let params = serde_json::value::RawValue::from_string(
                    String::from_utf8_lossy(envelope.params()).into_owned(),
                )?;
                wire::Envelope::notification("echo/noted", &params)
            }
            _ => continue,
        };
        // One write per message: a header that travels alone wakes the reader twice.
        let mut frame = format!("Content-Length: {}\r\n\r\n", answer.body.len()).into_bytes();
        frame.extend_from_slice(&answer.body);
        output.write_all(&frame)?;
        output.flush()?;
    }
    Ok(())
}

/// What a flood is to be like, in either direction.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Flood {
    /// Bytes that come, with all headers.
    bytes: u64,
    /// Length of the text in each message that is sent.
    text: usize,
    /// Messages that are sent.
    count: usize,
}

/// The message of a flood; both directions send the same.
pub(crate) fn drop_of_flood(text: usize) -> Vec<u8> {
    let params = serde_json::json!({ "text": "x".repeat(text) });
    wire::frame::encode(&wire::Envelope::notification("bench/drop", &params).body).to_vec()
}

/// Reads without looking, so that a flood is not slowed down by its end.
fn swallow(input: &mut impl BufRead, bytes: u64) -> io::Result<()> {
    let mut left = bytes;
    while left > 0 {
        let seen = input.fill_buf()?.len();
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let taken = usize::try_from(left).map_or(seen, |left| left.min(seen));
        input.consume(taken);
        left -= taken as u64;
    }
    Ok(())
}

fn gush(output: &mut impl io::Write, flood: &Flood) -> io::Result<()> {
    let drop = drop_of_flood(flood.text);
    let at_once = (WRITE_BYTES / drop.len()).clamp(1, flood.count.max(1));
    let block = drop.repeat(at_once);
    let mut left = flood.count;
    while left > 0 {
        let count = left.min(at_once);
        output.write_all(&block[..count * drop.len()])?;
        left -= count;
    }
    output.flush()
}

/// Reads the header of a frame; `None` at the end of input.
fn length(input: &mut impl BufRead) -> io::Result<Option<usize>> {
    let (mut len, mut line) = (None, String::new());
    loop {
        line.clear();
        if input.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end() {
            "" => {
                if len.is_some() {
                    return Ok(len);
                }
            }
            header => {
                if let Some(value) = header.strip_prefix("Content-Length:") {
                    len = value.trim().parse().ok();
                }
            }
        }
    }
}
