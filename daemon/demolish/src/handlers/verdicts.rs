//! What the editors' servers provably say of the documents that are open in them (`demolish/verdicts`).
//!
//! A verb asks once; every server that has one of the documents open gives a verdict, and the verb is answered when the
//! last of them is there. Nothing here waits: what is out is a [`Poll`], and verdicts come as routes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proxy::Link;
use proxy::verdict::{Ask, AskForm, Habits, Ready, State as Said, Ticket, Verdict};
use serde_json::Value as Json;
use wire::ext::{DocumentVerdict, Finding, VerdictsParams, VerdictsResult};
use wire::{Envelope, Id, ResponseError, codes};

use super::{send, wrap};
use crate::state::{InstanceId, LinkId, State};

/// For how long a verb may wait.
pub const WAIT_MAX: Duration = Duration::from_secs(600);
/// How many verdicts one verb can wait for.
pub const VERDICTS_MAX: usize = 256;
/// How many verbs can wait at a time.
pub const POLLS_MAX: usize = 32;
/// How long after its time a verdict is waited for: links say by themselves that there is none.
const GRACE: Duration = Duration::from_millis(500);
/// How much of a line is shown.
const LINE_BYTES_MAX: usize = 400;

/// Verbs that wait for verdicts.
#[derive(Default)]
pub(crate) struct Polls {
    polls: Vec<Poll>,
    last_ticket: u64,
}

/// A verb that waits.
struct Poll {
    link: LinkId,
    request: Id,
    asked: Instant,
    until: Instant,
    waiting: BTreeMap<Ticket, (InstanceId, Arc<str>)>,
    found: Vec<DocumentVerdict>,
}

impl Polls {
    /// The verb is gone.
    pub(crate) fn forget(&mut self, link: LinkId) {
        self.polls.retain(|poll| poll.link != link);
    }

    /// When [`tick`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.polls.iter().map(|poll| poll.until + GRACE).min()
    }
}

/// What the language data says of how a server lets itself be asked.
pub(crate) fn habits(command: &[String]) -> Habits {
    let Some((_, server)) = lang::server_for(command) else { return Habits::default() };
    let in_order = server.barrier().filter(|barrier| barrier.in_order);
    Habits {
        name: Some(server.name().to_owned()),
        barrier: in_order.map(|barrier| barrier.method.clone()),
        debounce: Duration::from_millis(server.debounce_ms().into()),
        ask: server.ask().map(|ask| Ask {
            command: ask.command.clone(),
            arguments: ask.arguments.clone(),
            form: match ask.form {
                lang::AskForm::Tsserver => AskForm::Tsserver,
            },
        }),
        ready: server.ready().map(|ready| Ready {
            status: ready.status.clone(),
            progress: ready.progress.clone(),
            settle: Duration::from_millis(ready.settle_ms.into()),
        }),
    }
}

/// A verb asks.
pub(crate) fn asked(
    state: &mut State,
    link: LinkId,
    request: Id,
    envelope: &Envelope,
    now: Instant,
) {
    let params: VerdictsParams = match envelope.params_as() {
        Ok(params) => params,
        Err(error) => {
            return refuse(state, link, request, codes::INVALID_PARAMS, &error.to_string());
        }
    };
    if state.polls.polls.len() >= POLLS_MAX {
        return refuse(state, link, request, codes::REQUEST_FAILED, "too many verbs wait already");
    }
    let until = now + Duration::from_millis(params.wait_ms).min(WAIT_MAX);
    let wanted = |uri: &Arc<str>| {
        params.documents.is_empty() || params.documents.iter().any(|other| is_same(other, uri))
    };
    let mut waiting = BTreeMap::new();
    for (id, instance) in &state.instances {
        for uri in instance.link.open_documents().into_iter().filter(wanted) {
            if waiting.len() < VERDICTS_MAX {
                state.polls.last_ticket += 1;
                waiting.insert(Ticket(state.polls.last_ticket), (*id, uri));
            }
        }
    }
    let out: Vec<_> = waiting.iter().map(|(ticket, of)| (*ticket, of.clone())).collect();
    let poll = Poll { link, request, asked: now, until, waiting, found: Vec::new() };
    state.polls.polls.push(poll);
    for (ticket, (id, uri)) in out {
        let Some(instance) = wrap::instance(state, id) else { continue };
        let routes = instance.link.verdict(&uri, ticket, until, now);
        wrap::pass(state, id, routes, now);
    }
    answer_finished(state, now);
}

/// A server has answered a question of ours.
pub(crate) fn answered(
    state: &mut State,
    id: InstanceId,
    ours: u32,
    answer: &Envelope,
    now: Instant,
) {
    let Some(instance) = wrap::instance(state, id) else { return };
    match instance.link.on_question_answered(ours, answer, now) {
        Some(routes) => wrap::pass(state, id, routes, now),
        None => tracing::debug!(instance = id.0, ours, "an answer that nobody waits for"),
    }
}

/// A verdict is there.
pub(crate) fn arrived(
    state: &mut State,
    id: InstanceId,
    ticket: Ticket,
    verdict: &Verdict,
    now: Instant,
) {
    let of = |poll: &&mut Poll| poll.waiting.contains_key(&ticket);
    let Some(poll) = state.polls.polls.iter_mut().find(of) else { return };
    poll.waiting.remove(&ticket);
    let asked = poll.asked;
    let Some(instance) = state.instances.get_mut(&id) else { return };
    let mut found = said(verdict, &mut instance.link);
    found.instance = id.0;
    found.ms = now.duration_since(asked).as_secs_f64() * 1e3;
    poll.found.push(found);
    answer_finished(state, now);
}

