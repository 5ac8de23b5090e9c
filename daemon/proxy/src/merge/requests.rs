//! What the client asks: who is to be asked, and with which parameters.

use std::time::Instant;

use serde_json::Value;
use wire::{Envelope, Id, codes};

use super::children::{Stage as ChildStage, branches};
use super::fan::{Kind, Order};
use super::results::{self, Ask as Who};
use super::{Branch, Merge, Purpose, Stage, commands, data, raw};
use crate::positions;
use crate::raw::{Raw, Splice, quoted};

/// What is to become of a request.
pub(super) enum Plan {
    /// These are asked.
    Ask(Order),
    /// This is the result.
    Answer(Vec<u8>),
    /// There is none.
    Refuse(i64, String),
    /// Somebody who is coming may know.
    Hold,
}

impl Merge {
    pub(super) fn client_request(
        &mut self,
        envelope: &Envelope,
        id: &Id,
        method: &str,
        now: Instant,
    ) {
        match method {
            "initialize" => return self.initialize(envelope, id, now),
            "shutdown" => return self.shutdown(envelope, id, now),
            _ => {}
        }
        match self.stage {
            Stage::Serving => {}
            Stage::Silent | Stage::Greeting => {
                let message = "`initialize` has no answer yet";
                return self.refuse(id.clone(), codes::SERVER_NOT_INITIALIZED, message);
            }
            Stage::Shutdown => {
                let message = "the shutdown has been asked for";
                return self.refuse(id.clone(), codes::INVALID_REQUEST, message);
            }
        }
        let in_use = self.originals.contains_key(id) || self.held.iter().any(|held| held.id == *id);
        if in_use {
            let message = "a request with this id has no answer yet";
            return self.refuse(id.clone(), codes::INVALID_REQUEST, message);
        }
        self.start(envelope, id, method, now);
    }

    /// Asks whoever is to be asked.
    pub(super) fn start(&mut self, envelope: &Envelope, id: &Id, method: &str, now: Instant) {
        match self.plan(method, envelope.params()) {
            Plan::Ask(order) => self.fan_out(envelope, id, method, order, now),
            Plan::Answer(result) => self.send_client(Envelope::response(id.clone(), &raw(&result))),
            Plan::Refuse(code, message) => self.refuse(id.clone(), code, &message),
            Plan::Hold => self.hold(envelope, id, now),
        }
    }

    fn plan(&mut self, method: &str, params: &[u8]) -> Plan {
        let about_item = method.ends_with("/resolve")
            || method.starts_with("typeHierarchy/")
            || method.starts_with("callHierarchy/");
        if about_item && let Some((child, epoch, own)) = data::unwrap(params) {
            return self.plan_item(method, params, (child, epoch), own);
        }
        match method {
            "workspace/executeCommand" => self.plan_command(params),
            "textDocument/diagnostic" => self.plan_pull(params),
            "workspace/diagnostic" => {
                let able = |branch: &Branch| {
                    let provider = &self.child(*branch).capabilities["diagnosticProvider"];
                    provider["workspaceDiagnostics"] == Value::Bool(true)
                };
                let first = self.ready().into_iter().find(able);
                first.map_or_else(
                    || self.primary_alone(method),
                    |branch| Plan::Ask(Order::to(branch)),
                )
            }
            "textDocument/semanticTokens/full/delta" => self.plan_tokens(params),
            _ => self.plan_by_table(method, params),
        }
    }

    /// What the table of methods says.
    fn plan_by_table(&self, method: &str, params: &[u8]) -> Plan {
        let Some(who) = results::how(method) else { return self.primary_alone(method) };
        let about: Value = wire::parse(params).unwrap_or_default();
        if who == Who::One {
            return match self.owner(method, &about) {
                Some(branch) => {
                    let own = commands::restore(params, self.child(branch).name());
                    let mut order = Order::with(branch, own);
                    order.wrap = method.starts_with("textDocument/semanticTokens/full");
                    Plan::Ask(order)
                }
                None => self.nobody(method),
            };
        }
        let able: Vec<Branch> = self.able(method, &about);
        if able.is_empty() {
            // Somebody may serve the method, only not for this character.
            let somebody = who == Who::Matching && !self.able(method, &Value::Null).is_empty();
            return if somebody { Plan::Answer(b"null".to_vec()) } else { self.nobody(method) };
        }
        let kind = match method {
            "textDocument/willSaveWaitUntil" => Kind::Save,
            _ => Kind::Plain,
        };
        // Where only one can make an item, it stays as it is (rule 4.37).
        let wrap = self.able(method, &Value::Null).len() > 1 || able.len() > 1;
        let parts = able.into_iter().map(|branch| {
            let own = (method == "textDocument/codeAction" && self.is_merged())
                .then(|| self.own_diagnostics(branch, &about, params));
            (branch, own)
        });
        Plan::Ask(Order { parts: parts.collect(), wrap, kind, method: None })
    }

    /// The item that comes back goes to the server that has made it (rules 4.37 and 4.42).
    fn plan_item(&self, method: &str, params: &[u8], whose: (usize, u32), own: Vec<u8>) -> Plan {
        let branch = Branch(whose.0 as u32);
        let child = self.children.get(whose.0).filter(|child| child.is_ready());
        let Some(child) = child.filter(|child| child.epoch == whose.1) else {
            // Its maker is gone: an item stays unresolved, and has no followers.
            let unresolved = method.ends_with("/resolve");
            return Plan::Answer(if unresolved { params.to_vec() } else { b"null".to_vec() });
        };
        let own = commands::restore(&own, child.name());
        Plan::Ask(Order { wrap: true, ..Order::with(branch, own) })
    }

