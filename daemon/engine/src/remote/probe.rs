//! Finding out what a server can do, by having it do it.

use std::{path::Path, sync::Arc};

use serde_json::{Value, json};

use super::{
    ask::{Ask, Prompt},
    capabilities::{Capabilities, Prompts, Structured, Words},
    downgrades,
    fault::Fault,
    hear::{Heard, Piece},
    http::Client,
    kind::{Greeting, Kind, greet},
    options::{RemoteOptions, RemoteWords},
    server::{Server, value_of},
    stream::{patiently, stream, whole},
    words::Lexicon,
};
use crate::{
    grammar::Grammar,
    job::TokenId,
    sampling::Sampling,
    tokenizer::{PlainVocabulary, Tokenizer, read_json},
};

/// What servers are asked to go on with: nothing that two tokenizers cut alike by chance.
const TEXT: &str = "fn main() {\n    let answer = 41 + 1;\n    println!(\"{answer} — naïve ✓\");\n}\n\nThe quick brown fox ";
/// How many tokens an answer to a probe has at most.
const ANSWER_LEN_MAX: usize = 12;
/// How many an answer within a grammar has at most.
const LITERAL_LEN_MAX: usize = 32;
/// Words that no model says by itself: a server that says both when it may say nothing else keeps to grammars.
const LITERALS: [&str; 2] = ["zqxk41", "vjwp73"];
/// How often the text is repeated that is sent twice.
const LONG: usize = 6;
/// How far the probability of a token may differ from what it was when it was drawn.
const SCORE_TOLERANCE: f32 = 0.05;

/// Asks the server what it is and what it can do; otherwise one sentence says why that cannot be known.
pub(super) async fn probe(options: &RemoteOptions) -> Result<(Server, usize), String> {
    let client =
        Client::new(options).map_err(|fault| fault.at(&options.address(), str::to_owned))?;
    let client = Arc::new(client);
    found(client.clone(), options).await.map_err(|fault| client.told(&fault))
}

async fn found(client: Arc<Client>, options: &RemoteOptions) -> Result<(Server, usize), Fault> {
    let wanted = options.model.as_deref();
    let greeting = patiently(&client, async || greet(&client, wanted).await).await?;
    let (tokenizer, words) = tokenizer(options, &client, &greeting).await?;
    let context = greeting.context.unwrap_or(super::CONTEXT_UNKNOWN);
    let vocabulary = tokenizer.len();
    let blank = Capabilities {
        url: client.url.clone(),
        server: greeting.kind.name().to_owned(),
        version: greeting.version.as_deref().map(|version| client.quoted(version)),
        words,
        prompts: Prompts::Text,
        logprobs: 0,
        streaming: false,
        seed: false,
        stop: false,
        logit_bias: false,
        prefix_reused: None,
        parallel: greeting.parallel,
        scores: false,
        structured: Vec::new(),
        downgrades: Vec::new(),
    };
    let lexicon = Lexicon::new(tokenizer, false, Prompts::Text);
    let Greeting { kind, model, .. } = greeting;
    let mut server = Server {
        client,
        kind,
        model,
        lexicon,
        capabilities: blank,
        vocabulary,
        top_len_max: 0,
        streams: true,
    };
    server.probe_words().await?;
    server.probe_draws().await?;
    server.probe_stream().await?;
    server.probe_prefix().await?;
    server.probe_grammars().await?;
    server.probe_scores().await;
    server.capabilities.downgrades = downgrades::of(&server, context);
    Ok((server, context))
}

/// The tokens that callers see.
async fn tokenizer(
    options: &RemoteOptions,
    client: &Client,
    greeting: &Greeting,
) -> Result<(Arc<Tokenizer>, Words), Fault> {
    match &options.words {
        RemoteWords::Given(tokenizer) => Ok((tokenizer.clone(), Words::File)),
        RemoteWords::File(path) => {
            let dir = if path.is_file() { path.parent().unwrap_or(Path::new(".")) } else { path };
            let wrong = |error: crate::info::LoadError| {
                Fault::Lacks(format!("{error}; correct `model.remote_tokenizer`"))
            };
            let eos = ends(dir).map_err(wrong)?;
            Ok((Arc::new(Tokenizer::load(dir, &eos).map_err(wrong)?), Words::File))
        }
        RemoteWords::Auto => {
            let _ = (client, greeting);
            let bytes = PlainVocabulary { words: Vec::new(), is_bare: true };
            Ok((Arc::new(Tokenizer::plain(bytes)), Words::Bytes))
        }
    }
}

/// The end-of-text tokens that a model's configuration names, where there is one beside its tokenizer.
fn ends(dir: &Path) -> Result<Vec<TokenId>, crate::info::LoadError> {
    let mut ends = Vec::new();
    for file in ["config.json", "generation_config.json"] {
        let config = read_json(&dir.join(file))?;
        let named = &config["eos_token_id"];
        let listed = named.as_array().into_iter().flatten().chain([named]);
        ends.extend(listed.filter_map(|id| TokenId::try_from(id.as_u64()?).ok()));
    }
    Ok(ends)
}

