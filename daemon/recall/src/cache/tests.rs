use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const SMALL: Limits = Limits { tokens_max: 600, files_max: 6 };

/// What happens to a cache.
#[derive(Debug, Clone)]
enum Act {
    Insert(usize, Vec<u32>),
    Offer(usize, Vec<u32>),
    Remove(usize),
    Sweep,
}

fn path(index: usize) -> String {
    ["a.rs", "b.rs", "x/a.rs", "x/b.rs", "x/c.rs", "y/a.rs", "y/b.rs", "z.rs"][index % 8].to_owned()
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let tokens = || prop::collection::vec(1u32..5, 0..40);
    let act = prop_oneof![
        6 => (0usize..8, tokens()).prop_map(|(file, tokens)| Act::Insert(file, tokens)),
        2 => (0usize..8, tokens()).prop_map(|(file, tokens)| Act::Offer(file, tokens)),
        2 => (0usize..8).prop_map(Act::Remove),
        1 => Just(Act::Sweep),
    ];
    prop::collection::vec(act, 1..60)
}

/// The same by looking at everything: files in the order in which they came.
#[derive(Default)]
struct Plain {
    files: Vec<(String, Vec<u32>)>,
}

impl Plain {
    fn remove(&mut self, path: &str) {
        self.files.retain(|(other, _)| other != path);
    }

    fn live(&self) -> usize {
        self.files.iter().map(|(_, tokens)| tokens.len()).sum()
    }

    fn insert(&mut self, path: &str, tokens: &[u32], limits: Limits) {
        self.remove(path);
        if tokens.is_empty() {
            return;
        }
        let most = limits.tokens_max - limits.tokens_max / 3;
        while self.files.len() >= limits.files_max || self.live() + tokens.len() > most {
            self.files.remove(0);
        }
        self.files.push((path.to_owned(), tokens.to_vec()));
    }

    /// Every match: its length, its level and all that comes behind it, the newest first among those of a length.
    fn matches(&self, path: &str, context: &[u32], own: Own) -> Vec<(u8, Level, Vec<u32>)> {
        let mut all = Vec::new();
        for (other, tokens) in &self.files {
            for place in 0..tokens.len() {
                let same = |back: usize| {
                    back < place
                        && back < context.len()
                        && tokens[place - 1 - back] == context[context.len() - 1 - back]
                };
                let len = (0..MATCH_LEN_MAX).take_while(|back| same(*back)).count();
                let level = if other == path {
                    Level::File
                } else if directory_of(other) == directory_of(path) {
                    Level::Directory
                } else {
                    Level::Project
                };
                if len >= 2 && !(level == Level::File && own == Own::IsLeftOut) {
                    all.push((len as u8, level, tokens[place..].to_vec()));
                }
            }
        }
        all.reverse();
        all
    }
}

