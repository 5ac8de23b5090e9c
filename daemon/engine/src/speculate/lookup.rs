//! Drafts from texts: what came after the latest tokens where they stood before, in the prompt, in the answer, or in what the caller
//! says that the answer may repeat.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{Arc, Weak},
};

use super::suffixes::{MATCH_LEN_MAX, Match, Suffixes};
use crate::job::TokenId;

/// So many tokens of all texts that callers name are indexed at once, and so many of one prompt, the latest; a token takes some 40
/// bytes.
pub(crate) const LOOKUP_TOKENS_MAX: usize = 1 << 20;
/// So many texts of one job are looked at.
pub(crate) const LOOKUP_TEXTS_MAX: usize = 32;
/// So many tokens are indexed beside one pass.
const INDEXED_AT_ONCE_MAX: usize = 4096;

/// What is known of a text, for all jobs that look at it.
type Index = Rc<RefCell<Suffixes>>;

/// A text that does not change, and its index, which several jobs share.
#[derive(Clone)]
struct Text {
    tokens: Arc<[TokenId]>,
    suffixes: Index,
}

impl Text {
    fn new(tokens: Arc<[TokenId]>) -> Text {
        let start = tokens.len().saturating_sub(LOOKUP_TOKENS_MAX);
        Text { tokens, suffixes: Rc::new(RefCell::new(Suffixes::new(start))) }
    }

    fn find(&self, context: &[TokenId]) -> Option<Match> {
        self.suffixes.borrow().find(&self.tokens, context)
    }

    /// Indexes some more of it; hands back how many tokens that were.
    fn index(&self, count: usize) -> usize {
        let mut suffixes = self.suffixes.borrow_mut();
        let before = suffixes.end();
        suffixes.grow(&self.tokens, before + count);
        suffixes.end() - before
    }
}

/// The texts that callers have named, as long as they hold them.
#[derive(Default)]
pub(crate) struct Texts {
    known: Vec<(Weak<[TokenId]>, Index)>,
}

impl Texts {
    /// The texts of a job, with the indexes that they have already.
    fn of(&mut self, lists: Vec<Arc<[TokenId]>>) -> Vec<Text> {
        self.known.retain(|(text, _)| text.strong_count() > 0);
        let mut texts: Vec<Text> = Vec::new();
        let mut total = 0;
        for tokens in lists.into_iter().take(LOOKUP_TEXTS_MAX) {
            total += tokens.len();
            if total > LOOKUP_TOKENS_MAX {
                break;
            }
            let is_same = |(text, _): &&(Weak<[TokenId]>, _)| {
                std::ptr::addr_eq(text.as_ptr(), Arc::as_ptr(&tokens))
            };
            let known = self.known.iter().find(is_same).map(|(_, suffixes)| suffixes.clone());
            let text = match known {
                Some(suffixes) => Text { tokens, suffixes },
                None => {
                    let text = Text::new(tokens);
                    self.known.push((Arc::downgrade(&text.tokens), text.suffixes.clone()));
                    text
                }
            };
            texts.push(text);
        }
        self.bound();
        texts
    }

    /// Lets go of the oldest ones where all of them are too many.
    fn bound(&mut self) {
        let len = |text: &Weak<[TokenId]>| text.upgrade().map_or(0, |text| text.len());
        let mut total: usize = self.known.iter().map(|(text, _)| len(text)).sum();
        while total > LOOKUP_TOKENS_MAX {
            total -= len(&self.known.remove(0).0);
        }
    }
}

/// What one job looks its drafts up in.
pub(crate) struct Lookup {
    /// The prompt first.
    texts: Vec<Text>,
    /// The end of the prompt, and the tape behind it.
    own: Vec<TokenId>,
    /// How many of these are the prompt's.
    head: usize,
    suffixes: Suffixes,
}

/// A draft that is at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// The index of a text; `None`: the tape.
    text: Option<usize>,
    place: Match,
}

impl Found {
    /// How many tokens before it are the same as the latest ones.
    pub(crate) fn depth(&self) -> usize {
        self.place.len
    }
}

impl Lookup {
    pub(crate) fn new(
        prompt: &Arc<[TokenId]>,
        lists: Vec<Arc<[TokenId]>>,
        texts: &mut Texts,
    ) -> Lookup {
        let texts = std::iter::once(Text::new(prompt.clone())).chain(texts.of(lists)).collect();
        Lookup::over(texts)
    }

    /// The same texts, for another line of the same prompt.
    pub(crate) fn fork(&self) -> Lookup {
        Lookup::over(self.texts.clone())
    }

    fn over(texts: Vec<Text>) -> Lookup {
        let prompt = &texts[0].tokens;
        let own = prompt[prompt.len().saturating_sub(MATCH_LEN_MAX)..].to_vec();
        Lookup { texts, head: own.len(), own, suffixes: Suffixes::new(0) }
    }

    /// Indexes some more of the texts.
    pub(crate) fn index(&mut self) {
        let mut left = INDEXED_AT_ONCE_MAX;
        for text in &self.texts {
            left -= text.index(left);
            if left == 0 {
                return;
            }
        }
    }

