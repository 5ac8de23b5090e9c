//! From model tokens to text that the language server accepts.
//!
//! [`complete()`] fills in the middle of a document under the eyes of a [`Critic`]: after each line the candidate is closed, put
//! in place and checked; what a line breaks is rewound and banned, and the next best is tried. [`fix()`] searches and verifies: it
//! gathers candidate repairs from the server and from the model, has each checked, and proposes the best clean one or nothing.
//!
//! The crate owns the algorithm and no input or output: the engine gives tokens, the critic gives verdicts, the caller gives text.
//! Dropping a future of this crate cancels its work, down to the engine, at the next token.
//!
//! The invariant that everything here serves: [`Verdict::Clean`] is said only of a text that the critic saw exactly as it would
//! stand in the document. Silence, lateness and absence are [`Verdict::Unknown`], with the reason.

mod critic;
mod request;
mod timings;
pub mod prompt;
mod tape;
mod ban;
pub mod loops;
mod style;
mod gate;
mod trim;
mod judge;
mod watch;
mod writer;
mod steer;
mod complete;
mod around;
mod beside;
mod seam;
pub mod score;
mod workspace;
mod candidates;
pub mod sign;
mod fix;
mod rank;
pub mod confidence;

pub use around::{Around, Unread};
pub use beside::Mixing;
pub use complete::complete;
pub use confidence::Withhold;
pub use critic::{BoxFuture, Checked, Critic, NoCritic, Unknown, Verdict};
pub use fix::fix;
pub use request::{
    Budget, CompleteError, CompleteRequest, Completion, Fix, FixBudget, FixError, FixRequest,
    OnFindings, Origin, Proposal, Refused, Snippet, Suggestion, Trigger,
};
pub use style::Indent;
pub use timings::Timings;
pub use workspace::Workspace;
