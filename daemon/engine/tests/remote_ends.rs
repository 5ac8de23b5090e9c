//! How answers of servers begin, go on and end: where half a character comes, too much, or an end that nobody wants.

#[path = "support/jobs.rs"]
mod jobs;
#[path = "support/server/fake.rs"]
mod server;

use std::{sync::Arc, time::Duration};

use engine::{
    Constraint, Engine, EngineError, RemoteOptions, RemoteWords, Script, Sequence, TokenId,
    Tokenizer,
};
use jobs::{job, letters};
use server::{Fake, Kind, Trouble, connect};

/// An engine whose tokens are bytes, because nobody says what the server's are.
fn of_bytes(fake: &Fake) -> Engine {
    connect(RemoteOptions::at(&fake.url)).expect("it answers every probe")
}

/// An engine whose tokens are some letters, and none of them says that a text ends.
#[allow(clippy::disallowed_methods, reason = "the test writes a file of its own")]
fn without_an_end(fake: &Fake) -> Engine {
    let model = serde_json::json!({
        "type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "g": 3, "o": 4}, "merges": [],
    });
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("tokenizer.json");
    let json = serde_json::json!({"version": "1.0", "added_tokens": [], "model": model});
    std::fs::write(&file, json.to_string()).expect("it is ours");
    let words = RemoteWords::File(file);
    connect(RemoteOptions { words, ..RemoteOptions::at(&fake.url) })
        .expect("it answers every probe")
}

/// What the fakes end texts with.
fn eos() -> TokenId {
    Engine::scripted(Script::new()).words().eos()[0]
}

/// Only this text, and then the end, if there is a token for it.
struct Exactly {
    text: &'static str,
    words: Arc<Tokenizer>,
}

impl Constraint for Exactly {
    fn apply(&mut self, tape: &[TokenId], logits: &mut [f32]) {
        let said: usize = tape.iter().map(|token| self.words.token_bytes(*token).len()).sum();
        let rest = &self.text.as_bytes()[said.min(self.text.len())..];
        for (token, logit) in logits.iter_mut().enumerate() {
            let token = token as TokenId;
            let bytes = self.words.token_bytes(token);
            let is_end = self.words.eos().contains(&token);
            let fits = if rest.is_empty() {
                is_end
            } else {
                !is_end && !bytes.is_empty() && rest.starts_with(bytes)
            };
            if !fits {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}

fn constrained(engine: &Engine, text: &'static str, tokens_max: u32) -> Sequence {
    let mut job = job(engine, "go", tokens_max);
    job.constraint = Some(Box::new(Exactly { text, words: engine.words() }));
    engine.submit(job).expect("there is room")
}

/// All that comes, and the fault where it ends with one.
async fn text(engine: &Engine, mut sequence: Sequence) -> (String, Option<EngineError>) {
    let mut tokens = Vec::new();
    let fault = loop {
        match sequence.next().await {
            Ok(Some(step)) => tokens.push(step.token),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    (engine.tokenizer().decode(&tokens), fault)
}

#[tokio::test]
async fn an_end_that_the_constraint_refuses_is_none() {
    let eos = eos();
    for kind in [Kind::Sglang, Kind::Vllm, Kind::LlamaCpp] {
        // It would rather end than say anything, and says `abcabc…` where it may not end.
        let script = Script::new().rule(move |seen: &[TokenId]| {
            let said = seen.iter().filter(|token| (97..100).contains(*token)).count();
            vec![(eos, 2.0), (97 + said as TokenId % 3, 0.0)]
        });
        let fake = Fake::start(kind, script);
        for engine in [of_bytes(&fake), without_an_end(&fake)] {
            let (came, fault) = text(&engine, constrained(&engine, "abca", 20)).await;
            assert_eq!((came.as_str(), fault), ("abca", None), "{kind:?}");
        }
    }
    // Nothing but the end comes of this one, however often it is asked.
    let fake = Fake::start(Kind::LmStudio, Script::new().rule(move |_| vec![(eos, 0.0)]));
    for engine in [of_bytes(&fake), without_an_end(&fake)] {
        let before = fake.asked().len();
        let (_, fault) = text(&engine, constrained(&engine, "abc", 20)).await;
        assert_eq!(fault, Some(EngineError::NothingAllowed { position: 0 }));
        assert_eq!(fake.asked().len() - before, 13, "once, and twelve times again");
        // Without a constraint it may end when it likes.
        let free = engine.submit(job(&engine, "go", 20)).expect("there is room");
        assert_eq!(text(&engine, free).await, (String::new(), None));
    }
}

#[tokio::test]
async fn half_a_character_that_is_asked_for_again_is_asked_for_whole() {
    // What is likeliest is refused, and what is drawn instead comes byte by byte.
    let script = Script::new().rule(|seen: &[TokenId]| match seen.last() {
        Some(0xe2) => vec![(0x98, 0.0)],
        Some(0x98) => vec![(0x83, 0.0)],
        _ => vec![(97, 0.1), (0xe2, 0.0)],
    });
    let fake = Fake::start(Kind::Sglang, script);
    let engine = of_bytes(&fake);
    let came = text(&engine, constrained(&engine, "☃", 3)).await;
    assert_eq!(came, ("☃".to_owned(), None));
}

#[tokio::test]
async fn a_server_that_says_more_than_it_was_asked_for_is_not_listened_to() {
    for kind in [Kind::LlamaCpp, Kind::LmStudio] {
        let fake = Fake::start(kind, letters());
        let engine = fake.engine();
        fake.trouble(Some(Trouble::Endless));
        let before = fake.abandoned();
        let mut sequence = engine.submit(job(&engine, "x", 20)).expect("there is room");
        sequence.next().await.expect("it streams").expect("a token");
        // Nobody takes more, and the server would not end for long.
        while fake.active() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(fake.abandoned(), before + 1, "{kind:?}");
        assert_eq!(jobs::rest(&mut sequence).await.len(), 19);
    }
}

#[tokio::test]
async fn a_server_that_answers_with_nothing_is_not_asked_for_ever() {
    let fake = Fake::start(Kind::Vllm, letters());
    let engine = fake.engine();
    fake.trouble(Some(Trouble::Ends(0, "length")));
    let before = fake.asked().len();
    let mut sequence = engine.submit(job(&engine, "x", 3)).expect("there is room");
    let said = sequence.next().await.expect_err("it says nothing").to_string();
    assert!(said.contains("it has no room for another token"), "{said}");
    assert_eq!(fake.asked().len() - before, 5);
}

#[tokio::test]
async fn a_server_that_takes_neither_streams_nor_temperatures_answers_at_once() {
    for kind in [Kind::Vllm, Kind::LlamaCpp] {
        let fake = Fake::start(kind, letters());
        fake.trouble(Some(Trouble::IsPlain));
        let engine = fake.engine();
        let can = engine.info().remote.clone().expect("it is remote");
        assert_eq!(
            (can.seed, can.streaming, can.stop),
            (Some(false), false, Some(true)),
            "{can:?}"
        );
        assert!(can.downgrades.iter().any(|said| said.contains("answers come at once")));
        let wanted = job(&engine, "x", 100);
        let prompt = wanted.prompt.clone();
        let mut sequence = engine.submit(wanted).expect("there is room");
        let steps = jobs::rest(&mut sequence).await;
        assert_eq!(steps.len(), 100);
        jobs::check_letters(&prompt, &steps);
    }
}
