//! `demolish bench NAME`

use std::path::PathBuf;

use clap::Subcommand;

use super::{Exit, Failure, Outcome};
use crate::bench::conformance::{self, RULES_MAX, Subject, Wanted};
use crate::bench::report::Report;
use crate::bench::{
    copy, decode, echo, engine, faults, load, nano, playback, proxy, record, replay, retrieval,
    soak, speculate, steer, verdicts,
};

/// Measure this machine: what the proxy adds, how long a suggestion takes, how fast the model is
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  demolish bench proxy
  demolish bench steer --json | jq '.rows[] | select(.metric == \"suggestion_p50\")'

Exits with 1 when a goal is missed. Measure with a release build, on a machine that does nothing else.")]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// One client and one echoing server, directly and through shim and daemon: latency, integrity, memory
    #[command(after_help = "Example:\n  demolish bench proxy --json")]
    Proxy(Form),
    /// What steering is worth at equal tokens, and what it costs from a keystroke to the answer, with the real model and servers
    Steer(Steer),
    /// How long each language server takes to judge a candidate, as a twin and as a lease of the user's own instance
    #[command(after_help = "Example:\n  demolish bench speculate --json")]
    Speculate(Form),
    /// How far each server's diagnostics can be trusted about programs that are being written: real ones, typed in line by line
    Replay(Replay),
    /// The engine: speed, batches, a keystroke's wait, kept prompts, rewinding, forks, the guard against loops
    #[command(after_help = "Example:\n  DEMOLISH_MODEL=~/models/other demolish bench engine")]
    Engine(Form),
    /// How close decoding comes to the speed of the memory, beside llama.cpp and mlx-lm on the same shapes
    Decode(Decode),
    /// How soon a big model says its first token, in times of reading its files
    Load(Load),
    /// How good a model is at what typing needs, on packages that its training never saw
    Nano(Nano),
    /// The rules of a transparent proxy, against any stdio language-server proxy
    Conformance(Suite),
    /// Servers, daemons and shims are killed, stopped and slowed in mid-traffic: nothing may be lost
    #[command(after_help = "\
Examples:
  demolish bench faults --runs 300
  demolish bench faults --runs 1 --seed 42 --verbose

A run that fails is printed; it is repeated alone by its seed.")]
    Faults(Faults),
    /// Millions of messages between several editors and servers: none may be lost, and nothing may grow
    #[command(after_help = "Example:\n  demolish bench soak --messages 2000000")]
    Soak(Soak),
    /// How long the real language servers take to say something provable of a revision, and whether it is right
    #[command(after_help = "Example:\n  demolish bench verdicts --only ty --json")]
    Verdicts {
        /// Only this server
        #[arg(long, value_name = "NAME")]
        only: Option<String>,
        /// The editor accepts nothing experimental, so that rust-analyzer does not say when it is ready
        #[arg(long)]
        plain: bool,
        #[command(flatten)]
        form: Form,
    },
    /// A workspace of ten thousand files: how long a query takes, and whether it knows the names that come next
    #[command(after_help = "Example:\n  demolish bench retrieval --tree ~/src --json")]
    Retrieval {
        /// The tree [default: the sources of crates, as cargo keeps them]
        #[arg(long, value_name = "FOLDER")]
        tree: Option<PathBuf>,
        #[command(flatten)]
        form: Form,
    },
    /// Records a conversation with a real server into tests/peers
    #[command(hide = true)]
    RecordPeer {
        /// The server
        name: String,
    },
    /// The server that says what was recorded
    #[command(hide = true)]
    ReplayPeer {
        /// The transcript
        file: PathBuf,
    },
    /// The server that says back what it is told
    #[command(hide = true)]
    EchoServer,
    /// The proxy that only copies bytes
    #[command(hide = true)]
    CopyProxy {
        /// The server and its arguments
        #[arg(last = true)]
        server: Vec<std::ffi::OsString>,
    },
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Random models of 1.7 and 0.5 billion parameters are written once (3 GB) and kept for the next run. llama.cpp and mlx-lm are
measured in turns with Demolish, where they are installed (`cargo xtask setup --with llama`, `--only oracle`).

Examples:
  demolish bench decode --json
  demolish bench decode --models /var/tmp/models --svg roofline.svg
  demolish bench decode --quick --discard

