//! The index of the workspace's files: which pieces of them help to understand the place of the cursor.
//!
//! A file is cut into chunks of whole lines ([`chunks`]); a chunk is known by its identifiers and their parts ([`words`]). An inverted
//! index leads from a word to its chunks, as long as it is rare enough to say something. A [`Query`] is answered with the chunks that
//! share the rarest names with the text around the cursor, or define them, in the manner of BM25 over sets of words ([`query`]).
//!
//! Everything is a function of what was inserted and asked: nothing depends on a clock or on the order of a table.

mod chunks;
mod packed;
mod postings;
mod query;
#[cfg(test)]
mod tests;
mod words;

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use chunks::{CHUNK_BYTES_MAX, LINES_MAX as CHUNK_LINES_MAX};
pub use query::{Chunk, Place, Query, Why};
pub use words::names;

use chunks::Cut;
use packed::Packed;
use postings::{NameId, Postings};
use words::{BySame, Word, hash};

/// Edits that are remembered, the latest.
const EDITS_MAX: usize = 64;
/// A name with more definitions is looked up in none of them: `new`, `main`, `__init__`.
const DEFINITIONS_MAX: usize = 8;
/// What a file takes beside its text and its words, in bytes: its entry, its path twice, its place in the tables.
const FILE_BYTES: usize = 256;
/// What a chunk takes beside them.
const CHUNK_BYTES: usize = 24;

/// What an index may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Files.
    pub files: usize,
    /// Bytes of memory, as far as they are counted: texts, words and the tables that lead to them.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { files: 20_000, bytes: 64 << 20 }
    }
}

/// A definition: the name, and the bytes of the whole of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symbol {
    /// The name, as it is spelled.
    pub name: String,
    /// From its first byte to its last.
    pub range: Range<usize>,
}

/// A file's text, cut, packed and read: what does not need the index, and takes most of the time.
#[derive(Debug)]
pub struct Prepared {
    text: Packed,
    pieces: Vec<(Cut, Vec<Word>)>,
    /// Names that are defined, and where.
    symbols: Vec<(Word, usize)>,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It is in the index.
    Yes,
    /// There was no room; an earlier text of it is gone too.
    Full,
}

/// How much an index holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Files.
    pub files: usize,
    /// Chunks.
    pub chunks: usize,
    /// Bytes of memory.
    pub bytes: usize,
}

/// The number of a file in the index.
type FileId = u32;
/// The number of a chunk in the index.
type ChunkId = u32;

/// The index. Methods that change it cost what one file costs.
#[derive(Debug)]
pub struct Index {
    limits: Limits,
    files: Vec<Option<File>>,
    free_files: Vec<FileId>,
    by_path: HashMap<Arc<Path>, FileId>,
    /// Files by the hash of their name without its ending, in small letters: what an import names.
    by_stem: HashMap<Word, Vec<FileId>, BySame>,
    chunks: Vec<Record>,
    free_chunks: Vec<ChunkId>,
    postings: Postings,
    /// Chunks in which a name is defined.
    definitions: HashMap<NameId, Vec<ChunkId>>,
    edits: VecDeque<Edit>,
    size: Size,
    /// Words of all chunks together.
    words: usize,
}

#[derive(Debug)]
struct File {
    path: Arc<Path>,
    text: Packed,
    /// In the order of the text.
    chunks: Vec<ChunkId>,
    /// The names that it defines.
    defines: Vec<NameId>,
    bytes: usize,
}

/// A chunk without its text.
#[derive(Debug, Clone, Copy)]
struct Record {
    file: FileId,
    start: u32,
    end: u32,
    line: u32,
    /// How many distinct words it has.
    words: u16,
}

/// A change of the user's.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Edit {
    path: PathBuf,
    /// Lines, from 0.
    lines: Range<usize>,
}

impl Prepared {
    /// Reads a text; what is beyond 4 GiB is left out. `symbols` are its definitions, in the order of the text.
    pub fn new(text: &str, symbols: &[Symbol]) -> Prepared {
        let text = if u32::try_from(text.len()).is_ok() { text } else { "" };
        let cuts = chunks::cut(text, symbols);
        let packed = Packed::new(text, cuts.iter().map(|cut| cut.bytes.start));
        let piece = |cut: Cut| {
            let words = words::distinct(&text[cut.bytes.clone()]);
            (cut, words)
        };
        let symbol = |symbol: &Symbol| (hash(symbol.name.bytes()), symbol.range.start);
        Prepared {
            text: packed,
            pieces: cuts.into_iter().map(piece).collect(),
            symbols: symbols.iter().map(symbol).collect(),
        }
    }
}

