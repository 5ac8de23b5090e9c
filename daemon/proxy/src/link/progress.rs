//! Tokens of progress and partial results: whose they are, and what has begun and not ended (rule 4.22).
//!
//! A token that the server made is everybody's. One that a client gave with a request is that client's alone; where there
//! are several clients the server gets another in its place, so that those of two clients never meet.

use std::collections::{HashMap, HashSet};

use serde_json::json;
use serde_json::value::RawValue;
use wire::{Bytes, Envelope, Lane};

use super::members::to_each;
use super::{Link, Route};
use crate::{ClientId, IdTable, Pending};

/// How many tokens of progress are remembered: of those that have begun, and of those that the server made.
const PROGRESS_MAX: usize = 1024;
/// How many tokens that we gave in place of a client's are kept before those of answered requests are forgotten.
const MINTED_KEPT: usize = 64;
/// The members of parameters that hold tokens.
const TOKENS: [&str; 2] = ["workDoneToken", "partialResultToken"];
/// What the tokens that we make begin with, in JSON.
const OURS: &str = "\"demolish/";

/// The tokens of a link.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Progress that has begun and not ended.
    open: Vec<Open>,
    /// JSON text of the tokens that the server has made.
    created: HashSet<Box<str>>,
    /// By the JSON text of the token that the server knows.
    minted: HashMap<Box<str>, Minted>,
    last: u64,
}

#[derive(Debug)]
struct Open {
    /// The client that sees it; `None`: all do.
    client: Option<ClientId>,
    /// JSON text of the token, as the client knows it.
    token: Box<str>,
    /// The notification that began it.
    begin: Bytes,
}

#[derive(Debug)]
struct Minted {
    client: ClientId,
    /// JSON text of what the client called it.
    original: Box<str>,
    /// Which member of the parameters it stood in.
    member: &'static str,
    /// The request that it came with; the token lives as long, and for an end that comes later.
    request: u32,
}

#[derive(serde::Deserialize)]
struct Report {
    token: Box<RawValue>,
    value: Stage,
}

#[derive(serde::Deserialize)]
struct Stage {
    kind: Option<String>,
}

impl Progress {
    /// Whether nothing is open.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The server makes a token.
    pub(super) fn created(&mut self, request: &Envelope) {
        if let Some(token) = request.param("token").and_then(text)
            && self.created.len() < PROGRESS_MAX
        {
            self.created.insert(token.into());
        }
    }

    /// What is open for everybody: token and beginning.
    pub(super) fn replay(&self) -> Vec<(Box<RawValue>, Bytes)> {
        let shared = self.open.iter().filter(|open| open.client.is_none());
        shared.filter_map(|open| Some((raw(&open.token)?, open.begin.clone()))).collect()
    }

    /// Takes out what a client sees: the notifications that end it.
    fn end(&mut self, of: impl Fn(&Open) -> bool, keep: bool) -> Vec<(Option<ClientId>, Envelope)> {
        let mut ended = Vec::new();
        self.open.retain(|open| {
            if of(open) {
                let params = json!({ "token": null, "value": { "kind": "end" } });
                let end = Envelope::notification("$/progress", &params);
                ended.push((open.client, end.with_param("token", open.token.as_bytes())));
            }
            keep || !of(open)
        });
        ended
    }

    /// Notes the stage of a progress, and returns the lane of the message.
    fn note(&mut self, client: Option<ClientId>, report: &Report, body: &Bytes) -> Lane {
        let token = report.token.get();
        let known =
            self.open.iter().position(|open| open.client == client && &*open.token == token);
        match (report.value.kind.as_deref(), known) {
            (Some("begin"), None) if self.open.len() < PROGRESS_MAX => {
                let begin = Bytes::copy_from_slice(body);
                self.open.push(Open { client, token: token.into(), begin });
            }
            (Some("end"), Some(at)) => drop(self.open.remove(at)),
            (Some("report"), _) => return Lane::Latest(format!("p{token}").into()),
            _ => {}
        }
        Lane::Keep
    }

    /// A client is gone, and with it what it saw.
    pub(super) fn forget(&mut self, client: ClientId) {
        self.open.retain(|open| open.client != Some(client));
        self.minted.retain(|_, minted| minted.client != client);
    }

    fn mint(&mut self, asked: &IdTable, minted: Minted) -> String {
        if self.minted.len() >= MINTED_KEPT {
            let open = &self.open;
            self.minted.retain(|_, minted| asked.contains(minted.request) || minted.is_shown(open));
        }
        self.last += 1;
        let token = format!("{OURS}{}\"", self.last);
        self.minted.insert(token.as_str().into(), minted);
        token
    }
}

