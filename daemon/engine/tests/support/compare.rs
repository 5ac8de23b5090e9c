//! The engine against what mlx-lm computed for a fixture, at every position.

#![allow(dead_code, reason = "shared by several test binaries, which use different parts")]

use engine::{Bare, Compute, LoadOptions};

use crate::checkpoint::Checkpoint;

/// Same operations, same order, same library.
pub(crate) const PARITY: f32 = 1e-6;
/// Other orders, another BLAS.
pub(crate) const FAST: f32 = 1e-4;
/// The same where a recurrent state collects what was rounded.
pub(crate) const FAST_RECURRENT: f32 = 5e-4;
/// The pieces that the reference was fed for its logits of chunked prefill.
const CHUNK_LEN: usize = 7;

/// The greatest differences of any logit from the reference.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Distances {
    /// All positions of the prompt in one pass.
    pub(crate) prefill: f32,
    /// The same in pieces.
    pub(crate) chunked: f32,
    /// The reference's tokens behind it, one by one.
    pub(crate) decoded: f32,
    /// Cut back to the prompt, and the same again.
    pub(crate) rewound: f32,
    /// Cut back to places that have to be fed again in part, and on from there.
    pub(crate) refed: f32,
    /// Steps where another token would have been taken, although the reference is sure of its own.
    pub(crate) misses: usize,
}

impl Distances {
    /// Of what the reference computed in the same steps.
    pub(crate) fn worst(&self) -> f32 {
        self.prefill.max(self.chunked).max(self.decoded).max(self.rewound)
    }
}

/// Whether every intermediate result is rounded to 16 bits. Then other arithmetic takes other experts, and cannot be compared.
pub(crate) fn is_half(checkpoint: &Checkpoint) -> bool {
    checkpoint.name.ends_with("f16")
}

/// Whether keys and scores are rounded to 4 bits: the last bit of a sum decides which way, and a step of that size is no error.
pub(crate) fn rounds_its_values(checkpoint: &Checkpoint) -> bool {
    checkpoint.architecture().starts_with("deepseek_v41")
}

/// Whether a sum in another order has to come close to the reference's.
pub(crate) fn is_fine(checkpoint: &Checkpoint) -> bool {
    !is_half(checkpoint) && !rounds_its_values(checkpoint)
}

/// Whether arithmetic other than the reference's has to come close to it.
pub(crate) fn is_comparable(checkpoint: &Checkpoint) -> bool {
    is_fine(checkpoint) && checkpoint.is_clear(tolerance(checkpoint, Compute::Fast))
}

/// What arithmetic other than the reference's may differ by.
pub(crate) fn tolerance(checkpoint: &Checkpoint, compute: Compute) -> f32 {
    let is_recurrent =
        ["qwen3_next", "qwen3_5", "qwen3_5_moe"].contains(&&*checkpoint.architecture());
    match compute {
        Compute::Parity => PARITY,
        _ if is_recurrent => FAST_RECURRENT,
        _ => FAST,
    }
}

/// Loads the model and lets it compute everything that the reference did.
pub(crate) fn distances(checkpoint: &Checkpoint, compute: Compute) -> Result<Distances, String> {
    let options = LoadOptions { compute, ..LoadOptions::AUTO };
    let mut model = Bare::load(&checkpoint.dir, options).map_err(|error| error.to_string())?;
    let tolerance = tolerance(checkpoint, compute);
    measure(&mut model, checkpoint, tolerance).map_err(|error| error.to_string())
}

fn measure(
    model: &mut Bare,
    checkpoint: &Checkpoint,
    tolerance: f32,
) -> Result<Distances, engine::EngineError> {
    let (prompt, greedy) = (&checkpoint.prompt, &checkpoint.greedy);
    let vocabulary = checkpoint.vocabulary;
    let decode = checkpoint.floats("decode");
    let chunked = checkpoint.floats("chunked");
    let mut found = Distances {
        prefill: distance(&model.feed(prompt)?, &checkpoint.floats("prefill")),
        ..Distances::default()
    };
    model.rewind(0)?;
    let mut rows = Vec::new();
    for chunk in prompt.chunks(CHUNK_LEN) {
        rows.extend(model.feed(chunk)?);
        model.checkpoint();
    }
    found.chunked = distance(&rows, &chunked);
    // The first row is that of the prompt's end; the last token of the reference has no logits after it.
    let mut follow = |model: &mut Bare, from: usize| -> Result<f32, engine::EngineError> {
        let mut worst = 0.0f32;
        for step in from..greedy.len() - 1 {
            let logits = model.feed(&greedy[step..=step])?;
            model.checkpoint();
            let expected = &decode[(step + 1) * vocabulary..][..vocabulary];
            worst = worst.max(distance(&logits, expected));
            found.misses += usize::from(misses(&logits, expected, tolerance));
        }
        Ok(worst)
    };
    let decoded = follow(model, 0)?;
    model.rewind(prompt.len())?;
    let rewound = follow(model, 0)?;
    let middle = greedy.len() / 2;
    model.rewind(prompt.len() + middle)?;
    let mut refed = follow(model, middle)?;
    // Into the prompt, between the places where it was cut.
    let inside = prompt.len() - CHUNK_LEN - 3;
    model.rewind(inside)?;
    let rows = model.feed(&prompt[inside..])?;
    refed = refed.max(distance(&rows, &chunked[inside * vocabulary..]));
    Ok(Distances { decoded, rewound, refed, ..found })
}

/// The greatest difference; infinite where one of them is no number.
pub(crate) fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "as many logits as the reference has");
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    differences.map(|d| if d.is_nan() { f32::INFINITY } else { d }).fold(0.0, f32::max)
}

/// Whether the greatest logit is another one, although the reference's is ahead by more than the tolerance explains.
pub(crate) fn misses(logits: &[f32], expected: &[f32], tolerance: f32) -> bool {
    let (best, margin) = best(expected);
    margin > 10.0 * tolerance && self::best(logits).0 != best
}

/// The greatest logit, and how far the next one is behind.
pub(crate) fn best(logits: &[f32]) -> (usize, f32) {
    let first = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap_or(0);
    let others = logits.iter().enumerate().filter(|&(index, _)| index != first);
    let second = others.map(|(_, &logit)| logit).fold(f32::NEG_INFINITY, f32::max);
    (first, logits[first] - second)
}
