//! Positions, documents, edits and diagnostics: the words in which the rest of Demolish talks about text.
//!
//! Pure and synchronous; knows nothing of JSON, servers or files. A [`Document`] is a rope with a [`Revision`];
//! offsets are byte offsets everywhere, and a [`Position`] is what the protocol counts, in one of three encodings.
//! Line ends are those of LSP: `\n`, `\r\n` and a lone `\r`.

mod position;
pub use position::{Encoding, Position, Range};

mod document;
pub use document::{ApplyError, Change, DOCUMENT_BYTES_MAX, Document, Revision};

mod edit;
pub use edit::{Edit, EditError, apply_edits, differing};

mod diagnostic;
pub use diagnostic::{Baseline, Diagnostic, Severity, line_at};
pub use ropey::{Rope, RopeSlice};
