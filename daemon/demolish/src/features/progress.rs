//! `$/progress`: what long work shows while it runs.

use engine::LoadProgress;
use serde_json::json;
use wire::Envelope;
use wire::lsp::request::WorkDoneProgressCreate;
use wire::lsp::{ProgressToken, WorkDoneProgressCreateParams};
use wire::tower::Client;

use super::own::Send;

/// How far the load of a model is, in words.
pub(super) fn of_load(progress: LoadProgress) -> String {
    const GIB: f64 = (1u64 << 30) as f64;
    let LoadProgress { bytes, total, .. } = progress;
    let percent = (bytes * 100).checked_div(total).unwrap_or(0);
    #[allow(clippy::cast_precision_loss, reason = "rounded to a tenth")]
    let gib = |bytes: u64| bytes as f64 / GIB;
    format!("{percent} %, {:.1} of {:.1} GiB", gib(bytes), gib(total))
}

/// Work that is shown. It ends when it is dropped, whether it was done or given up.
pub(super) struct Progress {
    send: Send,
    token: ProgressToken,
    ended: bool,
}

impl Progress {
    /// Begins to show work: under the client's token, or one that it lets us make; else nothing is shown.
    pub(super) async fn begin(
        client: &Client,
        send: &Send,
        token: Option<ProgressToken>,
        own_token: Option<String>,
        title: &str,
    ) -> Option<Progress> {
        let token = match (token, own_token) {
            (Some(token), _) => token,
            (None, Some(own)) => {
                let token = ProgressToken::String(own);
                let params = WorkDoneProgressCreateParams { token: token.clone() };
                client.send_request::<WorkDoneProgressCreate>(params).await.ok()?;
                token
            }
            (None, None) => return None,
        };
        let progress = Progress { send: send.clone(), token, ended: false };
        progress.say(json!({"kind": "begin", "title": title, "cancellable": true})).await;
        Some(progress)
    }

    async fn say(&self, value: serde_json::Value) {
        (self.send)(envelope(&self.token, value)).await;
    }

    /// Says how far it is.
    pub(super) async fn report(&self, message: &str) {
        self.say(json!({"kind": "report", "message": message})).await;
    }

    /// Ends it, before anything that is sent from here on.
    pub(super) async fn end(mut self) {
        self.ended = true;
        self.say(json!({"kind": "end"})).await;
    }

    /// The token, as JSON text.
    pub(super) fn key(&self) -> String {
        json!(self.token).to_string()
    }
}

fn envelope(token: &ProgressToken, value: serde_json::Value) -> Envelope {
    Envelope::notification("$/progress", &json!({"token": token, "value": value}))
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn((self.send)(envelope(&self.token, json!({"kind": "end"}))));
        }
    }
}
