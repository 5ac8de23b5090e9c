//! Some tokens of one sequence in one pass: what `llama-bench -p` measures. Through the engine the last token of a prompt would be a
//! pass of its own, and the weights would be read twice.

use std::path::Path;

#[cfg(not(feature = "mlx"))]
pub(super) fn rates(
    _: &Path,
    _: usize,
    _: &[usize],
    _: usize,
) -> Result<Vec<(usize, f64)>, String> {
    Err("this build has no MLX backend".to_owned())
}

/// Tokens per second of each count of random tokens, up to the logits after the last of them: medians of `rounds`.
#[cfg(feature = "mlx")]
#[allow(clippy::cast_precision_loss, reason = "some tokens")]
pub(super) fn rates(
    folder: &Path,
    vocabulary: usize,
    counts: &[usize],
    rounds: usize,
) -> Result<Vec<(usize, f64)>, String> {
    use super::ours::{OPTIONS, any};
    use crate::bench::engine::Chance;
    use crate::bench::report::Samples;

    let said = |error: &dyn std::fmt::Display| error.to_string();
    let mut model = engine::Bare::load(folder, OPTIONS).map_err(|error| said(&error))?;
    let (mut chance, mut rates) = (Chance::of(1), Vec::new());
    for &count in counts {
        let mut samples = Samples::default();
        // Buffers are made in the first round.
        for round in 0..=rounds {
            let tokens: Vec<_> = (0..count).map(|_| any(&mut chance, vocabulary)).collect();
            let started = std::time::Instant::now();
            model.read(&tokens).map_err(|error| said(&error))?;
            if round > 0 {
                samples.push(count as f64 / started.elapsed().as_secs_f64());
            }
            model.rewind(0).map_err(|error| said(&error))?;
        }
        rates.push((count, samples.quantile(0.5)));
    }
    Ok(rates)
}
