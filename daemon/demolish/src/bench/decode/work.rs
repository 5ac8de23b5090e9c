//! What tokens cost on a shape: bytes of weights that are read, and products that are made.

use super::numbers::Float;
use super::shapes::{FeedForward, Kind, Shape};

/// The cost of one pass over some tokens of one sequence, of which the last one's logits are wanted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Work {
    /// Bytes of weights that are read, each once.
    pub(super) bytes: f64,
    /// Products of a weight with an activation.
    pub(super) products: f64,
}

impl Work {
    /// That of `rows` tokens. Experts are thought to be chosen at random.
    #[allow(clippy::cast_precision_loss, reason = "below 2^52")]
    pub(super) fn of(shape: &Shape, rows: usize, scales: Float) -> Work {
        let (used, touched) = match shape.feed_forward {
            FeedForward::Dense { .. } => (1.0, 1.0),
            FeedForward::Experts { count, chosen, .. } => {
                let share = chosen as f64 / count as f64;
                (share, 1.0 - (1.0 - share).powf(rows as f64))
            }
        };
        let mut work = Work { bytes: 0.0, products: 0.0 };
        for tensor in shape.tensors() {
            let (numbers, bytes) = (tensor.numbers() as f64, tensor.bytes(scales.bytes()) as f64);
            let is_output = tensor.mlx == "lm_head";
            let is_embedding = tensor.mlx == "model.embed_tokens";
            if is_embedding && shape.is_mixture() {
                continue; // A row of it is looked up.
            }
            let is_matrix = matches!(tensor.kind, Kind::FourBits | Kind::EightBits);
            let (used, touched) =
                if tensor.experts.is_some() { (used, touched) } else { (1.0, 1.0) };
            let rows = if is_output || is_embedding { 1.0 } else { rows as f64 };
            work.bytes += bytes * touched;
            work.products += if is_matrix { numbers * used * rows } else { 0.0 };
        }
        work
    }

    /// Products for each byte of weights.
    pub(super) fn intensity(self) -> f64 {
        self.products / self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::super::shapes::{DENSE, MOE};
    use super::*;

    #[test]
    fn a_token_reads_what_takes_part_in_it() {
        let moe = Work::of(&MOE, 1, Float::Bf16);
        assert!((moe.products / 1e6 - 637.0).abs() < 2.0, "{moe:?}");
        assert!((moe.bytes / 1e6 - 358.0).abs() < 2.0, "{moe:?}");
        let dense = Work::of(&DENSE, 1, Float::Bf16);
        assert!((dense.products / 1e6 - 494.0).abs() < 1.0, "{dense:?}");
        let many = Work::of(&MOE, 512, Float::Bf16);
        // All experts take part, and the output in one token only.
        assert!((many.bytes / 1e6 - 869.0).abs() < 5.0, "{many:?}");
        assert!(many.intensity() > 250.0 && moe.intensity() < 2.0);
    }
}
