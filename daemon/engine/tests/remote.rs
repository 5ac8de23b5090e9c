//! Engines on servers: the promises that every engine keeps, over each kind's protocol.

#[path = "support/jobs.rs"]
mod jobs;
#[path = "support/promises.rs"]
mod promises;
#[path = "support/server/fake.rs"]
mod server;

use std::sync::Arc;

use engine::{
    Constraint, Engine, EngineError, Grammar, Probing, RemoteOptions, Script, TokenId, Tokenizer,
};
use server::{Fake, KINDS, Kind, Trouble};

/// Five words are likely at every place, and which they are depends on all before; one of them is a snowman, in three bytes.
fn spread() -> Script {
    Script::new().words(&["let ", "total", "sum", "☃", "print"]).rule(|seen| {
        let hash = seen.iter().fold(7u32, |hash, token| (hash * 31 + token) % 1009);
        (0..5)
            .map(|rank| (96 + (hash + rank * 7) % 26, -0.5 * rank as f32))
            .chain(
                (0..5).map(|word| (256 + word, if (hash + word) % 11 == 0 { 0.5 } else { -3.0 })),
            )
            .collect::<Vec<(TokenId, f32)>>()
    })
}

#[tokio::test]
async fn a_scripted_engine_keeps_its_promises() {
    promises::keeps(&Engine::scripted(spread())).await;
}

#[cfg(feature = "mlx")]
#[tokio::test]
async fn a_computing_engine_keeps_its_promises() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/engine/fixtures/qwen3_moe-q4");
    let engine = Engine::load(&dir, engine::LoadOptions::PARITY).unwrap();
    promises::keeps(&engine).await;
}

async fn keeps(kind: Kind) {
    let fake = Fake::start(kind, spread());
    promises::keeps(&fake.engine()).await;
}

#[tokio::test]
async fn llama_cpp_keeps_them() {
    keeps(Kind::LlamaCpp).await;
}

#[tokio::test]
async fn vllm_keeps_them() {
    keeps(Kind::Vllm).await;
}

#[tokio::test]
async fn sglang_keeps_them() {
    keeps(Kind::Sglang).await;
}

#[tokio::test]
async fn lm_studio_keeps_them() {
    keeps(Kind::LmStudio).await;
}

#[tokio::test]
async fn mlx_lm_server_keeps_them() {
    keeps(Kind::MlxLm).await;
}

/// What a server was found to do, in one line.
fn found(fake: &Fake) -> String {
    let engine = fake.engine();
    let can = engine.info().remote.as_ref().expect("it is remote");
    let structured: Vec<&str> =
        can.structured.iter().filter(|row| row.works).map(|row| row.field).collect();
    let lies: Vec<&str> =
        can.structured.iter().filter(|row| row.lied).map(|row| row.field).collect();
    format!(
        "{} {:?} logprobs {} seed {} stop {} bias {} streams {} cached {:?} scores {} keeps {structured:?} lies {lies:?}",
        can.server,
        can.prompts,
        can.logprobs,
        can.seed.expect("everything was tried"),
        can.stop.expect("everything was tried"),
        can.logit_bias,
        can.streaming,
        can.prefix_reused.map(|tokens| tokens > 50),
        can.scores.expect("everything was tried"),
    )
}

#[test]
fn capabilities_are_told_as_they_are() {
    let all: Vec<String> = KINDS.map(|kind| found(&Fake::start(kind, spread()))).to_vec();
    assert_eq!(
        all,
        [
            "llama.cpp Tokens logprobs 64 seed true stop true bias true streams true cached Some(true) scores true keeps [\"json_schema\", \"grammar\"] lies []",
            "vLLM Tokens logprobs 20 seed true stop true bias true streams true cached Some(true) scores true keeps [\"structured_outputs.json\", \"structured_outputs.regex\", \"structured_outputs.grammar\"] lies []",
            "SGLang Tokens logprobs 20 seed true stop true bias true streams true cached Some(true) scores true keeps [\"json_schema\", \"regex\", \"ebnf\"] lies []",
            "LM Studio Text logprobs 0 seed true stop true bias true streams true cached None scores false keeps [] lies [\"response_format\"]",
            "mlx_lm.server Text logprobs 1 seed true stop true bias true streams true cached Some(true) scores false keeps [] lies [\"response_format\"]",
        ]
    );
}

#[test]
fn a_context_that_is_told_is_told_whatever_it_is() {
    let fake = Fake::start(Kind::Vllm, spread());
    for (told, context, is_assumed) in
        [(Some(8192), 8192, false), (None, 8192, true), (Some(usize::MAX), 1 << 24, false)]
    {
        fake.trouble(Some(Trouble::TellsContext(told)));
        let engine = fake.engine();
        let can = engine.info().remote.clone().expect("it is remote");
        let said = can.downgrades.join("\n");
        assert_eq!(engine.info().context_max, context);
        assert_eq!(said.contains("it does not tell its context"), is_assumed, "{said}");
    }
}

#[test]
fn a_server_that_takes_grammars_and_ignores_them_is_found_out() {
    for kind in [Kind::LlamaCpp, Kind::Vllm, Kind::Sglang] {
        let engine = Fake::with(kind, spread(), true, None).engine();
        let can = engine.info().remote.clone().expect("it is remote");
        assert!(!can.structured.is_empty());
        assert!(can.structured.iter().all(|row| row.lied && !row.works), "{:?}", can.structured);
        let said = can.downgrades.join("\n");
        assert!(said.contains("does not do what it says"), "{said}");
        assert!(said.contains("no grammar is kept to"), "{said}");
    }
}

