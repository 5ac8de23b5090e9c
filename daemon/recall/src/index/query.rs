//! Which chunks help at a place.
//!
//! The names around the cursor are weighted by how near they are and how rare; a chunk's score is the sum of what it shares, damped by
//! its length as in BM25 (Robertson and Zaragoza, *The Probabilistic Relevance Framework*, 2009, with sets in the place of counts). What
//! defines a name counts more than what uses it, and where the file is, whether it is imported, open or was just edited weighs too.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::postings::NameId;
use super::words::{BySame, Word, distinct, hash, names, words};
use super::{ChunkId, DEFINITIONS_MAX, FileId, Index, stem};

/// Lines before the cursor whose names are asked for.
const LINES_BEFORE: usize = 24;
/// Lines behind the cursor whose names are asked for.
const LINES_AFTER: usize = 6;
/// A name that is so many lines away weighs half as much as one beside the cursor.
const HALF_LINES: f32 = 4.0;
/// What a name behind the cursor weighs, of one before it.
const AFTER: f32 = 0.7;
/// What a part weighs, of its name.
const PART: f32 = 0.6;
/// What a name that is imported anywhere in the file weighs.
const IMPORTED_NAME: f32 = 0.2;
/// Bytes at the start of the file in which imports are looked for.
const IMPORT_BYTES: usize = 8 << 10;
/// The longest line that is read: longer ones are data.
const LINE_BYTES: usize = 400;
/// Words that one query looks up, the weightiest.
const TERMS_MAX: usize = 64;
/// A file name that more files have says nothing about which is imported.
const STEM_FILES_MAX: usize = 8;
/// Candidates whose text is looked at, the best.
const CANDIDATES_MAX: usize = 24;
/// How much a definition of a near name counts, of the name itself.
const DEFINITION: f32 = 1.5;
/// What a definition that the language server has told counts, of a name that is in one chunk alone.
const TOLD: f32 = 3.0;
/// How strongly long chunks are damped.
const DAMPING: f32 = 0.6;
/// A chunk shares at least so many words, unless it defines one of them.
const SHARED_MIN: u8 = 2;
/// A chunk's score is at least this part of the best one's.
const SCORE_MIN: f32 = 0.2;
/// Chunks that share this part of their words say the same.
const SAME: f32 = 0.7;
/// A chunk of which this part of the lines is around the cursor is seen already.
const SEEN: f32 = 0.4;
/// An earlier choice stays as long as it has this part of the best one's score: to read another costs time.
const STAYS: f32 = 0.75;

/// A place in a file of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, from the workspace's root.
    pub path: PathBuf,
    /// The line, from 0.
    pub line: usize,
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// The file of the cursor, from the workspace's root.
    pub path: &'a Path,
    /// The text before the cursor.
    pub prefix: &'a str,
    /// The text behind the cursor.
    pub suffix: &'a str,
    /// How many bytes right before and right behind the cursor the prompt shows anyway.
    pub shown: (usize, usize),
    /// Files that the user has open.
    pub opened: &'a [PathBuf],
    /// Where names near the cursor are defined, as the language server says.
    pub definitions: &'a [Place],
    /// What was chosen for a place nearby.
    pub kept: &'a [Chunk],
    /// Bytes of all chunks with their paths.
    pub budget: usize,
}

/// A piece of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    /// The file, from the workspace's root.
    pub path: PathBuf,
    /// Its first line, from 0.
    pub line: usize,
    /// Whole lines.
    pub text: String,
    /// What speaks for it most.
    pub why: Why,
}

/// What speaks for a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It shares names with the text around the cursor.
    Similar,
    /// The same, and its file is imported here, or is this file's other half.
    Imported,
    /// The same, and the user has just edited it.
    Edited,
    /// It defines a name near the cursor.
    Definition,
}

/// What the place asks for.
#[derive(Default)]
struct Wanted {
    /// Words with their nearness; whole names are marked.
    words: HashMap<Word, (f32, bool), BySame>,
    /// Files that the text imports, by the hash of their stems.
    stems: HashSet<Word>,
}

