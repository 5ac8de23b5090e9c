//! What the server has registered with its clients, and what becomes of it when a fresh server takes over (rule 4.12).
//!
//! A registration outlives its server for a while: a fresh one mostly makes the same again, and then the editor hears
//! nothing of it. What is not made again in time is taken back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use wire::{Bytes, Envelope};

use super::RawParams;

/// How many dynamic registrations are remembered, to be taken back.
const REGISTRATIONS_MAX: usize = 4 * 1024;
/// How long a fresh server may take to make the registrations of the old one again.
pub const REGISTRATIONS_PATIENCE: Duration = Duration::from_secs(10);

/// The registrations that clients have accepted.
#[derive(Clone, Debug, Default)]
pub(super) struct Registry {
    all: Vec<Registration>,
    /// What a fresh server calls a registration that the clients know by the old server's id.
    aliases: BTreeMap<String, String>,
    /// When those that are stale are taken back.
    pub(super) deadline: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Registration {
    id: String,
    method: String,
    /// The whole of it.
    raw: Box<RawValue>,
    /// Its server is gone, and the fresh one has not made it again.
    stale: bool,
}

#[derive(Deserialize)]
struct Given {
    id: String,
    method: String,
}

#[derive(Deserialize)]
struct Registrations {
    registrations: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Unregistrations {
    #[serde(alias = "unregistrations")]
    unregisterations: Vec<Given>,
}

/// What is left of a request to register, or to take back, once what the clients know is taken off.
#[derive(Debug)]
pub(super) enum Rest {
    /// All of it.
    All,
    /// This, and what has to be taken back before it.
    Some(Envelope, Vec<Value>),
    /// Nothing: it can be answered at once.
    Nothing,
}

impl Registry {
    /// Whether something is registered for this method.
    pub(super) fn has(&self, method: &str) -> bool {
        self.all.iter().any(|registration| registration.method == method)
    }

    /// The clients have accepted a request to register.
    pub(super) fn note_registered(&mut self, request: &Bytes) {
        let Some(list) = read::<Registrations>(request) else { return };
        for raw in list.registrations {
            let Ok(Given { id, method }) = wire::parse(raw.get().as_bytes()) else { continue };
            if self.all.len() < REGISTRATIONS_MAX {
                self.all.push(Registration { id, method, raw, stale: false });
            }
        }
    }

    /// The clients have accepted a request to take back.
    pub(super) fn note_unregistered(&mut self, request: &Bytes) {
        let list = read::<Unregistrations>(request);
        for gone in list.into_iter().flat_map(|list| list.unregisterations) {
            self.all.retain(|registration| registration.id != gone.id);
            self.aliases.retain(|_, known| *known != gone.id);
        }
    }

    /// The server is gone.
    pub(super) fn expire_later(&mut self) {
        self.aliases.clear();
        self.deadline = None;
        self.all.iter_mut().for_each(|registration| registration.stale = true);
    }

    /// A copy for a client that goes on with another server.
    pub(super) fn stale(&self) -> Registry {
        let mut registry = self.clone();
        registry.expire_later();
        registry
    }

    /// A fresh server is there, and has this long to make the registrations again.
    pub(super) fn renewed(&mut self, now: Instant) {
        let waits = self.all.iter().any(|registration| registration.stale);
        self.deadline = waits.then(|| now + REGISTRATIONS_PATIENCE);
    }

    /// Whether what a server registers has to be compared with anything.
    pub(super) fn is_fresh(&self) -> bool {
        self.aliases.is_empty() && self.all.iter().all(|registration| !registration.stale)
    }

    /// What of a request to register is news to the clients, and what they know already.
    pub(super) fn register(&mut self, request: &Envelope) -> (Rest, Vec<Box<RawValue>>) {
        let mut again = Vec::new();
        let Ok(list) = request.params_as::<Registrations>() else { return (Rest::All, again) };
        let (mut news, mut before) = (Vec::new(), Vec::new());
        for raw in list.registrations {
            let Ok(given) = wire::parse::<Given>(raw.get().as_bytes()) else {
                news.push(raw);
                continue;
            };
            let same = |known: &Registration| known.stale && same_but_id(&known.raw, &raw);
            if let Some(known) = self.all.iter_mut().find(|known| same(known)) {
                known.stale = false;
                if known.id != given.id {
                    self.aliases.insert(given.id, known.id.clone());
                }
                again.push(raw);
                continue;
            }
            let at = self.all.iter().position(|known| known.stale && known.id == given.id);
            if let Some(at) = at {
                before.push(self.all.remove(at).taken_back());
            }
            news.push(raw);
        }
        if news.is_empty() {
            return (Rest::Nothing, again);
        }
        if again.is_empty() && before.is_empty() {
            return (Rest::All, again);
        }
        let raw = serde_json::to_vec(&news).unwrap_or_default();
        (Rest::Some(request.with_param("registrations", &raw), before), again)
    }

    /// The same request to take back in the clients' words.
    pub(super) fn unregister(&self, request: &Envelope) -> Envelope {
        let Ok(list) = request.params_as::<Unregistrations>() else { return request.clone() };
        let known = |given: Given| {
            let id = self.aliases.get(&given.id).unwrap_or(&given.id);
            json!({ "id": id, "method": given.method })
        };
        let list: Vec<Value> = list.unregisterations.into_iter().map(known).collect();
        let raw = serde_json::to_vec(&list).unwrap_or_default();
        let request = request.with_param("unregisterations", &raw);
        request.with_param("unregistrations", &raw)
    }

    /// Takes those out that no server stands behind: the parameters of a request to take them back.
    pub(super) fn take_stale(&mut self) -> Option<Value> {
        self.deadline = None;
        let (stale, kept) = std::mem::take(&mut self.all).into_iter().partition(|r| r.stale);
        self.all = kept;
        taken_back(stale)
    }

    /// The parameters of a request that registers all with a client that was not there.
    pub(super) fn replay(&self) -> Option<RawParams<Vec<Box<RawValue>>>> {
        let raw: Vec<_> = self.all.iter().map(|registration| registration.raw.clone()).collect();
        (!raw.is_empty()).then(|| RawParams::from([("registrations", raw)]))
    }
}

impl Registration {
    fn taken_back(self) -> Value {
        json!({ "id": self.id, "method": self.method })
    }
}

fn taken_back(list: Vec<Registration>) -> Option<Value> {
    let list: Vec<Value> = list.into_iter().map(Registration::taken_back).collect();
    // The misspelling is the protocol's.
    (!list.is_empty()).then(|| json!({ "unregisterations": list }))
}

fn read<T: serde::de::DeserializeOwned>(request: &Bytes) -> Option<T> {
    Envelope::read(request.clone()).ok()?.params_as().ok()
}

/// Whether two registrations do the same.
fn same_but_id(one: &RawValue, other: &RawValue) -> bool {
    let read = |raw: &RawValue| -> Option<Value> {
        let mut value: Value = wire::parse(raw.get().as_bytes()).ok()?;
        value.as_object_mut()?.remove("id");
        Some(value)
    };
    read(one).is_some_and(|one| read(other) == Some(one))
}
