//! `demolish model list|info|logits`

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use engine::{Compute, LoadOptions, TokenId};
use serde_json::{Value as Json, json};

use super::{Exit, Failure, Outcome};
use crate::config::{self, Layers, read};
use crate::model::{self, Role};

/// Look at models: which there are, what one is, what it computes
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  demolish model list\n  demolish model info --model DIR --json\n  demolish model logits --model DIR --tokens 1,2,3 --json"
)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the models that Demolish would find, the one that it uses first
    #[command(after_help = "Example:\n  demolish model list --json")]
    List {
        /// Print an array of {path, architecture, bytes, used, role, error}
        #[arg(long)]
        json: bool,
    },
    /// Load a model and print what it is
    #[command(after_help = "Example:\n  demolish model info --model ~/models/Qwen3-30B-A3B-4bit")]
    Info {
        #[command(flatten)]
        which: Which,
        /// Print an object
        #[arg(long)]
        json: bool,
    },
    /// Print the logits of the position after the tokens, computed in mlx-lm's order of operations
    #[command(
        after_help = "Example:\n  demolish model logits --model DIR --tokens 1,2,3 --json | jq '.logits | length'"
    )]
    Logits {
        #[command(flatten)]
        which: Which,
        /// The tokens' numbers, separated by commas
        #[arg(long, value_delimiter = ',', required = true, value_name = "1,2,3")]
        tokens: Vec<TokenId>,
        /// Use the daemon's arithmetic (dequantized weights, BLAS) instead of mlx-lm's
        #[arg(long)]
        fast: bool,
        /// The logits after each of the tokens, not after the last one alone
        #[arg(long)]
        all: bool,
        /// Print {"logits": […]} (with --all an array per token) instead of the likeliest tokens
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The model's directory [default: the one that the settings name]
    #[arg(value_name = "DIR", conflicts_with = "model")]
    dir: Option<PathBuf>,
    /// The same
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
}

impl Which {
    fn named(&self) -> Option<&Path> {
        self.dir.as_deref().or(self.model.as_deref())
    }

    fn dir(&self) -> Result<PathBuf, Failure> {
        match self.named() {
            Some(dir) => Ok(dir.to_owned()),
            None => model::find(&settings()).map_err(Failure::missing),
        }
    }

    fn load(&self, compute: Compute) -> Result<engine::Engine, Failure> {
        let options = LoadOptions { compute, ..model::options(&settings()) };
        model::load(&self.dir()?, options).map_err(|reason| match self.named() {
            Some(_) => Failure::bad(reason),
            None => Failure::missing(reason),
        })
    }
}

fn settings() -> config::Model {
    read::load(&Layers::of_process(None)).config.model
}

pub(super) fn run(args: &Args) -> Outcome {
    match &args.what {
        What::List { json } => list(*json),
        What::Info { which, json } => info(which, *json),
        What::Logits { which, tokens, fast, all, json } => {
            let compute = if *fast { Compute::Fast } else { Compute::Parity };
            if *all {
                all_logits(which, tokens, compute, *json)
            } else {
                logits(which, tokens, compute, *json)
            }
        }
    }
}

fn list(json: bool) -> Outcome {
    let settings = settings();
    let used = model::find(&settings);
    let agent = settings.agent_path.is_some().then(|| model::find_for(&settings, Role::Agent));
    let role = |dir: &Path| {
        let is = |found: Option<&PathBuf>| found.is_some_and(|found| found == dir);
        if is(used.as_ref().ok()) {
            Some("typing")
        } else if is(agent.as_ref().and_then(|agent| agent.as_ref().ok())) {
            Some("agent")
        } else {
            None
        }
    };
    let rows: Vec<Json> =
        model::places(&settings).iter().map(|dir| described(dir, role(dir))).collect();
    if json {
        super::print_json(&Json::Array(rows));
    } else {
        let mut text = String::new();
        for row in &rows {
            let mark = if row["used"] == true { "*" } else { " " };
            let what = row["error"].as_str().or(row["architecture"].as_str()).unwrap_or("?");
            let role = row["role"].as_str().map(|role| format!("  ({role})")).unwrap_or_default();
            let path = row["path"].as_str().unwrap_or_default();
            let _ = writeln!(text, "{mark} {path}  {what}{role}");
        }
        super::print(&text);
    }
    match used.and(agent.unwrap_or_else(|| Ok(PathBuf::new()))) {
        Ok(_) => Ok(Exit::Done),
        Err(reason) => Err(Failure::missing(reason)),
    }
}