/// The state of one query.
struct Search<'a> {
    index: &'a Index,
    query: &'a Query<'a>,
    scores: Vec<f32>,
    shared: Vec<u8>,
    why: HashMap<ChunkId, Why>,
    touched: Vec<ChunkId>,
}

pub(super) fn answer(index: &Index, query: &Query<'_>) -> Vec<Chunk> {
    let wanted = wanted(query);
    let mut search = Search {
        index,
        query,
        scores: vec![0.0; index.chunks.len()],
        shared: vec![0; index.chunks.len()],
        why: HashMap::new(),
        touched: Vec::new(),
    };
    search.collect(&wanted);
    search.weigh(&wanted);
    let chosen = search.choose();
    search.kept(&chosen).unwrap_or_else(|| chosen.into_iter().map(|(chunk, _)| chunk).collect())
}

impl Search<'_> {
    /// Adds up what each chunk shares with the place.
    fn collect(&mut self, wanted: &Wanted) {
        let index = self.index;
        let known = wanted.words.iter().filter_map(|(word, (near, whole))| {
            let id = index.postings.id(*word)?;
            Some((near * index.postings.weight(id), *whole, *word, id))
        });
        let mut terms: Vec<(f32, bool, Word, NameId)> = known.collect();
        terms.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.2.cmp(&b.2)));
        terms.truncate(TERMS_MAX);
        for (weight, whole, _, id) in terms {
            for &chunk in index.postings.chunks(id) {
                self.add(chunk, weight);
                self.shared[chunk as usize] = self.shared[chunk as usize].saturating_add(1);
            }
            let definitions =
                index.definitions.get(&id).filter(|chunks| chunks.len() <= DEFINITIONS_MAX);
            for &chunk in definitions.into_iter().flatten().filter(|_| whole) {
                self.add(chunk, weight * DEFINITION);
                self.why.insert(chunk, Why::Definition);
            }
        }
        let told = TOLD * (1.0 + index.size.chunks as f32).ln();
        for place in self.query.definitions {
            if let Some(chunk) = self.at(&place.path, place.line) {
                self.add(chunk, told);
                self.why.insert(chunk, Why::Definition);
            }
        }
    }

    fn add(&mut self, chunk: ChunkId, score: f32) {
        let sum = &mut self.scores[chunk as usize];
        if *sum == 0.0 {
            self.touched.push(chunk);
        }
        *sum += score;
    }

    /// The chunk that holds a line.
    fn at(&self, path: &Path, line: usize) -> Option<ChunkId> {
        let file = self.index.file(*self.index.by_path.get(path)?)?;
        let next = file
            .chunks
            .partition_point(|chunk| self.index.chunks[*chunk as usize].line as usize <= line);
        file.chunks.get(next.checked_sub(1)?).copied()
    }

    /// Damps what is long, and lets the place of the file and what the user does count.
    fn weigh(&mut self, wanted: &Wanted) {
        let index = self.index;
        let average = (index.words as f32 / index.size.chunks.max(1) as f32).max(1.0);
        let imported = self.imported(wanted);
        let opened: HashSet<FileId> = self
            .query
            .opened
            .iter()
            .filter_map(|path| index.by_path.get(path.as_path()).copied())
            .collect();
        let edited = self.edited();
        let directory = self.query.path.parent();
        for at in 0..self.touched.len() {
            let chunk = self.touched[at];
            let record = &index.chunks[chunk as usize];
            let Some(file) = index.file(record.file) else { continue };
            let length = f32::from(record.words) / average;
            let mut factor = 1.0 / (1.0 - DAMPING + DAMPING * length.max(0.5));
            let mut reason = None;
            if file.path.parent() == directory {
                factor *= 1.15;
            }
            if opened.contains(&record.file) {
                factor *= 1.15;
            }
            if imported.contains(&record.file) {
                factor *= 1.4;
                reason = Some(Why::Imported);
            }
            if let Some(recent) = edited.get(&chunk) {
                factor *= 1.0 + 0.4 * recent;
                reason = Some(Why::Edited);
            }
            self.scores[chunk as usize] *= factor;
            if let Some(reason) = reason {
                self.why.entry(chunk).or_insert(reason);
            }
        }
    }

    /// The files that the text imports, and this file's other half: its header, its test.
    fn imported(&self, wanted: &Wanted) -> HashSet<FileId> {
        let index = self.index;
        let mut files = HashSet::new();
        for stem in wanted.stems.iter().copied().chain(halves(self.query.path)) {
            let of_stem = index.by_stem.get(&stem).filter(|files| files.len() <= STEM_FILES_MAX);
            files.extend(of_stem.into_iter().flatten().copied());
        }
        files
    }

    /// Chunks that the user has edited, with 1 for the latest edit and less for each before it.
    fn edited(&self) -> HashMap<ChunkId, f32> {
        let mut edited = HashMap::new();
        for (age, edit) in self.index.edits.iter().rev().enumerate() {
            for line in [edit.lines.start, edit.lines.end.saturating_sub(1).max(edit.lines.start)] {
                if let Some(chunk) = self.at(&edit.path, line) {
                    edited.entry(chunk).or_insert(1.0 / (1.0 + age as f32 / 4.0));
                }
            }
        }
        edited
    }

    /// The best chunks that fit, the best last, with their scores.
    fn choose(&self) -> Vec<(Chunk, f32)> {
        let index = self.index;
        let enough = |chunk: &ChunkId| {
            self.shared[*chunk as usize] >= SHARED_MIN
                || self.why.get(chunk) == Some(&Why::Definition)
        };
        let mut best: Vec<ChunkId> = self.touched.iter().copied().filter(enough).collect();
        let score = |chunk: ChunkId| self.scores[chunk as usize];
        let order = |a: &ChunkId, b: &ChunkId| {
            let place = |chunk: ChunkId| {
                let record = &index.chunks[chunk as usize];
                (index.file(record.file).map(|file| &file.path), record.line)
            };
            score(*b).total_cmp(&score(*a)).then_with(|| place(*a).cmp(&place(*b)))
        };
        if best.len() > CANDIDATES_MAX {
            best.select_nth_unstable_by(CANDIDATES_MAX, order);
            best.truncate(CANDIDATES_MAX);
        }
        best.sort_unstable_by(order);
        let seen = self.seen();
        let least = best.first().map_or(0.0, |first| score(*first)) * SCORE_MIN;
        let mut room = self.query.budget;
        let mut chosen: Vec<(Chunk, f32)> = Vec::new();
        let mut chosen_words: Vec<Vec<Word>> = Vec::new();
        for id in best.into_iter().take_while(|id| score(*id) >= least) {
            let record = &index.chunks[id as usize];
            let Some(file) = index.file(record.file) else { continue };
            let cost = (record.end - record.start) as usize + file.path.as_os_str().len() + 1;
            if cost > room {
                continue;
            }
            let text = index.text_of(file, id);
            let words = distinct(&text);
            if is_seen(&text, &seen) || chosen_words.iter().any(|other| alike(other, &words)) {
                continue;
            }
            room -= cost;
            chosen_words.push(words);
            let why = self.why.get(&id).copied().unwrap_or(Why::Similar);
            let path = file.path.to_path_buf();
            chosen.push((Chunk { path, line: record.line as usize, text, why }, score(id)));
        }
        chosen.reverse();
        chosen
    }

    /// The earlier choice, if it still stands in the workspace, is still not seen, and is nearly as good as the new one.
    fn kept(&self, chosen: &[(Chunk, f32)]) -> Option<Vec<Chunk>> {
        let kept = self.query.kept;
        if kept.is_empty() {
            return None;
        }
        let seen = self.seen();
        let mut score = 0.0;
        let mut room = self.query.budget;
        for chunk in kept {
            let id = self.at(&chunk.path, chunk.line)?;
            let file = self.index.file(self.index.chunks[id as usize].file)?;
            let cost = chunk.text.len() + chunk.path.as_os_str().len() + 1;
            room = room.checked_sub(cost)?;
            if is_seen(&chunk.text, &seen) || self.index.text_of(file, id) != chunk.text {
                return None;
            }
            score += self.scores[id as usize];
        }
        let best: f32 = chosen.iter().map(|(_, score)| score).sum();
        (score >= best * STAYS).then(|| kept.to_vec())
    }

    /// The lines around the cursor that the prompt shows.
    fn seen(&self) -> HashSet<&str> {
        let Query { prefix, suffix, shown, .. } = *self.query;
        let before = &prefix[ceil(prefix, prefix.len().saturating_sub(shown.0))..];
        let after = &suffix[..ceil(suffix, shown.1)];
        before.lines().chain(after.lines()).map(str::trim).filter(|line| line.len() > 2).collect()
    }
}

