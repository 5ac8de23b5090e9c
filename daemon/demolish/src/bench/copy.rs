//! A plain byte-copying proxy: what any proxy costs that reads nothing of what it passes on. The measurements of ours are
//! compared with it.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::process::Stdio;

/// How much is copied at once.
const COPY_BYTES: usize = 64 * 1024;

/// Starts `command`, and copies until it ends.
///
/// # Errors
/// The command cannot be started, or a pipe is broken.
#[allow(clippy::disallowed_methods, reason = "a proxy that is nothing but this")]
pub(crate) fn serve(command: &[OsString]) -> io::Result<()> {
    let program = command.first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut server = std::process::Command::new(program)
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (stdin, stdout) = (server.stdin.take(), server.stdout.take());
    let (Some(stdin), Some(stdout)) = (stdin, stdout) else { return Ok(()) };
    let back = std::thread::spawn(move || copy(stdout, io::stdout().lock()));
    copy(io::stdin().lock(), stdin)?;
    let _ = back.join();
    server.wait().map(drop)
}

fn copy(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let bytes = from.read(&mut buffer)?;
        if bytes == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..bytes])?;
        to.flush()?;
    }
}
