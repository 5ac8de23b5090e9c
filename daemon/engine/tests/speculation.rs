//! Speculation changes nothing: whatever is supposed, drawn, banned, forced, cut, forked or dropped, every step is the one that plain
//! decoding gives.

#[path = "support/jobs.rs"]
mod jobs;
#[path = "support/steps.rs"]
mod steps;

use std::sync::{Arc, Mutex, atomic::Ordering};

use engine::{
    Constraint, DRAFT_SOURCES, Engine, Fork, Guard, Job, Mixture, Opinion, Penalty, Sampling,
    Script, Sequence, Speculation, Step, Supposed, TokenId,
};
use jobs::{job, rest};
use proptest::prelude::*;
use steps::block_on;

/// A model that likes to say what it has said before, and sometimes something else, depending on all that it has seen.
fn repeating(seen: &[TokenId]) -> Vec<(TokenId, f32)> {
    let hash = seen.iter().fold(11u32, |hash, token| (hash * 31 + token) % 10_007);
    let last = seen.last().copied().unwrap_or(0);
    let before = seen[..seen.len() - 1].iter().rposition(|&token| token == last);
    let again = before.map_or(98, |at| seen[at + 1]);
    let likes = if hash.is_multiple_of(7) { 0.0 } else { 3.0 };
    let others = (0..6).map(|index| (97 + (hash / 7 + index) % 12, 0.4 * index as f32));
    others
        .chain([(again, likes), (256, if hash.is_multiple_of(53) { 4.0 } else { -9.0 })])
        .collect()
}

/// Bans a token that depends on the tape, and forces three in a row behind every `f`.
#[derive(Default)]
struct Picky {
    /// How many tokens of the tape it has been told of, so that a rewind that it was not told of shows.
    known: usize,
}

impl Picky {
    fn owes(tape: &[TokenId]) -> Vec<TokenId> {
        const FORCED: [TokenId; 3] = [120, 121, 122];
        let since = tape.iter().rev().position(|&token| token == 102);
        FORCED[since.unwrap_or(FORCED.len()).min(FORCED.len())..].to_vec()
    }
}

impl Constraint for Picky {
    fn prepare(&mut self, tape: &[TokenId]) {
        assert!(tape.len() >= self.known, "the tape was cut without a word");
        self.known = tape.len();
    }

    fn apply(&mut self, tape: &[TokenId], logits: &mut [f32]) {
        assert_eq!(tape.len(), self.known, "prepared for another tape");
        let owed = Picky::owes(tape);
        if let Some(&first) = owed.first() {
            let logit = logits[first as usize];
            logits.fill(f32::NEG_INFINITY);
            logits[first as usize] = logit;
        } else {
            logits[97 + tape.iter().sum::<TokenId>() as usize % 12] = f32::NEG_INFINITY;
        }
    }

    fn forced(&mut self, tape: &[TokenId]) -> Vec<TokenId> {
        Picky::owes(tape)
    }

    fn rewound(&mut self, len: usize) {
        self.known = self.known.min(len);
    }
}

/// Says that what came behind the last two tokens of the tape comes again, and that other things may come too; drafts it, with a mistake
/// now and then.
#[derive(Clone, Default)]
struct Echo {
    /// As [`Picky::known`].
    known: usize,
}

impl Echo {
    fn next(tape: &[TokenId]) -> Option<TokenId> {
        let latest = &tape[tape.len().checked_sub(2)?..];
        let at = tape[..tape.len() - 1].windows(2).rposition(|pair| pair == latest)?;
        Some(tape[at + 2])
    }
}

impl Mixture for Echo {
    fn prepare(&mut self, tape: &[TokenId]) {
        assert!(tape.len() >= self.known, "the tape was cut without a word");
        self.known = tape.len();
    }

    fn shares(&mut self, tape: &[TokenId], opinion: Opinion) -> Vec<(TokenId, f32)> {
        assert_eq!(tape.len(), self.known, "prepared for another tape");
        let sum = tape.iter().sum::<TokenId>();
        let any = (97 + sum % 12, 0.1 + 0.2 * (1.0 - opinion.certainty));
        Echo::next(tape).map(|next| (next, 0.55)).into_iter().chain([any]).collect()
    }

