//! Server-sent events out of bytes that arrive in pieces.

use super::fault::Fault;

/// The most bytes that one event may have.
pub(crate) const EVENT_BYTES_MAX: usize = 4 << 20;

/// One thing that a stream says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// The data of an event.
    Data(String),
    /// A comment.
    Comment(String),
}

/// Bytes that are no whole line yet.
#[derive(Default)]
pub(crate) struct Events {
    held: Vec<u8>,
    data: Option<String>,
}

impl Events {
    /// What these bytes complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Said>, Fault> {
        let mut said = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.held.len() + piece.len() > EVENT_BYTES_MAX {
                return Err(Fault::Endless { bytes_max: EVENT_BYTES_MAX });
            }
            self.held.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.held);
                said.extend(self.line(&line)?);
            }
        }
        Ok(said)
    }

    fn line(&mut self, line: &[u8]) -> Result<Option<Said>, Fault> {
        let line = std::str::from_utf8(line)
            .map_err(|_| {
                Fault::garbage(format!(
                    "bytes that are no UTF-8: {}",
                    String::from_utf8_lossy(line)
                ))
            })?
            .trim_end_matches(['\n', '\r']);
        if line.is_empty() {
            return Ok(self.data.take().map(Said::Data));
        }
        if line.starts_with(':') {
            return Ok(Some(Said::Comment(line.to_owned())));
        }
        let Some((field, value)) = line.split_once(':') else {
            return Err(Fault::garbage(line));
        };
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => match &mut self.data {
                Some(data) if data.len() + value.len() > EVENT_BYTES_MAX => {
                    return Err(Fault::Endless { bytes_max: EVENT_BYTES_MAX });
                }
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            // llama.cpp reports an error in mid-stream so.
            "error" => return Ok(Some(Said::Data(format!("{{\"error\":{value}}}")))),
            "event" | "id" | "retry" => {}
            _ => return Err(Fault::garbage(line)),
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_they_are_cut() {
        let stream =
            ": ping\n\ndata: {\"a\":\"ä\"}\r\n\r\nevent: x\ndata: 1\ndata: 2\n\ndata: [DONE]\n\n";
        let whole = Events::default().push(stream.as_bytes()).unwrap();
        let data = |text: &str| Said::Data(text.to_owned());
        let ping = Said::Comment(": ping".to_owned());
        assert_eq!(whole, [ping, data("{\"a\":\"ä\"}"), data("1\n2"), data("[DONE]")]);
        for cut in 0..stream.len() {
            let mut events = Events::default();
            let mut said = events.push(&stream.as_bytes()[..cut]).unwrap();
            said.extend(events.push(&stream.as_bytes()[cut..]).unwrap());
            assert_eq!(said, whole, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_stream_is_told() {
        assert!(matches!(Events::default().push(b"<html>\n"), Err(Fault::Garbage(_))));
        assert!(matches!(Events::default().push(b"data: \xff\xfe\n"), Err(Fault::Garbage(_))));
        let mut events = Events::default();
        let endless = vec![b'x'; 1 << 20];
        assert!((0..8).any(|_| matches!(events.push(&endless), Err(Fault::Endless { .. }))));
        let mut events = Events::default();
        let line = format!("data: {}\n", "x".repeat(1 << 20));
        assert!((0..8).any(|_| matches!(events.push(line.as_bytes()), Err(Fault::Endless { .. }))));
    }
}
