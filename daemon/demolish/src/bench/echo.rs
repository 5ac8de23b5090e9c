//! A language server that says back what it is told: the other end of the proxy's measurements. Plain blocking input and
//! output, so that what is measured is not its own.

use std::io::{self, BufRead, BufReader, Read as _, Write as _};

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