impl Index {
    /// An empty index.
    pub fn new(limits: Limits) -> Index {
        Index {
            limits,
            files: Vec::new(),
            free_files: Vec::new(),
            by_path: HashMap::new(),
            by_stem: HashMap::default(),
            chunks: Vec::new(),
            free_chunks: Vec::new(),
            postings: Postings::default(),
            definitions: HashMap::new(),
            edits: VecDeque::new(),
            size: Size::default(),
            words: 0,
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Index::new(self.limits);
    }

    /// How much it holds.
    pub fn size(&self) -> Size {
        Size { bytes: self.size.bytes + self.postings.bytes(), ..self.size }
    }

    /// Puts a file in, in the place of its earlier text. `symbols` are its definitions, in the order of the text.
    pub fn insert(&mut self, path: &Path, text: &str, symbols: &[Symbol]) -> Inserted {
        self.insert_prepared(path, Prepared::new(text, symbols))
    }

    /// The same with what takes most of the time done before.
    pub fn insert_prepared(&mut self, path: &Path, prepared: Prepared) -> Inserted {
        self.remove(path);
        if self.is_full() {
            return Inserted::Full;
        }
        let Prepared { text, pieces, symbols } = prepared;
        let id = self.free_files.pop().unwrap_or(self.files.len() as FileId);
        let path: Arc<Path> = path.into();
        let mut ids = Vec::with_capacity(pieces.len());
        for (cut, words) in pieces {
            let record = Record {
                file: id,
                start: cut.bytes.start as u32,
                end: cut.bytes.end as u32,
                line: cut.line as u32,
                words: u16::try_from(words.len()).unwrap_or(u16::MAX),
            };
            let chunk = self.place(record);
            self.postings.insert(chunk, &words);
            self.words += words.len();
            ids.push(chunk);
        }
        let defines = self.define(&ids, &symbols);
        let bytes =
            text.bytes() + FILE_BYTES + 2 * path.as_os_str().len() + CHUNK_BYTES * ids.len();
        self.size.files += 1;
        self.size.chunks += ids.len();
        self.size.bytes += bytes;
        self.by_path.insert(path.clone(), id);
        if let Some(stem) = stem(&path) {
            self.by_stem.entry(stem).or_default().push(id);
        }
        let file = File { path, text, chunks: ids, defines, bytes };
        match self.files.get_mut(id as usize) {
            Some(place) => *place = Some(file),
            None => self.files.push(Some(file)),
        }
        Inserted::Yes
    }

    /// Takes a file out. `false`: it was not there.
    pub fn remove(&mut self, path: &Path) -> bool {
        let Some(id) = self.by_path.remove(path) else { return false };
        let Some(file) = self.files.get_mut(id as usize).and_then(Option::take) else {
            return false;
        };
        for name in &file.defines {
            if let Some(chunks) = self.definitions.get_mut(name) {
                chunks.retain(|chunk| !file.chunks.contains(chunk));
                if chunks.is_empty() {
                    self.definitions.remove(name);
                }
            }
        }
        for &chunk in &file.chunks {
            let words = words::distinct(&self.text_of(&file, chunk));
            self.postings.remove(chunk, &words);
            self.words -= words.len();
            self.free_chunks.push(chunk);
        }
        if let Some(stem) = stem(path)
            && let Some(files) = self.by_stem.get_mut(&stem)
        {
            files.retain(|other| *other != id);
            if files.is_empty() {
                self.by_stem.remove(&stem);
            }
        }
        self.size.files -= 1;
        self.size.chunks -= file.chunks.len();
        self.size.bytes -= file.bytes;
        self.free_files.push(id);
        true
    }

    /// The user has changed these lines of a file, counted from 0 in its present text.
    pub fn edited(&mut self, path: &Path, lines: Range<usize>) {
        if let Some(last) = self.edits.back_mut()
            && last.path == path
            && lines.start <= last.lines.end
            && last.lines.start <= lines.end
        {
            last.lines = last.lines.start.min(lines.start)..last.lines.end.max(lines.end);
            return;
        }
        self.edits.push_back(Edit { path: path.to_owned(), lines });
        if self.edits.len() > EDITS_MAX {
            self.edits.pop_front();
        }
    }

    /// Whether there is no room for another file.
    pub fn is_full(&self) -> bool {
        self.size.files >= self.limits.files || self.size().bytes >= self.limits.bytes
    }

    /// Whether a file is in the index.
    pub fn contains(&self, path: &Path) -> bool {
        self.by_path.contains_key(path)
    }

    /// The paths of all files, in the order of their names.
    pub fn paths(&self) -> Vec<Arc<Path>> {
        let mut paths: Vec<_> = self.by_path.keys().cloned().collect();
        paths.sort_unstable();
        paths
    }

    /// The text of a file.
    pub fn text(&self, path: &Path) -> Option<String> {
        let file = self.files.get(*self.by_path.get(path)? as usize)?.as_ref()?;
        Some(file.text.whole())
    }

    /// The most relevant chunks for a place, the most relevant last.
    pub fn query(&self, query: &Query<'_>) -> Vec<Chunk> {
        query::answer(self, query)
    }

    fn place(&mut self, record: Record) -> ChunkId {
        match self.free_chunks.pop() {
            Some(chunk) => {
                self.chunks[chunk as usize] = record;
                chunk
            }
            None => {
                self.chunks.push(record);
                (self.chunks.len() - 1) as ChunkId
            }
        }
    }

    /// Remembers which chunk holds the start of each definition.
    fn define(&mut self, chunks: &[ChunkId], symbols: &[(Word, usize)]) -> Vec<NameId> {
        let mut defines = Vec::new();
        for &(name, at) in symbols {
            let next =
                chunks.partition_point(|chunk| self.chunks[*chunk as usize].end as usize <= at);
            let (Some(&chunk), Some(name)) = (chunks.get(next), self.postings.id(name)) else {
                continue;
            };
            let found = self.definitions.entry(name).or_default();
            if found.len() <= DEFINITIONS_MAX && !found.contains(&chunk) {
                found.push(chunk);
            }
            defines.push(name);
        }
        defines.sort_unstable();
        defines.dedup();
        defines
    }

    fn file(&self, id: FileId) -> Option<&File> {
        self.files.get(id as usize)?.as_ref()
    }

    fn text_of(&self, file: &File, chunk: ChunkId) -> String {
        let record = self.chunks[chunk as usize];
        file.text.part(record.start as usize..record.end as usize)
    }
}

/// The hash of a file's name without its ending.
fn stem(path: &Path) -> Option<Word> {
    let stem = path.file_stem()?.to_string_lossy();
    let stem = stem.split('.').next().unwrap_or(&stem);
    Some(hash(stem.bytes().map(|byte| byte.to_ascii_lowercase())))
}