/// Whether it can: what it refuses it cannot, and what else goes wrong says nothing of that.
fn able(tried: Result<bool, Fault>) -> Result<bool, Fault> {
    match tried {
        Err(fault) if fault.is_refusal() => Ok(false),
        tried => tried,
    }
}

/// What an answer to a probe came to.
struct Answered {
    pieces: Vec<Piece>,
    prompt: Option<usize>,
    cached: Option<usize>,
}

impl Answered {
    fn text(&self) -> String {
        let bytes: Vec<u8> = self.pieces.iter().flat_map(|piece| piece.bytes.clone()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Server {
    async fn answered(&self, ask: &Ask) -> Result<Answered, Fault> {
        let heard = whole(&self.client, self.kind, &self.body(ask)).await?;
        let mut answered = Answered { pieces: Vec::new(), prompt: None, cached: None };
        for heard in heard {
            match heard {
                Heard::Piece(piece) => answered.pieces.push(piece),
                Heard::Usage { prompt, cached } => {
                    (answered.prompt, answered.cached) = (Some(prompt), cached);
                }
                _ => {}
            }
        }
        Ok(answered)
    }

    fn text_prompt(&self) -> Prompt {
        match self.lexicon.prompts {
            Prompts::Text => Prompt::Text(TEXT.to_owned()),
            Prompts::Tokens => Prompt::Tokens(self.lexicon.tokenizer.encode(TEXT)),
        }
    }

    /// Whether its tokens are those of the tokenizer, and whether it takes prompts as such.
    async fn probe_words(&mut self) -> Result<(), Fault> {
        let by_text = self.answered(&Ask::greedy(self.text_prompt(), ANSWER_LEN_MAX)).await?;
        if self.capabilities.words == Words::Bytes {
            return Ok(());
        }
        let ids = self.lexicon.tokenizer.encode(TEXT);
        self.lexicon.is_shared = match self.tokenized(TEXT).await? {
            Some(theirs) => theirs == ids,
            // A token may stand before every text.
            None => by_text.prompt.is_some_and(|len| len == ids.len() || len == ids.len() + 1),
        };
        if !self.lexicon.is_shared {
            return Ok(());
        }
        match self.answered(&Ask::greedy(Prompt::Tokens(ids.clone()), ANSWER_LEN_MAX)).await {
            Ok(by_tokens) => {
                let counted = by_tokens.prompt.map(|len| len == ids.len());
                if counted.unwrap_or_else(|| by_tokens.text() == by_text.text()) {
                    self.lexicon.prompts = Prompts::Tokens;
                    self.capabilities.prompts = Prompts::Tokens;
                }
                Ok(())
            }
            Err(fault) if fault.is_refusal() => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// The server's own tokens of a text, where it tells them.
    async fn tokenized(&self, text: &str) -> Result<Option<Vec<TokenId>>, Fault> {
        let body = match self.kind {
            Kind::LlamaCpp => {
                json!({"content": text, "add_special": false, "parse_special": false})
            }
            Kind::Vllm | Kind::Sglang => {
                json!({"model": self.model, "prompt": text, "add_special_tokens": false})
            }
            _ => return Ok(None),
        };
        match self.client.post("/tokenize", &body).await {
            Ok(answer) => {
                let tokens = answer["tokens"].as_array().map(|tokens| {
                    tokens.iter().filter_map(|id| TokenId::try_from(id.as_u64()?).ok()).collect()
                });
                Ok(tokens)
            }
            Err(fault) if fault.is_refusal() => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// How it draws: what it lists, and whether seeds, stops and biases do anything.
    async fn probe_draws(&mut self) -> Result<(), Fault> {
        let plain = Ask::greedy(self.text_prompt(), ANSWER_LEN_MAX);
        let listing = Ask { top_len: self.kind.top_len_max(), ..plain.clone() };
        let said = match self.answered(&listing).await {
            Ok(said) => said,
            Err(fault) if fault.is_refusal() => self.answered(&plain).await?,
            Err(fault) => return Err(fault),
        };
        let listed = said.pieces.iter().map(|piece| piece.top.len()).max().unwrap_or(0);
        self.capabilities.logprobs = listed;
        self.top_len_max = if listed == 0 { 0 } else { self.kind.top_len_max() };
        let warm = Sampling { temperature: 2.0, ..Sampling::GREEDY };
        let drawn = async |seed: u32| {
            let ask = Ask { sampling: warm.clone(), seed, ..plain.clone() };
            self.answered(&ask).await.map(|said| said.text())
        };
        let seeds = async {
            let (first, again, other) = (drawn(11).await?, drawn(11).await?, drawn(12).await?);
            Ok(first == again && first != other)
        };
        self.capabilities.seed = able(seeds.await)?;
        self.capabilities.stop = self.probe_stop(&plain, &said.text()).await?;
        if self.lexicon.is_shared
            && let Some(first) = said.pieces.first()
            && let Some(token) = self.lexicon.drawn(first)?.first().map(|drawn| drawn.token)
        {
            let banned = Ask { bias: vec![(token, f32::NEG_INFINITY)], tokens_max: 1, ..plain };
            let other = self
                .answered(&banned)
                .await
                .map(|other| other.pieces.first().is_some_and(|piece| piece.bytes != first.bytes));
            self.capabilities.logit_bias = able(other)?;
        }
        Ok(())
    }

    /// Whether it ends before a text that it says by itself.
    async fn probe_stop(&self, plain: &Ask, said: &str) -> Result<bool, Fault> {
        let letters: Vec<char> = said.chars().collect();
        let middle = letters.len() / 2;
        let Some(stop) = letters.get(middle).filter(|stop| **stop != char::REPLACEMENT_CHARACTER)
        else {
            return Ok(false);
        };
        let ask = Ask { stop: vec![stop.to_string()], ..plain.clone() };
        able(self.answered(&ask).await.map(|stopped| !stopped.text().contains(*stop)))
    }

    async fn probe_stream(&mut self) -> Result<(), Fault> {
        let ask = Ask { streams: true, ..Ask::greedy(self.text_prompt(), ANSWER_LEN_MAX) };
        let mut parts = 0;
        let tell = async |heard: Vec<Heard>| {
            parts += usize::from(heard.iter().any(|heard| matches!(heard, Heard::Piece(_))));
            true
        };
        let streamed = stream(&self.client, self.kind, &self.body(&ask), tell).await;
        self.streams = able(streamed.map(|()| true))?;
        self.capabilities.streaming = self.streams && parts > 1;
        Ok(())
    }

    /// Whether a prompt that it has just seen is computed again.
    async fn probe_prefix(&mut self) -> Result<(), Fault> {
        let prompt = match self.text_prompt() {
            Prompt::Text(text) => Prompt::Text(text.repeat(LONG)),
            Prompt::Tokens(tokens) => Prompt::Tokens(tokens.repeat(LONG)),
        };
        let ask = Ask::greedy(prompt, 1);
        let twice = async {
            self.answered(&ask).await?;
            self.answered(&ask).await
        };
        match twice.await {
            Ok(again) => self.capabilities.prefix_reused = again.cached,
            Err(fault) if fault.is_refusal() => {}
            Err(fault) => return Err(fault),
        }
        Ok(())
    }

    async fn probe_grammars(&mut self) -> Result<(), Fault> {
        for form in ["json_schema", "regex", "gbnf"] {
            let mut last = None;
            for field in self.kind.grammar_fields(form) {
                let row = self.probe_grammar(form, field).await?;
                let works = row.works;
                last = Some(row);
                if works {
                    break;
                }
            }
            self.capabilities.structured.extend(last);
        }
        Ok(())
    }

    async fn probe_grammar(
        &self,
        form: &'static str,
        field: &'static str,
    ) -> Result<Structured, Fault> {
        let mut row = Structured { form, field, works: true, lied: false, refusal: None };
        for literal in LITERALS {
            let (grammar, wanted) = match form {
                "json_schema" => {
                    (Grammar::Json(json!({"enum": [literal]})), format!("\"{literal}\""))
                }
                "regex" => (Grammar::Regex(literal.to_owned()), literal.to_owned()),
                _ => (Grammar::Gbnf(format!("root ::= \"{literal}\"")), literal.to_owned()),
            };
            let grammar: Option<(&str, Value)> = Some((field, value_of(&grammar)));
            let free = Ask::greedy(self.text_prompt(), LITERAL_LEN_MAX);
            let ask = Ask { grammar, is_endless: false, ..free };
            match self.answered(&ask).await {
                Ok(said) => {
                    let kept = said.text().trim() == wanted;
                    row.works &= kept;
                    row.lied |= !kept;
                }
                Err(ref fault @ Fault::Status { ref said, code, .. }) if fault.is_refusal() => {
                    row.works = false;
                    let said = self.client.quoted(said);
                    row.refusal = Some(format!("{code} {said}").trim_end().to_owned());
                    break;
                }
                Err(fault) if fault.is_refusal() => {
                    row.works = false;
                    row.refusal = Some(self.client.quoted(&fault.to_string()));
                    break;
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(row)
    }

    /// Whether it tells the probability of a text that it is given: it must be what it was when it was drawn.
    async fn probe_scores(&mut self) {
        let able = matches!(self.kind, Kind::Vllm | Kind::Sglang)
            || (self.kind == Kind::LlamaCpp && self.capabilities.logit_bias);
        if !able || self.lexicon.prompts != Prompts::Tokens || self.capabilities.logprobs == 0 {
            return;
        }
        let prompt = self.lexicon.tokenizer.encode(TEXT);
        let ask = Ask { top_len: 1, ..Ask::greedy(Prompt::Tokens(prompt.clone()), 1) };
        let Ok(said) = self.answered(&ask).await else { return };
        let Some((first, logprob)) =
            said.pieces.first().and_then(|piece| Some((piece, piece.logprob?)))
        else {
            return;
        };
        let Some(token) =
            self.lexicon.drawn(first).ok().and_then(|drawn| Some(drawn.first()?.token))
        else {
            return;
        };
        let scored = self.score(&prompt, &[token]).await;
        self.capabilities.scores =
            scored.is_ok_and(|scored| (scored[0] - logprob).abs() < SCORE_TOLERANCE);
    }
}
