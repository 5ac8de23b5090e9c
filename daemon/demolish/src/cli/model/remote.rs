//! `demolish model info --remote`: what a server is, and what it can do.

use std::fmt::Write as _;

use engine::{Capabilities, Engine, ModelInfo, Probing, Prompts, RemoteOptions, Words};

use super::super::{Exit, Failure, Outcome, print, print_json};
use super::settings;
use crate::model;

pub(super) fn run(url: &str, json: bool) -> Outcome {
    let settings = settings();
    let named = Some(url).filter(|url| !url.is_empty()).or(settings.remote_url.as_deref());
    let Some(url) = named else {
        return Err(Failure::missing(
            "there is no server to ask; name it, or set `model.remote_url`",
        ));
    };
    let options = model::server(&settings, url).map_err(Failure::missing)?;
    let options = RemoteOptions { probing: Probing::All, ..options };
    let engine = Engine::remote(options, model::options(&settings).context_max)
        .map_err(|error| Failure::bad(error.to_string()))?;
    let info = engine.info();
    if json {
        print_json(&serde_json::to_value(info).map_err(Failure::bad)?);
    } else if let Some(can) = info.remote.as_deref() {
        print(&told(info, can));
    }
    Ok(Exit::Done)
}

fn told(info: &ModelInfo, can: &Capabilities) -> String {
    let yes = |holds: bool| if holds { "yes" } else { "no" };
    let tried = |holds: Option<bool>| holds.map_or("not tried", yes);
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<14} {value}");
    };
    line("server", format!("{} at {}", can.name(), can.url));
    line("model", info.name.clone());
    line("context", format!("{} tokens", info.context_max));
    let words = match can.words {
        Words::File => "those of `model.remote_tokenizer`",
        Words::Server => "the server's",
        Words::Bytes => "bytes (no tokenizer is known)",
    };
    line("tokens", words.to_owned());
    let prompts = if can.prompts == Prompts::Tokens { "as tokens" } else { "as text" };
    line("prompts", prompts.to_owned());
    let listed = match can.logprobs {
        0 => "no".to_owned(),
        count => format!("of the {count} likeliest tokens"),
    };
    line("probabilities", listed);
    line("streams", yes(can.streaming).to_owned());
    line("seed", tried(can.seed).to_owned());
    line("stop texts", tried(can.stop).to_owned());
    line("logit bias", yes(can.logit_bias).to_owned());
    line("scores", tried(can.scores).to_owned());
    let cached = match can.prefix_reused {
        None => "it does not say".to_owned(),
        Some(0) => "no".to_owned(),
        Some(tokens) => format!("yes: {tokens} tokens of a prompt that was sent twice"),
    };
    line("prefix cache", cached);
    let parallel = can.parallel.map_or("it does not say".to_owned(), |count| count.to_string());
    line("at once", parallel);
    for row in &can.structured {
        let verdict = match (row.works, row.lied, &row.refusal) {
            (true, ..) => "kept to".to_owned(),
            (_, true, _) => "taken and not kept to".to_owned(),
            (_, _, Some(said)) => format!("refused: {said}"),
            _ => "no".to_owned(),
        };
        line(row.form, format!("{verdict} ({})", row.field));
    }
    for sentence in &can.downgrades {
        let _ = writeln!(text, "  - {sentence}");
    }
    text
}
