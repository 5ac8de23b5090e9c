//! Who is asked when the client pulls diagnostics, and what we pull ourselves for a client that only takes what is pushed
//! (rule 4.21).

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wire::{Envelope, Id, codes};

use super::diagnostics::Way;
use super::fan::{Kind, Order};
use super::pulls::{Report, memory};
use super::requests::Plan;
use super::{Branch, Merge, Purpose};
use crate::positions::Conversion;
use crate::raw::{Raw, Splice, quoted};

/// How long after a change a document's diagnostics are pulled.
pub const PULL_DELAY: Duration = Duration::from_millis(200);

impl Merge {
    pub(super) fn plan_pull(&self, params: &[u8]) -> Plan {
        let root = Raw::new(params);
        let text = |path: &str| root.path(path).and_then(Raw::string);
        let uri = text("textDocument.uri").unwrap_or_default();
        let previous = text("previousResultId");
        let identifier = text("identifier").unwrap_or_default();
        let all = self.able("textDocument/diagnostic", &Value::Null);
        // A registration of one server says whose it is (see `diagnostic_registrations`).
        let one = all.iter().copied().find(|branch| {
            let name = self.child(*branch).name();
            let rest = identifier.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
        });
        let registered = self.advertised["diagnosticProvider"].is_null();
        let (branches, memory) = match one.filter(|_| registered) {
            Some(branch) => (vec![branch], memory(&uri, &identifier)),
            None => (all, uri),
        };
        match branches[..] {
            [] => self.primary_alone("textDocument/diagnostic"),
            [branch] if !self.is_merged() => Plan::Ask(Order::to(branch)),
            _ => {
                let parts = branches.into_iter().map(|branch| {
                    let of = (branch, self.child(branch).epoch);
                    let own = previous.as_ref().and_then(|id| self.pulls.previous(&memory, id, of));
                    (branch, Some(self.pull_params(branch, params, own)))
                });
                let parts = parts.collect();
                let kind = Kind::Pull { previous, memory };
                Plan::Ask(Order { parts, wrap: false, kind, method: None })
            }
        }
    }

    /// The parameters with the server's own identifier and previous result.
    fn pull_params(&self, branch: Branch, params: &[u8], previous: Option<&str>) -> Vec<u8> {
        let root = Raw::new(params);
        let mut splice = Splice::new(params);
        let own = self.identifier(branch);
        for (name, value) in [("identifier", own.as_deref()), ("previousResultId", previous)] {
            match (root.get(name), value) {
                (Some(old), Some(value)) => splice.replace(old, quoted(value)),
                (Some(_), None) => splice.remove(root, name),
                (None, Some(value)) => splice.insert(root, name, &quoted(value)),
                (None, None) => {}
            }
        }
        splice.finish()
    }

    /// What the server calls its diagnostics.
    fn identifier(&self, branch: Branch) -> Option<String> {
        let child = self.child(branch);
        let fixed = child.capabilities["diagnosticProvider"]["identifier"].as_str();
        let later = child.options_of("textDocument/diagnostic").next();
        let later = later.and_then(|options| options["identifier"].as_str());
        fixed.or(later).map(str::to_owned)
    }

    /// Whether the client pulls diagnostics itself.
    fn client_pulls(&self) -> bool {
        self.client["textDocument"]["diagnostic"].is_object()
    }

    /// A document was opened or changed: its diagnostics are to be pulled if the client cannot.
    pub(super) fn note_to_pull(&mut self, branch: Branch, envelope: &Envelope, now: Instant) {
        let uri = Raw::new(envelope.params()).path("textDocument.uri").and_then(Raw::string);
        if let Some(uri) = uri {
            self.pull_soon(branch, &uri.into(), now);
        }
    }

    pub(super) fn pull_soon(&mut self, branch: Branch, uri: &Arc<str>, now: Instant) {
        if !self.client_pulls() && self.child(branch).pulls() {
            self.to_pull.entry((branch, Arc::clone(uri))).or_insert(now + PULL_DELAY);
        }
    }

    /// A server says that its diagnostics are no longer right.
    pub(super) fn pull_again(&mut self, branch: Branch, now: Instant) {
        let documents = self.mirror.documents();
        for uri in documents.keys() {
            self.pull_soon(branch, uri, now);
        }
    }

    /// Pulls what is due.
    pub(super) fn expire_pulls(&mut self, now: Instant) {
        let is_due = |(_, at): &(&(Branch, Arc<str>), &Instant)| **at <= now;
        let due: Vec<_> = self.to_pull.iter().filter(is_due).map(|(key, _)| key.clone()).collect();
        for (branch, uri) in due {
            self.to_pull.remove(&(branch, Arc::clone(&uri)));
            if self.stage == super::Stage::Serving && self.child(branch).is_ready() {
                self.pull(branch, &uri);
            }
        }
    }

    fn pull(&mut self, branch: Branch, uri: &Arc<str>) {
        let Some(version) = self.mirror.latest(uri).map(|revision| revision.0) else { return };
        self.flush_text(branch, uri);
        let params = json!({ "textDocument": { "uri": &**uri } });
        let params = serde_json::to_vec(&params).unwrap_or_default();
        let of = (branch, self.child(branch).epoch);
        let previous = self.pulls.latest(uri, of).map(str::to_owned);
        let params = self.pull_params(branch, &params, previous.as_deref());
        let ours = self.next_id();
        self.sent.insert(ours, (branch, Purpose::Pull(Arc::clone(uri), Some(version))));
        let request =
            Envelope::request(Id::number(ours), "textDocument/diagnostic", &super::raw(&params));
        self.send_child(branch, request);
    }

    /// A server has answered what we have pulled.
    pub(super) fn pull_answered(
        &mut self,
        branch: Branch,
        (uri, version): (Arc<str>, Option<i32>),
        envelope: &Envelope,
        now: Instant,
    ) {
        let result = match envelope.outcome() {
            Ok(result) => result,
            Err(error) => {
                let again = matches!(error.code, codes::SERVER_CANCELLED | codes::CONTENT_MODIFIED);
                if again && self.mirror.latest(&uri).is_some() {
                    self.pull_soon(branch, &uri, now);
                }
                return;
            }
        };
        let epoch = self.child(branch).epoch;
        let mut result = result.to_vec();
        let encoding = self.child(branch).encoding;
        if encoding != self.encoding {
            let texts = self.mirror.documents();
            let text_of = |uri: &str| self.text_in(&texts, uri);
            let conversion = Conversion { from: encoding, to: self.encoding, text_of: &text_of };
            result = conversion.result("textDocument/diagnostic", &uri, &result).raw;
        }
        let items = self.pulls.note(&uri, &Report { branch, epoch, result: &result });
        if self.mirror.latest(&uri).map(|revision| revision.0) != version {
            // It has changed since; the next pull is on its way (rule 4.20).
            return;
        }
        let items = self.dressed_diagnostics(branch, epoch, &items);
        self.store(branch, Way::Pulled, &uri, version, items, now);
    }
}
