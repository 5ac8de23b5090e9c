//! The header of a safetensors file: 8 bytes of length, then JSON that names every tensor with its type, shape and place.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::Arc,
};

use serde::Deserialize;
use serde_json::Value;

use super::interleaved::Form;
use crate::{files, info::LoadError};

/// The format's own limit.
const HEADER_BYTES_MAX: u64 = 100_000_000;

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// Index into `Shards::files`.
    pub(crate) file: usize,
    /// Where its bytes begin in the file.
    pub(crate) start: u64,
    pub(crate) dtype: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: u64,
    /// The published tensor that it is made of, where it does not lie in the file as it is.
    pub(crate) origin: Option<Arc<Origin>>,
}

/// A tensor as it is published, of which others are made.
#[derive(Debug, PartialEq)]
pub(crate) struct Origin {
    /// It lies in the file as it is.
    pub(crate) entry: Entry,
    /// How many tensors are made of it.
    pub(crate) uses: usize,
    pub(crate) make: Make,
}

/// How a tensor is made of a published one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Make {
    /// The even rows (0), the odd ones (1), or all, of what lies in this form.
    Rows { form: Form, row: Option<usize> },
    /// All numbers times this one.
    Times(f32),
}

/// What tells whether a file is still the one whose header was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) bytes: u64,
    modified: (i64, i64),
    inode: (u64, u64),
}

impl Stamp {
    pub(crate) fn of(file: &fs::File) -> io::Result<Stamp> {
        let facts = file.metadata()?;
        Ok(Stamp {
            bytes: facts.len(),
            modified: (facts.mtime(), facts.mtime_nsec()),
            inode: (facts.dev(), facts.ino()),
        })
    }
}

#[derive(Deserialize)]
struct RawEntry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

/// Where bytes lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Index into `Shards::files`.
    pub(crate) file: usize,
    pub(crate) start: u64,
    pub(crate) bytes: u64,
}

impl Entry {
    /// Where its bytes lie, or those that it is made of.
    pub(crate) fn place(&self) -> Place {
        let Entry { file, start, bytes, .. } =
            self.origin.as_ref().map_or(self, |origin| &origin.entry);
        Place { file: *file, start: *start, bytes: *bytes }
    }

    /// A floating-point type that weights and scales may have.
    pub(crate) fn is_float(&self) -> bool {
        matches!(self.dtype.as_str(), "F32" | "F16" | "BF16")
    }

    /// The type of scales that are a power of two, or a float of 8 bits.
    pub(crate) fn is_byte(&self) -> bool {
        self.dtype == "U8"
    }
}

/// Reads the header of `path`, and checks that the file is long enough for every tensor.
pub(super) fn read(
    path: &Path,
    file: usize,
) -> Result<(BTreeMap<String, Entry>, Stamp), LoadError> {
    let wrong = |reason: String| LoadError::Weights { path: path.to_owned(), reason };
    let unreadable = |error: std::io::Error| LoadError::File {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let mut source = files::open(path).map_err(unreadable)?;
    let stamp = Stamp::of(&source).map_err(unreadable)?;
    let file_bytes = stamp.bytes;
    let mut len = [0; 8];
    if file_bytes < 8 {
        return Err(wrong(format!(
            "the file has {file_bytes} bytes: not a safetensors file, or an unfinished download"
        )));
    }
    source.read_exact(&mut len).map_err(unreadable)?;
    let len = u64::from_le_bytes(len);
    if len > HEADER_BYTES_MAX {
        return Err(wrong(format!("not a safetensors file (its header would have {len} bytes)")));
    }
    if 8 + len > file_bytes {
        return Err(wrong(format!("truncated: the header has {len} bytes, the file {file_bytes}")));
    }
    let mut text = vec![0; len as usize];
    source.read_exact(&mut text).map_err(unreadable)?;
    let json: BTreeMap<String, Value> = serde_json::from_slice(&text)
        .map_err(|error| wrong(format!("the header is damaged: {error}")))?;

    let mut entries = BTreeMap::new();
    for (name, value) in json.into_iter().filter(|(name, _)| name != "__metadata__") {
        let raw: RawEntry = serde_json::from_value(value)
            .map_err(|error| wrong(format!("the header's tensor {name}: {error}")))?;
        let [start, end] = raw.data_offsets;
        let size = item_bytes(&raw.dtype)
            .ok_or_else(|| wrong(format!("tensor {name} has the type {}", raw.dtype)))?;
        let elements =
            raw.shape.iter().try_fold(1u64, |product, &dim| product.checked_mul(dim as u64));
        let bytes = elements.and_then(|elements| elements.checked_mul(size));
        if bytes.is_none() || end.checked_sub(start) != bytes {
            return Err(wrong(format!(
                "tensor {name}: shape {:?} and place {start}..{end} disagree",
                raw.shape
            )));
        }
        let needed = end.checked_add(8 + len);
        if needed.is_none_or(|needed| needed > file_bytes) {
            return Err(wrong(format!(
                "truncated: tensor {name} ends at byte {}, the file at {file_bytes}",
                8 + len + end
            )));
        }
        let RawEntry { dtype, shape, .. } = raw;
        let (bytes, start) = (end - start, 8 + len + start);
        entries.insert(name, Entry { file, start, dtype, shape, bytes, origin: None });
    }
    Ok((entries, stamp))
}

fn item_bytes(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F64" | "I64" | "U64" | "C64" => 8,
        "F32" | "I32" | "U32" => 4,
        "F16" | "BF16" | "I16" | "U16" => 2,
        "I8" | "U8" | "BOOL" | "F8_E4M3" | "F8_E5M2" => 1,
        _ => return None,
    })
}