impl Minted {
    /// Whether something has begun under it and has not ended, so that the client still shows it.
    fn is_shown(&self, open: &[Open]) -> bool {
        let shown = |open: &Open| open.client == Some(self.client) && open.token == self.original;
        open.iter().any(shown)
    }
}

impl Link {
    /// `$/progress` of the server: for everybody, or for the client whose token it is.
    pub(super) fn server_progress(&mut self, envelope: &Envelope) -> Vec<Route> {
        // Partial results share the method, and have no kind; they are kept.
        let Ok(mut report) = envelope.params_as::<Report>() else {
            return self.to_all(envelope, &Lane::Keep);
        };
        let token = report.token.get();
        if token.starts_with(OURS) {
            let (asked, open) = (&self.asked_server, &self.progress.open);
            let end = report.value.kind.as_deref() == Some("end");
            let live = self.progress.minted.get(token);
            let live = live.filter(|m| asked.contains(m.request) || end && m.is_shown(open));
            let Some(Minted { client, original, .. }) = live else { return Vec::new() };
            let (client, original) = (*client, original.clone());
            let envelope = envelope.with_param("token", original.as_bytes());
            let Ok(original) = RawValue::from_string(original.into()) else { return Vec::new() };
            report.token = original;
            let lane = self.progress.note(Some(client), &report, &envelope.body);
            return to_each([client], &envelope.body, &lane);
        }
        let made = self.progress.created.contains(token);
        // What the server has not made came with a request, from when there was only one client: that is the oldest.
        let client = self.lead().filter(|_| self.is_shared() && !made);
        if made && report.value.kind.as_deref() == Some("end") {
            self.progress.created.remove(token);
        }
        let lane = self.progress.note(client, &report, &envelope.body);
        match client {
            Some(client) => to_each([client], &envelope.body, &lane),
            None => self.to_all(envelope, &lane),
        }
    }

    /// The same request with tokens of ours in place of the client's.
    pub(super) fn with_minted_tokens(
        &mut self,
        client: ClientId,
        request: u32,
        mut envelope: Envelope,
    ) -> Envelope {
        for member in TOKENS {
            let Some(original) = envelope.param(member).and_then(text).map(Box::from) else {
                continue;
            };
            let minted = Minted { client, original, member, request };
            let token = self.progress.mint(&self.asked_server, minted);
            envelope = envelope.with_param(member, token.as_bytes());
        }
        envelope
    }

    /// A request that is to be asked elsewhere, with the client's own tokens in its body.
    pub(super) fn with_own_tokens(&mut self, request: u32, mut pending: Pending) -> Pending {
        let body = pending.body.take().and_then(|body| Envelope::read(body).ok());
        let own = |body: Envelope| {
            let of = self.progress.minted.values().filter(|minted| minted.request == request);
            of.fold(body, |body, m| body.with_param(m.member, m.original.as_bytes())).body
        };
        pending.body = body.map(own);
        pending
    }

    /// A client cancels progress; the token may be one that the server knows by another name.
    pub(super) fn cancel_progress(&mut self, client: ClientId, envelope: &Envelope) -> Vec<Route> {
        let token = envelope.param("token").and_then(text).unwrap_or_default();
        let ours = self.progress.minted.iter().find(|(_, minted)| {
            let live = self.asked_server.contains(minted.request);
            live && minted.client == client && &*minted.original == token
        });
        let envelope = match ours {
            Some((ours, _)) => envelope.with_param("token", ours.as_bytes()),
            None => envelope.clone(),
        };
        self.forward(&envelope)
    }

    /// The server is gone: what it had begun is ended.
    pub(super) fn end_progress(&mut self) -> Vec<Route> {
        self.progress.created.clear();
        let ended = self.progress.end(|_| true, false);
        let route = |(client, envelope): (Option<ClientId>, Envelope)| match client {
            Some(client) => to_each([client], &envelope.body, &Lane::Keep),
            None => self.to_all(&envelope, &Lane::Keep),
        };
        ended.into_iter().flat_map(route).collect()
    }

    /// A client is gone from the server: what it sees of its progress is ended.
    pub(super) fn end_progress_of(&mut self, client: ClientId) -> Vec<Route> {
        let shared = self.progress.end(|open| open.client.is_none(), true);
        let own = self.progress.end(|open| open.client == Some(client), false);
        let all = shared.into_iter().chain(own);
        all.flat_map(|(_, end)| to_each([client], &end.body, &Lane::Keep)).collect()
    }
}

fn text(raw: &[u8]) -> Option<&str> {
    std::str::from_utf8(raw).ok()
}

fn raw(token: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(token.to_owned()).ok()
}
