//! Which of several clean changes is the best: the one that the model finds likeliest, with a prior for changing little.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use engine::{Class, Engine, EngineError, TokenId};
use text::Diagnostic;

use crate::Origin;
use crate::candidates::{Idea, distance};
use crate::prompt::{Layout, fill_in};

/// What one changed character costs, in nats per token.
const CHARACTER_PRIOR: f32 = 0.04;
/// The most that the size of a change costs.
const SIZE_PRIOR_MAX: f32 = 2.0;
/// What each other diagnostic is worth that goes away too (a name that is no longer unused), hints included.
const GONE_PRIOR: f32 = 0.6;
/// Longer texts are compared by their lengths alone.
const DISTANCE_BYTES_MAX: usize = 400;
/// The likelihood of a text that was not scored.
const UNSCORED: f32 = -3.0;

/// A change that was checked clean.
#[derive(Debug, Clone)]
pub(crate) struct Clean {
    pub(crate) idea: Idea,
    /// The whole document with the change.
    pub(crate) text: Arc<str>,
    pub(crate) after: Vec<Diagnostic>,
    pub(crate) mean_logprob: Option<f32>,
}

/// Gives each change the model's mean log-probability of its lines, in their place.
pub(crate) async fn score(
    engine: &Engine,
    path: &Path,
    old: &str,
    all: &mut [Clean],
) -> Result<(), EngineError> {
    let tokenizer = engine.tokenizer();
    let Some(layout) = Layout::of(engine) else { return Ok(()) };
    let mut groups: Vec<(Range<usize>, Vec<usize>)> = Vec::new();
    for (index, clean) in all.iter().enumerate() {
        let (lines, _) = changed_lines(old, &clean.text);
        match groups.iter_mut().find(|(known, _)| *known == lines) {
            Some((_, members)) => members.push(index),
            None => groups.push((lines, vec![index])),
        }
    }
    for (lines, members) in groups {
        let plain = |half: &str| half.replace("\r\n", "\n");
        let (before, after) = (plain(&old[..lines.start]), plain(&old[lines.end..]));
        let prompt = fill_in(tokenizer, &layout, Default::default(), path, &before, &after, &[]);
        let region =
            |index: &usize| plain(&all[*index].text[changed_lines(old, &all[*index].text).1]);
        let continuations: Vec<Vec<TokenId>> =
            members.iter().map(|index| tokenizer.encode(&region(index))).collect();
        let scores = match engine.score(prompt.tokens, continuations, Class::Fix).await {
            // A server that tells no probabilities: the other marks of a change decide.
            Err(EngineError::Refused(_)) if engine.info().remote.is_some() => continue,
            scores => scores?,
        };
        for (index, score) in members.into_iter().zip(scores) {
            all[index].mean_logprob =
                (!score.is_empty()).then(|| score.iter().sum::<f32>() / score.len() as f32);
        }
    }
    Ok(())
}

/// The best of the changes to a document that had `before` diagnostics; the first one of equals.
pub(crate) fn best(old: &str, before: usize, all: Vec<Clean>) -> Option<Clean> {
    let worth = |clean: &Clean| {
        let (lines, region) = changed_lines(old, &clean.text);
        let size = size(&old[lines], &clean.text[region]);
        let gone = before as f32 - 1.0 - clean.after.len() as f32;
        clean.mean_logprob.unwrap_or(UNSCORED) - (CHARACTER_PRIOR * size as f32).min(SIZE_PRIOR_MAX)
            + GONE_PRIOR * gone
            + prior(clean.idea.origin)
    };
    let mut best: Option<(f32, Clean)> = None;
    for clean in all {
        let worth = worth(&clean);
        if best.as_ref().is_none_or(|(highest, _)| worth > *highest) {
            best = Some((worth, clean));
        }
    }
    best.map(|(_, clean)| clean)
}

/// Ideas of the server and of the language's data are better founded than those of the model.
fn prior(origin: Origin) -> f32 {
    match origin {
        Origin::QuickFix => 0.5,
        Origin::Replacement => 0.4,
        Origin::Repair => 0.0,
        Origin::Regenerated => -0.2,
    }
}

fn size(old: &str, new: &str) -> usize {
    if old.len().max(new.len()) > DISTANCE_BYTES_MAX {
        old.len().abs_diff(new.len()).max(DISTANCE_BYTES_MAX / 4)
    } else {
        distance(old, new)
    }
}

/// The lines of `old` that differ from `new`, and those of `new` in their place, as bytes of each.
pub(crate) fn changed_lines(old: &str, new: &str) -> (Range<usize>, Range<usize>) {
    let lines = |text: &'_ str| text.split_inclusive('\n').map(str::len).collect::<Vec<_>>();
    let (old_lines, new_lines) = (lines(old), lines(new));
    let shortest = old_lines.len().min(new_lines.len());
    let mut start = 0;
    let mut same = 0;
    while same < shortest
        && old[start..start + old_lines[same]] == new[start..start + new_lines[same]]
    {
        start += old_lines[same];
        same += 1;
    }
    let (mut old_end, mut new_end) = (old.len(), new.len());
    let mut tail = 0;
    while tail < shortest - same {
        let (old_len, new_len) =
            (old_lines[old_lines.len() - 1 - tail], new_lines[new_lines.len() - 1 - tail]);
        if old[old_end - old_len..old_end] != new[new_end - new_len..new_end] {
            break;
        }
        old_end -= old_len;
        new_end -= new_len;
        tail += 1;
    }
    (start..old_end, start..new_end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_lines_are_whole_and_few() {
        let check = |old: &str, new: &str, from: &str, to: &str| {
            let (lines, region) = changed_lines(old, new);
            assert_eq!((&old[lines], &new[region]), (from, to), "{old:?} {new:?}");
        };
        check("a\nb\nc\n", "a\nx\ny\nc\n", "b\n", "x\ny\n");
        check("a\nb\n", "a\nb\n", "", "");
        check("a\nb", "a\nbé", "b", "bé");
        check("", "x\n", "", "x\n");
        check("é\n", "è\n", "é\n", "è\n");
    }
}