/// Answers verbs whose last verdict will not come, because its server is gone with its editor.
pub(crate) fn tick(state: &mut State, now: Instant) {
    for poll in state.polls.polls.iter_mut().filter(|poll| poll.until + GRACE <= now) {
        for (id, uri) in std::mem::take(&mut poll.waiting).into_values() {
            poll.found.push(DocumentVerdict {
                uri: uri.to_string(),
                instance: id.0,
                state: "unknown".to_owned(),
                reason: Some("the editor is gone".to_owned()),
                ..DocumentVerdict::default()
            });
        }
    }
    answer_finished(state, now);
}

fn answer_finished(state: &mut State, now: Instant) {
    let done = |poll: &mut Poll| poll.waiting.is_empty();
    let finished: Vec<Poll> = state.polls.polls.extract_if(.., done).collect();
    for mut poll in finished {
        poll.found.sort_by(|a, b| (&a.uri, a.instance).cmp(&(&b.uri, b.instance)));
        tracing::debug!(link = poll.link.0, took = ?now.duration_since(poll.asked), "verdicts");
        if let Some(link) = state.links.get(&poll.link) {
            let result = VerdictsResult { verdicts: poll.found };
            send(&link.client, Envelope::response(poll.request, &result));
        }
    }
}

fn refuse(state: &State, link: LinkId, request: Id, code: i64, message: &str) {
    if let Some(link) = state.links.get(&link) {
        send(&link.client, Envelope::error(request, &ResponseError::new(code, message)));
    }
}

/// Whether two URIs name one file although they are spelled differently (rule 4.47).
fn is_same(one: &str, other: &str) -> bool {
    let path = |uri: &str| crate::twin::plan::path_of(uri);
    one == other || path(one).is_some_and(|one| path(other) == Some(one))
}

/// A verdict in the words of the protocol.
fn said(verdict: &Verdict, link: &mut Link) -> DocumentVerdict {
    let (reason, findings) = match &verdict.state {
        Said::Clean => (None, Vec::new()),
        Said::Unknown(reason) => (Some(reason.to_string()), Vec::new()),
        Said::Findings(list) => (None, findings(list, verdict, link)),
    };
    DocumentVerdict {
        uri: verdict.uri.to_string(),
        revision: verdict.revision.map(|revision| revision.0),
        server: verdict.server.to_string(),
        state: verdict.word().to_owned(),
        reason,
        findings,
        ..DocumentVerdict::default()
    }
}

fn findings(list: &[u8], verdict: &Verdict, link: &mut Link) -> Vec<Finding> {
    let items: Vec<Json> = wire::parse(list).unwrap_or_default();
    let text = text_of(verdict, link);
    let finding = |diagnostic: Json| {
        let number = diagnostic["range"]["start"]["line"].as_u64().unwrap_or(u64::MAX);
        let line = text.as_ref().and_then(|text| text.lines().nth(usize::try_from(number).ok()?));
        let line = line.map_or_else(String::new, |line| cut(line).to_owned());
        Finding { diagnostic, line }
    };
    items.into_iter().map(finding).collect()
}

/// The text that a verdict is about, if a client still has it.
fn text_of(verdict: &Verdict, link: &mut Link) -> Option<String> {
    for client in link.clients().collect::<Vec<_>>() {
        let documents = link.mirror_mut(client)?.documents();
        let open = documents.get(&verdict.uri);
        let open = open.filter(|open| Some(open.document.revision()) == verdict.revision);
        if let Some(open) = open {
            return Some(open.document.text());
        }
    }
    None
}

fn cut(line: &str) -> &str {
    let end = (0..=LINE_BYTES_MAX.min(line.len())).rev().find(|at| line.is_char_boundary(*at));
    &line[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(name: &str) -> Vec<String> {
        vec![format!("/opt/{name}"), "--stdio".to_owned()]
    }

    #[test]
    fn habits_come_from_the_language_data() {
        let gopls = habits(&command("gopls"));
        assert_eq!(gopls.name.as_deref(), Some("gopls"));
        assert_eq!(gopls.barrier.as_deref(), Some("textDocument/documentSymbol"));
        let script = habits(&command("typescript-language-server"));
        assert_eq!(script.barrier, None, "its answers prove nothing");
        assert_eq!(script.ask.unwrap().command, "typescript.tsserverRequest");
        let rust = habits(&command("rust-analyzer")).ready.unwrap();
        assert_eq!(rust.status.as_deref(), Some("experimental/serverStatus"));
        assert_eq!(habits(&command("unheard-of")), Habits::default());
    }

    #[test]
    fn a_file_is_found_however_its_address_is_spelled() {
        assert!(is_same("file:///a%20b/%C3%BC.py", "file:///a%20b/%c3%bc%2Epy"));
        assert!(is_same("untitled:1", "untitled:1"));
        assert!(!is_same("untitled:1", "untitled:2"));
        assert!(!is_same("file:///a.py", "file:///b.py"));
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        let long = "ü".repeat(LINE_BYTES_MAX);
        assert_eq!(cut(&long).len(), LINE_BYTES_MAX);
        assert_eq!(cut(&format!("x{long}")).len(), LINE_BYTES_MAX - 1);
    }
}
