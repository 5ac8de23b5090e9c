//! What comes in: from proxies, and from the scripted servers behind them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use tokio::sync::{mpsc, watch};
use wire::Bytes;
use wire::ends::{Reader, Writer};

use crate::bench::conformance::port::WRITES_MAX;
use crate::conformance_server::{RECORD_BYTES_MAX, Tag};

const CHUNK_BYTES: usize = 64 * 1024;

/// Something that arrived; numbers of editors and servers are those of the stage.
#[derive(Debug)]
pub(super) enum Event {
    EditorBytes(usize, Bytes),
    EditorClosed(usize),
    ServerUp { id: usize, name: String, pid: i32, writer: mpsc::Sender<Bytes> },
    ServerBytes(usize, Bytes),
    ServerInputEnd(usize),
    ServerClosed(usize),
}

/// Joins an editor's pipes to the stage; what is sent to the result is written.
pub(super) fn start_editor(
    number: usize,
    stdin: Writer,
    mut stdout: Reader,
    mut gate: watch::Receiver<bool>,
    events: mpsc::Sender<Event>,
) -> mpsc::Sender<Bytes> {
    tokio::spawn(async move {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            if gate.wait_for(|reads| *reads).await.is_err() {
                return;
            }
            match stdout.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(read) => {
                    let bytes = Bytes::copy_from_slice(&buffer[..read]);
                    if events.send(Event::EditorBytes(number, bytes)).await.is_err() {
                        return;
                    }
                }
            }
        }
        let _ = events.send(Event::EditorClosed(number)).await;
    });
    start_writer(stdin)
}

fn start_writer(mut writer: impl AsyncWriteExt + Unpin + Send + 'static) -> mpsc::Sender<Bytes> {
    let (sender, mut writes) = mpsc::channel::<Bytes>(WRITES_MAX);
    tokio::spawn(async move {
        while let Some(bytes) = writes.recv().await {
            if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
                return;
            }
        }
    });
    sender
}

/// Waits at the socket for scripted servers.
pub(super) fn listen(socket: &Path, events: mpsc::Sender<Event>) -> Result<(), String> {
    let listener = UnixListener::bind(socket)
        .map_err(|error| format!("{} cannot be listened at ({error})", socket.display()))?;
    let next = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = events.closed() => return,
                stream = listener.accept() => {
                    let Ok((stream, _)) = stream else { return };
                    let id = next.fetch_add(1, Ordering::Relaxed);
                    tokio::spawn(serve(id, stream, events.clone()));
                }
            }
        }
    });
    Ok(())
}

async fn serve(id: usize, stream: UnixStream, events: mpsc::Sender<Event>) {
    let (mut reader, writer) = stream.into_split();
    let mut writer = Some(start_writer(writer));
    while let Ok((tag, bytes)) = read(&mut reader).await {
        let event = match tag {
            tag if tag == Tag::Hello as u8 => {
                let hello: serde_json::Value = wire::parse(&bytes).unwrap_or_default();
                let Some(writer) = writer.take() else { break };
                let name = hello["name"].as_str().unwrap_or("").to_owned();
                let pid = hello["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
                Event::ServerUp { id, name, pid: pid.unwrap_or(0), writer }
            }
            tag if tag == Tag::Input as u8 => Event::ServerBytes(id, bytes),
            tag if tag == Tag::InputEnd as u8 => Event::ServerInputEnd(id),
            _ => break,
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
    let _ = events.send(Event::ServerClosed(id)).await;
}

async fn read(reader: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<(u8, Bytes)> {
    let tag = reader.read_u8().await?;
    let length = reader.read_u32_le().await? as usize;
    if length > RECORD_BYTES_MAX {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes).await?;
    Ok((tag, bytes.into()))
}
