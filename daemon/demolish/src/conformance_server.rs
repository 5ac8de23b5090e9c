//! `demolish conformance-server SOCKET NAME`: the server behind the proxy that the conformance suite measures, as a real process.
//!
//! It knows nothing of the protocol. What comes in on stdin goes to the suite over the socket, byte for byte, and what
//! the suite sends comes out on stdout or stderr; so the suite knows exactly which bytes reached the server, and can make
//! it say anything. Threads on blocking pipes: a proxy that does not read must not hide what it still writes.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use serde_json::json;

/// What one record between suite and server is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Tag {
    /// Who has started, as JSON; the first record.
    Hello = b'H',
    /// Bytes that came in on stdin.
    Input = b'I',
    /// Stdin has ended.
    InputEnd = b'E',
    /// Bytes for stdout.
    Output = b'O',
    /// Bytes for stderr.
    Stderr = b'R',
    /// Stop reading stdin.
    Pause = b'P',
    /// Read stdin again.
    Resume = b'G',
    /// End with the code in the first byte.
    Exit = b'X',
}

/// The longest record that is believed.
pub(crate) const RECORD_BYTES_MAX: usize = 256 << 20;
/// How much is read from stdin at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// A record as it stands on the socket: a tag, the length in four bytes, and the bytes.
pub(crate) fn record(tag: Tag, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 5);
    out.push(tag as u8);
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
    out
}

/// Runs it, if the command line asks for it; the verb is not in the help.
#[must_use]
pub(crate) fn early() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != "conformance-server" {
        return None;
    }
    let (Some(socket), Some(name)) = (args.next(), args.next()) else {
        return Some(ExitCode::from(2));
    };
    let Ok(stream) = UnixStream::connect(&socket) else {
        let _ =
            writeln!(io::stderr(), "conformance-server: nobody listens at {}", socket.display());
        return Some(ExitCode::from(3));
    };
    let more: Vec<String> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
    let hello = json!({ "pid": std::process::id(), "name": name.to_string_lossy(), "args": more });
    Some(serve(stream, &hello.to_string()).unwrap_or(ExitCode::from(4)))
}

/// Whether stdin is read now.
type Gate = Arc<(Mutex<bool>, Condvar)>;

fn serve(mut stream: UnixStream, hello: &str) -> io::Result<ExitCode> {
    stream.write_all(&record(Tag::Hello, hello.as_bytes()))?;
    let gate: Gate = Arc::new((Mutex::new(true), Condvar::new()));
    let (up, at_gate) = (stream.try_clone()?, gate.clone());
    std::thread::spawn(move || relay_input(up, &at_gate));
    loop {
        let mut head = [0; 5];
        if stream.read_exact(&mut head).is_err() {
            // The suite is gone, and with it the reason to be here.
            return Ok(ExitCode::SUCCESS);
        }
        let bytes = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if bytes > RECORD_BYTES_MAX {
            return Ok(ExitCode::from(4));
        }
        let mut body = vec![0; bytes];
        stream.read_exact(&mut body)?;
        match head[0] {
            tag if tag == Tag::Output as u8 => {
                let mut stdout = io::stdout().lock();
                // Who does not read any more is not waited for; the suite sees it at the other end.
                let _ = stdout.write_all(&body).and_then(|()| stdout.flush());
            }
            tag if tag == Tag::Stderr as u8 => {
                let _ = io::stderr().write_all(&body);
            }
            tag if tag == Tag::Pause as u8 => set(&gate, false),
            tag if tag == Tag::Resume as u8 => set(&gate, true),
            tag if tag == Tag::Exit as u8 => {
                return Ok(ExitCode::from(body.first().copied().unwrap_or(0)));
            }
            _ => return Ok(ExitCode::from(4)),
        }
    }
}

fn set(gate: &Gate, open: bool) {
    *gate.0.lock().unwrap_or_else(PoisonError::into_inner) = open;
    gate.1.notify_all();
}

fn relay_input(mut up: UnixStream, gate: &Gate) {
    let mut stdin = io::stdin().lock();
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        {
            let open = gate.0.lock().unwrap_or_else(PoisonError::into_inner);
            drop(gate.1.wait_while(open, |open| !*open));
        }
        let (tag, read) = match stdin.read(&mut buffer) {
            Ok(0) | Err(_) => (Tag::InputEnd, 0),
            Ok(read) => (Tag::Input, read),
        };
        if up.write_all(&record(tag, &buffer[..read])).is_err() || tag == Tag::InputEnd {
            return;
        }
    }
}