/// The nearest character border at or behind `at`.
fn ceil(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}

fn is_seen(text: &str, seen: &HashSet<&str>) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| line.len() > 2).collect();
    let known = lines.iter().filter(|line| seen.contains(*line)).count();
    known as f32 > SEEN * lines.len() as f32
}

/// Whether two sets of words, in ascending order, are nearly the same (Jaccard).
fn alike(a: &[Word], b: &[Word]) -> bool {
    let (mut at, mut common) = (0, 0usize);
    for word in a {
        while at < b.len() && b[at] < *word {
            at += 1;
        }
        if b.get(at) == Some(word) {
            common += 1;
        }
    }
    common as f32 >= SAME * (a.len() + b.len() - common) as f32
}

/// What the place asks for.
fn wanted(query: &Query<'_>) -> Wanted {
    let mut wanted = Wanted::default();
    for (distance, line) in query.prefix.rsplit('\n').take(LINES_BEFORE).enumerate() {
        wanted.line(line, HALF_LINES / (HALF_LINES + distance as f32));
    }
    for (distance, line) in query.suffix.split('\n').take(LINES_AFTER).enumerate() {
        wanted.line(line, AFTER * HALF_LINES / (HALF_LINES + distance as f32));
    }
    let head = &query.prefix[..ceil(query.prefix, IMPORT_BYTES)];
    for line in head.lines().filter(|line| line.len() <= LINE_BYTES && imports(line)) {
        wanted.line(line, IMPORTED_NAME);
        names(line, |name, _| {
            wanted.stems.insert(hash(name.bytes().map(|byte| byte.to_ascii_lowercase())));
        });
    }
    wanted
}

