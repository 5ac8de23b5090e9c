//! demolish
fn main() {}