    /// A command says whose it is (rule 4.36); one that does not is for whoever has it.
    fn plan_command(&self, params: &[u8]) -> Plan {
        let root = Raw::new(params);
        let value = root.get("command");
        let name = value.and_then(Raw::string).unwrap_or_default();
        if let (Some((server, own)), Some(value)) = (commands::unprefix(&name), value) {
            let child = branches(&self.children).find(|(_, child)| child.name() == server);
            return match child {
                Some((branch, child)) if child.is_ready() => {
                    let mut splice = Splice::new(params);
                    splice.replace(value, quoted(own));
                    Plan::Ask(Order::with(branch, splice.finish()))
                }
                Some((_, child)) if child.stage == ChildStage::Greeting => Plan::Hold,
                _ => Plan::Refuse(codes::REQUEST_FAILED, format!("there is no server {server}")),
            };
        }
        let has = |(_, child): &(Branch, &super::children::Child)| {
            child.is_ready() && child.commands.contains(&name)
        };
        match branches(&self.children).find(has) {
            Some((branch, _)) => Plan::Ask(Order::to(branch)),
            None => self.primary_alone("workspace/executeCommand"),
        }
    }

    /// Changes since a result are for the server that has given it, in the same life; otherwise all is asked for (rule 4.24).
    fn plan_tokens(&self, params: &[u8]) -> Plan {
        let about: Value = wire::parse(params).unwrap_or_default();
        let full = "textDocument/semanticTokens/full";
        let delta = "textDocument/semanticTokens/full/delta";
        if let Some((child, epoch, own)) = data::unwrap(params)
            && self.owner(delta, &about) == Some(Branch(child as u32))
            && self.children[child].epoch == epoch
        {
            return Plan::Ask(Order { wrap: true, ..Order::with(Branch(child as u32), own) });
        }
        let Some(owner) = self.owner(full, &about) else { return self.nobody(delta) };
        let root = Raw::new(params);
        let mut splice = Splice::new(params);
        if root.get("previousResultId").is_some() {
            splice.remove(root, "previousResultId");
        }
        let order = Order::with(owner, splice.finish());
        Plan::Ask(Order { wrap: true, method: Some(full), ..order })
    }

    /// What nobody serves, as far as they say: the primary may all the same, or somebody who is coming.
    fn nobody(&self, method: &str) -> Plan {
        if self.children.iter().any(|child| child.stage == ChildStage::Greeting) {
            return Plan::Hold;
        }
        self.primary_alone(method)
    }

    /// What we do not know is for the primary (rule 4.43).
    pub(super) fn primary_alone(&self, method: &str) -> Plan {
        let primary = &self.children[0];
        match &primary.stage {
            ChildStage::Ready => {
                let opaque = primary.encoding != self.encoding && !positions::is_typed(method);
                if opaque {
                    let message = format!("{} counts columns in its own way", primary.name());
                    return Plan::Refuse(codes::METHOD_NOT_FOUND, message);
                }
                Plan::Ask(Order::to(Branch(0)))
            }
            ChildStage::Greeting => Plan::Hold,
            ChildStage::Refused(reason) => Plan::Refuse(codes::REQUEST_FAILED, reason.clone()),
        }
    }

    fn owner(&self, method: &str, params: &Value) -> Option<Branch> {
        let (ready, greeted) = self.greeted();
        self.options.owners.owner(method, params, &greeted).map(|at| ready[at])
    }

    pub(super) fn able(&self, method: &str, params: &Value) -> Vec<Branch> {
        let all = branches(&self.children).filter(|(_, child)| child.serves(method, params));
        all.map(|(branch, _)| branch).collect()
    }

    /// A server is told only of its own diagnostics.
    fn own_diagnostics(&self, branch: Branch, about: &Value, params: &[u8]) -> Vec<u8> {
        let uri = about["textDocument"]["uri"].as_str().unwrap_or_default();
        let mut sets = self.diagnostics.sets(uri);
        sets.extend(self.pulls.sets(uri));
        let sets: Vec<(usize, &[u8])> =
            sets.into_iter().map(|(of, items)| (of.0 as usize, items)).collect();
        results::own_diagnostics(params, branch.0 as usize, &sets)
    }

    /// All servers are asked to shut down; the client has its answer when they have given theirs, or have had their time
    /// (rule 4.13).
    fn shutdown(&mut self, envelope: &Envelope, id: &Id, now: Instant) {
        if self.stage == Stage::Shutdown {
            return self.send_client(Envelope::response(id.clone(), &()));
        }
        self.mirror.on_client(envelope);
        self.stage = Stage::Shutdown;
        self.end_greeting();
        for held in std::mem::take(&mut self.held) {
            self.refuse(held.id, codes::REQUEST_CANCELLED, "the shutdown has been asked for");
        }
        self.leaving = Some((id.clone(), now + super::fan::SHUTDOWN_PATIENCE));
        for branch in self.branches() {
            if matches!(self.child(branch).stage, ChildStage::Refused(_)) {
                continue;
            }
            let ours = self.next_id();
            self.sent.insert(ours, (branch, Purpose::Shutdown));
            self.send_child(branch, Envelope::request(Id::number(ours), "shutdown", &()));
        }
        self.leave(now);
    }

    /// Answers `shutdown` if nobody is waited for.
    pub(super) fn leave(&mut self, now: Instant) {
        let waiting = self.sent.values().any(|(_, purpose)| matches!(purpose, Purpose::Shutdown));
        let late = self.leaving.as_ref().is_some_and(|(_, until)| *until <= now);
        if (!waiting || late)
            && let Some((id, _)) = self.leaving.take()
        {
            self.send_client(Envelope::response(id, &()));
        }
    }
}
