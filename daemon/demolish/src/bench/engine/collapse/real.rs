//! Loops that the model itself falls into when it always says the likeliest token.

use std::collections::HashMap;
use std::sync::Arc;

use engine::{Class, Engine, Guard, Job, Limits, Sampling, Speculation, TokenId, TokenKinds};

use super::super::super::report::Row;
use super::{Honest, WITHIN, first};

/// How many texts are gone on with.
const TEXTS: usize = 48;
/// How many of them at once.
const AT_ONCE: usize = 8;
/// Tokens of each text that are read, and tokens that are written: together they fit the default model's context.
const READ: usize = 100;
const WRITTEN: u32 = 400;
/// A sequence of four tokens that comes again within so many tokens is a repetition.
const NEAR: usize = 256;

/// Of the sequences that said nothing new for their last 200 tokens and more, the share in which the guard has found that within 200
/// tokens. Without a guard at work, so that the loops go on.
pub(super) async fn fall(
    engine: &Engine,
    kinds: &Arc<TokenKinds>,
    texts: &[Honest],
) -> Result<Row, String> {
    let texts: Vec<&Honest> = texts.iter().filter(|text| text.tokens.len() > READ).collect();
    let every = (texts.len() / TEXTS).max(1);
    let prompts: Vec<&[TokenId]> =
        texts.iter().step_by(every).take(TEXTS).map(|text| &text.tokens[..READ]).collect();
    let (mut fallen, mut caught) = (0_u32, 0_u32);
    for prompts in prompts.chunks(AT_ONCE) {
        for tape in write(engine, prompts).await? {
            let begins = nothing_new_from(&tape);
            if begins + WITHIN > tape.len() {
                continue;
            }
            fallen += 1;
            caught += u32::from(first(kinds, &tape).is_some_and(|(len, _)| len <= begins + WITHIN));
        }
    }
    let note = format!("{caught} of {fallen} loops in {} texts, greedy", prompts.len());
    let share = if fallen == 0 { 0.0 } else { f64::from(caught) / f64::from(fallen) * 100.0 };
    Ok(Row::new("collapse_caught_of_model", share, "%").noted(&note))
}

async fn write(engine: &Engine, prompts: &[&[TokenId]]) -> Result<Vec<Vec<TokenId>>, String> {
    let mut sequences = Vec::new();
    for prompt in prompts {
        let job = Job {
            prompt: prompt.to_vec(),
            constraint: None,
            sampling: Sampling { guard: Guard::Off, top_len: 0, ..Sampling::GREEDY },
            limits: Limits { tokens_max: WRITTEN, stop: Vec::new(), ahead_max: WRITTEN },
            class: Class::Served,
            soul: None,
            mixture: None,
            lookup: Vec::new(),
            speculation: Speculation::Auto,
        };
        sequences.push(engine.submit(job).map_err(|error| error.to_string())?);
    }
    let mut tapes = Vec::new();
    for sequence in &mut sequences {
        let mut tape = Vec::new();
        while let Some(step) = sequence.next().await.map_err(|error| error.to_string())? {
            tape.push(step.token);
        }
        tapes.push(tape);
    }
    Ok(tapes)
}

/// The place from which on every four tokens stood shortly before.
fn nothing_new_from(tape: &[TokenId]) -> usize {
    let mut seen: HashMap<&[TokenId], usize> = HashMap::new();
    let mut from = 0;
    for (start, four) in tape.windows(4).enumerate() {
        if seen.insert(four, start).is_none_or(|before| start - before > NEAR) {
            from = start + 4;
        }
    }
    from
}
