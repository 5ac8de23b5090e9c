//! An answer as it comes, with patience for every part of it.

use std::time::Duration;

use hyper::{Method, header::CONTENT_TYPE};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    events::{Events, Said},
    fault::Fault,
    hear::{Heard, hear},
    http::{Client, fault_of},
    kind::Kind,
};

/// How long to wait before a server that is loading is asked again.
const AGAIN_AFTER: Duration = Duration::from_millis(250);
/// The longest such wait, where the server does not ask for more.
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(5);
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
        let pause = fault.retry_after().unwrap_or(wait);
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
    let mut listener = Listener { kind, pieces: 0, comment: String::new(), over: false };
    let mut since = Instant::now();
    loop {
        let (waiting_for, patience) = match listener.pieces {
            0 => ("first token", client.first_token),
            _ => ("token", client.between_tokens),
        };
        let late = Fault::Silent { waiting_for, patience };
        let bytes = timeout_at(since + patience, answer.next()).await.map_err(|_| late)?;
        let Some(bytes) = bytes.map_err(|error| fault_of(&error, listener.pieces.max(1)))? else {
            return Err(Fault::Dropped { after: listener.pieces });
        };
        for said in events.push(&bytes)? {
            let heard = listener.listen(said)?;
            if heard.is_empty() {
                continue;
            }
            since = Instant::now();
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
    comment: String,
    over: bool,
}

impl Listener {
    fn listen(&mut self, said: Said) -> Result<Vec<Heard>, Fault> {
        let data = match said {
            // The same one again and again says that the connection is there, not that anything happens.
            Said::Comment(comment) if comment == self.comment || self.pieces > 0 => {
                return Ok(Vec::new());
            }
            Said::Comment(comment) => {
                self.comment = comment;
                return Ok(vec![Heard::Alive]);
            }
            Said::Data(data) => data,
        };
        if data == DONE {
            self.over = true;
            return Ok(vec![Heard::Stopped]);
        }
        let json: Value = serde_json::from_str(&data).map_err(|_| Fault::garbage(&data))?;
        let heard = hear(self.kind, &json)?;
        self.pieces += heard.iter().filter(|heard| matches!(heard, Heard::Piece(_))).count();
        self.over = heard.iter().any(|heard| matches!(heard, Heard::Stopped | Heard::Full));
        Ok(heard)
    }
}