Rows without an ending are of the mixture of experts, `_dense` of the dense model.")]
struct Decode {
    /// Tiny models, and no speculation: whether the measurement works, not how fast anything is
    #[arg(long)]
    quick: bool,
    /// The folder of the models [default: one in the folder for temporary files]
    #[arg(long, value_name = "FOLDER")]
    models: Option<PathBuf>,
    /// Remove the models at the end
    #[arg(long)]
    discard: bool,
    /// llama.cpp's llama-bench, if it is not in .tools
    #[arg(long, value_name = "PATH")]
    llama_bench: Option<PathBuf>,
    /// Draw the roofline into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A random model is written, read and loaded three times with nothing of it in memory, and removed.

Examples:
  demolish bench load --json
  demolish bench load --gib 4 --folder /var/tmp")]
struct Load {
    /// The size of the model's files, in GiB
    #[arg(long, value_name = "GIB", default_value_t = 10.0)]
    gib: f64,
    /// The folder that the model is written to [default: the one for temporary files]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The held-out packages are fetched by `daemon/nano/build.sh heldout`. Every figure is of the real engine and the real completion.

Examples:
  demolish bench nano --json
  demolish bench nano --quick --model ~/models/other
  demolish bench nano --compare ~/models/first-edition")]
struct Nano {
    /// Few windows and holes: whether it works, not how good the model is
    #[arg(long)]
    quick: bool,
    /// The model's folder [default: the one that the settings name]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Another model, whose bits per byte are put beside
    #[arg(long, value_name = "DIR")]
    compare: Option<PathBuf>,
    /// The recipe's corpus [default: .tools/nano-data/corpus in the source tree, or .tools/heldout/corpus]
    #[arg(long, value_name = "DIR")]
    corpus: Option<PathBuf>,
    /// Measure nothing: count the n-grams on the recipe's training text, and write daemon/nano/baseline.json
    #[arg(long)]
    keep_baseline: bool,
    /// Write a table of examples, good and bad, into this file
    #[arg(long, value_name = "FILE")]
    examples: Option<PathBuf>,
    /// Measure nothing: fit this on validation packages, and write it into the source tree; with --quick on few
    #[arg(long, value_name = "WHAT")]
    fit: Option<nano::fit::Fitted>,
    /// Write what is fitted here, and not into the source tree
    #[arg(long, value_name = "FILE", requires = "fit")]
    to: Option<PathBuf>,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The packages are fetched by `daemon/nano/build.sh projects`. Policies are learnt on other packages than those that they are judged by.

Examples:
  demolish bench replay --json
  demolish bench replay --language rust --count 40
  demolish bench replay --language python --write")]
struct Replay {
    /// Only this language (repeatable)
    #[arg(long, value_name = "ID")]
    language: Vec<String>,
    /// The folder of the projects [default: .tools/heldout/projects in the source tree]
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
    /// How many programs of each language, at most
    #[arg(long, value_name = "N", default_value_t = 400)]
    count: usize,
    /// Write the policies that follow into grammars/
    #[arg(long)]
    write: bool,
    /// Write all that was said into this file, as lines of JSON
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Type nothing in: learn again from what such a file says
    #[arg(long, value_name = "FILE", conflicts_with = "out")]
    from: Option<PathBuf>,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The packages that the model was not trained on are fetched by `daemon/nano/build.sh projects`. Retries and repairs may spend as many
tokens as steering took in the same hole with the same seed.

Examples:
  demolish bench steer --json
  demolish bench steer --ablation --language python --cases 20 --seeds 2
  demolish bench steer --ablation --out tests/eval/steer.csv")]
struct Steer {
    /// Only the ablation: no keystrokes, no pace
    #[arg(long)]
    ablation: bool,
    /// Only this language (repeatable)
    #[arg(long, value_name = "ID")]
    language: Vec<String>,
    /// How many holes of each language; 0: no ablation
    #[arg(long, value_name = "N", default_value_t = 100)]
    cases: usize,
    /// How many seeds for each hole
    #[arg(long, value_name = "N", default_value_t = 4)]
    seeds: u64,
    /// The model's folder [default: the one that the settings name]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// The folder of the projects [default: .tools/heldout/projects in the source tree]
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
    /// Write every try into this file, as CSV
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, clap::Args)]
struct Soak {
    /// How many messages
    #[arg(long, default_value_t = 200_000)]
    messages: u64,
    /// How many language servers
    #[arg(long, default_value_t = 8)]
    servers: usize,
    /// How many editors
    #[arg(long, default_value_t = 4)]
    editors: usize,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, clap::Args)]
struct Faults {
    /// How many runs
    #[arg(long, default_value_t = 300)]
    runs: u64,
    /// The seed of the first run; the others follow
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many runs at once
    #[arg(long, default_value_t = 4)]
    jobs: usize,
    /// Print what happened in every run
    #[arg(long)]
    verbose: bool,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, clap::Args)]
struct Form {
    /// Print an object: bench, date, machine, commit, rows
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
In COMMAND, `{server}` is replaced by the words of the server's command; `{server-string}` by one word that a shell reads
as that command, `{server-json}` by a JSON array, `{server-program}` by the program alone; `{server2}` and so on by further
servers, for a proxy that takes several. `{dir}` is a fresh folder (HOME, XDG_*), `{port}` a free port.
Without COMMAND: no proxy at all, and Demolish with one server and with two, side by side.

Examples:
  demolish bench conformance
  demolish bench conformance --rule 4.17 -- demolish lsp -- {server}
  demolish bench conformance --name rassumfrassum --json -- rass -- {server}
  demolish bench conformance --beside 'lspmux server' \\
    --file 'config/lspmux/config.toml=listen = [\"127.0.0.1\", {port}]
  connect = [\"127.0.0.1\", {port}]' -- lspmux client --server-path {server-program} -- {server-args}

Exits with 1 when a rule is broken.")]
struct Suite {
    /// Print an object: bench, date, machine, commit, rows (one per rule and proxy)
    #[arg(long)]
    json: bool,
    /// Only this rule, such as 4.17
    #[arg(long, value_name = "RULE", value_parser = rule)]
    rule: Option<u8>,
    /// Print what is checked, and run nothing
    #[arg(long)]
    list: bool,
    /// What the proxy is called in the table
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A command that runs beside the proxy, such as its daemon (repeatable)
    #[arg(long, value_name = "COMMAND")]
    beside: Vec<String>,
    /// The socket, below {dir}, that appears when that command is ready
    #[arg(long, value_name = "PATH")]
    appears: Option<String>,
    /// A file that the proxy reads, below {dir} (repeatable)
    #[arg(long, value_name = "PATH=TEXT", value_parser = file)]
    file: Vec<(String, String)>,
    /// Checks that run at the same time
    #[arg(long, value_name = "N", default_value_t = 2)]
    jobs: usize,
    /// How many seconds an answer may take; more for a slow proxy or a busy machine
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    patience: u64,
    /// Say on stderr how each check ends
    #[arg(long)]
    verbose: bool,
    /// The proxy and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

fn rule(text: &str) -> Result<u8, String> {
    let number = text.strip_prefix("4.").unwrap_or(text).parse().ok();
    number
        .filter(|number| (1..=RULES_MAX).contains(number))
        .ok_or_else(|| format!("there are rules 4.1 to 4.{RULES_MAX}"))
}

fn file(text: &str) -> Result<(String, String), String> {
    let (path, text) = text.split_once('=').ok_or("it has the form PATH=TEXT")?;
    Ok((path.to_owned(), text.to_owned()))
}

fn suite(args: &Suite) -> Outcome {
    if args.list {
        super::print(&conformance::list(args.rule));
        return Ok(Exit::Done);
    }
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("demolish"));
    let subjects = match args.command.first() {
        None => {
            vec![Subject::direct(), Subject::ours(&program), Subject::ours_merged(&program)]
        }
        Some(first) => vec![Subject {
            name: args.name.clone().unwrap_or_else(|| first.clone()),
            command: args.command.clone(),
            besides: args.beside.clone(),
            appears: args.appears.clone(),
            files: args.file.clone(),
            is_pipe: false,
        }],
    };
    let wanted = Wanted {
        rule: args.rule,
        jobs: args.jobs,
        patience: std::time::Duration::from_secs(args.patience),
        talks: args.verbose,
    };
    let found = super::block_on(conformance::run(&subjects, &wanted))?;
    if args.json {
        super::print_json(&serde_json::to_value(&found.report).map_err(Failure::bad)?);
    } else {
        super::print(&found.text);
    }
    Ok(if found.report.holds() { Exit::Done } else { Exit::No })
}

pub(super) fn run(args: &Args) -> Outcome {
    match &args.what {
        What::EchoServer => echo::serve().map(|()| Exit::Done).map_err(Failure::bad),
        What::CopyProxy { server } => {
            copy::serve(server).map(|()| Exit::Done).map_err(Failure::bad)
        }
        What::Proxy(form) => report(form, super::block_on(proxy::run())?),
        What::Speculate(form) => report(form, super::block_on(speculate::run())?),
        What::Steer(args) => measure_steering(args),
        What::RecordPeer { name } => {
            super::print(&super::block_on(record::run(name))?.map_err(Failure::missing)?);
            Ok(Exit::Done)
        }
        What::ReplayPeer { file } => {
            playback::serve(file).map(|()| Exit::Done).map_err(Failure::bad)
        }
        What::Verdicts { only, plain, form } => {
            report(form, super::block_on(verdicts::run(only.as_deref(), *plain))?)
        }
        What::Retrieval { tree, form } => report(form, retrieval::run(tree.as_deref())),
        What::Conformance(args) => suite(args),
        What::Soak(Soak { messages, servers, editors, form }) => {
            let options =
                soak::Options { messages: *messages, servers: *servers, editors: *editors };
            report(form, super::block_on(soak::run(options))?)
        }
        What::Faults(Faults { runs, seed, jobs, verbose, form }) => {
            let options =
                faults::Options { runs: *runs, seed: *seed, jobs: *jobs, verbose: *verbose };
            report(form, super::block_on(faults::run(options))?)
        }
        What::Decode(Decode { quick, models, discard, llama_bench, svg, form }) => {
            let options = decode::Options {
                is_quick: *quick,
                models: models.clone(),
                discards: *discard,
                llama_bench: llama_bench.clone(),
                svg: svg.clone(),
            };
            report(form, super::block_on(decode::run(&options))?)
        }
        What::Load(Load { gib, folder, form }) => {
            const GIB: f64 = (1u64 << 30) as f64;
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "what is below 0 or beyond all disks becomes the nearest number, and is refused for want of room"
            )]
            let options = load::Options { bytes: (gib * GIB) as u64, folder: folder.clone() };
            report(form, super::block_on(load::run(&options))?)
        }
        What::Replay(args) => measure_replay(args),
        What::Engine(form) => report(form, super::block_on(engine::run())?),
        What::Nano(args) => measure_nano(args),
    }
}

fn measure_steering(args: &Steer) -> Outcome {
    let Steer { ablation, language, cases, seeds, model, programs, out, form } = args;
    let options = steer::Options {
        languages: language.clone(),
        cases: *cases,
        seeds: *seeds,
        model: model.clone(),
        programs: programs.clone(),
        out: out.clone(),
        only_ablation: *ablation,
    };
    report(form, super::block_on(steer::run(&options))?)
}

fn measure_replay(args: &Replay) -> Outcome {
    let Replay { language, programs, count, write, out, from, form } = args;
    let options = replay::Options {
        languages: language.clone(),
        programs: programs.clone(),
        count: *count,
        writes: *write,
        out: out.clone(),
        from: from.clone(),
    };
    report(form, super::block_on(replay::run(&options))?)
}

fn measure_nano(args: &Nano) -> Outcome {
    let Nano { quick, model, compare, corpus, keep_baseline, examples, fit, to, form } = args;
    let options = nano::Options {
        is_quick: *quick,
        model: model.clone(),
        compare: compare.clone(),
        corpus: corpus.clone(),
        examples: examples.clone(),
        to: to.clone(),
    };
    let said = match fit {
        Some(what) => super::block_on(nano::fit(&options, *what))?,
        None if *keep_baseline => nano::keep_baseline(&options),
        None => return report(form, super::block_on(nano::run(&options))?),
    };
    super::print(&format!("{}\n", said.map_err(Failure::missing)?.trim_end()));
    Ok(Exit::Done)
}

fn report(form: &Form, measured: Result<Report, String>) -> Outcome {
    let report = measured.map_err(Failure::missing)?;
    if form.json {
        super::print_json(&serde_json::to_value(&report).map_err(Failure::bad)?);
    } else {
        super::print(&report.text());
    }
    Ok(if report.holds() { Exit::Done } else { Exit::No })
}
