//! A sequence with its tape: takes steps, goes back, and ends loops.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{
    Class, Engine, EngineError, Finish, Job, Limits, Mixture, Sampling, Sequence, Speculation,
    SubmitError, TokenId,
};

use crate::ban::{Bans, Guard};
use crate::loops::tail_loop;
use crate::prompt::Prompt;
use crate::tape::Tape;

/// Steps that the engine may decode while a check runs. More would be thrown away too often.
pub(crate) const AHEAD_MAX: u32 = 12;
/// Tokens less likely than this share of the likeliest never come.
const MIN_P: f32 = 0.05;
/// How much warmer each retry is, from the second on: the first takes the runner-up.
const RETRY_TEMPERATURE: f32 = 0.2;
/// How much warmer it gets after a loop.
const LOOP_TEMPERATURE: f32 = 0.3;
/// Loops that are taken back before the text is simply cut.
const LOOPS_MAX: u32 = 1;

/// Shorter names of special tokens are words of markup (`<s>`).
const SPECIAL_BYTES_MIN: usize = 5;

/// A token that is less likely than this, where another one was banned, is nothing that the model would say.
const IMPROBABLE: f32 = 1e-4;

/// What a step brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reached {
    /// More of the same line.
    Token,
    /// The end of a line, maybe with the start of the next.
    Line,
    /// The model has nothing more to say, or may not say more.
    End,
}

/// What the writing is to be like.
pub(crate) struct Manner {
    pub(crate) class: Class,
    pub(crate) temperature: f32,
    pub(crate) seed: u64,
    pub(crate) tokens_max: u32,
    /// Tokens that may not come first.
    pub(crate) not_first: Vec<TokenId>,
    /// What it may repeat, beside the prompt.
    pub(crate) lookup: Vec<Arc<[TokenId]>>,
    /// What has a say beside the model.
    pub(crate) mixture: Option<Box<dyn Mixture>>,
}

/// One sequence of the engine, and what it has said.
pub(crate) struct Writer<'e> {
    engine: &'e Engine,
    sequence: Sequence,
    pub(crate) tape: Tape,
    pub(crate) bans: Bans,
    seed: u64,
    temperature: f32,
    retries: u32,
    loops: u32,
    ended: bool,
    /// The token that ended the text, and how sure it was; it is not on the tape.
    stop: Option<(TokenId, Option<f32>)>,
    /// A token was banned, and nothing has come instead yet.
    turned: bool,
    gave_up: bool,
    started: Instant,
    /// Until the first token.
    pub(crate) prefill: Option<Duration>,
    /// Waiting for later tokens.
    pub(crate) decode: Duration,
    pub(crate) tokens: u32,
    pub(crate) rewinds: u32,
}

