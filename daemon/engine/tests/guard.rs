//! The collapse guard through the whole engine, on the scripted backend.

#[cfg(feature = "mlx")]
#[path = "support/checkpoint.rs"]
mod checkpoint;

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use engine::{
    Class, Constraint, Engine, Finish, Guard, Job, Limits, Sampling, Script, Sequence, Speculation,
    Step, TokenId,
};

/// A model that says "start" and then "go\n" for ever; where it may not, it says `otherwise` and goes on with that.
fn stuck(otherwise: &'static str) -> Script {
    Script::new().rule(move |seen| {
        let said =
            String::from_utf8_lossy(&seen.iter().map(|&token| token as u8).collect::<Vec<_>>())
                .into_owned();
        let text = said.split('>').nth(1).unwrap_or_default();
        let next = |script: &str| script.as_bytes().get(text.len()).map(|&byte| u32::from(byte));
        let looping = format!("start{}", "go\n".repeat(400));
        if looping.starts_with(text) {
            let mut said = vec![(next(&looping).unwrap_or(0), 9.0)];
            if text.len() > 6 && text.ends_with('\n') {
                said.push((u32::from(otherwise.as_bytes()[0]), 0.0));
            }
            return said;
        }
        let tail = text.rsplit('\n').next().unwrap_or_default();
        match otherwise.strip_prefix(tail).and_then(|rest| rest.bytes().next()) {
            Some(byte) => vec![(u32::from(byte), 9.0)],
            None => vec![(END, 9.0)],
        }
    })
}

/// The scripted vocabulary's end of text.
const END: TokenId = 256;

fn job(engine: &Engine, class: Class) -> Job {
    Job {
        prompt: engine.tokenizer().encode_prompt("prompt>"),
        constraint: None,
        sampling: Sampling::GREEDY,
        limits: Limits { tokens_max: 600, stop: Vec::new(), ahead_max: 4 },
        class,
        soul: None,
        mixture: None,
        lookup: Vec::new(),
        speculation: Speculation::Auto,
    }
}

/// What a client that can take text back has in the end, what one has that cannot, and the steps.
async fn read(engine: &Engine, sequence: &mut Sequence) -> (String, String, Vec<Step>) {
    let (mut tape, mut sent, mut steps) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(step) = sequence.next().await.unwrap() {
        if let Some(len) = step.rewound_to {
            assert!(len >= sent.len(), "what was settled is taken back");
            assert!(len < tape.len() && len == step.position);
            tape.truncate(len);
        }
        assert_eq!(step.position, tape.len());
        assert!(step.settled >= sent.len() && step.settled <= tape.len() + 1);
        tape.push(step.token);
        sent.extend_from_slice(&tape[sent.len()..step.settled]);
        steps.push(step);
    }
    let text = |tape: &[TokenId]| engine.tokenizer().decode(tape);
    (text(&tape), text(&sent), steps)
}

#[tokio::test]
async fn a_loop_is_taken_back_to_its_second_round() {
    let engine = Engine::scripted(stuck("well, something else"));
    let (taken, sent, steps) =
        read(&engine, &mut engine.submit(job(&engine, Class::Agent)).unwrap()).await;
    assert_eq!(taken, "startgo\nwell, something else");
    assert_eq!(sent, taken);
    assert!(steps.iter().any(|step| step.rewound_to == Some(8)));
    assert_eq!(steps.last().unwrap().finish, Some(Finish::Stop));
}

#[tokio::test]
async fn who_types_is_not_watched_unless_the_job_says_so() {
    let engine = Engine::scripted(stuck("well"));
    for (class, guard, watched) in [
        (Class::Typing, Guard::ByClass, false),
        (Class::Fix, Guard::ByClass, false),
        (Class::Served, Guard::ByClass, true),
        (Class::Typing, Guard::On, true),
        (Class::Agent, Guard::Off, false),
    ] {
        let mut job = job(&engine, class);
        job.sampling.guard = guard;
        let (text, _, steps) = read(&engine, &mut engine.submit(job).unwrap()).await;
        assert_eq!(text.len() < 600, watched, "{class:?} {guard:?}");
        assert!(watched || steps.iter().all(|step| step.settled == step.position + 1));
    }
}

