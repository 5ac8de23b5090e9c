//! Merged mode: one connection of a client, several servers behind it.

pub mod capabilities;
pub mod commands;
pub mod data;
pub mod results;
