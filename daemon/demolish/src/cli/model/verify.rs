//! `demolish model verify`: looks a model over, from its checksums to a few tokens.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use engine::{ChatError, ChatMessage, Engine, LoadError, LoadOptions, Survey, TokenId};
use serde_json::{Value as Json, json};

use super::super::{Exit, Failure, Outcome, block_on, clock, print, print_json};
use super::meter::{Meter, loading};
use super::{Which, settings};
use crate::model::hub::manifest::{self, Manifest};
use crate::model::hub::sha256;
use crate::model::{self, shelf};

/// A text that every tokenizer has to give back.
const TEXT: &str = "fn main() {\n    println!(\"{}\", 6 * 7);\n}\n";
/// Tokens that the model is run on.
const TOKENS: usize = 8;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Fine,
    /// There is nothing to check.
    Absent,
    /// It is wrong.
    Wrong,
    /// It could not be checked here.
    Unknown,
}

/// One check.
struct Check {
    name: &'static str,
    found: Found,
    said: String,
}

impl Check {
    fn of(name: &'static str, result: Result<String, String>) -> Check {
        let (found, said) = match result {
            Ok(said) => (Found::Fine, said),
            Err(said) => (Found::Wrong, said),
        };
        Check { name, found, said }
    }

    fn json(&self) -> Json {
        let found = match self.found {
            Found::Fine => "fine",
            Found::Absent => "absent",
            Found::Wrong => "wrong",
            Found::Unknown => "unknown",
        };
        json!({"check": self.name, "found": found, "said": self.said})
    }
}

pub(super) fn run(which: &Which, json: bool) -> Outcome {
    let dir = which.dir()?;
    if !dir.is_dir() {
        return Err(which.failed(format!("{}: no such folder", dir.display())));
    }
    let mut meter = Meter::new("verifying", json);
    let mut checks: Vec<Check> = Vec::new();
    let mut note = |meter: &Meter, check: Check| {
        meter.clear();
        if json {
            print_json(&check.json());
        } else {
            let mark = match check.found {
                Found::Fine => "ok  ",
                Found::Absent => "-   ",
                Found::Wrong => "NO  ",
                Found::Unknown => "?   ",
            };
            print(&format!("{mark}{:<10} {}\n", check.name, check.said));
        }
        checks.push(check);
    };
    let check = files(&dir, &mut meter);
    note(&meter, check);
    let options = LoadOptions { compute: engine::Compute::Auto, ..model::options(&settings()) };
    let survey = Engine::survey(&dir, options);
    note(&meter, Check::of("tensors", survey.as_ref().map(described).map_err(ToString::to_string)));
    if let Ok(survey) = &survey {
        let check = numbers(&dir, &mut meter);
        note(&meter, check);
        rest(&dir, survey, options, &mut |check| note(&meter, check));
    }
    let has = |found: Found| checks.iter().any(|check| check.found == found);
    let (exit, verdict) = match (has(Found::Wrong), has(Found::Unknown)) {
        (true, _) => (Exit::No, "the model is not whole"),
        (false, true) => {
            (Exit::Missing, "nothing is wrong, but not everything could be checked here")
        }
        (false, false) => (Exit::Done, "the model is whole"),
    };
    if json {
        print_json(&json!({"verdict": verdict, "whole": exit == Exit::Done, "path": dir}));
    } else {
        print(&format!("{verdict}: {}\n", dir.display()));
    }
    Ok(exit)
}

/// The checksums of the manifest, if there is one.
fn files(dir: &Path, meter: &mut Meter) -> Check {
    if let Some(reason) = shelf::incomplete(dir) {
        return Check::of("files", Err(reason));
    }
    let Some(manifest) = manifest::manifest(dir) else {
        let said = "no demolish.manifest.json, so there are no checksums to compare".to_owned();
        return Check { name: "files", found: Found::Absent, said };
    };
    Check::of("files", checksums(dir, &manifest, meter))
}

fn checksums(dir: &Path, manifest: &Manifest, meter: &mut Meter) -> Result<String, String> {
    let total: u64 = manifest.files.iter().map(|held| held.bytes).sum();
    let mut done = 0;
    for held in &manifest.files {
        let path = dir.join(&held.name);
        let open = File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let sum = sha256(open, &mut |bytes| {
            done += bytes;
            meter.tell(done, total, &held.name);
        });
        let sum = sum.map_err(|error| format!("{}: {error}", path.display()))?;
        if sum != held.sha256 {
            return Err(format!(
                "{} has the checksum {sum}, not {}; remove it and `demolish model pull {}` again",
                held.name, held.sha256, manifest.repo
            ));
        }
    }
    Ok(format!("{} files, {}, as they were pulled", manifest.files.len(), clock::bytes(total)))
}

