//! Diagnostics that the client pulls from several servers with one request (rule 4.21): one answer, under one result id that
//! stands for the result ids of all of them.

use std::collections::{BTreeMap, HashMap};

use super::Branch;
use super::diagnostics::joined;
use super::uri::key;
use crate::raw::{Raw, quoted};

/// How many documents' answers are remembered; those of further documents carry no result id.
pub const PULLED_DOCUMENTS_MAX: usize = 4 * 1024;

/// What one server last said about a document.
#[derive(Clone, Debug)]
struct Said {
    epoch: u32,
    result_id: Option<String>,
    items: Vec<u8>,
}

/// The latest answer about one document.
#[derive(Debug, Default)]
struct Document {
    /// What the client has got as its result id.
    result_id: String,
    said: BTreeMap<Branch, Said>,
}

/// An answer of one server; its items are as the client is to see them.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) branch: Branch,
    pub(super) epoch: u32,
    /// The JSON text of the result.
    pub(super) result: &'a [u8],
}

/// What has been pulled.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    documents: HashMap<Box<str>, Document>,
    last: u64,
}

impl Pulls {
    /// What the server called its last result, if the client has that: `composite` is the id that it was given.
    pub(super) fn previous(
        &self,
        uri: &str,
        composite: &str,
        (branch, epoch): (Branch, u32),
    ) -> Option<&str> {
        let document = self.documents.get(&key(uri)).filter(|it| it.result_id == composite)?;
        let said = document.said.get(&branch).filter(|said| said.epoch == epoch)?;
        said.result_id.as_deref()
    }

    /// What the server called its last result, whoever has it.
    pub(super) fn latest(&self, uri: &str, (branch, epoch): (Branch, u32)) -> Option<&str> {
        let said = self.documents.get(&key(uri))?.said.get(&branch)?;
        said.result_id.as_deref().filter(|_| said.epoch == epoch)
    }

    /// Notes one server's answer; what it says now: the JSON text of an array.
    pub(super) fn note(&mut self, uri: &str, report: &Report<'_>) -> Vec<u8> {
        let result = Raw::new(report.result);
        let full = full(report.epoch, result);
        let key = key(uri);
        let room = self.documents.len() < PULLED_DOCUMENTS_MAX;
        match full {
            Some(said) => {
                let items = said.items.clone();
                if room || self.documents.contains_key(&key) {
                    self.documents.entry(key).or_default().said.insert(report.branch, said);
                }
                items
            }
            // Unchanged.
            None => {
                let said = self.documents.get(&key).and_then(|it| it.said.get(&report.branch));
                said.map_or(b"[]".to_vec(), |said| said.items.clone())
            }
        }
    }

