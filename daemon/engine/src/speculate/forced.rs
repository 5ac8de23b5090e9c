//! Drafts that cannot be wrong: tokens that a constraint allows no other but. Nothing is drawn for them, but each still gets what the
//! model thought of it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{
    job::{Constraint, EngineError, TokenId},
    thread::panic_message,
};

/// So many forced tokens are fed in one pass.
pub(crate) const FORCED_LEN_MAX: usize = 64;

/// What the constraint forces behind `tape`: at most `len` tokens.
pub(crate) fn tokens(
    constraint: &mut dyn Constraint,
    tape: &[TokenId],
    len: usize,
) -> Result<Vec<TokenId>, EngineError> {
    if len == 0 {
        return Ok(Vec::new());
    }
    let forced = catch_unwind(AssertUnwindSafe(|| constraint.forced(tape)));
    let mut forced =
        forced.map_err(|panic| EngineError::Constraint(panic_message(panic.as_ref())))?;
    forced.truncate(len.min(FORCED_LEN_MAX));
    Ok(forced)
}
