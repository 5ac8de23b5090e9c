//! A model that says what a test wrote down: the same engine thread, scheduler, sampler and rewinds, without weights.
//!
//! The script is a function from all tokens seen so far to the logits of the next one, so it needs no state, and rewinding it is
//! as exact as rewinding a real model.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Backend, Feed, Rows, TensorHead};
use crate::{
    info::{Compute, ModelInfo},
    job::{EngineError, SoulId, TokenId},
    line::Line,
    speculate::Speculation,
    thread::{self, Facts, Opened},
    tokenizer::{PlainVocabulary, Tokenizer},
};

/// The logit of a token that the script does not mention.
const FLOOR: f32 = -30.0;
/// The longest prompt plus answer of a scripted model.
const CONTEXT_MAX: usize = 1 << 16;
/// As small as it may be, so that tests see prefill boundaries.
const CHUNK_LEN_MAX: usize = 64;

type Rule = Box<dyn Fn(&[TokenId]) -> Vec<(TokenId, f32)> + Send>;

/// What a scripted model says. Tokens 0–255 are bytes; words and the usual special tokens follow.
pub struct Script {
    words: Vec<String>,
    lines: Vec<ScriptLine>,
    rule: Option<Rule>,
    delay: Duration,
    panic_after: Option<usize>,
    fail_after: Option<usize>,
    shortage: Arc<AtomicU64>,
    rigid: bool,
    fed: Arc<AtomicUsize>,
    rows: Arc<AtomicUsize>,
    busy: Arc<AtomicU64>,
    speculation: Speculation,
    drafter: Option<Box<Script>>,
}

/// After `cue`, the model says `text` and then ends the text.
struct ScriptLine {
    cue: String,
    text: String,
    logit: f32,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            words: Vec::new(),
            lines: Vec::new(),
            rule: None,
            delay: Duration::ZERO,
            panic_after: None,
            fail_after: None,
            rows: Arc::default(),
            shortage: Arc::default(),
            rigid: false,
            fed: Arc::default(),
            busy: Arc::default(),
            // What pays depends on the time that passes take, and theirs means nothing.
            speculation: Speculation::Off,
            drafter: None,
        }
    }
}

impl Script {
    /// A model that ends every text at once.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds tokens that stand for several bytes.
    pub fn words(mut self, words: &[&str]) -> Self {
        self.words.extend(words.iter().map(|word| (*word).to_owned()));
        self
    }

    /// After a text that ends in `cue` (which may name special tokens and is not empty), the model says `text` and ends. Where
    /// several lines fit, each next token has its line's logit; where one token continues several lines, the greatest.
    pub fn line(mut self, cue: &str, text: &str, logit: f32) -> Self {
        self.lines.push(ScriptLine { cue: cue.to_owned(), text: text.to_owned(), logit });
        self
    }

    /// Replaces the lines by a function: all tokens seen so far, to the logits of the next one. Tokens that it leaves out get a
    /// logit of −30.
    pub fn rule(
        mut self,
        rule: impl Fn(&[TokenId]) -> Vec<(TokenId, f32)> + Send + 'static,
    ) -> Self {
        self.rule = Some(Box::new(rule));
        self
    }

    /// Every forward pass takes this long.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The model panics when it is fed its token number `tokens`.
    pub fn panic_after(mut self, tokens: usize) -> Self {
        self.panic_after = Some(tokens);
        self
    }

    /// Every pass fails from its token number `tokens` on.
    pub fn fail_after(mut self, tokens: usize) -> Self {
        self.fail_after = Some(tokens);
        self
    }

    /// The number of bytes that the system is said to be short of memory when the engine looks the next time; a test sets it while the
    /// model runs.
    pub fn shortage(&self) -> Arc<AtomicU64> {
        self.shortage.clone()
    }

    /// Caches can be cut back only to places where the engine made a checkpoint, like those of recurrent models.
    pub fn rigid(mut self) -> Self {
        self.rigid = true;
        self
    }

    /// The nanoseconds that its passes have taken, while it runs: what a real model would be busy with.
    pub fn busy(&self) -> Arc<AtomicU64> {
        self.busy.clone()
    }