/// Only one text, and what it is in the words of a grammar.
struct Exactly {
    text: &'static str,
    grammar: Option<Grammar>,
    words: Arc<Tokenizer>,
}

impl Constraint for Exactly {
    fn apply(&mut self, tape: &[TokenId], logits: &mut [f32]) {
        let said = self.words.decode(tape);
        let rest = self.text.strip_prefix(said.as_str());
        for (token, logit) in logits.iter_mut().enumerate() {
            let bytes = self.words.token_bytes(token as TokenId);
            let is_end = self.words.eos().contains(&(token as TokenId));
            let fits = match rest {
                Some("") => is_end,
                Some(rest) => !is_end && !bytes.is_empty() && rest.as_bytes().starts_with(bytes),
                None => false,
            };
            if !fits {
                *logit = f32::NEG_INFINITY;
            }
        }
    }

    fn grammar(&self) -> Option<Grammar> {
        self.grammar.clone()
    }
}

/// What comes of a job that may say one thing only, which the model would not say.
async fn constrained(engine: &Engine, grammar: Option<Grammar>) -> Result<String, EngineError> {
    let text = "vjq9w";
    let mut job = jobs::job(engine, "fn main() {", 20);
    job.constraint = Some(Box::new(Exactly { text, grammar, words: engine.words() }));
    let mut sequence = engine.submit(job).expect("there is room");
    let mut tokens = Vec::new();
    while let Some(step) = sequence.next().await? {
        tokens.push(step.token);
    }
    Ok(engine.tokenizer().decode(&tokens))
}

/// mlx_lm.server streams words without the blank that the first one begins with.
#[tokio::test]
async fn no_blank_is_lost_at_the_beginning_of_an_answer() {
    for kind in KINDS {
        let counts = Script::new().words(&[" 9", " 10"]).rule(|_| vec![(256, 0.0)]);
        let fake = Fake::start(kind, counts);
        let engine = fake.engine();
        let mut sequence = engine.submit(jobs::job(&engine, "7, 8,", 3)).expect("there is room");
        let steps = jobs::rest(&mut sequence).await;
        let tokens: Vec<TokenId> = steps.iter().map(|step| step.token).collect();
        assert_eq!(engine.tokenizer().decode(&tokens), " 9 9 9", "{kind:?}");
        let can = engine.info().remote.as_ref().expect("it is remote");
        assert_eq!(can.loses_blank, kind == Kind::MlxLm, "{kind:?}");
    }
}

#[tokio::test]
async fn a_grammar_goes_to_the_server_where_it_keeps_to_it() {
    for kind in [Kind::LlamaCpp, Kind::Vllm, Kind::Sglang] {
        let fake = Fake::start(kind, spread());
        let engine = fake.engine();
        let before = fake.asked().len();
        let gbnf = Grammar::Gbnf("root ::= \"vjq9w\"".to_owned());
        assert_eq!(constrained(&engine, Some(gbnf)).await.unwrap(), "vjq9w");
        assert_eq!(fake.asked().len(), before + 1, "in one request");
    }
}

#[tokio::test]
async fn what_servers_can_do_is_tried_when_it_is_needed_and_once() {
    let mut asked = Vec::new();
    for kind in KINDS {
        let fake = Fake::start(kind, spread());
        let options = RemoteOptions { probing: Probing::Needed, ..fake.options() };
        let engine = server::connect(options.clone()).expect("it answers every probe");
        let needed = fake.asked().len();
        let gbnf = || Some(Grammar::Gbnf("root ::= \"vjq9w\"".to_owned()));
        let is_kept = matches!(kind, Kind::LlamaCpp | Kind::Vllm | Kind::Sglang);
        if is_kept {
            assert_eq!(constrained(&engine, gbnf()).await.unwrap(), "vjq9w");
            assert_eq!(fake.asked().len() - needed, 2, "a trial, and the job");
        }
        // Another engine of the same server knows what this one found out.
        drop(engine);
        let before = fake.asked().len();
        let engine = server::connect(options).expect("it answers every probe");
        if is_kept {
            assert_eq!(constrained(&engine, gbnf()).await.unwrap(), "vjq9w");
        }
        assert_eq!(fake.asked().len() - before, usize::from(is_kept), "{kind:?}");
        let before = fake.asked().len();
        drop(fake.engine());
        asked.push((needed, fake.asked().len() - before));
    }
    // What every job needs, and what `model info --remote` asks.
    assert_eq!(asked, [(3, 11), (3, 12), (3, 12), (4, 9), (6, 11)]);
}

#[tokio::test]
async fn an_answer_of_a_server_that_lies_is_never_let_through() {
    for kind in [Kind::LlamaCpp, Kind::Sglang, Kind::LmStudio] {
        let fake = Fake::with(kind, spread(), true, None);
        let engine = fake.engine();
        let grammar = Grammar::Json(serde_json::json!({"enum": ["vjq9w"]}));
        let came = constrained(&engine, Some(grammar)).await;
        // Leaving out what was refused may come upon it in the end; nothing else may come.
        let is_right = match &came {
            Ok(text) => text == "vjq9w",
            Err(error) => matches!(error, EngineError::NothingAllowed { .. }),
        };
        assert!(is_right, "{kind:?}: {came:?}");
    }
}
