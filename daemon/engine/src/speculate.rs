//! Speculation: several tokens are computed in one pass on the supposition that they will be drawn.
//!
//! A draft is never trusted. Its tokens are fed behind the last one, every row of logits is drawn from as if its token had been fed
//! alone, and the first draw that differs ends it; what the cache saw beyond is cut off again. A draw depends on the logits, the seed,
//! the position and the number of rewinds alone, so the text is that of plain decoding as far as a row of logits does not depend on the
//! other rows of its pass.

/// Whether several tokens may be computed at once on the supposition that they will be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Speculation {
    /// Where it has been measured to pay.
    #[default]
    Auto,
    /// Never: every token in a pass of its own, but for tokens that a constraint forces.
    Off,
    /// Wherever there is something to suppose, whatever that costs; for tests and measurements.
    Always,
}