    fn draft(&mut self, tape: &[TokenId], len: usize) -> Supposed {
        let mut longer = tape.to_vec();
        for _ in 0..len.min(5) {
            let Some(next) = Echo::next(&longer) else { break };
            let slip = TokenId::from(longer.len().is_multiple_of(11));
            longer.push(next + slip);
        }
        Supposed { tokens: longer[tape.len()..].to_vec(), depth: 2 + tape.len() % 9 }
    }

    fn rewound(&mut self, len: usize) {
        self.known = self.known.min(len);
    }

    fn fork(&self) -> Option<Box<dyn Mixture>> {
        Some(Box::new(Echo::default()))
    }
}

/// What happens to a sequence.
#[derive(Debug, Clone, Copy)]
enum Act {
    Take(usize),
    Back(usize),
    Reseed(u64),
    Fork(u64),
    DropForks,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (1usize..30).prop_map(Act::Take),
        2 => (0usize..12).prop_map(Act::Back),
        1 => (0u64..9).prop_map(Act::Reseed),
        1 => (0u64..9).prop_map(Act::Fork),
        1 => Just(Act::DropForks),
    ];
    prop::collection::vec(act, 1..10)
}

/// How a job is drawn.
#[derive(Debug, Clone)]
struct Manner {
    temperature: f32,
    is_picky: bool,
    is_guarded: bool,
    is_penalised: bool,
    is_mixed: bool,
    ahead_max: u32,
    rigid: bool,
}

fn manners() -> impl Strategy<Value = Manner> {
    let numbers = (prop_oneof![Just(0.0f32), Just(0.7), Just(1.3)], 0u32..20);
    (numbers, any::<[bool; 5]>()).prop_map(|((temperature, ahead_max), flags)| {
        let [is_picky, is_guarded, is_penalised, is_mixed, rigid] = flags;
        Manner { temperature, is_picky, is_guarded, is_penalised, is_mixed, ahead_max, rigid }
    })
}

fn picky(manner: &Manner) -> Option<Box<dyn Constraint>> {
    manner.is_picky.then(|| Box::<Picky>::default() as Box<dyn Constraint>)
}

fn job_in(engine: &Engine, manner: &Manner, lookup: &[TokenId], speculation: Speculation) -> Job {
    let penalty = Penalty { amount: 1.2, ..Sampling::GREEDY.repetition };
    let repetition = if manner.is_penalised { penalty } else { Sampling::GREEDY.repetition };
    let mut job = job(engine, "abcabdabe>", 120);
    job.limits.ahead_max = manner.ahead_max;
    job.constraint = picky(manner);
    job.mixture = manner.is_mixed.then(|| Box::<Echo>::default() as Box<dyn Mixture>);
    job.sampling = Sampling {
        temperature: manner.temperature,
        seed: 5,
        top_len: 3,
        guard: if manner.is_guarded { Guard::On } else { Guard::Off },
        repetition,
        ..Sampling::GREEDY
    };
    job.lookup = vec![Arc::from(lookup)];
    job.speculation = speculation;
    job
}

/// Takes so many steps onto the tape. Which of them were cut by the guard before they were taken depends on who is faster.
async fn take(sequence: &mut Sequence, tape: &mut Vec<Step>, count: usize) {
    for _ in 0..count {
        let Some(mut step) = sequence.next().await.unwrap() else { return };
        tape.truncate(step.position);
        step.rewound_to = None;
        tape.push(step);
    }
}