    /// The one answer that all make. `previous` is what the client gave as its previous result id.
    pub(super) fn answer(
        &mut self,
        uri: &str,
        previous: Option<&str>,
        reports: &[Report<'_>],
    ) -> Vec<u8> {
        let fresh = |report: &Report<'_>| is_full(Raw::new(report.result));
        let known = self.documents.get(&key(uri)).map(|document| document.result_id.as_str());
        if let Some(previous) = previous.filter(|previous| known == Some(previous))
            && !reports.iter().any(fresh)
        {
            let mut answer = br#"{"kind":"unchanged","resultId":"#.to_vec();
            answer.extend_from_slice(&quoted(previous));
            answer.push(b'}');
            return answer;
        }
        let items: Vec<Vec<u8>> = reports.iter().map(|report| self.note(uri, report)).collect();
        let mut answer = br#"{"kind":"full""#.to_vec();
        if let Some(document) = self.documents.get_mut(&key(uri)) {
            self.last += 1;
            document.result_id = format!("demolish:{}", self.last);
            answer.extend_from_slice(b",\"resultId\":");
            answer.extend_from_slice(&quoted(&document.result_id));
        }
        answer.extend_from_slice(b",\"items\":");
        answer.extend_from_slice(&joined(items.iter().map(Vec::as_slice)));
        related(&mut answer, reports);
        answer.push(b'}');
        answer
    }

    /// What each server last said about a document: JSON texts of arrays.
    pub(super) fn sets(&self, uri: &str) -> Vec<(Branch, &[u8])> {
        let key = key(uri);
        let about = |name: &str| name.strip_prefix(&*key).is_some_and(is_same);
        let documents = self.documents.iter().filter(|(name, _)| about(name));
        let said = documents.flat_map(|(_, document)| &document.said);
        said.map(|(branch, said)| (*branch, &said.items[..])).collect()
    }

    /// The client has closed a document.
    pub(super) fn closed(&mut self, uri: &str) {
        let key = key(uri);
        self.documents.retain(|name, _| !name.strip_prefix(&*key).is_some_and(is_same));
    }

    /// A server is gone: nothing that it said is current.
    pub(super) fn died(&mut self, branch: Branch) {
        for document in self.documents.values_mut() {
            document.said.remove(&branch);
            document.result_id.clear();
        }
        self.documents.retain(|_, document| !document.said.is_empty());
    }
}

/// Under which name the answer for one registration of a server is remembered (see [`Pulls::answer`]).
pub(super) fn memory(uri: &str, server: &str) -> String {
    format!("{uri}{OF}{server}")
}

/// Between the URI and the server; no URI has it.
const OF: &str = " of ";

/// Whether nothing more than a server follows the key of a URI.
fn is_same(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with(OF)
}

fn is_full(result: Raw<'_>) -> bool {
    result.get("items").is_some_and(Raw::is_array)
}

fn full(epoch: u32, result: Raw<'_>) -> Option<Said> {
    let items = result.get("items").filter(|items| items.is_array())?;
    let result_id = result.get("resultId").and_then(Raw::string);
    Some(Said { epoch, result_id, items: items.bytes().to_vec() })
}

/// What the servers say about further documents. Their result ids are left out: nobody could tell whose they are.
fn related(answer: &mut Vec<u8>, reports: &[Report<'_>]) {
    let mut by_uri: BTreeMap<String, Vec<&[u8]>> = BTreeMap::new();
    for report in reports {
        let related = Raw::new(report.result).get("relatedDocuments");
        for member in related.map(Raw::members).into_iter().flatten() {
            if let Some(items) = member.value.get("items").filter(|items| items.is_array()) {
                by_uri.entry(member.name()).or_default().push(items.bytes());
            }
        }
    }
    if by_uri.is_empty() {
        return;
    }
    answer.extend_from_slice(b",\"relatedDocuments\":{");
    for (at, (uri, sets)) in by_uri.iter().enumerate() {
        if at > 0 {
            answer.push(b',');
        }
        answer.extend_from_slice(&quoted(uri));
        answer.extend_from_slice(br#":{"kind":"full","items":"#);
        answer.extend_from_slice(&joined(sets.iter().copied()));
        answer.push(b'}');
    }
    answer.push(b'}');
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const A: (Branch, u32) = (Branch(0), 1);
    const B: (Branch, u32) = (Branch(1), 1);

    fn pull(pulls: &mut Pulls, previous: Option<&str>, a: Value, b: Value) -> Value {
        let (a, b) = (serde_json::to_vec(&a).unwrap(), serde_json::to_vec(&b).unwrap());
        let report = |(branch, epoch): (Branch, u32), result| Report { branch, epoch, result };
        let answer = pulls.answer("u", previous, &[report(A, &a), report(B, &b)]);
        serde_json::from_slice(&answer).unwrap()
    }

    fn full(id: &str, messages: &[&str]) -> Value {
        let items: Vec<Value> =
            messages.iter().map(|message| json!({ "message": message })).collect();
        json!({ "kind": "full", "resultId": id, "items": items })
    }

    #[test]
    fn rule_4_21_one_result_id_stands_for_those_of_all() {
        let mut pulls = Pulls::default();
        let first = pull(&mut pulls, None, full("1", &["a"]), full("x", &["b"]));
        assert_eq!(first["items"], json!([{ "message": "a" }, { "message": "b" }]));
        let id = first["resultId"].as_str().unwrap();
        assert_eq!(pulls.previous("u", id, A), Some("1"));
        assert_eq!(pulls.previous("u", id, B), Some("x"));
        assert_eq!(pulls.previous("u", id, (Branch(1), 2)), None, "another life of the server");
        assert_eq!(pulls.previous("u", "stale", A), None);
    }

    #[test]
    fn rule_4_21_what_one_server_says_is_unchanged_is_taken_from_memory() {
        let mut pulls = Pulls::default();
        let first = pull(&mut pulls, None, full("1", &["a"]), full("x", &["b"]));
        let id = first["resultId"].as_str().unwrap().to_owned();
        let unchanged = json!({ "kind": "unchanged", "resultId": "1" });
        let second = pull(&mut pulls, Some(&id), unchanged.clone(), full("y", &["c"]));
        assert_eq!(second["items"], json!([{ "message": "a" }, { "message": "c" }]));
        let id = second["resultId"].as_str().unwrap().to_owned();
        let third =
            pull(&mut pulls, Some(&id), unchanged, json!({ "kind": "unchanged", "resultId": "y" }));
        assert_eq!(third, json!({ "kind": "unchanged", "resultId": id }));
    }

    #[test]
    fn rule_4_21_a_dead_server_s_results_are_not_taken_for_the_new_one_s() {
        let mut pulls = Pulls::default();
        let first = pull(&mut pulls, None, full("1", &["a"]), full("x", &["b"]));
        let id = first["resultId"].as_str().unwrap();
        pulls.died(Branch(1));
        assert_eq!(pulls.previous("u", id, A), None);
        assert_eq!(pulls.latest("u", A), Some("1"));
        assert_eq!(pulls.latest("u", B), None);
    }

    #[test]
    fn rule_4_21_related_documents_are_joined() {
        let related = |message: &str| {
            let items = json!([{ "message": message }]);
            json!({ "kind": "full", "items": [], "relatedDocuments": { "v": { "kind": "full", "resultId": "1", "items": items } } })
        };
        let answer = pull(&mut Pulls::default(), None, related("a"), related("b"));
        let items = json!([{ "message": "a" }, { "message": "b" }]);
        assert_eq!(answer["relatedDocuments"], json!({ "v": { "kind": "full", "items": items } }));
    }
}
