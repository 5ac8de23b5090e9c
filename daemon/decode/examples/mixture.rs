//! Fits the weights of the mixture on packages that are kept for it, or measures what it gains on others.
//!
//! Every package is a workspace: all of its files but the one with the hole. Holes are rests of lines that begin with a name.
//!
//! ```text
//! cargo build --release -p engine -p decode --example mixture
//! target/release/examples/mixture MODEL CORPUS valid HOLES daemon/recall/data/mixture.toml    fits
//! target/release/examples/mixture MODEL CORPUS heldout HOLES                                  measures
//! ```
#![allow(clippy::print_stdout, reason = "it is a program of the command line")]

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use decode::score::{Scored, samples, score};
use decode::{Around, CompleteRequest, Mixing, Workspace};
use engine::{Engine, LoadOptions};
use recall::cache::weights::{Sample, Weights};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Files of a package that is a workspace; packages with fewer say nothing of workspaces.
const FILES: std::ops::RangeInclusive<usize> = 4..=400;
/// Holes of one package.
const TARGETS_MAX: usize = 200;
/// Shorter files are left out.
const BYTES_MIN: usize = 600;
/// Bytes of a hole.
const HOLE_BYTES: std::ops::RangeInclusive<usize> = 4..=160;

/// Paths and texts.
type Files = Vec<(String, Arc<str>)>;

struct Package {
    language: String,
    files: Files,
    workspace: OnceCell<Arc<Workspace>>,
}

/// A hole in a file.
struct Hole {
    offset: usize,
    middle: String,
    name_len: usize,
}

/// What was counted.
#[derive(Default, Clone)]
struct Tally {
    bytes: usize,
    tokens: usize,
    holes: usize,
    bits: [f64; 2],
    next: [usize; 2],
    names: [usize; 2],
    lines: [usize; 2],
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, corpus, split, holes, rest @ ..] = &arguments[..] else {
        return Err("usage: mixture MODEL CORPUS SPLIT HOLES [TABLE]".into());
    };
    let engine = Engine::load(Path::new(model), LoadOptions::AUTO)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(run(&engine, Path::new(corpus), split, holes.parse()?, rest.first()))
}

async fn run(
    engine: &Engine,
    corpus: &Path,
    split: &str,
    holes: usize,
    table: Option<&String>,
) -> Outcome<()> {
    let packages = packages(corpus, split)?;
    let languages =
        packages.iter().map(|one| &one.language).collect::<std::collections::BTreeSet<_>>();
    let each = holes.div_ceil(languages.len().max(1));
    let mut random = Random(7);
    let mut all: Vec<Sample> = Vec::new();
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    let (mut fed, mut positions) = (Duration::ZERO, 0u32);
    for _ in 0..TARGETS_MAX {
        for package in &packages {
            let tally = tallies.entry(package.language.clone()).or_default();
            if tally.holes >= each {
                continue;
            }
            let at = random.below(package.files.len());
            let (path, text) = &package.files[at];
            let Some(hole) = hole(text, &mut random) else { continue };
            let started = Instant::now();
            let request = request(engine, package, path, text, &hole);
            fed += started.elapsed();
            if table.is_some() {
                let found = samples(engine, request, &hole.middle).await?;
                all.extend(found.into_iter().filter_map(|(_, sample)| sample));
                tally.holes += 1;
                continue;
            }
            let alone = CompleteRequest { mixing: None, ..request.clone() };
            let [alone, blended] = [
                score(engine, alone, &hole.middle).await?,
                score(engine, request, &hole.middle).await?,
            ];
            positions += blended.len() as u32;
            tally.add(engine, &hole, [&alone, &blended]);
        }
    }
    if let Some(table) = table {
        let weights = Weights::fit(&all);
        let (alone, blended) = weights.nats(&all);
        println!("{} positions: {alone:.4} nats alone, {blended:.4} blended", all.len());
        #[allow(clippy::disallowed_methods, reason = "the table is what it is for")]
        std::fs::write(table, weights.written())?;
        return Ok(());
    }
    println!("workspaces fed in {:.1} s; {positions} positions", fed.as_secs_f64());
    let mut total = Tally::default();
    for (language, tally) in &tallies {
        tally.print(language);
        total.join(tally);
    }
    total.print("all");
    Ok(())
}

fn packages(corpus: &Path, split: &str) -> Outcome<Vec<Package>> {
    let mut found: BTreeMap<(String, String), Files> = BTreeMap::new();
    for entry in std::fs::read_dir(corpus)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(language) = name.strip_suffix(&format!(".{split}.jsonl")) else { continue };
        for line in std::fs::read_to_string(&path)?.lines() {
            let row: serde_json::Value = serde_json::from_str(line)?;
            let field = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
            let files = found.entry((language.to_owned(), field("package"))).or_default();
            files.push((field("path"), field("text").into()));
        }
    }
    let packages = found.into_iter().filter(|(_, files)| FILES.contains(&files.len()));
    Ok(packages
        .map(|((language, _), files)| Package { language, files, workspace: OnceCell::new() })
        .collect())
}