impl Wanted {
    fn line(&mut self, line: &str, near: f32) {
        if line.len() > LINE_BYTES {
            return;
        }
        names(line, |name, _| {
            words(name, |word, whole| {
                let weight = if whole { near } else { near * PART };
                let known = self.words.entry(word).or_insert((0.0, whole));
                known.0 = known.0.max(weight);
                known.1 |= whole;
            });
        });
    }
}

/// Whether a line says what the file needs of others, in any of the languages that we know.
fn imports(line: &str) -> bool {
    let line = line.trim_start();
    let starts = [
        "import ", "from ", "use ", "pub use ", "#include", "#import", "mod ", "pub mod ",
        "export ",
    ];
    starts.iter().any(|word| line.starts_with(word))
        || line.contains("require(")
        || line.contains(" from \"")
        || line.contains(" from '")
}

/// The hashes of the stems that this file's header, source, test or subject would have.
fn halves(path: &Path) -> Vec<Word> {
    let Some(own) = stem(path) else { return Vec::new() };
    let name = path.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let name = name.split('.').next().unwrap_or_default().to_owned();
    let signs = ["test_", "_test", "_spec", "tests_", "_tests"];
    let subject = signs
        .iter()
        .find_map(|sign| name.strip_prefix(sign).or_else(|| name.strip_suffix(sign)))
        .map(|subject| hash(subject.bytes()));
    let tests = ["test_{}", "{}_test"].map(|form| hash(form.replace("{}", &name).bytes()));
    subject.into_iter().chain(tests).chain([own]).collect()
}
