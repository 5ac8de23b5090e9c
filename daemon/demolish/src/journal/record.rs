//! The bytes of a journal: entries one after the other, each with its length and a checksum, so that a tail that was torn
//! by a crash is found and cut. Any prefix of a file reads as a prefix of the record.

use wire::Bytes;

/// What a file begins with; the number counts up when an older program could not read it.
const MAGIC: &[u8] = b"demolish journal 1\n";
/// No entry is longer than this: a message with everything that is around it.
pub const ENTRY_BYTES_MAX: usize = wire::frame::FRAME_BYTES_MAX + 4096;
/// Length and checksum.
const HEAD_LEN: usize = 8;
/// Kind and time.
const ABOUT_LEN: usize = 9;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whose journal it is: JSON, the first entry.
    Head,
    /// How positions are counted from here on: the protocol's name.
    Encoding,
    /// `textDocument/didOpen`, `didChange` or `didClose`, as the editor sent it.
    Message,
    /// The URI of an open document that had no room.
    LeftOut,
    /// The params of a `workspace/applyEdit` that the editor has applied.
    Edit,
    /// The params of `demolish/didAccept`: a suggestion that the user took.
    Accepted,
}

const KINDS: [Kind; 6] =
    [Kind::Head, Kind::Encoding, Kind::Message, Kind::LeftOut, Kind::Edit, Kind::Accepted];

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// When it was made, in milliseconds since 1970.
    pub at_ms: u64,
    /// The content.
    pub content: Bytes,
}

/// Begins a file.
pub fn begin(out: &mut Vec<u8>) {
    out.extend_from_slice(MAGIC);
}

/// Appends an entry; one that is too long is left out.
pub fn append(out: &mut Vec<u8>, entry: &Entry) {
    let len = ABOUT_LEN + entry.content.len();
    if len > ENTRY_BYTES_MAX {
        return;
    }
    let from = out.len();
    #[allow(clippy::cast_possible_truncation, reason = "compared above")]
    out.extend_from_slice(&(len as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.push(entry.kind as u8);
    out.extend_from_slice(&entry.at_ms.to_le_bytes());
    out.extend_from_slice(&entry.content);
    let sum = crc32fast::hash(&out[from + HEAD_LEN..]);
    out[from + 4..from + HEAD_LEN].copy_from_slice(&sum.to_le_bytes());
}

/// The entries of a file, as far as they are whole, and how many bytes they take.
#[must_use]
pub fn read(bytes: &Bytes) -> (Vec<Entry>, usize) {
    let mut entries = Vec::new();
    if !bytes.starts_with(MAGIC) {
        return (entries, 0);
    }
    let mut at = MAGIC.len();
    while let Some((entry, len)) = one(bytes, at) {
        entries.push(entry);
        at += len;
    }
    (entries, at)
}

fn one(bytes: &Bytes, at: usize) -> Option<(Entry, usize)> {
    let number = |at: usize| {
        let bytes: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_le_bytes(bytes))
    };
    let len = number(at)? as usize;
    if !(ABOUT_LEN..=ENTRY_BYTES_MAX).contains(&len) {
        return None;
    }
    let from = at + HEAD_LEN;
    let body = bytes.get(from..from + len)?;
    if crc32fast::hash(body) != number(at + 4)? {
        return None;
    }
    let kind = *KINDS.get(usize::from(body[0]))?;
    let at_ms = u64::from_le_bytes(body[1..ABOUT_LEN].try_into().ok()?);
    Some((
        Entry { kind, at_ms, content: bytes.slice(from + ABOUT_LEN..from + len) },
        HEAD_LEN + len,
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry() -> impl Strategy<Value = Entry> {
        let content = proptest::collection::vec(any::<u8>(), 0..200);
        (0..KINDS.len(), any::<u64>(), content).prop_map(|(kind, at_ms, content)| Entry {
            kind: KINDS[kind],
            at_ms,
            content: content.into(),
        })
    }

    proptest! {
        #[test]
        fn any_prefix_of_a_file_reads_as_a_prefix_of_the_record(
            entries in proptest::collection::vec(entry(), 0..12), cut in any::<prop::sample::Index>(),
        ) {
            let mut file = Vec::new();
            begin(&mut file);
            let mut ends = vec![file.len()];
            for entry in &entries {
                append(&mut file, entry);
                ends.push(file.len());
            }
            let cut = cut.index(file.len() + 1);
            let (found, len) = read(&Bytes::from(file[..cut].to_vec()));
            let whole = ends.iter().filter(|end| **end <= cut).count().saturating_sub(1);
            prop_assert_eq!(&found[..], &entries[..whole]);
            prop_assert_eq!(len, if cut < MAGIC.len() { 0 } else { ends[whole] });
        }

        #[test]
        fn a_byte_that_changed_ends_the_record_there(
            entries in proptest::collection::vec(entry(), 1..8), at in any::<prop::sample::Index>(), flip in 1..=255_u8,
        ) {
            let mut file = Vec::new();
            begin(&mut file);
            let from = file.len();
            entries.iter().for_each(|entry| append(&mut file, entry));
            let at = from + at.index(file.len() - from);
            file[at] ^= flip;
            let (found, _) = read(&file.into());
            prop_assert!(found.len() < entries.len());
            prop_assert_eq!(&found[..], &entries[..found.len()]);
        }
    }

    #[test]
    fn zeros_are_no_entry() {
        let mut file = Vec::new();
        begin(&mut file);
        file.extend_from_slice(&[0; 64]);
        assert_eq!(read(&file.into()), (Vec::new(), MAGIC.len()));
    }
}
