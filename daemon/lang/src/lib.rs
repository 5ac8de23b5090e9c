//! What Demolish knows of a programming language.
//!
//! A language is a folder of data under `grammars/`: which files belong to it, which servers speak for it, how far each of
//! their diagnostics can be trusted while text is still being written, and how its unfinished text is closed. Adding one
//! touches no Rust, except that its tree-sitter grammar must be linked in `syntax.rs`.
//!
//! The same goes for tool calls: how a family of models writes them is a file in `grammars/toolcall/` ([`toolcall`]).
//!
//! The crate is pure: no input, no output, nothing async; the data is embedded. Start reading at [`Language`].

mod language;
mod policy;
mod server;
mod statements;
mod syntax;
pub mod toolcall;
mod close;
mod lex;
mod repair;
mod data;

pub use close::{Closing, Gap, indentation, unit};
pub use language::{Comment, Language, all, by_id, detect, detect_shebang, server_for};
pub use lex::Open;
pub use policy::{Blame, Class, Policy, Rule, Sign, Until};
pub use repair::{On, Repair};
pub use server::{Ask, AskForm, Barrier, Builtin, Evidence, Ready, Server, Twin};
pub use statements::Statement;
pub use syntax::{Context, Definition, Grammar, Syntax};
