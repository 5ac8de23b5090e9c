//! Request ids: ours on the far side, the asker's own on the near side, byte for byte (rule 4.5).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use wire::{Bytes, Id};

/// Ids are below this: some servers read them as signed 32-bit numbers.
const SIGNED_END: u32 = 1 << 31;
/// The ids of a table are below this; those above belong to [`crate::Lease`], which stands between a table and the server.
const IDS_END: u32 = SIGNED_END - (1 << 16);
/// The ids of requests that no table knows.
pub(crate) const LEASE_IDS: std::ops::Range<u32> = IDS_END..SIGNED_END;

/// The number of a client; counts up from 1, and a greater one came later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u32);

impl ClientId {
    /// No client: the server asks, or we do.
    pub const NOBODY: ClientId = ClientId(0);
    /// The client of a link that has only one.
    pub const ONLY: ClientId = ClientId(1);
}

/// A request that was passed on and has no answer yet.
#[derive(Clone, Debug)]
pub struct Pending {
    /// The id under which it was asked; `None` if we asked it ourselves.
    pub original: Option<Id>,
    /// Whose id that is.
    pub asker: ClientId,
    /// The client that was asked, if it was one.
    pub asked: ClientId,
    /// Whether somebody waits for the answer to a request of our own.
    pub awaited: bool,
    /// Whether it is answered with what the server has told another client, and is not asked.
    pub joins: bool,
    /// What was asked for.
    pub method: Box<str>,
    /// Since when a client waits for the answer.
    pub since: Option<Instant>,
    /// When we answer it ourselves, if at all.
    pub deadline: Option<Instant>,
    /// Whether its asker has cancelled it.
    pub cancelled: bool,
    /// The document that it is about and that document's version, if its answer is listened to.
    pub about: Option<(Arc<str>, Option<i32>)>,
    /// Its body under our id, if it may have to be asked again, or its parameters are needed when the answer comes.
    pub body: Option<Bytes>,
}

impl Pending {
    /// A request of a client.
    pub fn of(asker: ClientId, original: Id, method: &str) -> Pending {
        Pending { original: Some(original), asker, ..Pending::ours(method) }
    }

    /// A request of the server to a client.
    pub fn of_server(original: Id, asked: ClientId, method: &str) -> Pending {
        Pending { original: Some(original), asked, ..Pending::ours(method) }
    }

    /// A request of our own.
    pub fn ours(method: &str) -> Pending {
        Pending {
            original: None,
            asker: ClientId::NOBODY,
            asked: ClientId::NOBODY,
            awaited: false,
            joins: false,
            method: method.into(),
            since: None,
            deadline: None,
            cancelled: false,
            about: None,
            body: None,
        }
    }
}

/// The asker has a request under this id already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this id is in use by a request that has no answer yet")]
pub struct Duplicate;

/// The requests of one direction.
#[derive(Clone, Debug, Default)]
pub struct IdTable {
    last: u32,
    pending: HashMap<u32, Pending>,
    /// By asker: two clients may use the same ids.
    originals: BTreeMap<ClientId, HashMap<Id, u32>>,
}

impl IdTable {
    /// An empty table whose first id comes after `last`, so that a late answer to another table's request is not taken for
    /// one of this table's.
    pub fn after(last: u32) -> IdTable {
        IdTable { last, ..IdTable::default() }
    }

    /// The id that was given last.
    pub fn last(&self) -> u32 {
        self.last
    }

    /// Notes a request, and gives it an id of ours.
    pub fn insert(&mut self, pending: Pending) -> Result<u32, Duplicate> {
        let used = |id: &Id| self.ours(pending.asker, id).is_some();
        if pending.original.as_ref().is_some_and(used) {
            return Err(Duplicate);
        }
        loop {
            self.last = if self.last + 1 < IDS_END { self.last + 1 } else { 1 };
            if !self.pending.contains_key(&self.last) {
                break;
            }
        }
        self.put_back(self.last, pending);
        Ok(self.last)
    }

    /// Our id of the request that its asker calls `original`.
    pub fn ours(&self, asker: ClientId, original: &Id) -> Option<u32> {
        self.originals.get(&asker)?.get(original).copied()
    }

    /// Whether a request has no answer yet.
    pub fn contains(&self, ours: u32) -> bool {
        self.pending.contains_key(&ours)
    }

    /// A request that has no answer yet.
    pub fn get_mut(&mut self, ours: u32) -> Option<&mut Pending> {
        self.pending.get_mut(&ours)
    }

    /// The same, to look at.
    pub fn get(&self, id: &Id) -> Option<&Pending> {
        self.pending.get(&id.as_u32()?)
    }

    /// Takes a request out: it is answered.
    pub fn take(&mut self, ours: u32) -> Option<Pending> {
        let pending = self.pending.remove(&ours)?;
        if let Some(original) = &pending.original
            && let Some(originals) = self.originals.get_mut(&pending.asker)
        {
            originals.remove(original);
        }
        Some(pending)
    }

    /// Takes the request out that `id`, in a response, is the answer to.
    pub fn answered(&mut self, id: &Id) -> Option<(u32, Pending)> {
        let ours = id.as_u32()?;
        self.take(ours).map(|pending| (ours, pending))
    }

