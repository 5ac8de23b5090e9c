//! What the collapse guard finds: loops that were planted, loops that the model itself fell into, and none in real code, tables and
//! logs.

mod corpus;
mod plants;
mod real;

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{Detector, Engine, TokenId, TokenKinds, Tokenizer};

use super::super::report::Row;

/// How many bytes of real text are looked at, if the machine has them.
const CORPUS_BYTES: usize = 12_000_000;
/// With fewer the number means nothing.
const CORPUS_BYTES_MIN: usize = 10_000_000;
/// Loops of each kind that are planted.
const PLANTS: usize = 200;
/// Tokens within which a loop has to be found.
const WITHIN: usize = 200;
/// Tokens per second that the cost is told of.
const SPEED: f64 = 100.0;

/// A real text, as tokens.
struct Honest {
    kind: &'static str,
    name: String,
    bytes: usize,
    tokens: Vec<TokenId>,
}

/// The rows `collapse_*`.
pub(super) async fn rows(engine: &Engine) -> Result<Vec<Row>, String> {
    let tokenizer = engine.tokenizer();
    let kinds = kinds(tokenizer);
    let texts = tokenise(tokenizer, corpus::gather(CORPUS_BYTES));
    let looked = look(&kinds, &texts);
    let planted = plant(&kinds, tokenizer, &texts, PLANTS);
    let fallen = real::fall(engine, &kinds, &texts).await?;
    let mut rows = planted;
    rows.push(fallen);
    rows.push(looked.alarms());
    rows.push(looked.cost());
    Ok(rows)
}

fn kinds(tokenizer: &Tokenizer) -> Arc<TokenKinds> {
    let tokens = 0..tokenizer.len();
    let bytes = tokens.map(|token| tokenizer.token_bytes(TokenId::try_from(token).unwrap_or(0)));
    Arc::new(TokenKinds::new(bytes))
}

fn tokenise(tokenizer: &Tokenizer, texts: Vec<corpus::Text>) -> Vec<Honest> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let share = texts.len().div_ceil(workers).max(1);
    let encode = |text: &corpus::Text| Honest {
        kind: text.kind,
        name: text.name.clone(),
        bytes: text.text.len(),
        tokens: tokenizer.encode(&text.text),
    };
    std::thread::scope(|scope| {
        let parts: Vec<_> = texts
            .chunks(share)
            .map(|part| scope.spawn(move || part.iter().map(encode).collect::<Vec<_>>()))
            .collect();
        parts.into_iter().flat_map(|part| part.join().unwrap_or_default()).collect()
    })
}

/// What was found in honest text.
struct Looked {
    bytes: usize,
    tokens: usize,
    alarms: Vec<String>,
    kinds: String,
    took: Duration,
}

fn look(kinds: &Arc<TokenKinds>, texts: &[Honest]) -> Looked {
    let started = Instant::now();
    let mut alarms = Vec::new();
    for text in texts {
        if let Some((at, found)) = first(kinds, &text.tokens) {
            alarms.push(format!("{} at token {at}, period {}", text.name, found.period));
        }
    }
    let took = started.elapsed();
    let mut shares: Vec<(&str, usize)> = Vec::new();
    for text in texts {
        match shares.iter_mut().find(|(kind, _)| *kind == text.kind) {
            Some((_, bytes)) => *bytes += text.bytes,
            None => shares.push((text.kind, text.bytes)),
        }
    }
    let shares = shares.iter().map(|(kind, bytes)| format!("{kind} {} kB", bytes / 1000));
    Looked {
        bytes: texts.iter().map(|text| text.bytes).sum(),
        tokens: texts.iter().map(|text| text.tokens.len()).sum(),
        alarms,
        kinds: shares.collect::<Vec<_>>().join(", "),
        took,
    }
}

impl Looked {
    #[allow(clippy::cast_precision_loss, reason = "some millions")]
    fn alarms(&self) -> Row {
        let row = Row::new("collapse_false_alarms", self.alarms.len() as f64, "loops");
        let megabytes = self.bytes as f64 / 1e6;
        let note = format!("in {megabytes:.1} MB ({}){}", self.kinds, listed(&self.alarms));
        if self.bytes < CORPUS_BYTES_MIN {
            return row.noted(&format!("too little text on this machine to judge: {note}"));
        }
        row.exactly(0.0).noted(&note)
    }

    #[allow(clippy::cast_precision_loss, reason = "some millions")]
    fn cost(&self) -> Row {
        let per_token = self.took.as_secs_f64() / self.tokens.max(1) as f64;
        let note = format!("{:.0} ns per token; of a token at 100 tokens/s", per_token * 1e9);
        Row::new("collapse_guard_cost", per_token * SPEED * 100.0, "%").at_most(1.0).noted(&note)
    }
}

fn listed(alarms: &[String]) -> String {
    if alarms.is_empty() { String::new() } else { format!(": {}", alarms.join("; ")) }
}

/// Where the first loop is found, and what is found.
fn first(kinds: &Arc<TokenKinds>, tape: &[TokenId]) -> Option<(usize, engine::Collapse)> {
    let mut detector = Detector::new(kinds.clone());
    (1..=tape.len()).find_map(|len| detector.push(&tape[..len]).map(|found| (len, found)))
}

/// Plants loops of each kind after real text, and counts those that are found in time: not in what comes before, and within 200
/// tokens of the place from which on nothing new is said.
#[allow(clippy::cast_precision_loss, reason = "some hundreds")]
fn plant(
    kinds: &Arc<TokenKinds>,
    tokenizer: &Tokenizer,
    texts: &[Honest],
    count: usize,
) -> Vec<Row> {
    let mut rows = Vec::new();
    for (metric, planted) in
        [("collapse_caught", plants::LOOPS), ("collapse_lookalikes_caught", plants::LOOKALIKES)]
    {
        let (mut caught, mut notes) = (0, Vec::new());
        for &kind in planted {
            let mut field = plants::Field::new(tokenizer, texts);
            let found = (0..count).filter(|_| {
                let (tape, second) = field.plant(kind);
                let found = first(kinds, &tape);
                found.is_some_and(|(len, _)| len > second && len <= second + WITHIN)
            });
            let found = found.count();
            notes.push(format!("{} {found} of {count}", kind.name()));
            caught += found;
        }
        let share = caught as f64 / (count * planted.len()) as f64 * 100.0;
        let row = Row::new(metric, share, "%").noted(&notes.join(", "));
        rows.push(if metric == "collapse_caught" { row.at_least(95.0) } else { row });
    }
    rows
}

#[cfg(test)]
mod tests;
