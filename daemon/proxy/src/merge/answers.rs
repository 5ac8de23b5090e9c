//! The one answer of a request that several servers were asked.

use std::collections::HashMap;
use std::sync::Arc;

use text::Document;
use wire::Envelope;

use super::fan::{Ask, Kind, Part};
use super::pulls::Report;
use super::results::{self, Part as Said};
use super::{Branch, Merge, cancelled_error, commands, data, diagnostics, raw};
use crate::mirror::OpenDocument;
use crate::positions::Conversion;
use crate::raw::Raw;

impl Merge {
    /// Answers the client with what there is.
    pub(super) fn finish(&mut self, ask: Ask) {
        self.abandon(&ask);
        for part in ask.parts.iter().filter(|part| part.answer.is_some()) {
            self.flush_diagnostics(part.branch);
        }
        if ask.kind == Kind::Save && self.mirror.latest(&ask.about) != ask.version {
            // Edits of an older text would corrupt this one (rule 4.29).
            return self.send_client(Envelope::response(ask.id, &()));
        }
        let answered = ask.parts.iter().filter(|part| part.result().is_some()).count();
        if answered == 0 {
            return self.send_client(error_of(&ask));
        }
        let result = match &ask.kind {
            Kind::Pull { previous, memory } => self.pulled(&ask, previous.as_deref(), memory),
            Kind::Plain | Kind::Save => self.merged(&ask, answered == ask.parts.len()),
        };
        if let [part] = &ask.parts[..]
            && part.result() == Some(&result)
            && let Some(envelope) = &part.answer
        {
            let answer = envelope.with_id(ask.id.clone());
            return self.send_client(answer);
        }
        self.send_client(Envelope::response(ask.id, &raw(&result)));
    }

    fn merged(&self, ask: &Ask, all: bool) -> Vec<u8> {
        let dressed: Vec<(Branch, Vec<u8>)> = ask
            .parts
            .iter()
            .filter_map(|part| Some((part.branch, self.dressed(ask, part, part.result()?))))
            .collect();
        let parts: Vec<Said<'_>> = dressed
            .iter()
            .map(|(branch, result)| Said {
                child: branch.0 as usize,
                name: self.child(*branch).name(),
                result,
            })
            .collect();
        results::merge(&ask.method, &parts, &self.client, all)
    }

    /// What a server does not say now is what it said last.
    fn pulled(&mut self, ask: &Ask, previous: Option<&str>, memory: &str) -> Vec<u8> {
        let reports: Vec<(Branch, u32, Vec<u8>)> = ask
            .parts
            .iter()
            .map(|part| {
                let unchanged: &[u8] = br#"{"kind":"unchanged"}"#;
                let result = self.dressed(ask, part, part.result().unwrap_or(unchanged));
                (part.branch, part.epoch, result)
            })
            .collect();
        let reports: Vec<Report<'_>> = reports
            .iter()
            .map(|(branch, epoch, result)| Report { branch: *branch, epoch: *epoch, result })
            .collect();
        self.pulls.answer(memory, previous, &reports)
    }

    /// One server's result as the client is to see it.
    fn dressed(&self, ask: &Ask, part: &Part, result: &[u8]) -> Vec<u8> {
        let child = self.child(part.branch);
        let mut result = result.to_vec();
        if let Some(texts) = ask.texts.as_ref().filter(|_| child.encoding != self.encoding) {
            let text_of = |uri: &str| self.text_in(texts, uri);
            let conversion =
                Conversion { from: child.encoding, to: self.encoding, text_of: &text_of };
            let converted = conversion.result(&ask.method, &ask.about, &result);
            if !converted.left.is_empty() {
                let (documents, method) = (&converted.left, &*ask.method);
                tracing::warn!(?documents, method, "positions stay as the server counts them");
            }
            result = converted.raw;
        }
        if !self.is_merged() {
            return result;
        }
        if has_commands(&ask.method) {
            result = commands::prefix(&result, child.name(), &child.commands);
        }
        if let Kind::Pull { .. } = ask.kind {
            return self.dressed_report(part.branch, part.epoch, &result);
        }
        if ask.wrap {
            result = data::wrap_items(&ask.method, &result, part.branch.0 as usize, part.epoch);
        }
        result
    }

    /// A report of pulled diagnostics with their source, and with what says whose they are.
    fn dressed_report(&self, branch: Branch, epoch: u32, result: &[u8]) -> Vec<u8> {
        let root = Raw::new(result);
        let Some(items) = root.get("items").filter(|items| items.is_array()) else {
            return result.to_vec();
        };
        let mut splice = crate::raw::Splice::new(result);
        splice.replace(items, self.dressed_diagnostics(branch, epoch, items.bytes()));
        splice.finish()
    }

    /// Diagnostics of one server as the client is to see them: with a source, and with what says whose they are.
    pub(super) fn dressed_diagnostics(&self, branch: Branch, epoch: u32, items: &[u8]) -> Vec<u8> {
        if !self.is_merged() {
            return items.to_vec();
        }
        let named = diagnostics::sourced(items, self.child(branch).name());
        let comes_back = ["publishDiagnostics", "diagnostic"].iter().any(|section| {
            self.client["textDocument"][section]["dataSupport"] == serde_json::Value::Bool(true)
        });
        let makers = self.able("textDocument/codeAction", &serde_json::Value::Null).len();
        if !comes_back || makers < 2 {
            return named;
        }
        let method = "textDocument/publishDiagnostics";
        let whole = [br#"{"diagnostics":"#, &named[..], b"}"].concat();
        let whole = data::wrap_items(method, &whole, branch.0 as usize, epoch);
        Raw::new(&whole).get("diagnostics").map_or(named, |items| items.bytes().to_vec())
    }

    /// The text of a document, whoever spells its URI.
    pub(super) fn text_in(
        &self,
        texts: &HashMap<Arc<str>, OpenDocument>,
        uri: &str,
    ) -> Option<Document> {
        texts.get(&self.spellings.of(uri)).map(|open| open.document.clone())
    }
}

/// What the client gets if nobody has a result.
fn error_of(ask: &Ask) -> Envelope {
    if let Some(error) = ask.parts.iter().find_map(|part| part.answer.as_ref()) {
        return error.with_id(ask.id.clone());
    }
    if ask.is_cancelled() {
        return Envelope::error(ask.id.clone(), &cancelled_error());
    }
    // Only the saving of a document does not wait for anybody.
    Envelope::response(ask.id.clone(), &())
}

/// Whether a result of this method may have commands in it.
fn has_commands(method: &str) -> bool {
    let base = method.strip_prefix("textDocument/").unwrap_or(method);
    let base = base.split('/').next().unwrap_or(base);
    matches!(
        base,
        "codeAction"
            | "codeLens"
            | "completion"
            | "completionItem"
            | "inlayHint"
            | "inlineCompletion"
    )
}
