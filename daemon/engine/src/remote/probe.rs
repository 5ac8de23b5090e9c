//! Finding out what a server can do, by having it do it.

use std::{path::Path, sync::Arc};

use serde_json::json;

use super::{
    ask::{Ask, Prompt},
    capabilities::{Capabilities, Prompts, Words},
    downgrades,
    fault::Fault,
    hear::{Heard, Piece},
    http::Client,
    kind::{Greeting, Kind, greet},
    known::Known,
    options::{Probing, RemoteOptions, RemoteWords},
    server::Server,
    stream::{patiently, stream, whole},
    tried::FORMS,
    words::Lexicon,
};
use crate::{
    job::TokenId,
    sampling::Sampling,
    tokenizer::{PlainVocabulary, Tokenizer, read_json},
};

/// What servers are asked to go on with: nothing that two tokenizers cut alike by chance.
pub(super) const TEXT: &str = "fn main() {\n    let answer = 41 + 1;\n    println!(\"{answer} — naïve ✓\");\n}\n\nThe quick brown fox ";
/// A text that nearly every model goes on with a blank and a number.
const COUNTED: &str = "1, 2, 3, 4, 5, 6, 7, 8,";
/// How many tokens are asked for to see how an answer begins.
const BLANK_LEN: usize = 3;
/// How many tokens an answer to a probe has at most.
const ANSWER_LEN_MAX: usize = 12;

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
    let told = greeting.context;
    let context = told.unwrap_or(super::CONTEXT_UNKNOWN);
    let vocabulary = tokenizer.len();
    let blank = Capabilities {
        url: client.url.clone(),
        server: greeting.kind.name().to_owned(),
        version: greeting.version.as_deref().map(|version| client.quoted(version)),
        words,
        prompts: Prompts::Text,
        logprobs: 0,
        streaming: false,
        loses_blank: false,
        seed: None,
        stop: None,
        logit_bias: false,
        prefix_reused: None,
        parallel: greeting.parallel,
        scores: None,
        structured: Vec::new(),
        downgrades: Vec::new(),
    };
    let lexicon = Lexicon::new(tokenizer, false, Prompts::Text);
    let Greeting { kind, model, .. } = greeting.clone();
    let mut server = Server {
        client,
        kind,
        model,
        lexicon,
        capabilities: blank,
        vocabulary,
        top_len_max: 0,
        tried: Arc::default(),
        streams: true,
    };
    let known = Known::of(&server, options, &greeting);
    if !known.recall(&mut server, options.probing) {
        server.probe(options.probing).await?;
        known.remember(&server, options.probing);
    }
    server.capabilities.downgrades = downgrades::of(&server, told, options.probing);
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
pub(super) struct Answered {
    pub(super) pieces: Vec<Piece>,
    prompt: Option<usize>,
    cached: Option<usize>,
}

