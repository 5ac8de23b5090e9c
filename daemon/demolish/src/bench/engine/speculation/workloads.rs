//! The workloads: what is read, and what is written.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use engine::{Engine, Penalty, Sampling, TokenId};

/// Text to edit and to go on with.
const PYTHON: &str = include_str!("../../samples/shop.py");
const TYPESCRIPT: &str = include_str!("../../samples/shop.ts");
/// A tokenizer that finds fewer different tokens in it does not know code; then words are numbered.
const TOKENS_DIFFERENT_MIN: usize = 80;
/// Words have numbers below this where they are numbered.
const NUMBERS: u32 = 200;
/// The usual length, where a third of the context has room for it.
const TOKENS: usize = 160;
/// No file is longer, and no longer than a third of the context.
const FILE_LEN: usize = 900;
/// So many tokens lie before a file far into a context, where there is room for them.
const FAR: usize = 2400;

/// Something that is written.
pub(super) struct Workload {
    pub(super) name: &'static str,
    pub(super) prompt: Vec<TokenId>,
    /// What is written; `None`: whatever the model likes.
    pub(super) script: Option<Arc<[TokenId]>>,
    /// Which tokens of it are forced.
    pub(super) forces: Arc<[bool]>,
    pub(super) sampling: Sampling,
    pub(super) lookup: Vec<Arc<[TokenId]>>,
    /// How long each job is.
    pub(super) tokens: u32,
    /// How many there are one after the other.
    pub(super) jobs: usize,
    /// How many at once.
    pub(super) beside: usize,
    /// How many lines go on from each.
    pub(super) forks: u64,
    /// An edit that copies what it does not change.
    pub(super) is_copy: bool,
}

impl Workload {
    /// The model goes on as it likes.
    fn free(name: &'static str, prompt: Vec<TokenId>, temperature: f32) -> Workload {
        Workload {
            name,
            prompt,
            script: None,
            forces: Arc::from([]),
            sampling: Sampling { temperature, ..Sampling::GREEDY },
            lookup: Vec::new(),
            tokens: u32::MAX,
            jobs: 1,
            beside: 1,
            forks: 0,
            is_copy: false,
        }
    }

    /// It writes this text.
    fn script(name: &'static str, prompt: Vec<TokenId>, text: Vec<TokenId>) -> Workload {
        Workload { script: Some(text.into()), ..Workload::free(name, prompt, 0.0) }
    }

    /// It copies most of a text.
    fn copy(name: &'static str, prompt: Vec<TokenId>, text: Vec<TokenId>) -> Workload {
        Workload { is_copy: true, ..Workload::script(name, prompt, text) }
    }
}

/// All of them.
pub(super) fn workloads(engine: &Engine) -> Vec<Workload> {
    let words = Words::of(engine);
    let third = engine.info().context_max / 3;
    let (file, code) = (words.beginning(PYTHON, third), words.beginning(TYPESCRIPT, third));
    let (python, typescript) = (words.tokens(file), words.tokens(code));
    let half = |tokens: &[TokenId]| tokens[..tokens.len() / 2].to_vec();
    let mut all = vec![
        Workload::free("completes_python", half(&python), 0.0),
        Workload::free("completes_typescript", half(&typescript), 0.0),
        Workload::free("completes_warmly", half(&python), 0.8),
        Workload::free("completes_hotly", half(&typescript), 1.0),
        Workload { tokens: 12, jobs: 12, ..Workload::free("answers_shortly", half(&python), 0.0) },
        Workload { forks: 3, ..Workload::free("has_candidates", half(&python), 0.8) },
        Workload { beside: 4, ..Workload::free("writes_four_at_once", half(&python), 0.8) },
        Workload {
            sampling: Sampling {
                repetition: Penalty { amount: 1.1, ..Sampling::GREEDY.repetition },
                ..Sampling::GREEDY
            },
            ..Workload::free("shuns_repetition", half(&python), 0.0)
        },
    ];
    all.extend(edits(&words, file, &typescript));
    all.extend(data(&words, &python));
    all.extend(adversaries(&words, &python, third));
    all.extend(long(&words, file, third));
    let tokens = u32::try_from(TOKENS.min(third)).unwrap_or(u32::MAX);
    // No text ends before that, so that every round writes as much.
    let ends: Vec<_> =
        engine.tokenizer().eos().iter().map(|&end| (end, f32::NEG_INFINITY)).collect();
    for workload in &mut all {
        workload.tokens = workload.tokens.min(tokens);
        if workload.script.is_none() {
            workload.sampling.bias.clone_from(&ends);
        }
    }
    all
}

/// Texts that are written anew with small changes, and others that are not.
fn edits(words: &Words<'_>, file: &str, typescript: &[TokenId]) -> Vec<Workload> {
    let python = &words.tokens(file)[..];
    let renamed = words.tokens(&file.replace("price", "amount"));
    let middle = file.len() / 3;
    let at = file[middle..].find("\n\n").map_or(middle, |at| middle + at);
    let added = "\n\ndef discount(total, share):\n    return total - total * share\n";
    let inserted = words.tokens(&format!("{}{added}{}", &file[..at], &file[at..]));
    let line = words.tokens(&file.replacen("return", "yield", 1));
    let patch: String = file.lines().step_by(3).fold(String::new(), |mut patch, line| {
        let _ = write!(patch, "-{line}\n+{}\n", line.replace('=', "=="));
        patch
    });
    let files = vec![typescript.into(), Arc::from(python)];
    vec![
        Workload::copy("edits_a_name", python.to_vec(), renamed),
        Workload::copy("edits_a_line", python.to_vec(), line.clone()),
        Workload::copy("edits_by_insertion", python.to_vec(), inserted),
        Workload {
            lookup: files,
            ..Workload::copy("edits_an_open_document", words.random(60, 1), line)
        },
        Workload {
            tokens: 16,
            jobs: 8,
            is_copy: false,
            ..Workload::copy("copies_shortly", python.to_vec(), python.to_vec())
        },
        Workload {
            beside: 4,
            is_copy: false,
            ..Workload::copy("copies_four_at_once", python.to_vec(), python.to_vec())
        },
        Workload::script("writes_a_patch", python.to_vec(), words.tokens(&patch)),
        Workload::script("translates", python.to_vec(), typescript.to_vec()),
    ]
}