fn matches(cache: &Cache, path: &str, context: &[u32], own: Own) -> Vec<(u8, Level, Vec<u32>)> {
    let mut matches = Matches::default();
    cache.gather(path, context, own, &mut matches);
    let one = |found: &Match| (found.len, found.level, cache.after(*found).to_vec());
    matches.all().iter().map(one).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever has come, gone and come anew: it finds what looking at everything finds, and keeps to its limits.
    #[test]
    fn what_is_found_is_what_is_there(
        acts in acts(),
        context in prop::collection::vec(1u32..5, 0..30),
        file in 0usize..8,
        leaves_out: bool,
    ) {
        let (mut cache, mut plain) = (Cache::new(SMALL), Plain::default());
        for act in acts {
            match act {
                Act::Insert(file, tokens) => {
                    cache.insert(&path(file), &tokens);
                    plain.insert(&path(file), &tokens, SMALL);
                }
                Act::Offer(file, tokens) => {
                    let fits = plain.files.len() < SMALL.files_max && plain.live() + tokens.len() <= 400;
                    prop_assert_eq!(cache.offer(&path(file), &tokens), fits);
                    if fits {
                        plain.insert(&path(file), &tokens, SMALL);
                    }
                }
                Act::Remove(file) => {
                    cache.remove(&path(file));
                    plain.remove(&path(file));
                }
                Act::Sweep => {
                    cache = cache.swept();
                    prop_assert_eq!(cache.size().waste, 0);
                }
            }
            let size = cache.size();
            prop_assert!(size.tokens + size.waste <= SMALL.tokens_max);
            prop_assert_eq!((size.files, size.tokens), (plain.files.len(), plain.live()));
        }
        let paths: Vec<String> = cache.paths().map(|path| path.to_string()).collect();
        let expected: Vec<String> = plain.files.iter().map(|(path, _)| path.clone()).collect();
        prop_assert_eq!(paths, expected);
        let own = if leaves_out { Own::IsLeftOut } else { Own::Counts };
        let mut all = plain.matches(&path(file), &context, own);
        let mut found = matches(&cache, &path(file), &context, own);
        // Only so many are looked at.
        prop_assume!(all.len() <= FOUND_MAX);
        // The longer chain's come first.
        all.sort_by_key(|(len, ..)| *len < 5);
        if cache.size().waste == 0 {
            prop_assert_eq!(&found, &all);
        }
        // Waste is looked at too, so that some may be missed, but none is made up.
        found.retain(|one| !all.contains(one));
        prop_assert_eq!(found, vec![]);
    }

    /// A prediction is a distribution with something left over, and only of tokens that came behind such a context.
    #[test]
    fn a_prediction_is_a_distribution(
        files in prop::collection::vec((0usize..8, prop::collection::vec(1u32..6, 0..200)), 1..6),
        context in prop::collection::vec(1u32..6, 0..8),
    ) {
        let mut cache = Cache::new(Limits::default());
        for (file, tokens) in &files {
            cache.insert(&path(*file), tokens);
        }
        let prediction = cache.next("x/a.rs", &context);
        let total: f64 = prediction.tokens.iter().map(|(_, chance)| f64::from(*chance)).sum();
        prop_assert!(total < 1.0 && prediction.mass() <= 1.0, "{total}");
        prop_assert!(prediction.tokens.is_sorted_by(|a, b| a.1 >= b.1));
        prop_assert_eq!(prediction.level.is_some(), !prediction.tokens.is_empty());
        let all = matches(&cache, "x/a.rs", &context, Own::Counts);
        for (token, chance) in &prediction.tokens {
            prop_assert!(*chance > 0.0);
            prop_assert!(all.iter().any(|(.., after)| after.first() == Some(token)));
        }
        let longest = all.iter().map(|(len, ..)| *len).max();
        prop_assert_eq!(prediction.len, longest.unwrap_or(0));
        let drafted = cache.draft("x/a.rs", &context, 3);
        let is_of_longest = |(len, _, after): &(u8, Level, Vec<u32>)| {
            Some(*len) == longest && after[..after.len().min(3)] == drafted
        };
        prop_assert!(drafted.is_empty() == all.is_empty() && (all.is_empty() || all.iter().any(is_of_longest)));
    }
}

fn cache(files: &[(&str, &[u32])]) -> Cache {
    let mut cache = Cache::new(Limits::default());
    files.iter().for_each(|(path, tokens)| cache.insert(path, tokens));
    cache
}

fn rounded(prediction: &Prediction) -> BTreeMap<u32, f32> {
    prediction.tokens.iter().map(|(token, p)| (*token, (p * 1e4).round() / 1e4)).collect()
}