/// All tapes in the end: of the sequence and of those forks that were not dropped.
async fn walk(engine: &Engine, job: Job, manner: &Manner, acts: &[Act]) -> Vec<Vec<Step>> {
    let mut lines = vec![(engine.submit(job).unwrap(), Vec::new())];
    for act in acts {
        let (sequence, tape) = &mut lines[0];
        match *act {
            Act::Take(count) => {
                take(sequence, tape, count).await;
            }
            Act::Back(len) => {
                tape.truncate(tape.len().saturating_sub(len));
                sequence.rewind(sequence.mark_at(tape.len()));
            }
            Act::Reseed(seed) => sequence.reseed(seed, manner.temperature),
            Act::Fork(seed) => {
                let fork = Fork { seed, constraint: picky(manner) };
                let forks = sequence.fork(vec![fork]).unwrap();
                let tape = tape.clone();
                lines.extend(forks.into_iter().map(|fork| (fork, tape.clone())));
            }
            Act::DropForks => lines.truncate(1),
        }
    }
    for (sequence, tape) in &mut lines {
        take(sequence, tape, 200).await;
    }
    lines.into_iter().map(|(_, tape)| tape).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Steps are the same in every mode, with every kind of cache and whatever happens to the sequence.
    #[test]
    fn every_step_is_that_of_plain_decoding(
        manner in manners(),
        acts in acts(),
        lookup in prop::collection::vec(97u32..109, 0..60),
        has_model: bool,
    ) {
        // Where the guard cuts what was run ahead of, a walk sees one tape or the other: then nothing happens to it.
        let acts = if manner.is_guarded { &[] } else { &acts[..] };
        let script = || {
            let script = Script::new().rule(repeating).speculation(Speculation::Always);
            let script = if manner.rigid { script.rigid() } else { script };
            // It thinks alike most of the time.
            let other = |seen: &[TokenId]| repeating(&seen[seen.len().min(2) / 2..]);
            if has_model { script.drafter(Script::new().rule(other)) } else { script }
        };
        let engine = Engine::scripted(script());
        block_on(async {
            let plain = job_in(&engine, &manner, &lookup, Speculation::Off);
            let expected = walk(&engine, plain, &manner, acts).await;
            let job = job_in(&engine, &manner, &lookup, Speculation::Always);
            let told = walk(&engine, job, &manner, acts).await;
            assert_eq!(told, expected);
        });
    }
}

/// A script that says one long text.
fn reciting(text: &'static str) -> Script {
    Script::new().line(":", text, 0.0)
}

const TEXT: &str =
    "the quick brown fox jumps over the lazy dog and the quick brown fox jumps over the lazy cat";

fn index(source: &str) -> usize {
    DRAFT_SOURCES.iter().position(|&name| name == source).unwrap()
}

#[tokio::test]
async fn a_text_that_is_copied_takes_few_passes() {
    let script = reciting(TEXT).speculation(Speculation::Always);
    let engine = Engine::scripted(script);
    let mut copying = job(&engine, ":", 200);
    copying.limits.ahead_max = 64;
    copying.lookup = vec![engine.tokenizer().encode(TEXT).into()];
    let steps = rest(&mut engine.submit(copying).unwrap()).await;
    assert_eq!(steps.len(), TEXT.len() + 1);
    let stats = engine.stats();
    let text = index("text");
    assert!(stats.ticks < 20, "{stats:?}");
    assert!(stats.accepted[text] > 80 && stats.accepted[text] <= stats.drafted[text], "{stats:?}");
}

#[tokio::test]
async fn a_model_that_thinks_alike_drafts_all_of_it() {
    let drafter = reciting(TEXT);
    let read = drafter.fed();
    let engine = Engine::scripted(reciting(TEXT).drafter(drafter).speculation(Speculation::Always));
    let mut job = job(&engine, &format!("{}:", "x".repeat(200)), 60);
    job.limits.ahead_max = 64;
    rest(&mut engine.submit(job).unwrap()).await;
    let stats = engine.stats();
    let model = index("model");
    assert!(
        stats.accepted[model] > 30 && stats.accepted[model] == stats.drafted[model],
        "{stats:?}"
    );
    assert!(read.load(Ordering::SeqCst) < 290, "it reads the prompt once");
}

/// Allows one text, and says so.
struct Only(Vec<TokenId>);

impl Constraint for Only {
    fn apply(&mut self, tape: &[TokenId], logits: &mut [f32]) {
        let next = self.0[tape.len()];
        let logit = logits[next as usize];
        logits.fill(f32::NEG_INFINITY);
        logits[next as usize] = logit;
    }

    fn forced(&mut self, tape: &[TokenId]) -> Vec<TokenId> {
        self.0[tape.len()..].to_vec()
    }
}

#[tokio::test]
async fn forced_tokens_share_a_pass_also_without_speculation() {
    let engine = Engine::scripted(Script::new().rule(repeating));
    let text = engine.tokenizer().encode(&TEXT[..40]);
    let told = async |constraint: Option<Box<dyn Constraint>>| {
        let mut job = job(&engine, "ab:", 40);
        job.constraint = constraint;
        job.limits.ahead_max = 64;
        let before = engine.stats();
        let steps = rest(&mut engine.submit(job).unwrap()).await;
        (steps, engine.stats().ticks - before.ticks)
    };
    /// The same, but it keeps that to itself.
    struct Silent(Only);
    impl Constraint for Silent {
        fn apply(&mut self, tape: &[TokenId], logits: &mut [f32]) {
            self.0.apply(tape, logits);
        }
    }
    let (expected, passes) = told(Some(Box::new(Silent(Only(text.clone()))))).await;
    assert!(passes >= 40);
    let (steps, passes) = told(Some(Box::new(Only(text.clone())))).await;
    assert_eq!(steps, expected, "also what the model thought of them");
    assert!(passes < 5, "{passes}");
    assert_eq!(engine.stats().accepted[index("forced")], 39);
}

