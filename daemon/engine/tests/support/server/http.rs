//! As much of HTTP as the fakes need.

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A request.
pub(super) struct Request {
    pub(super) path: String,
    pub(super) key: Option<String>,
    pub(super) body: Value,
}

pub(super) async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        if let Some(head_len) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..head_len]).into_owned();
            let field = |name: &str| {
                head.lines().find_map(|line| {
                    let (key, value) = line.split_once(':')?;
                    key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
                })
            };
            let len = field("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
            let body = &bytes[head_len + 4..];
            if body.len() >= len {
                let path = head.split_whitespace().nth(1)?.to_owned();
                let body = serde_json::from_slice(&body[..len]).unwrap_or(Value::Null);
                return Some(Request { path, key: field("authorization"), body });
            }
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(len) => bytes.extend_from_slice(&buffer[..len]),
        }
    }
}

pub(super) async fn json(stream: &mut TcpStream, body: &Value) {
    answer(stream, 200, "application/json", &body.to_string()).await;
}

pub(super) async fn answer(stream: &mut TcpStream, code: u16, form: &str, body: &str) {
    let text = format!(
        "HTTP/1.1 {code} X\r\nContent-Type: {form}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(text.as_bytes()).await;
}

pub(super) async fn refuse(stream: &mut TcpStream, code: u16, after: Option<u64>, body: &str) {
    let after = after.map_or_else(String::new, |after| format!("Retry-After: {after}\r\n"));
    let text = format!(
        "HTTP/1.1 {code} X\r\nContent-Type: application/json\r\n{after}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(text.as_bytes()).await;
}

/// The beginning of a stream.
pub(super) async fn begin(stream: &mut TcpStream) -> bool {
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.is_ok()
}

/// Some bytes of a stream; `false`: nobody reads it any more.
pub(super) async fn send(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    stream.write_all(&chunk).await.is_ok()
}

pub(super) async fn end(stream: &mut TcpStream) -> bool {
    stream.write_all(b"0\r\n\r\n").await.is_ok()
}

/// Ready when the reader has gone.
pub(super) async fn gone(stream: &TcpStream) {
    let mut byte = [0];
    loop {
        if stream.readable().await.is_err() {
            return;
        }
        match stream.try_read(&mut byte) {
            Ok(0) => return,
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return,
            _ => {}
        }
    }
}