#[tokio::test]
async fn a_model_that_cannot_but_loop_ends_with_collapse() {
    let rewinds = Arc::new(AtomicUsize::new(0));
    struct Count(Arc<AtomicUsize>);
    impl Constraint for Count {
        fn apply(&mut self, _tape: &[TokenId], _logits: &mut [f32]) {}
        fn rewound(&mut self, _len: usize) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    // Whatever is banned, the same three tokens come.
    let script = Script::new().rule(|seen| {
        let next = [103, 111, 10][seen.len() % 3];
        vec![(next, 40.0), (103, 20.0), (111, 19.0), (10, 18.0)]
    });
    let engine = Engine::scripted(script);
    let mut job = job(&engine, Class::Served);
    job.limits.tokens_max = 5000;
    job.constraint = Some(Box::new(Count(rewinds.clone())));
    let (text, sent, steps) = read(&engine, &mut engine.submit(job).unwrap()).await;
    let last = steps.last().unwrap();
    assert_eq!(last.finish, Some(Finish::Collapse));
    assert_eq!(rewinds.load(Ordering::SeqCst), 2);
    assert!(sent.len() == last.settled && sent.len() + 150 < text.len());
}

#[tokio::test]
async fn what_a_constraint_leaves_no_choice_about_is_drawn_though_it_began_a_loop() {
    struct Only(&'static [u8]);
    impl Constraint for Only {
        fn apply(&mut self, tape: &[TokenId], logits: &mut [f32]) {
            let next = usize::from(self.0[tape.len() % self.0.len()]);
            let bans = logits.iter_mut().enumerate().filter(|(token, _)| *token != next);
            bans.for_each(|(_, logit)| *logit = f32::NEG_INFINITY);
        }
    }
    let engine = Engine::scripted(stuck("well, something else"));
    let mut job = job(&engine, Class::Agent);
    job.limits.tokens_max = 5000;
    job.constraint = Some(Box::new(Only(b"go\n")));
    let (text, _, steps) = read(&engine, &mut engine.submit(job).unwrap()).await;
    assert!(text.starts_with("go\ngo\ngo\n"));
    assert_eq!(steps.iter().filter(|step| step.rewound_to.is_some()).count(), 2);
    assert_eq!(steps.last().unwrap().finish, Some(Finish::Collapse));
}

/// Has the engine stop before the draws at these lengths of the tape, one after the other, until its caller says so.
struct Stops {
    left: VecDeque<usize>,
    arrived: mpsc::Sender<usize>,
    go_on: mpsc::Receiver<()>,
}

impl Constraint for Stops {
    fn apply(&mut self, tape: &[TokenId], _logits: &mut [f32]) {
        if self.left.front() == Some(&tape.len()) {
            self.left.pop_front();
            let _ = self.arrived.send(tape.len());
            let _ = self.go_on.recv();
        }
    }
}

/// Before the draw that completes the loop, which the guard then takes back to 8 tokens.
const COMPLETES: usize = 191;
/// Before a draw of what is said instead.
const SAYS_OTHERWISE: usize = 20;
/// Before the draw of its end.
const ENDS: usize = 28;

#[tokio::test]
async fn a_caller_who_goes_back_before_it_knows_of_a_cut_is_told_afterwards() {
    // Before the cut, between the cut and the end, and after the end.
    for (stops, is_over) in [
        (&[COMPLETES][..], false),
        (&[COMPLETES, SAYS_OTHERWISE], false),
        (&[COMPLETES, ENDS], true),
    ] {
        let engine = Engine::scripted(stuck("well, something else"));
        let (go, go_on) = mpsc::channel();
        let (arrived, arrivals) = mpsc::channel();
        let mut job = job(&engine, Class::Agent);
        job.limits.ahead_max = 1000;
        job.constraint = Some(Box::new(Stops { left: stops.to_vec().into(), arrived, go_on }));
        let mut sequence = engine.submit(job).unwrap();
        for position in 0..60 {
            assert_eq!(sequence.next().await.unwrap().unwrap().position, position);
        }
        for (index, &stop) in stops.iter().enumerate() {
            if index > 0 {
                go.send(()).unwrap();
            }
            assert_eq!(arrivals.recv(), Ok(stop));
        }
        if is_over {
            go.send(()).unwrap();
            // Answered only when the end has been told.
            engine.logits(engine.tokenizer().encode_prompt("?")).await.unwrap();
        }
        let fork = sequence.fork(vec![engine::Fork::default()]);
        sequence.rewind(sequence.mark_at(40));
        drop(go);
        for mut sequence in fork.unwrap().into_iter().chain([sequence]) {
            let step = sequence.next().await.unwrap().unwrap();
            assert_eq!((step.position, step.rewound_to), (8, Some(8)), "{stops:?}");
            assert_eq!(step.token, u32::from(b'w'), "{stops:?}");
        }
    }
}

/// With real weights: caches that can be cut anywhere, that hold a window, and that have to be fed again.
#[cfg(feature = "mlx")]
#[tokio::test]
async fn after_a_cut_the_model_computes_what_it_computes_without() {
    struct Insist(Vec<TokenId>);
    impl Constraint for Insist {
        fn apply(&mut self, tape: &[TokenId], logits: &mut [f32]) {
            // Round and round; what the guard has banned stays banned.
            logits[self.0[tape.len() % self.0.len()] as usize] += 100.0;
        }
    }
    // The others take seconds unoptimised.
    let names = ["qwen3_moe-f32", "gpt_oss-mxfp4", "qwen3_next-q4"];
    let count = if checkpoint::is_slow() { names.len() } else { 1 };
    for name in &names[..count] {
        let checkpoint = checkpoint::fixture(name);
        let engine = Engine::load(&checkpoint.dir, engine::LoadOptions::AUTO).unwrap();
        let prompt = checkpoint.prompt[..20].to_vec();
        let round = engine.tokenizer().encode("go\n");
        let job = Job {
            prompt: prompt.clone(),
            constraint: Some(Box::new(Insist(round))),
            ..job(&engine, Class::Agent)
        };
        let mut sequence = engine.submit(job).unwrap();
        let (mut logprobs, mut tape, mut cuts) = (Vec::new(), Vec::new(), 0);
        while let Some(step) = sequence.next().await.unwrap() {
            if let Some(len) = step.rewound_to {
                tape.truncate(len);
                logprobs.truncate(len);
                cuts += 1;
            }
            tape.push(step.token);
            logprobs.push(step.logprob);
        }
        assert_eq!(cuts, 2, "{name}");
        let scores = engine.score(prompt, vec![tape.clone()], Class::Fix).await.unwrap();
        for (position, (ours, alone)) in logprobs.iter().zip(&scores[0]).enumerate() {
            assert!((ours - alone).abs() < 2e-3, "{name} at {position}: {ours} and {alone}");
        }
    }
}
