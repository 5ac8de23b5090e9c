//! `$/progress`: what long work shows while it runs.

use serde_json::json;
use wire::lsp::notification::Notification;
use wire::lsp::request::WorkDoneProgressCreate;
use wire::lsp::{ProgressToken, WorkDoneProgressCreateParams};
use wire::tower::Client;

/// The notification with its value as it is sent; the protocol's own type cannot say `cancellable` for every client.
struct Raw;

impl Notification for Raw {
    type Params = serde_json::Value;
    const METHOD: &'static str = "$/progress";
}

/// Work that is shown. It ends when it is dropped, whether it was done or given up.
pub(super) struct Progress {
    client: Client,
    token: ProgressToken,
}

impl Progress {
    /// Begins to show work: under the client's token, or one that it lets us make; else nothing is shown.
    pub(super) async fn begin(
        client: &Client,
        token: Option<ProgressToken>,
        may_create: bool,
        own_token: String,
        title: &str,
    ) -> Option<Progress> {
        let token = match token {
            Some(token) => token,
            None if may_create => {
                let token = ProgressToken::String(own_token);
                let params = WorkDoneProgressCreateParams { token: token.clone() };
                client.send_request::<WorkDoneProgressCreate>(params).await.ok()?;
                token
            }
            None => return None,
        };
        let begin = json!({"token": token, "value": {"kind": "begin", "title": title, "cancellable": true}});
        client.send_notification::<Raw>(begin).await;
        Some(Progress { client: client.clone(), token })
    }

    /// Says how far it is.
    pub(super) async fn report(&self, message: &str) {
        let report = json!({"token": self.token, "value": {"kind": "report", "message": message}});
        self.client.send_notification::<Raw>(report).await;
    }

    /// The token, as JSON text.
    pub(super) fn key(&self) -> String {
        key(&self.token)
    }
}

/// A token as a key of a table.
pub(super) fn key(token: &ProgressToken) -> String {
    json!(token).to_string()
}

impl Drop for Progress {
    fn drop(&mut self) {
        let (client, end) =
            (self.client.clone(), json!({"token": self.token, "value": {"kind": "end"}}));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { client.send_notification::<Raw>(end).await });
        }
    }
}
