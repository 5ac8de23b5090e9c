//! `demolish model list|info|logits`

mod info;
mod logits;
mod meter;
mod quantize;
mod remote;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Subcommand};
use engine::{Compute, TokenId};
use serde_json::{Value as Json, json};

use super::{Exit, Failure, Outcome};
use crate::config::{self, Layers, read};
use crate::model::{self, Role};

/// Look at models: which there are, what one is, what it computes
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  demolish model list\n  demolish model info DIR --json\n  demolish model logits --model DIR --tokens 1,2,3 --json"
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
    /// Print what a model is and what loading it would take, without loading it
    #[command(
        after_help = "Examples:\n  demolish model info ~/models/Qwen3-30B-A3B-4bit\n  demolish model info DIR --context 32768 --kv-bits 8 --json | jq .memory\n  demolish model info --remote http://host:8080"
    )]
    Info {
        #[command(flatten)]
        which: Which,
        /// Plan for a context of so many tokens; 0: the model's own [default: `model.context_max`]
        #[arg(long, value_name = "TOKENS")]
        context: Option<usize>,
        /// Plan with keys and values packed into 8 or 4 bits; 0: not packed [default: `model.kv_bits`]
        #[arg(long, value_name = "BITS")]
        kv_bits: Option<u8>,
        /// Ask this server instead what it is and what it can do [default: `model.remote_url`]
        #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["dir", "model", "context", "kv_bits"])]
        remote: Option<String>,
        /// Print an object
        #[arg(long)]
        json: bool,
    },
    /// Print the logits of the position after the tokens, computed in mlx-lm's order of operations
    #[command(
        group = ArgGroup::new("prompt").required(true),
        after_help = "Examples:\n  demolish model logits --model DIR --tokens 1,2,3 --json | jq '.logits | length'\n  demolish model logits DIR --from prompt.txt --adapter ADAPTER"
    )]
    Logits {
        #[command(flatten)]
        which: Which,
        /// The tokens' numbers, separated by commas
        #[arg(long, value_delimiter = ',', group = "prompt", value_name = "1,2,3")]
        tokens: Vec<TokenId>,
        /// A file with the tokens' numbers, separated by commas or blanks; `-` is the standard input
        #[arg(long, group = "prompt", value_name = "FILE")]
        from: Option<PathBuf>,
        /// Lay this LoRA adapter over the model
        #[arg(long, value_name = "DIR")]
        adapter: Option<PathBuf>,
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
    Quantize(quantize::Args),
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

    /// A reason why there is no model, as the failure that it is.
    fn failed(&self, reason: String) -> Failure {
        match self.named() {
            Some(_) => Failure::bad(reason),
            None => Failure::missing(reason),
        }
    }
}

fn settings() -> config::Model {
    read::load(&Layers::of_process(None)).config.model
}

pub(super) fn run(args: &Args) -> Outcome {
    match &args.what {
        What::List { json } => list(*json),
        What::Info { remote: Some(url), json, .. } => remote::run(url, *json),
        What::Info { which, context, kv_bits, json, remote: None } => {
            info::run(which, *context, *kv_bits, *json)
        }
        What::Quantize(args) => quantize::run(args),
        What::Logits { which, tokens, from, adapter, fast, all, json } => {
            let compute = if *fast { Compute::Fast } else { Compute::Parity };
            let tokens = logits::tokens(tokens, from.as_deref())?;
            let asked =
                logits::Asked { which, tokens: &tokens, adapter: adapter.as_deref(), compute };
            if *all { logits::all(&asked, *json) } else { logits::last(&asked, *json) }
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
    let path = dir.join("config.json");
    // A pipe would have the verb wait for ever.
    let config = if path.exists() && !path.is_file() {
        Err("not a regular file".to_owned())
    } else {
        std::fs::read_to_string(path).map_err(|error| error.to_string())
    };
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
