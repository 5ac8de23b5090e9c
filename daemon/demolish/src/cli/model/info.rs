//! `demolish model info`: what a model is, and the plan of its memory.

use std::fmt::Write as _;

use engine::{Engine, LoadOptions, MemoryPlan, ModelInfo, Profile, Survey};

use super::super::{Exit, Failure, Outcome, clock, print, print_json};
use super::{Which, settings};
use crate::model;

pub(super) fn run(
    which: &Which,
    context: Option<usize>,
    kv_bits: Option<u8>,
    json: bool,
) -> Outcome {
    let asked = model::options(&settings());
    let options = LoadOptions {
        // 0 is what it is in the settings: the model's own, and not packed.
        context_max: context.map_or(asked.context_max, |tokens| Some(tokens).filter(|&n| n > 0)),
        kv_bits: kv_bits.map_or(asked.kv_bits, |bits| Some(bits).filter(|&n| n > 0)),
        ..asked
    };
    let dir = which.dir()?;
    let refused = |error| which.failed(model::refused(Some(&dir), &error));
    let survey = Engine::survey(&dir, options).map_err(refused)?;
    let profile = Profile::of(&dir).map_err(refused)?;
    if json {
        let mut object = serde_json::to_value(&survey).map_err(Failure::bad)?;
        object["profile"] = profile.described();
        print_json(&object);
    } else {
        print(&told(&survey, profile, options));
    }
    Ok(Exit::Done)
}

fn told(survey: &Survey, profile: Profile, options: LoadOptions) -> String {
    let Survey { info, memory } = survey;
    let mut text = String::new();
    facts(&mut text, info, options);
    asked(&mut text, profile);
    table(&mut text, memory);
    for advice in &memory.advice {
        let _ = writeln!(text, "           it would help: {advice}");
    }
    text
}

fn facts(text: &mut String, info: &ModelInfo, options: LoadOptions) {
    let ModelInfo { parameters, parameters_active, context_max, vocabulary, .. } = info;
    let packing = info.quantization.as_deref().unwrap_or("unquantized");
    let _ = writeln!(text, "name       {}, {}, {packing}", info.name, info.architecture);
    let _ = writeln!(text, "directory  {}", info.path.display());
    let _ = writeln!(
        text,
        "weights    {}, of which a token meets {}",
        counted(*parameters),
        counted(*parameters_active)
    );
    let _ = write!(text, "context    {context_max} tokens out of a vocabulary of {vocabulary}");
    let _ = match options.context_max.filter(|asked| asked > context_max) {
        Some(asked) => writeln!(text, "; {asked} were asked for, the model has no more"),
        None => writeln!(text),
    };
    for line in &info.unpacked {
        let _ = writeln!(text, "unpacked   {line}");
    }
    if !info.config_unknown.is_empty() {
        let _ = writeln!(text, "ignored    {} of config.json", info.config_unknown.join(", "));
    }
}

/// How the model is best asked.
fn asked(text: &mut String, profile: Profile) {
    let what = profile.described();
    let sampling = &what["sampling"];
    let _ = write!(text, "profile    {}: thinking {}", profile.id(), profile.thinking().word());
    for (key, word) in
        [("temperature", "temperature"), ("top_p", "top-p"), ("top_k", "top-k"), ("min_p", "min-p")]
    {
        if let Some(number) = sampling[key].as_f64() {
            let _ = write!(text, ", {word} {}", number);
        }
    }
    if let Some(amount) = sampling["repetition"]["amount"].as_f64() {
        let window = &sampling["repetition"]["window"];
        let _ = write!(text, ", repetition {} over {window} tokens", amount);
    }
    if let Some(tokens) = profile.context_useful() {
        let _ = write!(text, ", useful up to {tokens} tokens");
    }
    let _ = match profile.toolcall() {
        Some(format) => writeln!(text, ", tool calls {format}"),
        None => writeln!(text),
    };
    if let Some(notes) = profile.notes() {
        let _ = writeln!(text, "           {notes}");
    }
}

fn table(text: &mut String, memory: &MemoryPlan) {
    let room = memory.available.map_or_else(
        || "the system does not say how much there is".to_owned(),
        |bytes| format!("{} {}", clock::bytes(bytes), memory.limit),
    );
    let promised = match memory.promised {
        0 => String::new(),
        bytes => format!(" beside {} for other models", clock::bytes(bytes)),
    };
    let fits = if memory.fits { "fits" } else { "does not fit" };
    let _ = writeln!(text, "memory     {room}{promised}: it {fits}");
    let _ = writeln!(
        text,
        "\n{:<12} {:>10} {:>12} {:>12} {:>10} {:>15}",
        "ARITHMETIC", "WEIGHTS", "CACHE OF 1K", "WHOLE CACHE", "A PASS", "LONGEST CONTEXT"
    );
    for mode in &memory.modes {
        let mark = if mode.compute == memory.chosen { "*" } else { "" };
        let name = format!("{:?}{mark}", mode.compute).to_lowercase();
        let _ = writeln!(
            text,
            "{name:<12} {:>10} {:>12} {:>12} {:>10} {:>15}",
            clock::bytes(mode.weights),
            clock::bytes(mode.cache_per_1k),
            clock::bytes(mode.cache_context),
            clock::bytes(mode.scratch),
            mode.context_fits,
        );
        if mode.cache_fixed > 0 {
            let fixed = clock::bytes(mode.cache_fixed);
            let _ = writeln!(
                text,
                "             and at most {fixed} of cache for each sequence, with all places that it can come back to"
            );
        }
    }
}

/// Weights by the thousand million.
#[allow(clippy::cast_precision_loss, reason = "rounded to two digits anyway")]
pub(super) fn counted(weights: u64) -> String {
    match weights {
        0..1_000_000 => weights.to_string(),
        1_000_000..1_000_000_000 => format!("{:.1} million", weights as f64 / 1e6),
        _ => format!("{:.2} thousand million", weights as f64 / 1e9),
    }
}
