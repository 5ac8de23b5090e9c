//! One cache in one file: safetensors, with what it is a cache of in the header's metadata.
//!
//! The whole file is under one checksum (CRC-32, IEEE): the header, with zeros in place of the sum, and all tensors. Files are
//! written and read piece by piece, one tensor at a time, so that urgent work is never kept waiting by a disk.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};

use crate::{backend::TensorHead, job::TokenId};

/// Of the file format. Files of another version are deleted.
const VERSION: &str = "1";
/// So much is written before the board is looked at again.
const PIECE_BYTES_MAX: usize = 8 << 20;
/// The longest header of a file that is looked at.
const HEADER_BYTES_MAX: u64 = 16 << 20;
/// The tensor that holds the tokens; the others are named by the caches.
const TOKENS: &str = "tokens";
/// Stands for the checksum in the header that the checksum is taken of.
const NO_SUM: &str = "00000000";

/// What a file is a cache of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    /// The model that filled it.
    pub(crate) fingerprint: String,
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) cut: Cut,
    /// When it was written, in seconds since 1970.
    pub(crate) written: u64,
}

/// Where a cache can be cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cut {
    Anywhere,
    /// At these lengths, beside its own.
    At(Vec<usize>),
}

impl Label {
    /// The greatest length that the cache can have, of those that are not greater than `len`.
    pub(crate) fn reach(&self, len: usize) -> usize {
        match &self.cut {
            Cut::At(places) if len < self.tokens.len() => {
                places.iter().copied().filter(|&place| place <= len).max().unwrap_or(0)
            }
            _ => len,
        }
    }
}

impl Cut {
    /// As a file says it: `anywhere`, or numbers.
    fn said(&self) -> String {
        match self {
            Cut::Anywhere => "anywhere".to_owned(),
            Cut::At(places) => {
                places.iter().map(usize::to_string).collect::<Vec<String>>().join(" ")
            }
        }
    }

    fn read(said: &str) -> Cut {
        match said {
            "anywhere" => Cut::Anywhere,
            places => Cut::At(places.split(' ').filter_map(|place| place.parse().ok()).collect()),
        }
    }
}

/// A file that is being written. Dropping it unfinished deletes it.
pub(crate) struct Output {
    temporary: PathBuf,
    target: PathBuf,
    file: Option<BufWriter<File>>,
    sum: crc32fast::Hasher,
    /// Where the checksum belongs.
    sum_at: u64,
    bytes: u64,
}

impl Output {
    fn create(target: &Path) -> io::Result<Output> {
        let name = target.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let temporary = target.with_file_name(format!(".{name}.{}", std::process::id()));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600); // What somebody works on.
        let file = Some(BufWriter::new(options.open(&temporary)?));
        let (sum, target) = (crc32fast::Hasher::new(), target.to_owned());
        Ok(Output { temporary, target, file, sum, sum_at: 0, bytes: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.bytes += bytes.len() as u64;
        match &mut self.file {
            Some(file) => file.write_all(bytes),
            None => Err(io::Error::other("the file is closed")),
        }
    }

    /// The name that it will have.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// How long it is.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes the file durable and gives it its name. Takes as long as the disk takes.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        let sum = format!("{:08x}", self.sum.clone().finalize());
        if let Some(file) = &mut self.file {
            file.seek(SeekFrom::Start(self.sum_at))?;
            file.write_all(sum.as_bytes())?;
            file.flush()?;
            file.get_ref().sync_all()?;
        }
        std::fs::rename(&self.temporary, &self.target)?;
        self.file = None; // Nothing is left to delete.
        match self.target.parent() {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            let _ = std::fs::remove_file(&self.temporary); // Left-overs are removed at a later start.
        }
    }
}

/// A file, and what is to be written into it.
pub(crate) struct Writing<T> {
    pub(crate) output: Output,
    pub(crate) label: Label,
    /// What is left to write, the next one last.
    rest: Vec<(TensorHead, T)>,
    /// The bytes of the tensor that is being written, and how many of them are.
    piece: (Vec<u8>, usize),
}

