//! A job on its way: what has come from the server, and what has been made of it.
//!
//! The server's draw is judged by the same code that draws in this process ([`Decode`]): it is shown a row of logits in which only the
//! token that came has a chance, or, where the server lists the likeliest tokens, these. What the constraint refuses is drawn
//! again from the list, or asked for again without it; then the text is sent again as far as it stands, which a server with a
//! prefix cache does not compute again.

use std::collections::VecDeque;

use tokio::task::AbortHandle;

use super::{
    ask::Ask,
    fault::Fault,
    hear::{Heard, Piece},
    server::Server,
    words::Drawn,
};
use crate::{
    job::{Class, EngineError, Step, TokenId},
    line::{Board, Mailbox},
    run::{Decode, Turn},
    thread::Facts,
};

/// How often one token is asked for again because the constraint refused it.
const REDRAWS_MAX: u32 = 12;
/// How many of the likeliest tokens a job with a constraint asks for.
const CONSTRAINED_TOP_LEN: u32 = 20;
/// What a token's probability is taken for that the server does not tell: neither sure nor improbable.
const UNKNOWN_LOGPROB: f32 = -1.0;
/// An answer that brings nothing.
pub(super) const NOTHING: &str = "answers without a word and without an end";
/// How many answers in a row may bring no token.
const EMPTY_MAX: u32 = 4;
/// How many tokens are asked for at a time where answers do not stream.
const WHOLE_LEN_MAX: usize = 64;
/// How much warmer each redraw is, where a refused token cannot be left out.
const REDRAW_TEMPERATURE: f32 = 0.25;

/// A job in progress.
pub(super) struct Run {
    pub(super) decode: Decode,
    pub(super) class: Class,
    pub(super) arrival: u64,
    /// What has come and is not on the tape.
    pending: VecDeque<Drawn>,
    pub(super) request: Option<Request>,
    /// Pieces of the last request.
    came: usize,
    /// How many it was asked for.
    asked: usize,
    /// How many tokens the tape has room for behind what it had when the request was sent.
    left: usize,
    /// Answers in a row that brought no token.
    empty: u32,
    /// The server ended the text, and there is no token that says so.
    ended: bool,
    /// The constraint wants the text to go on nevertheless.
    goes_on: bool,
    /// Tokens that were refused at this place.
    refused: Vec<TokenId>,
    redraws: u32,
    /// The bytes that the answer has to begin with: the rest of a character that is in the prompt already.
    skip: Vec<u8>,
    /// How many steps the caller would take.
    pub(super) room: usize,
    /// Nothing more comes: how that is told.
    fault: Option<Fault>,
}

/// A request that is being answered. Dropping it ends it.
pub(super) struct Request {
    pub(super) generation: u64,
    pub(super) task: AbortHandle,
    /// The server has said how long the prompt was.
    pub(super) is_counted: bool,
}

impl Drop for Request {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What came of a run's tokens.
pub(super) enum Outcome {
    Step(Step),
    /// The guard has cut the tape.
    Back(usize),
    /// The server ended the text, and there is no token that says so.
    Ended,
    Failed(EngineError),
}

impl Run {
    pub(super) fn new(decode: Decode, class: Class, arrival: u64) -> Run {
        Run {
            decode,
            class,
            arrival,
            pending: VecDeque::new(),
            request: None,
            came: 0,
            asked: 0,
            left: 0,
            empty: 0,
            ended: false,
            goes_on: false,
            refused: Vec::new(),
            redraws: 0,
            skip: Vec::new(),
            room: 0,
            fault: None,
        }
    }

    /// Looks how much its caller would take.
    pub(super) fn look(&mut self, board: &Board) {
        let mailbox = board.mailboxes.get(&self.decode.id);
        self.room = mailbox.map_or(0, |mailbox| self.room_in(mailbox));
    }

    fn room_in(&self, mailbox: &Mailbox) -> usize {
        if mailbox.ended || self.decode.finished {
            return 0;
        }
        let ahead = (self.decode.limits.ahead_max as usize).saturating_sub(mailbox.steps.len());
        let waited = mailbox.steps.is_empty() && mailbox.waiter.is_some();
        ahead.max(usize::from(waited))
    }

