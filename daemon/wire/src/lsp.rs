//! The language server protocol's types, 3.18 included. Other crates convert them to plain structs at their rim.

pub use ls_types::*;
