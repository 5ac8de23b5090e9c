//! Products with packed matrices against a plain sum over the bytes of a file, on random shapes.
//!
//! A few hundred shapes; with `DEMOLISH_SLOW=1` more than ten thousand. A failure names the seed of its case.
#![allow(clippy::disallowed_methods, reason = "tests read DEMOLISH_SLOW and say what they skip")]

#[path = "products/random.rs"]
mod random;
#[path = "products/reference.rs"]
mod reference;
#[path = "products/cases.rs"]
mod cases;
#[path = "products/refusals.rs"]
mod refusals;
#[path = "products/mlx.rs"]
mod mlx;
#[path = "products/experts.rs"]
mod experts;

/// How many random cases a test makes.
fn cases(fast: u64, slow: u64) -> u64 {
    if std::env::var_os("DEMOLISH_SLOW").is_some_and(|value| value == "1") { slow } else { fast }
}