    /// Whether it has to ask the server before anything can be said.
    pub(super) fn wants_request(&self) -> bool {
        self.room > 0 && self.request.is_none() && !self.has_news()
    }

    /// Whether there is anything that can be said.
    fn has_news(&self) -> bool {
        !self.pending.is_empty() || self.fault.is_some() || self.ended
    }

    /// Forgets what is not on the tape: the text goes on from there.
    pub(super) fn interrupt(&mut self) {
        self.request = None;
        self.pending.clear();
        self.fault = None;
        self.ended = false;
        self.came = 0;
    }

    /// The tape was cut, or is to be gone on with in another way.
    pub(super) fn steered(&mut self) {
        self.interrupt();
        self.agreed();
    }

    /// Nothing of what was refused before matters any more.
    fn agreed(&mut self) {
        self.refused.clear();
        (self.redraws, self.empty, self.goes_on) = (0, 0, false);
    }

    /// What to ask the server for.
    pub(super) fn ask(&mut self, server: &Server, facts: &Facts) -> Result<Ask, Fault> {
        let tokens = self.decode.all();
        let (prompt, skip) = server.lexicon.prompt(&tokens)?;
        (self.skip, self.came) = (skip, 0);
        let tape_len = self.decode.tape_len();
        let left = (self.decode.limits.tokens_max as usize).saturating_sub(tape_len);
        let left = left.min(facts.context_max.saturating_sub(tokens.len())).max(1);
        self.left = left;
        let left = if server.streams { left } else { left.min(WHOLE_LEN_MAX) };
        let sampling = self.decode.sampling();
        let is_redraw = self.redraws > 0;
        let is_listed = is_redraw || !server.streams || server.kind.lists_in_streams();
        // Numbers of tokens come with lists alone, and say what a text has lost.
        let numbered = u32::from(server.capabilities.loses_blank);
        let least = if self.decode.is_constrained() { CONSTRAINED_TOP_LEN } else { numbered };
        let top_len = sampling.top_len.max(least) as usize;
        let mut ask = Ask {
            prompt,
            // A token that is left out is left out of the whole answer, so it is one token long.
            // Several may make one character.
            tokens_max: if is_redraw { server.kind.redraw_len() } else { left }
                + self.empty as usize,
            sampling: sampling.clone(),
            seed: self.decode.request_seed(self.redraws),
            top_len: if is_listed { top_len.min(server.top_len_max) } else { 0 },
            stop: server.stops(&self.decode.limits.stop),
            bias: Vec::new(),
            grammar: None,
            wanted: self.decode.grammar(),
            streams: server.streams && !is_redraw,
            is_endless: self.goes_on || self.refused.iter().any(|token| facts.eos.contains(token)),
        };
        self.asked = ask.tokens_max;
        if is_redraw && server.takes_bias() {
            ask.bias = self.refused.iter().map(|&token| (token, f32::NEG_INFINITY)).collect();
        } else if is_redraw {
            ask.sampling.temperature += REDRAW_TEMPERATURE * self.redraws as f32;
        }
        Ok(ask)
    }

    /// Whether the server says for the first time how long the prompt was.
    pub(super) fn counts(&mut self) -> bool {
        self.request
            .as_mut()
            .is_some_and(|request| !std::mem::replace(&mut request.is_counted, true))
    }

