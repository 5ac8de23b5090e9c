//! For the replay that measures the policies (`grammars/replay.py`): answers questions about prefixes, one JSON object per line.
//!
//! `{"op":"close","path":P,"text":T}` → `{"close":…}`; `{"op":"settled","path":P,"text":T,"end":N,"next":S,"at":[…]}` → `{"settled":[…]}`,
//! where `text` is the closed text, `end` the length of the prefix, and `at` are byte offsets of diagnostics.

use std::io::{BufRead, Write};
use std::path::PathBuf;

use lang::{Grammar, Until, detect};
use serde_json::{Value, json};

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let question: Value = serde_json::from_str(&line?)?;
        writeln!(out, "{}", answer(&question).unwrap_or(Value::Null))?;
        out.flush()?;
    }
    Ok(())
}

fn answer(question: &Value) -> Option<Value> {
    let path = PathBuf::from(question["path"].as_str()?);
    let text = question["text"].as_str()?;
    let grammar = Grammar::new(detect(&path)?, &path);
    if question["op"] == "close" {
        return Some(json!({ "close": grammar.close(text) }));
    }
    let syntax = grammar.parse(text)?;
    let end = question["end"].as_u64()? as usize;
    let next = question["next"].as_str()?;
    let places = question["at"].as_array()?.iter().filter_map(|at| Some(at.as_u64()? as usize));
    let states = places.map(|at| {
        let over = |until| syntax.scope_over(text, end, at, until);
        json!({ "statement": syntax.settled(text, end, at, next), "block": over(Until::Block), "function": over(Until::Function) })
    });
    Some(json!({ "settled": states.collect::<Vec<_>>() }))
}
