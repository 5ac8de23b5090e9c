//! `demolish model list|info|pull|verify|bench|quantize|logits|serve-path|remove`

mod info;
mod list;
mod logits;
pub(super) mod meter;
mod pull;
mod quantize;
mod remote;
mod serve_path;
mod verify;

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Subcommand};
use engine::{Compute, TokenId};
use serde_json::json;

use super::{Failure, Outcome, print_json};
use crate::config::{self, Layers, read};
use crate::model;

/// Models: which there are, what one is; bring, check, measure, pack and remove them
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Where a verb takes a model, that is a folder, or a name that `demolish model list` shows.\n\nExamples:\n  demolish model list\n  demolish model pull org/name && demolish model verify org/name\n  demolish model quantize ~/models/name ~/models/name-4bit\n  mlx_lm.server --model \"$(demolish model serve-path name)\""
)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the models on this machine, what they are, whether they fit into memory, and which are used
    #[command(
        after_help = "Looked at are the settings' models, the default one, what was pulled, `model.folders`, and the cache that other programs share ($HF_HOME).\n\nExample:\n  demolish model list --json | jq -r '.[] | select(.fits) | .name'"
    )]
    List {
        /// Print an array of {name, path, origin, architecture, parameters, quantization, bytes, fits, complete, used, roles, error}
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
    Pull(pull::Args),
    /// Look a model over: checksums, tensors, NaN, tokenizer, chat template, and a few tokens through all of it
    #[command(
        after_help = "Examples:\n  demolish model verify org/name\n  demolish model verify ~/models/name --json | jq -s '.[-1].whole'\n\nExits with 0 when the model is whole, 1 when it is not, 2 when there is none, 3 when something could not be checked here (it does not fit into memory)."
    )]
    Verify {
        #[command(flatten)]
        which: Which,
        /// Print an object for each check, and the verdict as the last one
        #[arg(long)]
        json: bool,
    },
    /// Measure one model: load, prefill, decode, four sequences at once, memory
    #[command(
        after_help = "Example:\n  demolish model bench ~/models/name --json | jq '.rows[]'\n\nMeasure with a release build, on a machine that does nothing else."
    )]
    Bench {
        #[command(flatten)]
        which: Which,
        /// Print an object: bench, date, machine, commit, rows
        #[arg(long)]
        json: bool,
    },
    Quantize(quantize::Args),
    /// Print the absolute path of a model for another server, if the model is whole
    #[command(
        after_help = "Examples:\n  mlx_lm.server --model \"$(demolish model serve-path org/name)\"\n  demolish model serve-path name --json\n\nExits with 1, and says why, when the model is not whole."
    )]
    ServePath {
        /// The model's directory or name [default: the one that the settings name]
        #[arg(value_name = "DIR|NAME")]
        model: Option<PathBuf>,
        /// Print {path, complete, reason}
        #[arg(long)]
        json: bool,
    },
    /// Remove a model that `pull` brought, after asking
    #[command(after_help = "Example:\n  demolish model remove org/name")]
    Remove {
        /// The model's directory or name
        #[arg(value_name = "DIR|NAME")]
        model: PathBuf,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The model's directory or name [default: the one that the settings name]
    #[arg(value_name = "DIR|NAME", conflicts_with = "model")]
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
            // What is no name of a model either is refused with the words of whoever looks at folders.
            Some(asked) => Ok(model::shelf::resolve(&settings(), asked)
                .map_or_else(|_| asked.to_owned(), |place| place.dir)),
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
    let outcome = choose(args);
    if let Err(failure) = &outcome
        && let Some(object) = args.what.failed(failure)
    {
        print_json(&object);
    }
    outcome
}

impl What {
    /// Whoever reads objects is told of a failure in one, too; where they have a word for what happened, it has one. A list has printed
    /// its own by then.
    fn failed(&self, failure: &Failure) -> Option<serde_json::Value> {
        let error = &failure.message;
        match self {
            What::Pull(pull::Args { json: true, .. })
            | What::Quantize(quantize::Args { json: true, .. }) => {
                Some(json!({"event": "failed", "error": error}))
            }
            What::Info { json: true, .. }
            | What::Verify { json: true, .. }
            | What::Bench { json: true, .. }
            | What::ServePath { json: true, .. }
            | What::Logits { json: true, .. } => Some(json!({"error": error})),
            _ => None,
        }
    }
}

fn choose(args: &Args) -> Outcome {
    match &args.what {
        What::Info { remote: Some(url), json, .. } => remote::run(url, *json),
        What::Info { which, context, kv_bits, json, remote: None } => {
            info::run(which, *context, *kv_bits, *json)
        }
        What::List { json } => list::run(*json),
        What::Pull(args) => pull::run(args),
        What::Verify { which, json } => verify::run(which, *json),
        What::Bench { which, json } => verify::bench(which, *json),
        What::ServePath { model, json } => serve_path::serve_path(model.as_deref(), *json),
        What::Remove { model, yes } => serve_path::remove(model, *yes),
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn a_failure_under_json_is_an_object() {
        let object = |line: &str| {
            let line = Line::try_parse_from(line.split(' ')).map_err(|error| error.to_string());
            line.unwrap().args.what.failed(&Failure::bad("it is broken"))
        };
        let named = json!({"event": "failed", "error": "it is broken"});
        let plain = json!({"error": "it is broken"});
        for (line, wanted) in [
            ("model pull org/name --json", &named),
            ("model quantize a b --json", &named),
            ("model logits dir --tokens 1 --json", &plain),
            ("model verify dir --json", &plain),
            ("model info dir --json", &plain),
        ] {
            assert_eq!(object(line).as_ref(), Some(wanted), "{line}");
            assert_eq!(object(&line.replace(" --json", "")), None, "{line}");
        }
    }
}
