//! An answer as it comes, with patience for every part of it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    task::Poll,
    time::Duration,
};

use hyper::{Method, header::CONTENT_TYPE};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    events::{Events, Said},
    fault::Fault,
    hear::{Heard, NO_REASON, hear},
    http::{Client, fault_of},
    kind::Kind,
};
use crate::thread::panic_message;

/// How long to wait before a server that is loading is asked again.
const AGAIN_AFTER: Duration = Duration::from_millis(250);
/// The longest such wait, where the server does not ask for more.
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(5);
/// How many times as long a server that tells how far it has read may take to the first token.
const READING_ROUNDS_MAX: u32 = 20;
/// What ends a stream of OpenAI's kind.
const DONE: &str = "[DONE]";

/// Asks again for as long as the server says that it is loading, or has too much to do.
pub(crate) async fn patiently<T>(
    client: &Client,
    mut attempt: impl AsyncFnMut() -> Result<T, Fault>,
) -> Result<T, Fault> {
    let until = Instant::now() + client.loading;
    let mut wait = AGAIN_AFTER;
    loop {
        let fault = match attempt().await {
            Err(fault) if fault.passes() => fault,
            other => return other,
        };
        let pause = fault.retry_after().unwrap_or(wait).max(AGAIN_AFTER);
        // Compared as lengths: a server may ask for longer than a clock can count.
        if pause > until.saturating_duration_since(Instant::now()) {
            return Err(fault);
        }
        sleep(pause).await;
        wait = (wait * 2).min(AGAIN_AFTER_MAX);
    }
}

/// A whole answer at once.
pub(crate) async fn whole(client: &Client, kind: Kind, body: &Value) -> Result<Vec<Heard>, Fault> {
    let answer = patiently(client, async || client.post(kind.path(), body).await).await?;
    hear(kind, &answer)
}

/// An answer piece by piece, until `tell` wants no more (it answers `false`) or it is over.
pub(crate) async fn stream(
    client: &Client,
    kind: Kind,
    body: &Value,
    mut tell: impl AsyncFnMut(Vec<Heard>) -> bool,
) -> Result<(), Fault> {
    let begin = async || client.begin(Method::POST, kind.path(), Some(body)).await;
    let mut answer = patiently(client, begin).await?;
    let form = answer.headers.get(CONTENT_TYPE).and_then(|form| form.to_str().ok());
    if let Some(form) = form.filter(|form| !form.starts_with("text/event-stream")) {
        return Err(Fault::garbage(format!("a stream of the form {form}")));
    }
    let mut events = Events::default();
    let mut listener = Listener { kind, pieces: 0, read: 0, over: false };
    let mut since = Instant::now();
    let reading = client.first_token.saturating_mul(READING_ROUNDS_MAX);
    let latest = since + reading;
    loop {
        let (waiting_for, patience, until) = match listener.pieces {
            0 if latest < since + client.first_token => ("first token", reading, latest),
            0 => ("first token", client.first_token, since + client.first_token),
            _ => ("token", client.between_tokens, since + client.between_tokens),
        };
        let late = Fault::Silent { waiting_for, patience };
        let bytes = timeout_at(until, answer.next()).await.map_err(|_| late)?;
        let Some(bytes) = bytes.map_err(|error| fault_of(&error, listener.pieces.max(1)))? else {
            return Err(Fault::Dropped { after: listener.pieces });
        };
        for said in events.push(&bytes)? {
            let heard = listener.listen(said)?;
            if heard.is_empty() {
                continue;
            }
            if heard.iter().any(|heard| !matches!(heard, Heard::Usage { .. })) {
                since = Instant::now();
            }
            let goes_on = tell(heard).await;
            if !goes_on || listener.over {
                return Ok(());
            }
        }
    }
}

/// What has been heard so far.
struct Listener {
    kind: Kind,
    pieces: usize,
    /// How many tokens of the prompt it has read.
    read: usize,
    over: bool,
}

impl Listener {
    fn listen(&mut self, said: Said) -> Result<Vec<Heard>, Fault> {
        let mut heard = match said {
            Said::Comment(comment) => progress(&comment).map(Heard::Read).into_iter().collect(),
            Said::Data(data) if data == DONE => return Err(Fault::Ended(NO_REASON.to_owned())),
            Said::Data(data) => {
                let json: Value = serde_json::from_str(&data).map_err(|_| Fault::garbage(&data))?;
                hear(self.kind, &json)?
            }
        };
        // Saying something says that the connection is there; that the number grows, that anything happens.
        heard.retain(|heard| match heard {
            Heard::Read(read) => {
                let grows = self.pieces == 0 && *read > self.read;
                self.read = self.read.max(*read);
                grows
            }
            _ => true,
        });
        self.pieces += heard.iter().filter(|heard| matches!(heard, Heard::Piece(_))).count();
        self.over = heard.iter().any(|heard| matches!(heard, Heard::Stopped | Heard::Full));
        Ok(heard)
    }
}

/// How many tokens of the prompt are read, as mlx_lm.server's comments have it: `: keepalive 2048/10000`.
fn progress(comment: &str) -> Option<usize> {
    let (read, total) = comment.rsplit(' ').next()?.split_once('/')?;
    let (read, total): (usize, usize) = (read.parse().ok()?, total.parse().ok()?);
    (read <= total).then_some(read)
}

/// What some work comes to. A panic is a fault like others: nobody waits for a task that is gone.
pub(crate) async fn survived(work: impl Future<Output = Result<(), Fault>>) -> Result<(), Fault> {
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(|context| {
        let polled = AssertUnwindSafe(|| work.as_mut().poll(context));
        catch_unwind(polled).unwrap_or_else(|panic| {
            Poll::Ready(Err(Fault::Panicked(panic_message(panic.as_ref()))))
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_that_panics_fails_and_is_not_waited_for() {
        let panics = async {
            tokio::task::yield_now().await;
            panic!("as the test wants it");
        };
        let fault = survived(panics).await.expect_err("it panics");
        assert_eq!(fault, Fault::Panicked("as the test wants it".to_owned()));
        assert_eq!(survived(async { Ok(()) }).await, Ok(()));
    }

    #[test]
    fn only_a_number_that_grows_tells_of_life() {
        let mut listener = Listener { kind: Kind::LlamaCpp, pieces: 0, read: 0, over: false };
        let mut heard = |said: &str| {
            let said = match said.strip_prefix("data ") {
                Some(data) => Said::Data(data.to_owned()),
                None => Said::Comment(said.to_owned()),
            };
            listener.listen(said).expect("a server says such things").len()
        };
        let pings = [": ping - 2026-01-01 00:00:00", ": ping - 2026-01-01 00:00:15", ":", ": 1"];
        assert_eq!(pings.map(&mut heard), [0; 4]);
        let progress =
            [": keepalive 5/9", ": keepalive 5/9", ": keepalive 4/9", ": keepalive 10/9"];
        assert_eq!(progress.map(&mut heard), [1, 0, 0, 0]);
        let read = |number: usize| {
            format!("data {{\"prompt_progress\": {{\"total\": 99, \"processed\": {number}}}}}")
        };
        assert_eq!([6, 6, 3, 7].map(|number| heard(&read(number))), [1, 0, 0, 1]);
    }
}