    /// Takes in what the server said.
    pub(super) fn hear(&mut self, heard: Heard, server: &Server, facts: &Facts) {
        match heard {
            Heard::Piece(piece) => {
                self.came += 1;
                if let Err(fault) = self.hear_piece(piece, server) {
                    self.fail(fault);
                } else if self.pending.len() >= self.left {
                    // Nobody would take more.
                    self.pending.truncate(self.left);
                    self.request = None;
                } else if self.came > self.asked {
                    self.answered(Fault::garbage(NOTHING));
                }
            }
            Heard::Stopped => {
                self.request = None;
                match facts.eos.first().or(self.decode.limits.stop.first()) {
                    Some(&token) => {
                        let is_said = self.pending.back().is_some_and(|last| {
                            facts.eos.contains(&last.token)
                                || self.decode.limits.stop.contains(&last.token)
                        });
                        if !is_said {
                            let end = Drawn { token, logprob: None, top: Vec::new() };
                            self.pending.push_back(end);
                        }
                    }
                    None => self.ended = true,
                }
            }
            Heard::Full => {
                self.answered(Fault::Lacks(
                    "it has no room for another token; give the server a longer context (`model.context_max` must not be more)".to_owned(),
                ));
            }
            Heard::Read(_) | Heard::Usage { .. } => {}
        }
    }

    fn hear_piece(&mut self, mut piece: Piece, server: &Server) -> Result<(), Fault> {
        if !self.skip.is_empty() {
            let common = self.skip.len().min(piece.bytes.len());
            if piece.bytes[..common] != self.skip[..common] {
                return Err(Fault::Lacks(
                    "the text cannot go on in the middle of a character; go back to one's beginning".to_owned(),
                ));
            }
            self.skip.drain(..common);
            piece = piece.without(common);
            if piece.bytes.is_empty() {
                return Ok(());
            }
        }
        if self.redraws == 0 || self.pending.is_empty() {
            self.pending.extend(server.lexicon.drawn(&piece)?);
        }
        Ok(())
    }

    /// The request is answered. Where that brought no token and no end (half a character, say), more is asked for: not for ever.
    pub(super) fn answered(&mut self, otherwise: Fault) {
        self.request = None;
        if self.has_news() {
            return;
        }
        self.empty += 1;
        if self.empty > EMPTY_MAX {
            self.fail(otherwise);
        }
    }

    /// Nothing more comes, behind what is there already.
    pub(super) fn fail(&mut self, fault: Fault) {
        self.request = None;
        self.fault = Some(fault);
    }

    /// Puts tokens that have come on the tape, as many as there is room for.
    pub(super) fn take(&mut self, server: &Server, facts: &Facts) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        while outcomes.len() < self.room {
            let Some(drawn) = self.pending.front().cloned() else {
                if let Some(outcome) = self.end(server, facts) {
                    outcomes.push(outcome);
                    self.room = outcomes.len();
                }
                break;
            };
            match self.judge(&drawn, server, facts) {
                Ok(Some(outcome)) => {
                    let is_over = !matches!(&outcome, Outcome::Step(step) if step.finish.is_none());
                    outcomes.push(outcome);
                    if is_over {
                        self.interrupt();
                        self.room = outcomes.len(); // Nobody has asked for more yet.
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    self.interrupt();
                    outcomes.push(Outcome::Failed(error));
                    self.room = outcomes.len();
                    break;
                }
            }
        }
        self.room -= outcomes.len();
        outcomes
    }

    /// How it ends, if it does.
    fn end(&mut self, server: &Server, facts: &Facts) -> Option<Outcome> {
        if let Some(fault) = self.fault.take() {
            return Some(Outcome::Failed(EngineError::Remote(server.client.told(&fault))));
        }
        if !std::mem::take(&mut self.ended) {
            return None;
        }
        match self.decode.may_end(facts) {
            Ok(true) => Some(Outcome::Ended),
            Ok(false) => {
                self.goes_on = true;
                let asked = self.ask_again(self.decode.tape_len());
                asked.err().map(Outcome::Failed)
            }
            Err(error) => Some(Outcome::Failed(error)),
        }
    }