    /// Whether jobs are speculated for; they are not if nothing is said.
    pub fn speculation(mut self, speculation: Speculation) -> Self {
        self.speculation = speculation;
        self
    }

    /// Another scripted model, of the same words, drafts for it.
    pub fn drafter(mut self, drafter: Script) -> Self {
        self.drafter = Some(Box::new(drafter));
        self
    }

    /// The most tokens that one pass was fed, while it runs.
    pub fn rows(&self) -> Arc<AtomicUsize> {
        self.rows.clone()
    }

    /// Counts the tokens that the model is fed, while it runs.
    pub fn fed(&self) -> Arc<AtomicUsize> {
        self.fed.clone()
    }
}

pub(crate) fn start(mut script: Script) -> (Line, ModelInfo, Tokenizer) {
    let vocabulary = PlainVocabulary { words: script.words.clone(), is_bare: false };
    let len = vocabulary.len();
    let tokenizer = Tokenizer::plain(vocabulary.clone());
    let facts = Facts::of(&tokenizer, CONTEXT_MAX, len, script.speculation);
    let eos = facts.eos[0];
    let model = |script: Script| {
        let encode = |text: &str| tokenizer.encode_prompt(text);
        let lines = script.lines.iter();
        let lines = lines.map(|line| (encode(&line.cue), encode(&line.text), line.logit)).collect();
        Scripted { script, lines, vocabulary: len, eos }
    };
    let drafter = script.drafter.take().map(|script| model(*script));
    let opened = Opened { backend: model(script), drafter };
    let started: Result<(Line, ()), String> = thread::start(move |_| Ok((opened, facts, ())));
    let line = started.map_or_else(
        |reason| {
            let line = Line::new();
            line.shared.take_down(&reason);
            line
        },
        |(line, ())| line,
    );
    let info = ModelInfo {
        name: "scripted".to_owned(),
        path: PathBuf::new(),
        architecture: "scripted".to_owned(),
        parameters: 0,
        parameters_active: 0,
        vocabulary: len,
        context_max: CONTEXT_MAX,
        bytes_resident: 0,
        bytes_per_token: 0,
        context_fits: CONTEXT_MAX,
        quantization: None,
        compute: Compute::Parity,
        unpacked: Vec::new(),
        config_unknown: Vec::new(),
        remote: None,
    };
    (line, info, tokenizer)
}

struct Scripted {
    script: Script,
    /// Cue, text, logit.
    lines: Vec<(Vec<TokenId>, Vec<TokenId>, f32)>,
    vocabulary: usize,
    eos: TokenId,
}

impl Scripted {
    fn feed(&self, feed: &mut Feed<'_, Seen>) -> Vec<f32> {
        let mut logits = Vec::new();
        for (index, &token) in feed.tokens.iter().enumerate() {
            feed.state.tokens.push(token);
            let behind = feed.tokens.len() - index;
            let is_wanted = match feed.rows {
                Rows::None => false,
                Rows::Last => behind == 1,
                Rows::Tail(count) => behind <= count,
                Rows::All => true,
            };
            if is_wanted {
                logits.extend(self.logits(&feed.state.tokens));
            }
        }
        logits
    }

    fn logits(&self, seen: &[TokenId]) -> Vec<f32> {
        let mut logits = vec![FLOOR; self.vocabulary];
        let said = match &self.script.rule {
            Some(rule) => rule(seen),
            None => self.said(seen),
        };
        for (token, logit) in said {
            if let Some(slot) = logits.get_mut(token as usize) {
                *slot = slot.max(logit);
            }
        }
        logits
    }

    /// The next token of every line that `seen` is in the middle of; the end of text where there is none.
    fn said(&self, seen: &[TokenId]) -> Vec<(TokenId, f32)> {
        let mut said = Vec::new();
        for (cue, text, logit) in &self.lines {
            for spoken in 0..=text.len() {
                let before = seen.len().checked_sub(spoken);
                if before
                    .is_some_and(|at| seen[..at].ends_with(cue) && seen[at..] == text[..spoken])
                {
                    said.push((text.get(spoken).copied().unwrap_or(self.eos), *logit));
                }
            }
        }
        if said.is_empty() {
            said.push((self.eos, 0.0));
        }
        said
    }
}