impl Answered {
    pub(super) fn text(&self) -> String {
        let bytes: Vec<u8> = self.pieces.iter().flat_map(|piece| piece.bytes.clone()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Server {
    async fn probe(&mut self, probing: Probing) -> Result<(), Fault> {
        let said = self.probe_words().await?;
        self.probe_bias(&said).await?;
        self.probe_stream().await?;
        self.probe_blank().await?;
        if probing == Probing::All {
            self.probe_draws(&said.text()).await?;
            for form in FORMS {
                let row = self.structured(form).await?;
                self.capabilities.structured.extend(row);
            }
            self.capabilities.scores = Some(self.scores().await?);
        }
        Ok(())
    }

    pub(super) async fn answered(&self, ask: &Ask) -> Result<Answered, Fault> {
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

    pub(super) fn text_prompt(&self) -> Prompt {
        match self.lexicon.prompts {
            Prompts::Text => Prompt::Text(TEXT.to_owned()),
            Prompts::Tokens => Prompt::Tokens(self.lexicon.tokenizer.encode(TEXT)),
        }
    }

    /// Whether its tokens are those of the tokenizer, and whether it takes prompts as such; and what it says after the text.
    async fn probe_words(&mut self) -> Result<Answered, Fault> {
        let ids = self.lexicon.tokenizer.encode(TEXT);
        let theirs = match self.capabilities.words {
            Words::Bytes => None,
            _ => self.tokenized(TEXT).await?,
        };
        let by_tokens = if theirs.as_ref() == Some(&ids) {
            self.lexicon.is_shared = true;
            match self.listed(Prompt::Tokens(ids.clone())).await {
                Ok(said) if said.prompt == Some(ids.len()) => return Ok(self.takes_tokens(said)),
                Ok(said) => Some(said),
                Err(fault) if fault.is_refusal() => None,
                Err(fault) => return Err(fault),
            }
        } else {
            None
        };
        let by_text = self.listed(Prompt::Text(TEXT.to_owned())).await?;
        // A token may stand before every text.
        let is_counted = |len: usize| len == ids.len() || len == ids.len() + 1;
        if self.capabilities.words != Words::Bytes && theirs.is_none() {
            self.lexicon.is_shared = by_text.prompt.is_some_and(is_counted);
        }
        let by_tokens = match by_tokens {
            None if self.lexicon.is_shared && theirs.is_none() => {
                let ask = Ask::greedy(Prompt::Tokens(ids.clone()), ANSWER_LEN_MAX);
                match self.answered(&ask).await {
                    Ok(said) => Some(said),
                    Err(fault) if fault.is_refusal() => None,
                    Err(fault) => return Err(fault),
                }
            }
            tried => tried,
        };
        let is_read = by_tokens.is_some_and(|said| {
            said.prompt.map_or_else(|| said.text() == by_text.text(), |len| len == ids.len())
        });
        Ok(if is_read { self.takes_tokens(by_text) } else { by_text })
    }

    fn takes_tokens(&mut self, said: Answered) -> Answered {
        self.lexicon.prompts = Prompts::Tokens;
        self.capabilities.prompts = Prompts::Tokens;
        said
    }

    /// What it says after a prompt, with as many of the likeliest tokens as it lists.
    async fn listed(&mut self, prompt: Prompt) -> Result<Answered, Fault> {
        let plain = Ask::greedy(prompt, ANSWER_LEN_MAX);
        let listing = Ask { top_len: self.kind.top_len_max(), ..plain.clone() };
        let said = match self.answered(&listing).await {
            Err(fault) if fault.is_refusal() => self.answered(&plain).await?,
            said => said?,
        };
        let len = |piece: &Piece| piece.top.len().max(usize::from(piece.logprob.is_some()));
        let listed = said.pieces.iter().map(len).max().unwrap_or(0);
        self.capabilities.logprobs = listed;
        self.top_len_max = if listed == 0 { 0 } else { self.kind.top_len_max() };
        Ok(said)
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

    /// Whether it leaves out a token that it would say.
    async fn probe_bias(&mut self, said: &Answered) -> Result<(), Fault> {
        if self.lexicon.is_shared
            && let Some(first) = said.pieces.first()
            && let Some(token) = self.lexicon.drawn(first)?.first().map(|drawn| drawn.token)
        {
            let plain = Ask::greedy(self.text_prompt(), 1);
            let banned = Ask { bias: vec![(token, f32::NEG_INFINITY)], ..plain };
            let other = self.answered(&banned).await;
            self.reuses(other.as_ref().ok().and_then(|other| other.cached));
            self.capabilities.logit_bias = able(other.map(|other| {
                other.pieces.first().is_some_and(|piece| piece.bytes != first.bytes)
            }))?;
        }
        Ok(())
    }

    /// So many tokens of a prompt were not computed again.
    fn reuses(&mut self, cached: Option<usize>) {
        self.capabilities.prefix_reused = self.capabilities.prefix_reused.max(cached);
    }

    /// Whether seeds and texts to stop at do anything.
    async fn probe_draws(&mut self, said: &str) -> Result<(), Fault> {
        let plain = Ask::greedy(self.text_prompt(), ANSWER_LEN_MAX);
        let warm = Sampling { temperature: 2.0, ..Sampling::GREEDY };
        let mut cached = None;
        let mut drawn = async |seed: u32| {
            let ask = Ask { sampling: warm.clone(), seed, ..plain.clone() };
            self.answered(&ask).await.map(|said| {
                cached = cached.max(said.cached);
                said.text()
            })
        };
        let seeds = async {
            let (first, again, other) = (drawn(11).await?, drawn(11).await?, drawn(12).await?);
            Ok(first == again && first != other)
        };
        let seed = able(seeds.await)?;
        self.reuses(cached);
        self.capabilities.seed = Some(seed);
        self.capabilities.stop = Some(self.probe_stop(&plain, said).await?);
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
        let (mut parts, mut reused) = (0, None);
        let tell = async |heard: Vec<Heard>| {
            parts += usize::from(heard.iter().any(|heard| matches!(heard, Heard::Piece(_))));
            for heard in heard {
                if let Heard::Usage { cached, .. } = heard {
                    reused = reused.max(cached);
                }
            }
            true
        };
        let streamed = stream(&self.client, self.kind, &self.body(&ask), tell).await;
        self.reuses(reused);
        self.streams = able(streamed.map(|()| true))?;
        self.capabilities.streaming = self.streams && parts > 1;
        Ok(())
    }

    /// Whether a stream brings the blank that an answer begins with. mlx_lm.server's words lose it, and the numbers of tokens that it lists
    /// with a whole answer do not: then answers are better had whole.
    async fn probe_blank(&mut self) -> Result<(), Fault> {
        if !self.streams || self.kind.lists_in_streams() || !self.lexicon.is_shared {
            return Ok(());
        }
        for text in [COUNTED, TEXT.trim_end()] {
            let whole = Ask {
                top_len: self.top_len_max.min(1),
                ..Ask::greedy(Prompt::Text(text.to_owned()), BLANK_LEN)
            };
            let said = self.answered(&whole).await?;
            let first = said.pieces.first().map(|piece| self.lexicon.drawn(piece)).transpose()?;
            let token = first.and_then(|drawn| drawn.first().map(|drawn| drawn.token));
            let is_blank = |bytes: &[u8]| bytes.first() == Some(&b' ');
            if !token.is_some_and(|token| is_blank(self.lexicon.tokenizer.token_bytes(token))) {
                continue;
            }
            let mut streamed: Option<Vec<u8>> = None;
            let tell = async |heard: Vec<Heard>| {
                for heard in heard {
                    if let Heard::Piece(piece) = heard
                        && !piece.bytes.is_empty()
                    {
                        streamed.get_or_insert(piece.bytes);
                    }
                }
                true
            };
            let ask = Ask { streams: true, top_len: 0, ..whole };
            stream(&self.client, self.kind, &self.body(&ask), tell).await?;
            if streamed.is_some_and(|bytes| !is_blank(&bytes)) {
                (self.streams, self.capabilities.streaming) = (false, false);
                self.capabilities.loses_blank = true;
            }
            break;
        }
        Ok(())
    }
}
