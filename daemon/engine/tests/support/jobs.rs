//! Jobs for scripted models, and a model whose every word depends on all before it.

#![allow(dead_code, reason = "shared by several test binaries, which use different parts")]

use engine::{Class, Engine, Job, Limits, Sampling, Script, Sequence, Speculation, Step, TokenId};

pub(crate) fn job(engine: &Engine, prompt: &str, tokens_max: u32) -> Job {
    Job {
        prompt: engine.tokenizer().encode_prompt(prompt),
        constraint: None,
        sampling: Sampling::GREEDY,
        limits: Limits { tokens_max, stop: Vec::new(), ahead_max: 4 },
        class: Class::Typing,
        soul: None,
        mixture: None,
        lookup: Vec::new(),
        speculation: Speculation::Auto,
    }
}

pub(crate) async fn rest(sequence: &mut Sequence) -> Vec<Step> {
    let mut steps = Vec::new();
    while let Some(step) = sequence.next().await.expect("the script does not fail") {
        steps.push(step);
    }
    steps
}

/// The next letter is a function of all letters before it, so a cache that was mixed up shows.
pub(crate) fn letter(seen: &[TokenId]) -> TokenId {
    97 + seen.iter().fold(7u32, |hash, token| (hash * 31 + token) % 1009) % 26
}

pub(crate) fn letters() -> Script {
    Script::new().rule(|seen| vec![(letter(seen), 0.0)])
}

/// Whether the steps are what a model alone says after `before`.
pub(crate) fn check_letters(before: &[TokenId], steps: &[Step]) {
    let mut tape = before.to_vec();
    for step in steps {
        assert_eq!(step.token, letter(&tape), "at {}", tape.len());
        tape.push(step.token);
    }
}