impl<T> Writing<T> {
    /// Writes the header and the tokens.
    pub(super) fn begin(
        target: &Path,
        label: Label,
        mut tensors: Vec<(TensorHead, T)>,
    ) -> io::Result<Writing<T>> {
        let mut output = Output::create(target)?;
        let header = header(&label, &tensors);
        let Some(sum_at) = header.find(&sum_field(NO_SUM)) else {
            return Err(io::Error::other("the header holds no place for its checksum"));
        };
        output.sum_at = (8 + sum_at + sum_field("").len() - 1) as u64;
        output.write(&(header.len() as u64).to_le_bytes())?;
        output.write(header.as_bytes())?;
        let tokens: Vec<u8> = label.tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
        output.write(&tokens)?;
        tensors.reverse();
        Ok(Writing { output, label, rest: tensors, piece: (Vec::new(), 0) })
    }

    /// The next tensor, if there is one left; [`Writing::put`] takes its bytes.
    pub(crate) fn next(&mut self) -> Option<(TensorHead, T)> {
        self.rest.pop()
    }

    pub(crate) fn put(&mut self, head: &TensorHead, bytes: Vec<u8>) -> io::Result<()> {
        if bytes.len() as u64 != head.bytes {
            return Err(io::Error::other(format!("{} has another size than it said", head.name)));
        }
        self.piece = (bytes, 0);
        Ok(())
    }

    /// Writes the next piece of the tensor; `false` when all of it is written.
    pub(crate) fn write_piece(&mut self) -> io::Result<bool> {
        let (bytes, start) = &mut self.piece;
        let end = bytes.len().min(*start + PIECE_BYTES_MAX);
        if *start == end {
            return Ok(false);
        }
        self.output.write(&bytes[*start..end])?;
        *start = end;
        Ok(true)
    }
}

/// How a checksum stands in the header.
fn sum_field(digits: &str) -> String {
    format!("\"crc32\":\"{digits}\"")
}

fn header<T>(label: &Label, tensors: &[(TensorHead, T)]) -> String {
    let mut header = Map::new();
    let metadata = json!({
        "format": "demolish-cache", "version": VERSION, "fingerprint": label.fingerprint,
        "cut": label.cut.said(), "written": label.written.to_string(), "crc32": NO_SUM,
    });
    let mut at = 0;
    let mut place = |bytes: u64| {
        at += bytes;
        [at - bytes, at]
    };
    let count = label.tokens.len();
    let tokens =
        json!({ "dtype": "U32", "shape": [count], "data_offsets": place(count as u64 * 4) });
    header.insert(TOKENS.to_owned(), tokens);
    for (TensorHead { name, dtype, shape, bytes }, _) in tensors {
        let tensor = json!({ "dtype": dtype, "shape": shape, "data_offsets": place(*bytes) });
        header.insert(name.clone(), tensor);
    }
    // First, so that nothing that a cache calls itself can be taken for the checksum's place.
    let tensors = Value::Object(header).to_string();
    let mut text = format!("{{\"__metadata__\":{metadata},{}", &tensors[1..]);
    while !text.len().is_multiple_of(8) {
        text.push(' ');
    }
    text
}

/// A file that is being read.
pub(crate) struct Reading<T> {
    pub(crate) path: PathBuf,
    file: BufReader<File>,
    sum: crc32fast::Hasher,
    sum_said: u32,
    pub(crate) label: Label,
    /// What is left to read, the next one last.
    rest: Vec<TensorHead>,
    tensors: Vec<(String, T)>,
}

/// Why a file is not trusted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Distrust {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Damaged(String),
}

