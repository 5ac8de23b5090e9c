//! Servers that fail: every fault is one sentence with the address and a remedy, costs one job, and is over when the server is well.

#[path = "support/jobs.rs"]
mod jobs;
#[path = "support/server/fake.rs"]
mod server;

use std::time::Duration;

use engine::{Class, Engine, EngineError, Key, RemoteOptions, Sampling, Sequence, TokenId};
use jobs::{job, letters};
use server::{Fake, Kind, Trouble, connect};

/// An engine that does not wait until its server has loaded, and for so long for everything else; it was made while the server was
/// well.
fn impatient(fake: &Fake, patience: Option<Duration>) -> Engine {
    let options = fake.options();
    let options = RemoteOptions {
        first_token: patience.unwrap_or(options.first_token),
        between_tokens: patience.unwrap_or(options.between_tokens),
        loading: Duration::from_millis(150),
        ..options
    };
    connect(options).expect("it answers every probe")
}

/// Has something go wrong: so many steps come, this is told, and after a rewind all is well.
async fn fails(fake: &Fake, engine: &Engine, (trouble, steps, said): (Trouble, usize, &str)) {
    fake.trouble(Some(trouble));
    let mut sequence = engine.submit(job(engine, "fn main", 8)).expect("there is room");
    let (came, told) = fault(&mut sequence).await;
    assert_eq!(came, steps, "{trouble:?}: {told}");
    assert!(told.starts_with(&fake.url) && told.contains(said), "{trouble:?}: {told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    fake.trouble(None);
    sequence.rewind(sequence.mark());
    for position in steps..8 {
        let step = sequence.next().await.expect("it is well again").expect("8 tokens");
        assert_eq!(step.position, position);
    }
}

/// Only here it matters how long something takes: what is well takes a hundredth of this patience.
#[tokio::test]
async fn silence_is_told_and_signs_of_life_are_no_answer() {
    let cases = [
        (Trouble::Hangs, 0, "no answer for 2 s; look at the server's log"),
        (Trouble::HangsAfter(0), 0, "no first token for 2 s"),
        (Trouble::Chats(0), 0, "no first token for 2 s"),
        (Trouble::HangsAfter(3), 3, "no token for 2 s; look at the server's log"),
    ];
    let mut all = tokio::task::JoinSet::new();
    for kind in [Kind::LlamaCpp, Kind::Vllm] {
        for case in cases {
            let fake = Fake::start(kind, letters());
            let engine = impatient(&fake, Some(Duration::from_secs(2)));
            all.spawn(async move { fails(&fake, &engine, case).await });
        }
    }
    while let Some(ended) = all.join_next().await {
        ended.expect("it fails as it should");
    }
}

async fn fault(sequence: &mut Sequence) -> (usize, String) {
    let mut steps = 0;
    loop {
        match sequence.next().await {
            Ok(Some(_)) => steps += 1,
            Ok(None) => panic!("it ended well after {steps} steps"),
            Err(EngineError::Remote(said)) => return (steps, said),
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn every_fault_is_told_with_address_and_remedy_and_a_rewind_asks_again() {
    let cases = [
        (Trouble::Ends(3, "abort"), 3, "it ended its answer before all was said (abort)"),
        (Trouble::Ends(0, "content_filter"), 0, "(content_filter); look at the server's log"),
        (Trouble::Sends("data: [DONE]\n\n"), 0, "(it does not say why)"),
        (
            Trouble::DropsAfter(4),
            4,
            "the connection ended in the middle of an answer, after 4 pieces; look at",
        ),
        (
            Trouble::Garbage,
            0,
            "a stream of the form text/html; is `model.remote_url` the address of one?",
        ),
        (Trouble::HalfCharacter(2), 2, "bytes that are no UTF-8"),
        (
            Trouble::Status(400, None),
            0,
            "it answered 400 (as the test wants it); the server does not take",
        ),
        (Trouble::Status(401, None), 0, "it answered 401 (as the test wants it); it wants a key"),
        (Trouble::Status(404, None), 0, "no such endpoint or model: correct `model.remote_url`"),
        (Trouble::Status(429, Some(60)), 0, "it has too many requests"),
        (
            Trouble::Status(500, None),
            0,
            "it answered 500 (as the test wants it); look at the server's log",
        ),
        (Trouble::Status(503, None), 0, "it is still loading its model"),
        (Trouble::EndlessLine, 0, "one piece of its answer has more than"),
        (Trouble::HangsUp, 0, "the server closed the connection without an answer"),
    ];
    for kind in [Kind::LlamaCpp, Kind::Vllm] {
        let fake = Fake::start(kind, letters());
        let engine = impatient(&fake, None);
        for case in cases {
            fails(&fake, &engine, case).await;
        }
    }
}

#[tokio::test]
async fn a_server_that_loads_is_waited_for() {
    let fake = Fake::start(Kind::LlamaCpp, letters());
    fake.trouble(Some(Trouble::Loads(1)));
    let engine = fake.engine();
    fake.trouble(Some(Trouble::Loads(1)));
    let mut sequence = engine.submit(job(&engine, "x", 3)).expect("there is room");
    assert_eq!(jobs::rest(&mut sequence).await.len(), 3);
    fake.trouble(Some(Trouble::Status(429, Some(0))));
    let mut sequence = engine.submit(job(&engine, "x", 3)).expect("there is room");
    let waiting = tokio::time::timeout(Duration::from_millis(100), sequence.next()).await;
    assert!(waiting.is_err(), "it asks again for as long as it is told to");
    fake.trouble(None);
    assert_eq!(jobs::rest(&mut sequence).await.len(), 3);
}

#[tokio::test]
async fn a_text_without_end_ends_where_it_was_to() {
    let fake = Fake::start(Kind::Sglang, letters());
    let engine = fake.engine();
    fake.trouble(Some(Trouble::Endless));
    let mut sequence = engine.submit(job(&engine, "x", 20)).expect("there is room");
    assert_eq!(jobs::rest(&mut sequence).await.len(), 20);
    while fake.active() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_dropped_sequence_closes_its_connection_and_the_server_stops() {
    for kind in server::KINDS {
        let fake = Fake::start(kind, letters().delay(Duration::from_millis(1)));
        let engine = fake.engine();
        let before = fake.abandoned();
        let mut sequence = engine.submit(job(&engine, "x", 60_000)).expect("there is room");
        sequence.next().await.expect("it streams").expect("a token");
        assert_eq!(fake.active(), 1);
        drop(sequence);
        while fake.active() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(fake.abandoned(), before + 1, "{kind:?}");
        // So does an engine that goes.
        let mut sequence = engine.submit(job(&engine, "x", 60_000)).expect("there is room");
        sequence.next().await.expect("it streams").expect("a token");
        drop((sequence, engine));
        while fake.active() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test]
async fn a_keystroke_takes_the_place_of_an_agent_that_goes_on_later() {
    let fake = Fake::start(Kind::LlamaCpp, letters().delay(Duration::from_millis(1)));
    let engine = fake.engine(); // It says that it has four places.
    let mut agents = Vec::new();
    for number in 0..4 {
        let mut agent = job(&engine, &format!("agent {number}"), 400);
        (agent.class, agent.limits.ahead_max) = (Class::Agent, 400);
        let prompt = agent.prompt.clone();
        let mut sequence = engine.submit(agent).expect("there is room");
        let first = sequence.next().await.expect("it streams").expect("a token");
        agents.push((prompt, first, sequence));
    }
    let mut typing = engine.submit(job(&engine, "typing", 3)).expect("there is room");
    assert_eq!(jobs::rest(&mut typing).await.len(), 3);
    assert_eq!(fake.abandoned(), 1, "one of them made way");
    for (prompt, first, mut sequence) in agents {
        let mut steps = vec![first];
        steps.extend(jobs::rest(&mut sequence).await);
        assert_eq!(steps.len(), 400);
        jobs::check_letters(&prompt, &steps);
    }
}

#[test]
fn a_key_is_shown_to_the_server_and_to_nobody_else() {
    let fake = Fake::with(Kind::Vllm, letters(), false, Some("sk-right-one"));
    let with = |key: &str| RemoteOptions { key: Key::new(key), ..fake.options() };
    let engine = connect(with("sk-right-one")).expect("the key fits");
    let shown = format!("{:?} {:?}", engine.info(), with("sk-right-one").key);
    assert!(!shown.contains("sk-right"), "{shown}");
    // The fake repeats what it was shown, as some servers do.
    let told = connect(with("sk-wrong-one")).err().expect("the key does not fit");
    assert!(told.contains("401") && told.contains("`model.remote_key_env`"), "{told}");
    assert!(!told.contains("sk-wrong"), "{told}");
    let told = connect(fake.options()).err().expect("there is no key");
    assert!(told.contains("it wants a key"), "{told}");
    // Behind so much that a part of it would be cut off.
    let long: &str = format!("<p>{} Bearer sk-right-one</p>", "x".repeat(280)).leak();
    fake.trouble(Some(Trouble::Says(200, long)));
    let told = connect(with("sk-right-one")).err().expect("it answers no JSON");
    assert!(told.contains("xx") && !told.contains("sk-"), "{told}");
    assert_eq!(Key::new("two\nlines"), None);
    assert_eq!(Key::new("  sk-blanks-around \n"), Key::new("sk-blanks-around"));
}

#[tokio::test]
async fn a_key_that_a_stream_repeats_is_told_nobody() {
    let fake = Fake::with(Kind::Vllm, letters(), false, Some("sk-right-one"));
    let key = Key::new("sk-right-one");
    let engine = connect(RemoteOptions { key, ..fake.options() }).expect("the key fits");
    let long = "x".repeat(290);
    let streams = [
        format!("data: {{\"error\": {{\"message\": \"{long} sk-right-one\"}}}}\n\n"),
        format!("data: {{\"text\": \"{long} sk-right-one\"}}\n\n"),
        format!("data: {long} sk-right-one\n\n"),
        format!("error: {long} sk-right-one\n\n"),
        format!("{long} sk-right-one\n\n"),
        format!("who: {long} sk-right-one\n\n"),
    ];
    for stream in streams {
        fake.trouble(Some(Trouble::Sends(stream.leak())));
        let mut sequence = engine.submit(job(&engine, "x", 3)).expect("there is room");
        let (_, told) = fault(&mut sequence).await;
        assert!(told.contains("xxx") && !told.contains("sk-"), "{told}");
    }
}

#[test]
fn an_address_that_is_none_is_told() {
    let told = |url: &str| connect(RemoteOptions::at(url)).err().expect("it is none");
    let secrets =
        ["http://me:secret@host:1", "http://host:1/v1?key=secret", "ftp://me:secret@host"];
    for url in ["ftp://host", "host:8080", "", "http://"].into_iter().chain(secrets) {
        let told = told(url);
        assert!(!told.contains("secret"), "{told}");
        assert!(told.contains("the address of a server is like http://host:8080"), "{told}");
    }
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("the loopback can be bound");
    let url = format!("http://{}", free.local_addr().expect("it is bound"));
    drop(free);
    assert!(told(&url).contains("no connection"), "{}", told(&url));
    let told = told("https://127.0.0.1:1");
    assert!(told.contains("no connection"), "{told}");
}

#[tokio::test]
async fn a_prompt_that_a_server_would_obey_is_refused() {
    let fake = Fake::start(Kind::LmStudio, letters());
    let engine = fake.engine();
    let mut plain = job(&engine, "x", 3);
    plain.prompt = engine.tokenizer().encode("a file that names <|im_start|>system in its text");
    let mut sequence = engine.submit(plain).expect("there is room");
    let (_, told) = fault(&mut sequence).await;
    assert!(told.contains("the prompt's text has <|im_start|> in it"), "{told}");
    let mut sequence = engine.submit(job(&engine, "<|im_start|>user", 3)).expect("there is room");
    assert_eq!(jobs::rest(&mut sequence).await.len(), 3, "the daemon's own are meant");
}

#[tokio::test]
async fn a_rewind_into_a_character_is_continued_by_its_rest() {
    // Without a tokenizer tokens are bytes, and prompts are texts.
    let script = engine::Script::new()
        .words(&["☃"])
        .rule(|seen: &[TokenId]| vec![(256 - 159 * (seen.len() as TokenId % 2), 0.0)]);
    let fake = Fake::start(Kind::Sglang, script);
    let options = RemoteOptions::at(&fake.url);
    let engine = connect(options).expect("it answers every probe");
    let mut endless = job(&engine, "ab", 8);
    endless.sampling = Sampling::GREEDY;
    let mut sequence = engine.submit(endless).expect("there is room");
    let all: Vec<TokenId> = jobs::rest(&mut sequence).await.iter().map(|step| step.token).collect();
    assert_eq!(all, "☃a☃a".bytes().map(TokenId::from).collect::<Vec<_>>());
    for len in [1, 2, 5] {
        sequence.rewind(sequence.mark_at(len));
        let rest: Vec<TokenId> =
            jobs::rest(&mut sequence).await.iter().map(|step| step.token).collect();
        assert_eq!(rest, all[len..], "from byte {len}");
    }
}
