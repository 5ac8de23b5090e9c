//! How much passes: floods of one message, in both directions, between ends that do next to nothing.

use std::ffi::OsStr;
use std::time::Instant;

use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wire::child::Child;
use wire::codec::{Codec, Incoming};
use wire::ends::{Reader, Writer};
use wire::{Envelope, Id, frame};

use super::super::echo::drop_of_flood;
use super::super::sandbox::Sandbox;
use super::PATIENCE;

/// How much is written at once.
const WRITE_BYTES: usize = 64 * 1024;

/// A client that counts bytes.
pub(super) struct Raw {
    child: Child,
    writer: Writer,
    reader: Reader,
    codec: Codec,
    asked: u32,
}

impl Raw {
    /// Starts `command` and greets it.
    pub(super) async fn start(sandbox: &Sandbox, command: &[&OsStr]) -> Result<Raw, String> {
        let (child, writer, reader) = sandbox.spawn(command).await?;
        let mut raw = Raw { child, writer, reader, codec: Codec::default(), asked: 0 };
        raw.ask("initialize", &json!({"capabilities": {}})).await?;
        raw.answered().await?;
        Ok(raw)
    }

    /// The process.
    pub(super) fn pid(&self) -> Result<u32, String> {
        self.child.id().ok_or_else(|| "it has ended".to_owned())
    }

    /// Sends `count` messages with a text of `text` bytes each, and waits until the server has them all. The seconds.
    pub(super) async fn flood(&mut self, count: usize, text: usize) -> Result<f64, String> {
        let drop = drop_of_flood(text);
        let started = Instant::now();
        self.ask("bench/flood", &json!({"bytes": drop.len() * count})).await?;
        let at_once = (WRITE_BYTES / drop.len()).clamp(1, count);
        let block = drop.repeat(at_once);
        let mut left = count;
        while left > 0 {
            let now = left.min(at_once);
            self.write(&block[..now * drop.len()]).await?;
            left -= now;
        }
        self.answered().await?;
        Ok(started.elapsed().as_secs_f64())
    }

    /// The same in the other direction.
    pub(super) async fn gush(&mut self, count: usize, text: usize) -> Result<f64, String> {
        let bytes = drop_of_flood(text).len() * count;
        let started = Instant::now();
        self.ask("bench/gush", &json!({"count": count, "text": text})).await?;
        let (mut seen, mut buffer) = (0, vec![0; WRITE_BYTES]);
        while seen < bytes {
            let room = (bytes - seen).min(buffer.len());
            seen += self.read(&mut buffer[..room]).await?;
        }
        self.answered().await?;
        Ok(started.elapsed().as_secs_f64())
    }

    async fn ask(&mut self, method: &str, params: &Json) -> Result<(), String> {
        self.asked += 1;
        let request = Envelope::request(Id::number(self.asked), method, params);
        self.write(&frame::encode(&request.body)).await
    }

    async fn answered(&mut self) -> Result<(), String> {
        loop {
            match self.codec.next_incoming() {
                Some(Incoming::Message(answer)) if answer.method().is_none() => return Ok(()),
                Some(_) => continue,
                None => {}
            }
            let mut buffer = [0; 4096];
            let bytes = self.read(&mut buffer).await?;
            self.codec.push(&buffer[..bytes]);
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let written = tokio::time::timeout(PATIENCE, self.writer.write_all(bytes)).await;
        written.map_err(|_| "nothing is taken".to_owned())?.map_err(|error| error.to_string())
    }

    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, String> {
        let read = tokio::time::timeout(PATIENCE, self.reader.read(buffer)).await;
        match read.map_err(|_| "nothing comes".to_owned())? {
            Ok(0) => Err("it has ended".to_owned()),
            Ok(bytes) => Ok(bytes),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The processor time of a process so far, in seconds.
pub(super) fn cpu_seconds(pid: u32) -> Option<f64> {
    /// What the kernel counts in for user space, on every Linux.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; after it come state and numbers, of which user and system time are the
    // twelfth and the thirteenth.
    let numbers: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks: f64 = numbers.get(11..13)?.iter().filter_map(|text| text.parse::<f64>().ok()).sum();
    Some(ticks / TICKS_PER_SECOND)
}