#[tokio::test]
async fn the_rows_of_a_pass_are_shared_by_its_sequences() {
    const JOBS: usize = 16;
    // The first pass ends when all of them are there.
    let gate = Arc::new(Mutex::new(()));
    let passes = gate.clone();
    let script = Script::new().rule(move |seen| {
        drop(passes.lock());
        repeating(seen)
    });
    let rows = script.rows();
    let engine = Engine::scripted(script);
    let text = engine.tokenizer().encode(&TEXT[..60]);
    let submit = || {
        let mut job = job(&engine, ":", 60);
        job.constraint = Some(Box::new(Only(text.clone())));
        job.limits.ahead_max = 64;
        engine.submit(job).unwrap()
    };
    let held = gate.lock().unwrap();
    let mut sequences: Vec<Sequence> = (0..JOBS).map(|_| submit()).collect();
    drop(held);
    let mut told = Vec::new();
    for sequence in &mut sequences {
        told.push(rest(sequence).await);
    }
    assert!(engine.stats().batch_len_max > 1);
    let most = rows.load(Ordering::SeqCst);
    assert!(most <= 64, "{most} rows in a pass");
    let alone = rest(&mut submit()).await;
    assert!(rows.load(Ordering::SeqCst) >= 60, "one sequence has them for itself");
    assert!(told.iter().all(|steps| *steps == alone));
}

#[tokio::test]
async fn a_draft_model_that_fails_is_not_asked_again() {
    const WORKS_FOR: usize = 30;
    let drafter = reciting(TEXT).fail_after(WORKS_FOR);
    let asked = drafter.fed();
    let engine = Engine::scripted(reciting(TEXT).drafter(drafter).speculation(Speculation::Always));
    let plain = Engine::scripted(reciting(TEXT));
    for _ in 0..3 {
        let before = asked.load(Ordering::SeqCst);
        let job_of = |engine: &Engine| {
            let mut job = job(engine, "a plan:", 200);
            job.limits.ahead_max = 64;
            engine.submit(job).unwrap()
        };
        let expected = rest(&mut job_of(&plain)).await;
        assert_eq!(rest(&mut job_of(&engine)).await, expected);
        assert!(expected.len() > 2 * WORKS_FOR);
        // What worked, and one pass that failed.
        let fed = asked.load(Ordering::SeqCst) - before;
        assert!(fed <= WORKS_FOR + 64, "{fed}");
    }
}

#[tokio::test]
async fn a_constraint_that_forces_nonsense_is_asked_row_by_row() {
    struct Nonsense;
    impl Constraint for Nonsense {
        fn apply(&mut self, _: &[TokenId], _: &mut [f32]) {}
        fn forced(&mut self, _: &[TokenId]) -> Vec<TokenId> {
            vec![1_000_000]
        }
    }
    struct Panics;
    impl Constraint for Panics {
        fn apply(&mut self, _: &[TokenId], _: &mut [f32]) {}
        fn forced(&mut self, tape: &[TokenId]) -> Vec<TokenId> {
            assert!(tape.is_empty(), "no");
            Vec::new()
        }
    }
    let engine = Engine::scripted(reciting("abc").speculation(Speculation::Always));
    let mut nonsense = job(&engine, ":", 10);
    nonsense.constraint = Some(Box::new(Nonsense));
    // The texts may hold anything, too.
    nonsense.lookup = vec![Arc::from([58, 97, 98, 2_000_000, 99])];
    let steps = rest(&mut engine.submit(nonsense).unwrap()).await;
    assert_eq!(steps.len(), 4);
    let mut panics = job(&engine, ":", 10);
    panics.constraint = Some(Box::new(Panics));
    let mut sequence = engine.submit(panics).unwrap();
    assert_eq!(sequence.next().await.unwrap().unwrap().token, 97);
    assert!(matches!(sequence.next().await, Err(engine::EngineError::Constraint(_))));
}
