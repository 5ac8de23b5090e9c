//! The header of a safetensors file: 8 bytes of length, then JSON that names every tensor with its type, shape and place.

use std::{collections::BTreeMap, io::Read, path::Path};

use serde::Deserialize;
use serde_json::Value;

use crate::{files, info::LoadError};

/// The format's own limit.
const HEADER_BYTES_MAX: u64 = 100_000_000;

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// Index into `Shards::files`.
    pub(crate) file: usize,
    pub(crate) dtype: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: u64,
}

#[derive(Deserialize)]
struct RawEntry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

impl Entry {
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
pub(super) fn read(path: &Path, file: usize) -> Result<BTreeMap<String, Entry>, LoadError> {
    let wrong = |reason: String| LoadError::Weights { path: path.to_owned(), reason };
    let unreadable = |error: std::io::Error| LoadError::File {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let mut source = files::open(path).map_err(unreadable)?;
    let file_bytes = source.metadata().map_err(unreadable)?.len();
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
        entries
            .insert(name, Entry { file, dtype: raw.dtype, shape: raw.shape, bytes: end - start });
    }
    Ok(entries)
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