/// Records whose keys are the same and whose values are not.
fn data(words: &Words<'_>, python: &[TokenId]) -> Vec<Workload> {
    let (mut text, mut forces) = (Vec::new(), Vec::new());
    for record in 0..24u32 {
        let values = [record * 7919 % 1000, record * 104_729 % 1000];
        let parts = [
            ("{\"name\": \"item", true),
            (&*values[0].to_string(), false),
            ("\", \"price\": ", true),
            (&*values[1].to_string(), false),
            ("},\n", true),
        ]
        .map(|(part, is_forced)| (words.tokens(part), is_forced));
        for (part, is_forced) in parts {
            forces.extend(part.iter().map(|_| is_forced));
            text.extend(part);
        }
    }
    let prompt = python[..100.min(python.len())].to_vec();
    vec![
        Workload::script("writes_json", prompt.clone(), text.clone()),
        Workload { forces: forces.into(), ..Workload::script("writes_forced_json", prompt, text) },
    ]
}

/// Texts that look like others and are not.
fn adversaries(words: &Words<'_>, python: &[TokenId], third: usize) -> Vec<Workload> {
    let len = third.min(FILE_LEN);
    // Blocks of so many tokens that occur in the prompt, each followed by something else.
    let broken = |len: usize| -> Vec<TokenId> {
        let fillers = words.random(python.len(), 7);
        let blocks = python.chunks(len).rev().zip(fillers);
        blocks.flat_map(|(block, filler)| block.iter().copied().chain([filler])).collect()
    };
    // Pairs that were always followed by the same, and never are again.
    let pairs_len = len / 3 * 2;
    let (first, second) = (words.random(pairs_len, 3), words.random(pairs_len, 4));
    let pairs = |others: &[TokenId]| -> Vec<TokenId> {
        let pairs = first.chunks(2).zip(others);
        pairs.flat_map(|(pair, other)| pair.iter().copied().chain([*other])).collect()
    };
    vec![
        Workload::script("writes_noise", words.random(len, 5), words.random(300, 6)),
        Workload::free("goes_on_with_noise", words.random(len, 8), 1.0),
        Workload::script("breaks_pairs", pairs(&second), pairs(&words.random(pairs_len, 9))),
        Workload::script("breaks_fours", python.to_vec(), broken(4)),
        Workload::script("breaks_tens", python.to_vec(), broken(10)),
    ]
}

/// Far into a context.
fn long(words: &Words<'_>, file: &str, third: usize) -> Vec<Workload> {
    let python = words.tokens(file);
    let far = FAR.min((3 * third).saturating_sub(python.len() + TOKENS.min(third)));
    let prompt: Vec<TokenId> = words.random(far, 10).into_iter().chain(python).collect();
    vec![
        Workload::free("goes_on_far_ahead", prompt.clone(), 0.0),
        Workload::script("writes_noise_far_ahead", prompt.clone(), words.random(300, 11)),
        Workload::copy("edits_far_ahead", prompt, words.tokens(&file.replace("price", "amount"))),
    ]
}

/// How texts become tokens.
struct Words<'e> {
    engine: &'e Engine,
    /// The tokenizer does not know code.
    is_numbered: bool,
    vocabulary: u32,
}

impl<'e> Words<'e> {
    fn of(engine: &'e Engine) -> Words<'e> {
        let tokens: BTreeSet<TokenId> = engine.tokenizer().encode(PYTHON).into_iter().collect();
        let vocabulary = u32::try_from(engine.tokenizer().len()).unwrap_or(u32::MAX);
        Words { engine, is_numbered: tokens.len() < TOKENS_DIFFERENT_MIN, vocabulary }
    }

    /// The first lines of a text, as many as have `len` tokens.
    fn beginning<'t>(&self, text: &'t str, len: usize) -> &'t str {
        let ends = text.match_indices('\n').map(|(at, _)| &text[..=at]);
        let fits = |lines: &&str| self.tokens(lines).len() <= len.min(FILE_LEN);
        ends.take_while(fits).last().unwrap_or_default()
    }

    fn tokens(&self, text: &str) -> Vec<TokenId> {
        if !self.is_numbered {
            return self.engine.tokenizer().encode(text);
        }
        let number = |word: &str| {
            let mix = |hash: u32, byte: u8| hash.wrapping_mul(31).wrapping_add(u32::from(byte));
            word.bytes().fold(7, mix) % NUMBERS.min(self.vocabulary)
        };
        text.split_inclusive(|sign: char| !sign.is_alphanumeric()).map(number).collect()
    }

    /// Tokens that are the same in every run. They are ordinary ones: the specials come last or first.
    fn random(&self, len: usize, seed: u64) -> Vec<TokenId> {
        let mut state = seed;
        let ordinary = u64::from((self.vocabulary * 3 / 4).max(1));
        let mut next = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            u32::try_from((state >> 33) % ordinary).unwrap_or(0) + self.vocabulary / 8
        };
        (0..len).map(|_| next()).collect()
    }
}