    /// One token; `None`: it was refused, and is asked for again.
    fn judge(
        &mut self,
        drawn: &Drawn,
        server: &Server,
        facts: &Facts,
    ) -> Result<Option<Outcome>, EngineError> {
        let vocabulary = server.vocabulary;
        let sampling = self.decode.sampling();
        let is_greedy = sampling.temperature <= 0.0;
        let mut shown: Vec<(TokenId, f32)> = drawn.top.clone();
        let logprob = drawn.logprob.unwrap_or(UNKNOWN_LOGPROB);
        if shown.iter().all(|(token, _)| *token != drawn.token) {
            shown.push((drawn.token, logprob));
        }
        shown.retain(|(token, _)| !self.refused.contains(token));
        // A server that draws the likeliest tokens is as good as this row; one that throws dice has thrown them.
        let adjusts = self.decode.is_constrained() || sampling.adjusts();
        let alone = [(drawn.token, logprob)];
        let rows = if is_greedy && adjusts { [&shown[..], &[]] } else { [&alone[..], &shown[..]] };
        let mut turn = Err(EngineError::NothingAllowed { position: self.decode.tape_len() });
        for row in rows.into_iter().filter(|row| !row.is_empty()) {
            if !matches!(turn, Err(EngineError::NothingAllowed { .. })) {
                break;
            }
            let mut logits = vec![f32::NEG_INFINITY; vocabulary];
            for &(token, logprob) in row {
                // A configuration may name an end that the tokenizer does not have.
                if let Some(logit) = logits.get_mut(token as usize) {
                    *logit = logprob;
                }
            }
            turn = self.decode.judge(logits, facts);
        }
        match turn {
            Ok(Turn::Step(step)) => Ok(Some(Outcome::Step(self.accept(step, drawn, &shown)))),
            Ok(Turn::Back(len)) => {
                self.steered();
                Ok(Some(Outcome::Back(len)))
            }
            Ok(Turn::More | Turn::Answered) => Ok(None),
            Ok(Turn::Failed(error)) => Err(error),
            Err(EngineError::NothingAllowed { position }) => self.refuse(drawn, &shown, position),
            Err(error) => Err(error),
        }
    }

    fn accept(&mut self, mut step: Step, drawn: &Drawn, shown: &[(TokenId, f32)]) -> Step {
        let found = shown.iter().find(|(token, _)| *token == step.token);
        step.logprob = found.map_or(UNKNOWN_LOGPROB, |(_, logprob)| *logprob);
        // What a row of a few tokens sums up to says nothing.
        step.final_logprob = found.filter(|_| drawn.logprob.is_some()).map(|(_, logprob)| *logprob);
        step.entropy = entropy(&drawn.top);
        step.top.clone_from(&drawn.top);
        step.top.truncate(self.decode.sampling().top_len as usize);
        if step.token == drawn.token {
            self.pending.pop_front();
        } else {
            self.interrupt();
        }
        self.agreed();
        step
    }

    fn refuse(
        &mut self,
        drawn: &Drawn,
        shown: &[(TokenId, f32)],
        position: usize,
    ) -> Result<Option<Outcome>, EngineError> {
        self.ask_again(position)?;
        let listed = shown.iter().map(|(token, _)| *token).chain([drawn.token]);
        for token in listed {
            if !self.refused.contains(&token) {
                self.refused.push(token);
            }
        }
        Ok(None)
    }

    /// The server's draw is refused, and is asked for once more.
    fn ask_again(&mut self, position: usize) -> Result<(), EngineError> {
        self.interrupt();
        self.redraws += 1;
        if self.redraws > REDRAWS_MAX {
            self.agreed();
            return Err(EngineError::NothingAllowed { position });
        }
        Ok(())
    }

    /// Another line from the first `len` tokens of the tape on.
    pub(super) fn fork(&self, decode: Decode, arrival: u64) -> Run {
        Run::new(decode, self.class, arrival)
    }
}

/// At least so many nats: what the list does not show is taken for one token.
fn entropy(top: &[(TokenId, f32)]) -> f32 {
    let shown: f32 = top.iter().map(|(_, logprob)| logprob.exp()).sum();
    let rest = (1.0 - shown).max(0.0);
    let term =
        |probability: f32| if probability > 0.0 { -probability * probability.ln() } else { 0.0 };
    top.iter().map(|(_, logprob)| term(logprob.exp())).sum::<f32>() + term(rest)
}