    /// The tape was cut to `len` tokens.
    pub(crate) fn cut(&mut self, len: usize) {
        let len = self.head + len;
        if len < self.own.len() {
            self.suffixes.cut(&self.own, len);
            self.own.truncate(len);
        }
    }

    /// Where the latest tokens of the tape stood before, `ahead` behind it.
    pub(crate) fn find(&mut self, tape: &[TokenId], ahead: &[TokenId]) -> Option<Found> {
        self.own.extend_from_slice(&tape[self.own.len() - self.head..]);
        self.suffixes.grow(&self.own, self.own.len());
        let mut context = [0; MATCH_LEN_MAX];
        let (own, ahead) = (self.own.iter().rev(), ahead.iter().rev());
        let latest = ahead.chain(own).take(MATCH_LEN_MAX);
        let mut start = MATCH_LEN_MAX;
        for &token in latest {
            start -= 1;
            context[start] = token;
        }
        let context = &context[start..];
        let texts = self.texts.iter().enumerate();
        let others = texts.filter_map(|(text, one)| Some((Some(text), one.find(context)?)));
        let own = self.suffixes.find(&self.own, context).map(|place| (None, place));
        // The tape before the prompt before the others, where they are as good as each other.
        own.into_iter()
            .chain(others)
            .map(|(text, place)| Found { text, place })
            .reduce(|best, other| if other.depth() > best.depth() { other } else { best })
    }

    /// What came next there, up to `len` tokens.
    pub(crate) fn draft(&self, found: Found, len: usize) -> Vec<TokenId> {
        let next = found.place.next;
        let behind = match found.text {
            None => &self.own[next..],
            Some(text) => &self.texts[text].tokens[next..],
        };
        // The tape goes on where the prompt ends.
        let tape = if found.text == Some(0) { &self.own[self.head..] } else { &[][..] };
        behind.iter().chain(tape).take(len).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(prompt: &[TokenId], lists: &[&[TokenId]]) -> Lookup {
        let lists = lists.iter().map(|list| Arc::from(*list)).collect();
        let mut lookup = Lookup::new(&Arc::from(prompt), lists, &mut Texts::default());
        lookup.index();
        lookup
    }

    fn draft(lookup: &mut Lookup, tape: &[TokenId], ahead: &[TokenId]) -> Option<Vec<TokenId>> {
        let found = lookup.find(tape, ahead)?;
        Some(lookup.draft(found, 3))
    }

    #[test]
    fn the_prompt_the_tape_and_other_texts_are_looked_at() {
        let mut lookup = lookup(&[1, 2, 3, 4, 5], &[&[7, 8, 9, 1], &[6, 7, 8, 2]]);
        assert_eq!(draft(&mut lookup, &[2, 3], &[]), Some(vec![4, 5, 2]), "and the tape behind it");
        assert_eq!(draft(&mut lookup, &[2, 3, 7, 8], &[]), Some(vec![9, 1]));
        assert_eq!(draft(&mut lookup, &[2, 3, 7, 8, 6], &[7, 8]), Some(vec![2]), "it is longer");
        lookup.cut(2);
        assert_eq!(draft(&mut lookup, &[2, 3, 3, 6, 6, 3, 6], &[]), Some(vec![6, 3, 6]));
        lookup.cut(0);
        assert_eq!(draft(&mut lookup, &[3, 6], &[]), None, "what was cut is forgotten");
        assert_eq!(lookup.fork().find(&[3, 6], &[]), None);
    }

    #[test]
    fn texts_are_indexed_once_and_in_pieces() {
        let mut texts = Texts::default();
        let text: Arc<[TokenId]> = (0..10_000).collect();
        let prompt: Arc<[TokenId]> = Arc::from([1, 2]);
        let mut first = Lookup::new(&prompt, vec![text.clone()], &mut texts);
        first.index();
        assert_eq!(draft(&mut first, &[3000, 3001], &[]), Some(vec![3002, 3003, 3004]));
        assert_eq!(draft(&mut first, &[3000, 3001, 9000, 9001], &[]), None, "not yet");
        let mut second = Lookup::new(&prompt, vec![text.clone()], &mut texts);
        assert_eq!(draft(&mut second, &[3000, 3001], &[]), Some(vec![3002, 3003, 3004]));
        second.index();
        second.index();
        assert_eq!(draft(&mut first, &[3000, 3001, 9000, 9001], &[]), Some(vec![9002, 9003, 9004]));
        drop((first, second, text));
        let mut third = Lookup::new(&prompt, Vec::new(), &mut texts);
        assert_eq!(draft(&mut third, &[3000, 3001], &[]), None);
        assert_eq!(texts.known.len(), 0, "they go with whoever holds them");
    }

    #[test]
    fn texts_beyond_the_limit_are_left_out() {
        let mut texts = Texts::default();
        let long = |first: u32| -> Arc<[TokenId]> {
            (first..first + (LOOKUP_TOKENS_MAX / 2 + 1) as u32).collect()
        };
        let lists = vec![long(0), long(1)];
        let lookup = Lookup::new(&Arc::from([1]), lists.clone(), &mut texts);
        assert_eq!(lookup.texts.len(), 2, "the prompt and the first");
        let _other = Lookup::new(&Arc::from([1]), vec![lists[1].clone()], &mut texts);
        assert_eq!(texts.known.len(), 1, "the older one goes");
    }
}
