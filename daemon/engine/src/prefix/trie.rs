//! A radix tree over tokens: which kept cache shares how much of a beginning.

use std::collections::HashMap;

use super::common_len;
use crate::job::TokenId;

/// A node and all that begins with it.
#[derive(Debug, Default)]
pub(super) struct Trie {
    /// The tokens between its parent and it. Only the root has none.
    edge: Vec<TokenId>,
    /// By their edges' first token.
    children: HashMap<TokenId, Trie>,
    /// The entries whose tokens end here.
    entries: Vec<u64>,
}

impl Trie {
    pub(super) fn insert(&mut self, tokens: &[TokenId], entry: u64) {
        let Some(&first) = tokens.first() else {
            return self.entries.push(entry);
        };
        let Some(child) = self.children.get_mut(&first) else {
            let leaf =
                Trie { edge: tokens.to_vec(), children: HashMap::new(), entries: vec![entry] };
            self.children.insert(first, leaf);
            return;
        };
        let shared = common_len(&child.edge, tokens);
        if shared < child.edge.len() {
            child.split(shared);
        }
        child.insert(&tokens[shared..], entry);
    }

    /// Makes a node of the first `len` tokens of the edge, above this one.
    fn split(&mut self, len: usize) {
        let below = self.edge.split_off(len);
        let children = std::mem::take(&mut self.children);
        let entries = std::mem::take(&mut self.entries);
        self.children.insert(below[0], Trie { edge: below, children, entries });
    }

    /// Takes the entry out, as it was inserted.
    pub(super) fn remove(&mut self, tokens: &[TokenId], entry: u64) {
        let Some(first) = tokens.first() else {
            return self.entries.retain(|&other| other != entry);
        };
        let Some(child) = self.children.get_mut(first) else {
            return;
        };
        if tokens.starts_with(&child.edge) {
            let rest = &tokens[child.edge.len()..];
            child.remove(rest, entry);
            if child.entries.is_empty() {
                match child.children.len() {
                    0 => drop(self.children.remove(first)),
                    1 => child.join(),
                    _ => {}
                }
            }
        }
    }

    /// Becomes its only child.
    fn join(&mut self) {
        if let Some((_, below)) = std::mem::take(&mut self.children).into_iter().next() {
            self.edge.extend(below.edge);
            self.children = below.children;
            self.entries = below.entries;
        }
    }

    /// Entries that share a beginning with `tokens`, with its length, the longest first: of every node on the way one that ends
    /// there, and one that goes on differently.
    pub(super) fn sharing(&self, tokens: &[TokenId]) -> Vec<(usize, u64)> {
        let (mut node, mut depth, mut found) = (self, 0, Vec::new());
        loop {
            found.extend(node.entries.last().map(|&entry| (depth, entry)));
            let next = tokens.get(depth).and_then(|first| node.children.get(first));
            let other = node
                .children
                .values()
                .find(|&child| next.is_none_or(|next| !std::ptr::eq(child, next)));
            found.extend(other.and_then(Trie::any).map(|entry| (depth, entry)));
            let Some(next) = next else { break };
            let shared = common_len(&next.edge, &tokens[depth..]);
            depth += shared;
            if shared < next.edge.len() {
                found.extend(next.any().map(|entry| (depth, entry)));
                break;
            }
            node = next;
        }
        found.reverse();
        found.sort_by_key(|&(len, _)| std::cmp::Reverse(len));
        found
    }

    /// One of the entries here or below, near.
    fn any(&self) -> Option<u64> {
        let mut node = self;
        loop {
            match node.entries.last() {
                Some(&entry) => return Some(entry),
                None => node = node.children.values().next()?,
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.children.is_empty() && self.entries.is_empty()
    }
}