impl<T> Reading<T> {
    /// Reads the header and the tokens; nothing of it is proven before [`Reading::finish`].
    pub(super) fn open(path: &Path) -> Result<Reading<T>, Distrust> {
        let damaged = |what: &str| Distrust::Damaged(what.to_owned());
        let file = File::open(path)?;
        let whole = file.metadata()?.len();
        let mut file = BufReader::new(file);
        let mut len = [0; 8];
        file.read_exact(&mut len)?;
        let mut sum = crc32fast::Hasher::new();
        sum.update(&len);
        let len = u64::from_le_bytes(len);
        if len > HEADER_BYTES_MAX.min(whole) {
            return Err(damaged("the header is too long"));
        }
        let mut text = vec![0; len as usize];
        file.read_exact(&mut text)?;
        let header: Map<String, Value> =
            serde_json::from_slice(&text).map_err(|error| Distrust::Damaged(error.to_string()))?;
        let metadata = header.get("__metadata__").ok_or_else(|| damaged("no metadata"))?;
        let said = |name: &str| metadata.get(name).and_then(Value::as_str).unwrap_or_default();
        if said("format") != "demolish-cache" || said("version") != VERSION {
            return Err(damaged("another format"));
        }
        let digits = said("crc32");
        let sum_said = u32::from_str_radix(digits, 16).map_err(|_| damaged("no checksum"))?;
        let blank = String::from_utf8(text).ok().filter(|_| digits.len() == NO_SUM.len());
        let blank = blank.map(|text| text.replacen(&sum_field(digits), &sum_field(NO_SUM), 1));
        sum.update(blank.ok_or_else(|| damaged("no checksum"))?.as_bytes());
        let mut heads = heads(&header).ok_or_else(|| damaged("the header names no tensors"))?;
        let end: u64 = heads.iter().map(|head| head.bytes).sum();
        if end.checked_add(8 + len) != Some(whole) {
            return Err(damaged("the file has another length than its tensors"));
        }
        let first = heads.remove(0);
        let mut bytes = vec![0; first.bytes as usize];
        file.read_exact(&mut bytes)?;
        sum.update(&bytes);
        let words = bytes.chunks_exact(4).map(|word| [word[0], word[1], word[2], word[3]]);
        let label = Label {
            fingerprint: said("fingerprint").to_owned(),
            tokens: words.map(TokenId::from_le_bytes).collect(),
            cut: Cut::read(said("cut")),
            written: said("written").parse().unwrap_or(0),
        };
        heads.reverse();
        let path = path.to_owned();
        Ok(Reading { path, file, sum, sum_said, label, rest: heads, tensors: Vec::new() })
    }

    /// The next tensor's bytes; `None` after the last one.
    pub(crate) fn next(&mut self) -> io::Result<Option<(TensorHead, Vec<u8>)>> {
        let Some(head) = self.rest.pop() else { return Ok(None) };
        let mut bytes = vec![0; head.bytes as usize];
        self.file.read_exact(&mut bytes)?;
        self.sum.update(&bytes);
        Ok(Some((head, bytes)))
    }

    pub(crate) fn put(&mut self, name: String, tensor: T) {
        self.tensors.push((name, tensor));
    }

    /// All tensors, if the checksum is right.
    pub(crate) fn finish(self) -> Result<Vec<(String, T)>, Distrust> {
        if self.sum.finalize() != self.sum_said {
            return Err(Distrust::Damaged("its checksum is wrong".to_owned()));
        }
        Ok(self.tensors)
    }
}

/// What the header says of the tensors, in the order of their places, which leave no gap; the tokens are the first.
fn heads(header: &Map<String, Value>) -> Option<Vec<TensorHead>> {
    let mut placed = BTreeMap::new();
    for (name, value) in header.iter().filter(|(name, _)| *name != "__metadata__") {
        let shape: Option<Vec<usize>> =
            value["shape"].as_array()?.iter().map(|dim| Some(dim.as_u64()? as usize)).collect();
        let (start, end) = (value["data_offsets"][0].as_u64()?, value["data_offsets"][1].as_u64()?);
        let dtype = value["dtype"].as_str()?.to_owned();
        let bytes = end.checked_sub(start)?;
        placed.insert(
            (start, end, name),
            TensorHead { name: name.clone(), dtype, shape: shape?, bytes },
        );
    }
    let mut at = 0;
    for &(start, end, _) in placed.keys() {
        if start != at {
            return None;
        }
        at = end;
    }
    let heads: Vec<TensorHead> = placed.into_values().collect();
    let tokens = heads.first()?;
    (tokens.name == TOKENS && tokens.dtype == "U32" && tokens.bytes % 4 == 0).then_some(heads)
}