/// A rest of a line that begins with a name.
fn hole(text: &Arc<str>, random: &mut Random) -> Option<Hole> {
    if text.len() < BYTES_MIN {
        return None;
    }
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = text.as_bytes();
    for _ in 0..200 {
        let at = text.len() / 5 + random.below(text.len() * 4 / 5);
        let starts = at > 0 && bytes[at].is_ascii_alphabetic() && !is_word(bytes[at - 1]);
        if !starts {
            continue;
        }
        let line = text[..at].rfind('\n').map_or(0, |line| line + 1);
        let end = text[at..].find('\n').map_or(text.len(), |end| at + end);
        let before = text[line..at].trim_start();
        let is_comment = ["//", "#", "*", "--", "/*"].iter().any(|sign| before.contains(sign));
        let name_len = bytes[at..].iter().take_while(|byte| is_word(**byte)).count();
        if !is_comment && name_len > 2 && HOLE_BYTES.contains(&(end - at)) {
            return Some(Hole { offset: at, middle: text[at..end].to_owned(), name_len });
        }
    }
    None
}

fn request(
    engine: &Engine,
    package: &Package,
    path: &str,
    text: &str,
    hole: &Hole,
) -> CompleteRequest {
    let workspace = package.workspace.get_or_init(|| {
        let workspace = Arc::new(Workspace::default());
        // The copy of the file with the hole is left out by its name.
        package.files.iter().for_each(|(path, text)| workspace.insert(&engine.words(), path, text));
        workspace
    });
    let workspace = workspace.clone();
    let end = hole.offset + hole.middle.len();
    let text: Arc<str> = [&text[..hole.offset], &text[end..]].concat().into();
    let around = Arc::new(Around::default());
    if let Some(unread) = around.of(&engine.words(), &text, hole.offset).1 {
        unread.read(&engine.words());
    }
    let mut request = CompleteRequest::typing(path.into(), text.clone(), hole.offset);
    request.lookup = around.of(&engine.words(), &text, hole.offset).0;
    request.mixing = Some(Mixing { workspace: Some(workspace), key: path.into() });
    request
}

impl Tally {
    fn add(&mut self, engine: &Engine, hole: &Hole, scored: [&[Scored]; 2]) {
        let ends = engine.tokenizer().eos();
        self.holes += 1;
        self.bytes += hole.middle.len();
        self.tokens += scored[0].iter().filter(|one| !ends.contains(&one.token)).count();
        for (index, all) in scored.into_iter().enumerate() {
            let is_right = |one: &Scored| one.likeliest == one.token;
            let (mut at, mut name, mut line) = (0, true, true);
            for one in all {
                let is_end = ends.contains(&one.token);
                if !is_end {
                    self.bits[index] -= f64::from(one.logprob) / std::f64::consts::LN_2;
                    self.next[index] += usize::from(is_right(one));
                    name &= at >= hole.name_len || is_right(one);
                }
                line &= is_right(one);
                at += engine.tokenizer().token_bytes(one.token).len();
            }
            self.names[index] += usize::from(name);
            self.lines[index] += usize::from(line);
        }
    }

    fn join(&mut self, other: &Tally) {
        self.bytes += other.bytes;
        self.tokens += other.tokens;
        self.holes += other.holes;
        for index in 0..2 {
            self.bits[index] += other.bits[index];
            self.next[index] += other.next[index];
            self.names[index] += other.names[index];
            self.lines[index] += other.lines[index];
        }
    }

    fn print(&self, name: &str) {
        let Tally { bytes, tokens, holes, bits, next, names, lines } = self;
        let share = |count: usize, of: usize| 100.0 * count as f64 / of.max(1) as f64;
        println!(
            "{name:12} {holes:5} holes  bits/byte {:.3} -> {:.3} ({:+.1} %)  next {:.1} -> {:.1} %  name {:.1} -> {:.1} %  line {:.1} -> {:.1} %",
            bits[0] / *bytes as f64,
            bits[1] / *bytes as f64,
            100.0 * (bits[1] / bits[0] - 1.0),
            share(next[0], *tokens),
            share(next[1], *tokens),
            share(names[0], *holes),
            share(names[1], *holes),
            share(lines[0], *holes),
            share(lines[1], *holes),
        );
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) as usize % end.max(1)
    }
}