#[test]
fn counts_are_nested_as_witten_and_bell_say() {
    // Behind "1 2": twice 3, once 4. (2 + 2·0) / 5 and (1 + 2·0) / 5.
    let flat = cache(&[("a", &[1, 2, 3, 1, 2, 3, 1, 2, 4])]);
    let prediction = flat.next("b", &[9, 1, 2]);
    assert_eq!(rounded(&prediction), BTreeMap::from([(3, 0.4), (4, 0.2)]));
    assert_eq!(
        (prediction.len, prediction.level, prediction.count),
        (2, Some(Level::Directory), 3)
    );
    assert!((prediction.share - 2.0 / 3.0).abs() < 1e-6);
    // "7 1 2" stood once, before 4: (0 + 1·0.4) / 2 and (1 + 1·0.2) / 2.
    let longer = cache(&[("a", &[1, 2, 3, 1, 2, 3, 7, 1, 2, 4])]);
    assert_eq!(rounded(&longer.next("b", &[7, 1, 2])), BTreeMap::from([(3, 0.2), (4, 0.6)]));
    // Of the file itself: 4 alone, and around it what all say.
    let nearer = cache(&[("x/a", &[1, 2, 3, 1, 2, 3]), ("y/b", &[1, 2, 4])]);
    let prediction = nearer.next("y/b", &[1, 2]);
    assert_eq!(rounded(&prediction), BTreeMap::from([(3, 0.2), (4, 0.6)]));
    assert_eq!(
        (prediction.level, prediction.top()),
        (Some(Level::File), Some((4, prediction.of(4))))
    );
    assert_eq!(rounded(&nearer.next("z/c", &[1, 2])), BTreeMap::from([(3, 0.4), (4, 0.2)]));
}

#[test]
fn the_longest_match_is_drafted_and_of_equals_the_nearest_then_the_newest() {
    let files: [(&str, &[u32]); 4] = [
        ("x/a", &[1, 2, 10]),
        ("y/b", &[1, 2, 20]),
        ("x/c", &[1, 2, 30]),
        ("z/d", &[5, 1, 2, 40, 41]),
    ];
    let cache = cache(&files);
    assert_eq!(cache.draft("x/e", &[9, 1, 2], 2), [30]);
    assert_eq!(cache.draft("x/a", &[9, 1, 2], 2), [10], "its own");
    assert_eq!(cache.draft("x/e", &[5, 1, 2], 9), [40, 41], "a longer one");
    assert_eq!(cache.draft("x/e", &[5, 1, 2], 1), [40]);
    assert_eq!(cache.draft("x/e", &[2, 1], 9), []);
}

#[test]
fn what_is_removed_is_forgotten_and_what_comes_anew_is_newest() {
    let mut cache = cache(&[("a", &[1, 2, 3]), ("b", &[1, 2, 4])]);
    assert_eq!(cache.draft("c", &[1, 2], 1), [4]);
    cache.insert("a", &[1, 2, 5]);
    assert_eq!(cache.draft("c", &[1, 2], 1), [5]);
    assert_eq!(cache.next("c", &[1, 2]).of(3), 0.0);
    cache.remove("a");
    assert_eq!(cache.draft("c", &[1, 2], 1), [4]);
    cache.remove("b");
    assert!(cache.next("c", &[1, 2]).tokens.is_empty() && !cache.contains("b"));
    assert_eq!(cache.size().tokens, 0);
}

#[test]
fn looking_is_bounded_however_often_a_context_stands_there() {
    let mut cache = Cache::new(Limits::default());
    for file in 0..40 {
        cache.insert(&file.to_string(), &[7; 2000]);
    }
    let mut matches = Matches::default();
    cache.gather("none", &[7; 30], Own::Counts, &mut matches);
    assert!((FOUND_MAX..=2 * FOUND_MAX).contains(&matches.all().len()));
    assert!(matches.all().iter().all(|found| usize::from(found.len) <= MATCH_LEN_MAX));
    let long: Vec<u32> = (0..FILE_TOKENS_MAX as u32 + 10).collect();
    cache.insert("long", &long);
    assert_eq!(cache.size().tokens, 80_000 + FILE_TOKENS_MAX);
}

#[test]
fn waste_is_swept_when_there_is_much_of_it() {
    let mut cache = Cache::new(Limits { tokens_max: 1 << 16, files_max: 100 });
    let tokens: Vec<u32> = (0..5000).map(|token| token % 97).collect();
    cache.insert("still", &tokens);
    assert!(!cache.wants_sweeping());
    cache.insert("still", &tokens);
    assert!(cache.wants_sweeping(), "{:?}", cache.size());
    let before = cache.next("a", &[3, 4, 5]);
    let swept = cache.swept();
    assert_eq!(swept.next("a", &[3, 4, 5]).tokens, before.tokens);
    assert_eq!((swept.size().tokens, swept.size().waste), (5000, 0));
    assert!(!swept.wants_sweeping());
}