impl<'e> Writer<'e> {
    pub(crate) fn start(
        engine: &'e Engine,
        prompt: Prompt,
        manner: Manner,
    ) -> Result<Writer<'e>, SubmitError> {
        let tokenizer = engine.tokenizer();
        let bans = Bans::default();
        let tape = Tape::new(prompt.healed.len());
        let vocabulary: Arc<[Box<[u8]>]> = if prompt.healed.is_empty() {
            Arc::from([])
        } else {
            (0..tokenizer.len())
                .map(|token| Box::from(tokenizer.token_bytes(token as TokenId)))
                .collect()
        };
        let guard = Guard {
            bans: bans.clone(),
            vocabulary,
            healed: prompt.healed,
            not_first: manner.not_first,
        };
        let sequence = engine.submit(Job {
            prompt: prompt.tokens,
            constraint: Some(Box::new(guard)),
            sampling: Sampling {
                temperature: manner.temperature,
                min_p: MIN_P,
                seed: manner.seed,
                ..Sampling::GREEDY
            },
            limits: Limits {
                tokens_max: manner.tokens_max,
                stop: stops(engine),
                ahead_max: AHEAD_MAX,
            },
            class: manner.class,
            soul: None,
            mixture: manner.mixture,
            lookup: manner.lookup,
            speculation: Speculation::Auto,
        })?;
        Ok(Writer {
            engine,
            sequence,
            tape,
            bans,
            seed: manner.seed,
            temperature: manner.temperature,
            retries: 0,
            loops: 0,
            ended: false,
            stop: None,
            turned: false,
            gave_up: false,
            started: Instant::now(),
            prefill: None,
            decode: Duration::ZERO,
            tokens: 0,
            rewinds: 0,
        })
    }

    /// What has been written.
    pub(crate) fn text(&self) -> &str {
        self.tape.text()
    }

    /// Where the text spells the name of a special token that is not in `known`: nobody writes that but a model that has lost its way.
    pub(crate) fn special_at(&self, known: &str) -> Option<usize> {
        let found = self.engine.tokenizer().find_special(self.text());
        let is_name = |name: &str| name.len() >= SPECIAL_BYTES_MIN && !known.contains(name);
        found.filter(|(_, name)| is_name(name)).map(|(at, _)| at)
    }

    /// Whether there is nothing more to say, unless it goes back.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// The place of the token that ended the text, if one did: behind the last one.
    pub(crate) fn stopped_at(&self) -> Option<usize> {
        self.stop.map(|_| self.tape.len())
    }

    /// How sure the tokens were that made the first `len` bytes of the text, and the one behind them, which ended it. `None` where nobody
    /// knows.
    pub(crate) fn sureness(&self, len: usize) -> Option<(Vec<f32>, Option<f32>)> {
        let last = self.tape.token_at(len.checked_sub(1)?)?;
        let own = self.tape.final_logprobs(last + 1)?;
        let behind = if len < self.text().len() && self.tape.token_at(len) == Some(last) {
            Some(0.0) // It is in the same token.
        } else if last + 1 < self.tape.len() {
            self.tape.cell(last + 1).final_logprob
        } else {
            self.stop.and_then(|(_, final_logprob)| final_logprob)
        };
        Some((own, behind))
    }

    /// Whether what was banned has left nothing that the model would say.
    pub(crate) fn gave_up(&self) -> bool {
        self.gave_up
    }

    /// Takes one step. Dropping the future loses nothing.
    pub(crate) async fn step(&mut self) -> Result<Reached, EngineError> {
        if self.ended {
            return Ok(Reached::End);
        }
        let asked = Instant::now();
        let step = self.sequence.next().await;
        match self.prefill {
            None => self.prefill = Some(self.started.elapsed()),
            Some(_) => self.decode += asked.elapsed(),
        }
        let step = match step {
            Ok(Some(step)) => step,
            Ok(None) => return Ok(self.end()),
            Err(EngineError::NothingAllowed { .. }) => {
                self.gave_up = true;
                return Ok(self.end());
            }
            Err(error) => return Err(error),
        };
        self.tokens += 1;
        if let Some(len) = step.rewound_to {
            self.tape.truncate(len);
        }
        if std::mem::take(&mut self.turned) && step.logprob < IMPROBABLE.ln() {
            self.gave_up = true;
            return Ok(self.end());
        }
        // No other mark of the model's own is text either.
        if step.finish == Some(Finish::Stop) || self.engine.tokenizer().is_special(step.token) {
            self.stop = Some((step.token, step.final_logprob));
            return Ok(self.end());
        }
        let bytes = self.engine.tokenizer().token_bytes(step.token);
        self.tape.push(&step, bytes);
        if step.finish == Some(Finish::Collapse) {
            self.tape.truncate(step.settled);
            return Ok(self.end());
        }
        if self.tape.is_broken() || step.finish.is_some() {
            return Ok(self.end());
        }
        if let Some(found) = tail_loop(&self.tape.tokens()) {
            return Ok(self.leave_loop(found.second));
        }
        Ok(if bytes.contains(&b'\n') { Reached::Line } else { Reached::Token })
    }

    /// Goes back to before token `to`, bans it there, takes away what led from it to `refused_end`, and goes on another way.
    pub(crate) fn go_back(&mut self, to: usize, refused_end: usize) {
        self.retries += 1;
        let warmer = RETRY_TEMPERATURE * self.retries.saturating_sub(1) as f32;
        self.turn(to, refused_end, (self.temperature + warmer).min(1.0));
    }

    /// Starts over from before token `to` in the first manner, without the token that stood there.
    pub(crate) fn start_over(&mut self, to: usize) {
        self.retries = 0;
        self.turn(to, to + 1, self.temperature);
    }

    fn turn(&mut self, to: usize, refused_end: usize, temperature: f32) {
        let tokens = self.tape.tokens();
        let refused: Vec<(TokenId, f32)> = (to..refused_end.min(tokens.len()))
            .map(|index| (tokens[index], self.tape.cell(index).logprob))
            .collect();
        let stop = self.stop.map(|(token, _)| token);
        self.bans.with(|bans| {
            bans.reject(&tokens[..to], &refused);
            if let Some(token) = refused.first().map(|(token, _)| *token).or(stop) {
                bans.ban(&tokens[..to], token);
            }
        });
        self.stop = None;
        self.rewinds += 1;
        self.ended = false;
        self.gave_up = false;
        self.turned = true;
        self.tape.truncate(to);
        let mark = self.sequence.mark_at(to);
        self.sequence.rewind(mark);
        self.sequence.reseed(self.seed.wrapping_add(u64::from(self.rewinds)), temperature);
    }

    /// The first loop is taken back and its first token banned, a later one is cut off.
    fn leave_loop(&mut self, second: usize) -> Reached {
        self.loops += 1;
        if self.loops > LOOPS_MAX {
            self.tape.truncate(second);
            return self.end();
        }
        self.turn(second, second + 1, (self.temperature + LOOP_TEMPERATURE).min(1.0));
        Reached::Token
    }

    fn end(&mut self) -> Reached {
        self.ended = true;
        Reached::End
    }
}

/// The tokens that no text may hold: those of the prompt's own form.
pub(crate) fn stops(engine: &Engine) -> Vec<TokenId> {
    let fim = engine.tokenizer().fim();
    fim.map_or_else(Vec::new, |fim| {
        [fim.prefix, fim.suffix, fim.middle]
            .into_iter()
            .chain(fim.file_sep)
            .chain(fim.pad)
            .collect()
    })
}