/// What can be said of a model's folder without loading it.
fn described(dir: &Path, role: Option<&str>) -> Json {
    let config =
        std::fs::read_to_string(dir.join("config.json")).map_err(|error| error.to_string());
    let config = config
        .and_then(|text| serde_json::from_str::<Json>(&text).map_err(|error| error.to_string()));
    let bytes: u64 = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            entry.path().extension().is_some_and(|extension| extension == "safetensors")
        })
        .filter_map(|entry| entry.metadata().ok())
        .map(|meta| meta.len())
        .sum();
    json!({
        "path": dir,
        "used": role.is_some(),
        "role": role,
        "architecture": config.as_ref().ok().map(|config| config["model_type"].clone()),
        "bytes": bytes,
        "error": config.err().map(|error| format!("config.json: {error}")),
    })
}

fn info(which: &Which, json: bool) -> Outcome {
    let engine = which.load(Compute::Auto)?;
    let info = serde_json::to_value(engine.info()).map_err(Failure::bad)?;
    if json {
        super::print_json(&info);
    } else {
        let rows = info.as_object().into_iter().flatten();
        super::print(&rows.map(|(name, value)| format!("{name}: {value}\n")).collect::<String>());
    }
    Ok(Exit::Done)
}

fn logits(which: &Which, tokens: &[TokenId], compute: Compute, json: bool) -> Outcome {
    let engine = which.load(compute)?;
    let logits = super::block_on(engine.logits(tokens.to_vec()))?.map_err(Failure::bad)?;
    if json {
        super::print_json(&json!({"logits": logits}));
        return Ok(Exit::Done);
    }
    let mut ranked: Vec<(usize, f32)> = logits.into_iter().enumerate().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut text = String::new();
    for (token, logit) in ranked.into_iter().take(10) {
        let shown = TokenId::try_from(token)
            .map(|token| engine.tokenizer().decode(&[token]))
            .unwrap_or_default();
        let _ = writeln!(text, "{logit:>10.4}  {token:>7}  {shown:?}");
    }
    super::print(&text);
    Ok(Exit::Done)
}

#[cfg(not(feature = "mlx"))]
fn all_logits(_: &Which, _: &[TokenId], _: Compute, _: bool) -> Outcome {
    Err(Failure::missing("this build has no MLX backend"))
}

/// The logits of every position, computed in one pass where the model's chunks allow it.
#[cfg(feature = "mlx")]
fn all_logits(which: &Which, tokens: &[TokenId], compute: Compute, json: bool) -> Outcome {
    let options = LoadOptions { compute, ..model::options(&settings()) };
    let mut model = engine::Bare::load(&which.dir()?, options).map_err(Failure::bad)?;
    let logits = model.feed(tokens).map_err(Failure::bad)?;
    let rows: Vec<&[f32]> = logits.chunks(model.vocabulary()).collect();
    if json {
        super::print_json(&json!({"logits": rows}));
        return Ok(Exit::Done);
    }
    let likeliest =
        |row: &&[f32]| row.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
    let mut text = String::new();
    for (token, (next, logit)) in tokens.iter().zip(rows.iter().filter_map(likeliest)) {
        let _ = writeln!(text, "after {token:>7}: {next:>7} with {logit:.4}");
    }
    super::print(&text);
    Ok(Exit::Done)
}
