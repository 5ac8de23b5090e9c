//! What speculation gains and what it costs, over workloads that suit it and others that do not.
//!
//! Every job of a workload is run with and without, in turn, in one process and on one engine, from a prompt that is read already: what
//! disturbs the machine for longer than a job disturbs both. Rounds are compared, and the median of their ratios counts. What is written is either up to the model, or a text that a constraint holds it to: then the model computes as much as
//! ever, and the text is the same whatever the model is.

mod workloads;

use std::sync::Arc;
use std::time::Instant;

use engine::{
    Class, Constraint, DRAFT_SOURCES, Engine, Fork, Guard, Job, Limits, Sampling, Speculation,
    TokenId,
};
use workloads::{Workload, workloads};

use crate::bench::report::{Row, Samples};

/// How often each is run in each mode; one more round goes before.
const ROUNDS: usize = 31;
/// Less than this of plain decoding is a loss.
const WORST: f64 = 0.97;
/// Edits that copy have to gain so much.
const COPY: f64 = 1.5;

/// One row per workload, the least ratio of all of them to plain decoding, and that of the edits that copy.
pub(in crate::bench) async fn rows(engine: &Engine) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    let (mut worst, mut copy) = ((f64::INFINITY, ""), (f64::INFINITY, ""));
    let all = workloads(engine);
    for workload in &all {
        let ratio = measure(engine, workload, &mut rows).await?;
        if ratio < worst.0 {
            worst = (ratio, workload.name);
        }
        if workload.is_copy && ratio < copy.0 {
            copy = (ratio, workload.name);
        }
    }
    let mut row = Row::new("speculation_worst", worst.0, "× plain decoding").at_least(WORST);
    row.note = Some(format!("of {} workloads, {}", all.len(), worst.1));
    rows.push(row);
    let mut row = Row::new("speculation_copy", copy.0, "× plain decoding").at_least(COPY);
    row.note = Some(format!("the least of the edits that copy, {}", copy.1));
    rows.push(row);
    Ok(rows)
}

/// How many times as fast as plain decoding a workload is.
async fn measure(engine: &Engine, workload: &Workload, rows: &mut Vec<Row>) -> Result<f64, String> {
    let mut ratios = Samples::default();
    let mut unlike = 0;
    let before = engine.stats();
    for round in 0..=ROUNDS {
        let (mut plain, mut speculating) = ((0.0, Vec::new()), (0.0, Vec::new()));
        for job_index in 0..workload.jobs {
            let mut pair = [(Speculation::Off, &mut plain), (Speculation::On, &mut speculating)];
            if (round + job_index) % 2 == 1 {
                pair.reverse();
            }
            for (mode, (seconds, tokens)) in pair {
                let started = Instant::now();
                tokens.extend(run(engine, workload, mode, round, job_index).await?);
                *seconds += started.elapsed().as_secs_f64();
            }
        }
        // Where rows change each other's last bits, two tokens that are as likely as each other may change places: no comparison then.
        if plain.1 != speculating.1 {
            unlike += 1;
        } else if round > 0 {
            ratios.push(plain.0 / speculating.0);
        }
    }
    if ratios.is_empty() {
        return Err(format!("{}: no two runs wrote the same", workload.name));
    }
    let ratio = ratios.quantile(0.5);
    let after = engine.stats();
    let sources = DRAFT_SOURCES.iter().enumerate();
    let drafts = sources.map(|(index, source)| {
        let accepted = after.accepted[index] - before.accepted[index];
        format!("{source} {accepted} of {}", after.drafted[index] - before.drafted[index])
    });
    let mut row = Row::new(&format!("speculation_{}", workload.name), ratio, "× plain decoding");
    let mut note = format!("drafts that were right: {}", drafts.collect::<Vec<_>>().join(", "));
    if unlike > 0 {
        note += &format!("; {unlike} rounds of {} wrote other tokens", ROUNDS + 1);
    }
    row.note = Some(note);
    rows.push(row);
    Ok(ratio)
}

/// A job of a workload, and what is written beside it, one behind the other.
async fn run(
    engine: &Engine,
    workload: &Workload,
    mode: Speculation,
    round: usize,
    job_index: usize,
) -> Result<Vec<TokenId>, String> {
    let mut sequences = Vec::new();
    for beside in 0..workload.beside {
        let job = job(workload, mode, (round, job_index, beside));
        sequences.push(engine.submit(job).map_err(|error| error.to_string())?);
    }
    if workload.forks > 0 {
        let forks = (0..workload.forks).map(|seed| Fork { seed, constraint: None }).collect();
        let forks = sequences[0].fork(forks).map_err(|error| error.to_string())?;
        sequences.extend(forks);
    }
    let mut tokens = Vec::new();
    for sequence in &mut sequences {
        while let Some(step) = sequence.next().await.map_err(|error| error.to_string())? {
            tokens.push(step.token);
        }
    }
    Ok(tokens)
}

fn job(workload: &Workload, mode: Speculation, place: (usize, usize, usize)) -> Job {
    let (round, job_index, beside) = place;
    let constraint = workload.script.as_ref().map(|script| {
        // Others beside it write the same from elsewhere on.
        let start = (beside * 31 + job_index * workload.tokens as usize) % script.len().max(1);
        // Plain decoding does not know that anything is forced.
        let forces = if mode == Speculation::Off { Arc::from([]) } else { workload.forces.clone() };
        let constraint: Box<dyn Constraint> =
            Box::new(Script { text: script.clone(), start, forces });
        constraint
    });
    // Both modes of a round draw the same.
    let seed = (round * 100 + job_index * 10 + beside) as u64;
    Job {
        prompt: workload.prompt.clone(),
        constraint,
        sampling: Sampling { guard: Guard::Off, seed, ..workload.sampling.clone() },
        limits: Limits {
            tokens_max: workload.tokens,
            stop: Vec::new(),
            ahead_max: workload.tokens,
        },
        class: Class::Agent,
        soul: None,
        mixture: None,
        lookup: workload.lookup.clone(),
        speculation: mode,
    }
}

/// Holds the model to a text.
struct Script {
    text: Arc<[TokenId]>,
    start: usize,
    /// The tokens that it says it forces, by their place in the text; empty: it says nothing.
    forces: Arc<[bool]>,
}

impl Script {
    fn place(&self, position: usize) -> usize {
        (self.start + position) % self.text.len()
    }
}

impl Constraint for Script {
    fn apply(&mut self, tape: &[TokenId], logits: &mut [f32]) {
        let token = self.text[self.place(tape.len())] as usize;
        let logit = logits[token];
        logits.fill(f32::NEG_INFINITY);
        logits[token] = logit;
    }

    fn forced(&mut self, tape: &[TokenId]) -> Vec<TokenId> {
        let places = (tape.len()..tape.len() + self.text.len()).map(|at| self.place(at));
        let forced = places.take_while(|&place| self.forces.get(place).is_some_and(|&is| is));
        forced.map(|place| self.text[place]).collect()
    }
}