fn described(survey: &Survey) -> String {
    let info = &survey.info;
    let packing = info.quantization.as_deref().unwrap_or("unpacked");
    let weights = super::info::counted(info.parameters);
    format!("all that {} needs: {weights} weights, {packing}", info.architecture)
}

#[cfg(feature = "mlx")]
fn numbers(dir: &Path, meter: &mut Meter) -> Check {
    let scanned = engine::scan(dir, &mut |done, total, name| meter.tell(done, total, name));
    let said = scanned.map(|scanned| {
        let bytes = clock::bytes(scanned.bytes);
        format!("{} tensors of floats, {bytes}, none with NaN", scanned.tensors)
    });
    Check::of("numbers", said.map_err(|error| error.to_string()))
}

#[cfg(not(feature = "mlx"))]
fn numbers(_: &Path, _: &mut Meter) -> Check {
    let said = "this build has no MLX backend".to_owned();
    Check { name: "numbers", found: Found::Unknown, said }
}

/// What needs the model in memory.
fn rest(dir: &Path, survey: &Survey, options: LoadOptions, note: &mut dyn FnMut(Check)) {
    let tokenizer = engine::Tokenizer::load(dir, &[]);
    let tokenizer = match tokenizer {
        Ok(tokenizer) => tokenizer,
        Err(error) => return note(Check::of("tokenizer", Err(error.to_string()))),
    };
    let tokens = tokenizer.encode(TEXT);
    let back = tokenizer.decode(&tokens);
    let vocabulary = survey.info.vocabulary;
    let beyond = tokens.iter().find(|&&token| token as usize >= vocabulary);
    note(Check::of(
        "tokenizer",
        match beyond {
            Some(token) => {
                Err(format!("token {token} is beyond the {vocabulary} that have logits"))
            }
            None if back != TEXT => Err(format!("{TEXT:?} comes back as {back:?}")),
            None => Ok(format!("{} tokens, and a program comes back as it was", tokenizer.len())),
        },
    ));
    let message = ChatMessage {
        role: "user".to_owned(),
        content: "Hello".to_owned(),
        extra: BTreeMap::new(),
    };
    note(match tokenizer.chat(&[message], &BTreeMap::new()) {
        Ok(prompt) => {
            Check::of("template", Ok(format!("a greeting takes {} tokens", prompt.len())))
        }
        Err(ChatError::Missing) => {
            let said = "none: a model that completes, and does not converse".to_owned();
            Check { name: "template", found: Found::Absent, said }
        }
        Err(error) => Check::of("template", Err(error.to_string())),
    });
    note(forward(dir, &tokens, options));
}

/// A few tokens through the whole model.
fn forward(dir: &Path, tokens: &[TokenId], options: LoadOptions) -> Check {
    let engine = match loading(|watch| Engine::load_watched(dir, options, watch)) {
        Ok(engine) => engine,
        Err(error @ LoadError::TooBig { .. }) => {
            return Check { name: "forward", found: Found::Unknown, said: error.to_string() };
        }
        Err(error) => return Check::of("forward", Err(error.to_string())),
    };
    let tokens: Vec<TokenId> = tokens.iter().copied().take(TOKENS).collect();
    let count = tokens.len();
    let logits = block_on(engine.logits(tokens)).map_err(|failure| failure.message);
    let logits = logits.and_then(|logits| logits.map_err(|error| error.to_string()));
    let finite = |logits: Vec<f32>| match logits.iter().find(|logit| !logit.is_finite()) {
        Some(logit) => Err(format!("a logit behind {count} tokens is {logit}")),
        None => Ok(format!("{} finite logits behind {count} tokens", logits.len())),
    };
    Check::of("forward", logits.and_then(finite))
}

/// The verbs that are about one model and print a report.
pub(super) fn bench(which: &Which, json: bool) -> Outcome {
    use crate::bench::engine::quick::quick;
    let dir = which.dir()?;
    let options = model::options(&settings());
    let report = loading(|watch| block_on(quick(&dir, options, watch)))?;
    let report = report.map_err(|reason| which.failed(reason))?;
    if json {
        print_json(&serde_json::to_value(&report).map_err(Failure::bad)?);
    } else {
        print(&report.text());
    }
    Ok(Exit::Done)
}