/// What a sequence was fed.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    tokens: Vec<TokenId>,
    /// The lengths that it can be cut back to, where it cannot be cut anywhere.
    places: Vec<usize>,
}

impl Backend for Scripted {
    type State = Seen;
    type Tensor = Vec<u8>;

    fn fresh(&mut self) -> Seen {
        Seen::default()
    }

    fn len(&self, state: &Seen) -> usize {
        state.tokens.len()
    }

    fn fork(&mut self, state: &Seen, len: usize) -> Seen {
        let mut fork = state.clone();
        self.truncate(&mut fork, len);
        fork
    }

    fn truncate(&mut self, state: &mut Seen, len: usize) {
        if len >= state.tokens.len() {
            return;
        }
        state.places.retain(|&place| place <= len);
        let len = if self.script.rigid { state.places.last().copied().unwrap_or(0) } else { len };
        state.tokens.truncate(len);
    }

    fn checkpoint(&mut self, state: &mut Seen) {
        state.places.push(state.tokens.len());
    }

    fn forward(
        &mut self,
        _soul: Option<SoulId>,
        feeds: &mut [Feed<'_, Seen>],
        meanwhile: &mut dyn FnMut(),
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        meanwhile();
        let started = Instant::now();
        std::thread::sleep(self.script.delay);
        let tokens = feeds.iter().map(|feed| feed.tokens.len()).sum();
        let fed = self.script.fed.fetch_add(tokens, Ordering::SeqCst) + tokens;
        self.script.rows.fetch_max(tokens, Ordering::SeqCst);
        if self.script.fail_after.is_some_and(|limit| fed >= limit) {
            return Err(EngineError::Backend("the script says so".to_owned()));
        }
        if let Some(limit) = self.script.panic_after {
            assert!(fed < limit, "the script says so");
        }
        let rows = feeds.iter_mut().map(|feed| self.feed(feed)).collect();
        self.script.busy.fetch_add(started.elapsed().as_nanos() as u64, Ordering::SeqCst);
        Ok(rows)
    }

    fn chunk_len_max(&self, _soul: Option<SoulId>, _seen: usize) -> usize {
        CHUNK_LEN_MAX
    }

    fn shortage(&mut self) -> u64 {
        self.script.shortage.swap(0, Ordering::SeqCst)
    }

    fn bytes(&self, states: &[&Seen]) -> u64 {
        states.iter().map(|state| (state.tokens.len() * size_of::<TokenId>()) as u64).sum()
    }

    fn save(&mut self, state: &Seen) -> Result<Vec<(TensorHead, Vec<u8>)>, EngineError> {
        // In two parts, so that there is more than one.
        let bytes: Vec<u8> = state.tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
        let (first, rest) = bytes.split_at(bytes.len() / 8 * 4);
        let part = |name: &str, bytes: &[u8]| {
            let (name, dtype) = (name.to_owned(), "U32".to_owned());
            let (shape, len) = (vec![bytes.len() / 4], bytes.len() as u64);
            (TensorHead { name, dtype, shape, bytes: len }, bytes.to_vec())
        };
        Ok(vec![part("0.seen", first), part("1.seen", rest)])
    }

    fn tensor_bytes(&mut self, tensor: &Vec<u8>) -> Result<Vec<u8>, EngineError> {
        Ok(tensor.clone())
    }

    fn tensor(&mut self, _head: &TensorHead, bytes: &[u8]) -> Result<Vec<u8>, EngineError> {
        Ok(bytes.to_vec())
    }

    fn restore(
        &mut self,
        len: usize,
        tensors: Vec<(String, Vec<u8>)>,
    ) -> Result<Seen, EngineError> {
        let bytes: Vec<u8> = tensors.into_iter().flat_map(|(_, bytes)| bytes).collect();
        let words = bytes.chunks_exact(4).map(|word| [word[0], word[1], word[2], word[3]]);
        let tokens: Vec<TokenId> = words.map(TokenId::from_le_bytes).collect();
        if tokens.len() != len {
            return Err(EngineError::Backend("the parts are of another cache".to_owned()));
        }
        Ok(Seen { tokens, places: vec![len] })
    }
}
