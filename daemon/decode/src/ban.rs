//! What has been tried and refused: a trie over token paths, which the engine consults before each draw.
//!
//! A refused path is not just forbidden at its end. The probability that led into it is taken away from every token on the way,
//! so the rest of the distribution keeps its proportions (AdapTrack, arXiv 2510.17376): a token whose continuations were nearly all
//! refused becomes nearly impossible, one with other ways out stays. The trie lives as long as the sequence; a rewind keeps it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use engine::{Constraint, TokenId};

/// Removed mass from which on a token is out.
const OUT: f32 = 0.999;

/// The refused paths of one sequence.
#[derive(Debug, Default)]
pub(crate) struct BanTrie {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    next: HashMap<TokenId, usize>,
    /// The share of a token's probability that was refused, from 0 to 1.
    removed: HashMap<TokenId, f32>,
}

impl BanTrie {
    /// Takes the token out that follows `path`.
    pub(crate) fn ban(&mut self, path: &[TokenId], token: TokenId) {
        let node = self.node(path);
        self.nodes[node].removed.insert(token, 1.0);
    }

    /// Whether `token` is out after `path`.
    #[cfg(test)]
    fn is_banned(&self, path: &[TokenId], token: TokenId) -> bool {
        self.find(path).is_some_and(|node| {
            self.nodes[node].removed.get(&token).is_some_and(|mass| *mass >= OUT)
        })
    }

    /// Refuses the continuation `refused` of `path`; each token comes with its log-probability.
    pub(crate) fn reject(&mut self, path: &[TokenId], refused: &[(TokenId, f32)]) {
        let mut mass = 1.0f32;
        for index in (0..refused.len()).rev() {
            let (token, logprob) = refused[index];
            let before: Vec<TokenId> = path
                .iter()
                .copied()
                .chain(refused[..index].iter().map(|(token, _)| *token))
                .collect();
            let node = self.node(&before);
            let removed = self.nodes[node].removed.entry(token).or_insert(0.0);
            *removed = (*removed + mass).min(1.0);
            mass = *removed * logprob.exp().min(1.0);
        }
    }

    fn apply(&self, tape: &[TokenId], logits: &mut [f32]) {
        let Some(node) = self.find(tape) else { return };
        for (token, mass) in &self.nodes[node].removed {
            if let Some(logit) = logits.get_mut(*token as usize) {
                *logit = if *mass >= OUT { f32::NEG_INFINITY } else { *logit + (1.0 - mass).ln() };
            }
        }
    }

    fn find(&self, path: &[TokenId]) -> Option<usize> {
        (!self.nodes.is_empty()).then_some(0).and_then(|root| {
            path.iter().try_fold(root, |node, token| self.nodes[node].next.get(token).copied())
        })
    }

    fn node(&mut self, path: &[TokenId]) -> usize {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        path.iter().fold(0, |node, token| {
            if let Some(next) = self.nodes[node].next.get(token) {
                return *next;
            }
            self.nodes.push(Node::default());
            let next = self.nodes.len() - 1;
            self.nodes[node].next.insert(*token, next);
            next
        })
    }
}

/// The trie as both sides hold it: steering writes, the engine reads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bans(Arc<Mutex<BanTrie>>);

impl Bans {
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut BanTrie) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The constraint of a completion: the refused paths, and how the text may start.
pub(crate) struct Guard {
    pub(crate) bans: Bans,
    /// The bytes of every token, where the start is constrained; empty otherwise.
    pub(crate) vocabulary: Arc<[Box<[u8]>]>,
    /// The text has to start with these bytes, which the prompt has held back (token healing).
    pub(crate) healed: Vec<u8>,
    /// Tokens that may not come first.
    pub(crate) not_first: Vec<TokenId>,
}

impl Constraint for Guard {
    fn apply(&mut self, tape: &[TokenId], logits: &mut [f32]) {
        self.bans.with(|bans| bans.apply(tape, logits));
        if tape.is_empty() {
            for token in &self.not_first {
                if let Some(logit) = logits.get_mut(*token as usize) {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
        self.heal(tape, logits);
    }
}

impl Guard {
    /// Leaves the tokens that go on with the healed bytes, or that these go on with.
    fn heal(&self, tape: &[TokenId], logits: &mut [f32]) {
        let given: usize = tape
            .iter()
            .take(self.healed.len())
            .map(|token| self.vocabulary.get(*token as usize).map_or(0, |bytes| bytes.len()))
            .sum();
        let Some(rest) = self.healed.get(given..).filter(|rest| !rest.is_empty()) else { return };
        for (token, logit) in logits.iter_mut().enumerate() {
            let bytes = self.vocabulary.get(token).map_or(&[][..], |bytes| bytes);
            if bytes.is_empty() || !(bytes.starts_with(rest) || rest.starts_with(bytes)) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(trie: &BanTrie, tape: &[TokenId], len: usize) -> Vec<f32> {
        let mut logits = vec![0.0; len];
        trie.apply(tape, &mut logits);
        logits
    }

    #[test]
    fn a_ban_holds_after_its_path_alone() {
        let mut trie = BanTrie::default();
        trie.ban(&[1, 2], 3);
        assert_eq!(after(&trie, &[1, 2], 4), [0.0, 0.0, 0.0, f32::NEG_INFINITY]);
        assert_eq!(after(&trie, &[2, 1], 4), [0.0; 4]);
        assert!(trie.is_banned(&[1, 2], 3) && !trie.is_banned(&[1], 2));
    }

    #[test]
    fn a_refused_path_costs_what_led_into_it() {
        let mut trie = BanTrie::default();
        trie.reject(&[], &[(0, 0.5f32.ln()), (1, 0.5f32.ln())]);
        // Half of what follows token 0 was refused: it keeps the other half.
        assert!((after(&trie, &[], 2)[0] - 0.5f32.ln()).abs() < 1e-5);
        assert_eq!(after(&trie, &[0], 2)[1], f32::NEG_INFINITY);
        trie.reject(&[], &[(0, 0.5f32.ln()), (0, 0.5f32.ln())]);
        assert!(trie.is_banned(&[], 0));
    }

    #[test]
    fn healing_lets_only_the_held_bytes_through() {
        let vocabulary: Arc<[Box<[u8]>]> =
            ["a", "ab", "abc", "b", "c"].iter().map(|word| Box::from(word.as_bytes())).collect();
        let guard = Guard {
            bans: Bans::default(),
            vocabulary,
            healed: b"ab".to_vec(),
            not_first: Vec::new(),
        };
        let allowed = |tape: &[TokenId]| {
            let mut logits = vec![0.0; 5];
            guard.heal(tape, &mut logits);
            logits
                .iter()
                .enumerate()
                .filter(|(_, logit)| **logit == 0.0)
                .map(|(token, _)| token)
                .collect::<Vec<_>>()
        };
        assert_eq!(allowed(&[]), [0, 1, 2]);
        assert_eq!(allowed(&[0]), [3]);
        assert_eq!(allowed(&[1]), [0, 1, 2, 3, 4]);
    }
}