    /// Takes all requests out, oldest id first.
    pub fn drain(&mut self) -> Vec<(u32, Pending)> {
        self.originals.clear();
        let mut all: Vec<_> = self.pending.drain().collect();
        all.sort_unstable_by_key(|(ours, _)| *ours);
        all
    }

    /// Takes those out that `of` chooses, oldest id first.
    pub fn take_where(&mut self, of: impl Fn(&Pending) -> bool) -> Vec<(u32, Pending)> {
        let mut ids: Vec<u32> =
            self.pending.iter().filter(|(_, pending)| of(pending)).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.into_iter().filter_map(|id| self.take(id).map(|pending| (id, pending))).collect()
    }

    /// Forgets a client that asks no more.
    pub fn forget(&mut self, asker: ClientId) {
        self.originals.remove(&asker);
    }

    /// Puts back what [`IdTable::drain`] took out, under the id that it had.
    pub fn put_back(&mut self, ours: u32, pending: Pending) {
        if let Some(original) = &pending.original {
            self.originals.entry(pending.asker).or_default().insert(original.clone(), ours);
        }
        self.pending.insert(ours, pending);
    }

    /// All requests, in no order.
    pub fn entries(&self) -> impl Iterator<Item = (u32, &Pending)> {
        self.pending.iter().map(|(ours, pending)| (*ours, pending))
    }

    /// Takes those out whose deadline has passed.
    pub fn expired(&mut self, now: Instant) -> Vec<(u32, Pending)> {
        self.take_where(|pending| pending.deadline.is_some_and(|deadline| deadline <= now))
    }

    /// The earliest deadline.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.pending.values().filter_map(|pending| pending.deadline).min()
    }

    /// How many requests have no answer.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether every request has its answer.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(raw: &str) -> Id {
        Id::from_raw(raw.as_bytes()).unwrap()
    }

    #[test]
    fn rule_4_5_ids_of_any_shape_come_back_byte_for_byte() {
        let mut table = IdTable::default();
        for raw in ["1", "\"1\"", "4294967296", "-7", "1.5e3", "\"\\u00e9\"", "null"] {
            let ours = table.insert(Pending::of(ClientId::ONLY, id(raw), "m")).unwrap();
            assert_eq!(table.ours(ClientId::ONLY, &id(raw)), Some(ours));
            let (_, pending) = table.answered(&Id::number(ours)).unwrap();
            assert_eq!(pending.original.unwrap().raw(), raw);
        }
        assert!(table.is_empty());
        assert!(table.answered(&id("7")).is_none());
    }

    #[test]
    fn rule_4_5_an_id_in_use_is_refused_and_can_be_used_again_later() {
        let mut table = IdTable::default();
        let ours = table.insert(Pending::of(ClientId::ONLY, id("1"), "m")).unwrap();
        assert_eq!(table.insert(Pending::of(ClientId::ONLY, id("1"), "m")), Err(Duplicate));
        table.take(ours);
        assert!(table.insert(Pending::of(ClientId::ONLY, id("1"), "m")).is_ok());
    }

    #[test]
    fn rule_4_5_two_clients_may_use_the_same_id() {
        let mut table = IdTable::default();
        let one = table.insert(Pending::of(ClientId(1), id("1"), "m")).unwrap();
        let two = table.insert(Pending::of(ClientId(2), id("1"), "m")).unwrap();
        assert_eq!(table.insert(Pending::of(ClientId(2), id("1"), "m")), Err(Duplicate));
        assert_eq!(table.ours(ClientId(1), &id("1")), Some(one));
        assert_eq!(table.ours(ClientId(2), &id("1")), Some(two));
        assert_eq!(table.take(two).unwrap().asker, ClientId(2));
        assert_eq!(table.ours(ClientId(1), &id("1")), Some(one));
        assert_eq!(table.take_where(|pending| pending.asker == ClientId(1)).len(), 1);
        assert!(table.is_empty());
    }

    #[test]
    fn our_ids_stay_below_two_to_the_31_and_skip_those_in_use() {
        let mut table = IdTable { last: IDS_END - 2, ..IdTable::default() };
        let ids: Vec<u32> = (0..3)
            .map(|n| table.insert(Pending::of(ClientId::ONLY, Id::number(n), "m")).unwrap())
            .collect();
        assert_eq!(ids, [IDS_END - 1, 1, 2]);
        table.last = 0;
        assert_eq!(table.insert(Pending::ours("m")), Ok(3));
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_once(steps in proptest::collection::vec((0u32..20, any::<bool>()), 0..80)) {
            let mut table = IdTable::default();
            let mut naive: Vec<(u32, u32)> = Vec::new();
            for (original, insert) in steps {
                let known = naive.iter().position(|(o, _)| *o == original);
                if insert {
                    match table.insert(Pending::of(ClientId::ONLY, Id::number(original), "m")) {
                        Ok(ours) => { prop_assert!(known.is_none()); naive.push((original, ours)); }
                        Err(Duplicate) => prop_assert!(known.is_some()),
                    }
                } else if let Some(at) = known {
                    let (_, ours) = naive.remove(at);
                    prop_assert_eq!(table.take(ours).unwrap().original, Some(Id::number(original)));
                }
                prop_assert_eq!(table.len(), naive.len());
            }
        }
    }
}
