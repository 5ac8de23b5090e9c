//! What is found out about a server when a job needs it: grammars and scores, each tried once.

use serde_json::{Value, json};
use tokio::sync::{Mutex, OnceCell};

use super::{
    ask::{Ask, Prompt},
    capabilities::{Prompts, Structured},
    fault::Fault,
    kind::Kind,
    probe::TEXT,
    server::{Server, value_of},
};
use crate::grammar::Grammar;

/// The languages of grammars.
pub(super) const FORMS: [&str; 3] = ["json_schema", "regex", "gbnf"];
/// A word that no model says by itself: a server that says it when it may say nothing else keeps to grammars.
const LITERAL: &str = "zqxk41vjwp";
/// How many tokens an answer within a grammar has at most.
const LITERAL_LEN_MAX: usize = 32;
/// How far the probability of a token may differ from what it was when it was drawn.
const SCORE_TOLERANCE: f32 = 0.05;

/// What was tried. Whoever comes while it is being tried waits for it.
#[derive(Default)]
pub(crate) struct Tried {
    grammars: Mutex<Vec<Structured>>,
    scores: OnceCell<bool>,
}

impl Server {
    /// The field that asks to keep to a grammar, if there is one that works.
    pub(crate) async fn grammar(&self, grammar: &Grammar) -> Option<(&'static str, Value)> {
        // What goes wrong with the trial goes wrong with the job as well, and is told then.
        let row = self.structured(grammar.form()).await.ok()??;
        row.works.then(|| (row.field, value_of(grammar)))
    }

    /// How it keeps to a language of grammars; `None`: it has no field for that.
    pub(super) async fn structured(&self, form: &str) -> Result<Option<Structured>, Fault> {
        let Some(form) = FORMS.into_iter().find(|known| *known == form) else { return Ok(None) };
        let mut known = self.tried.grammars.lock().await;
        if let Some(row) = known.iter().find(|row| row.form == form) {
            return Ok(Some(row.clone()));
        }
        let mut last = None;
        for field in self.kind.grammar_fields(form) {
            let row = self.try_grammar(form, field).await?;
            let works = row.works;
            last = Some(row);
            if works {
                break;
            }
        }
        known.extend(last.clone());
        Ok(last)
    }

    async fn try_grammar(
        &self,
        form: &'static str,
        field: &'static str,
    ) -> Result<Structured, Fault> {
        let (grammar, wanted) = match form {
            "json_schema" => (Grammar::Json(json!({"enum": [LITERAL]})), format!("\"{LITERAL}\"")),
            "regex" => (Grammar::Regex(LITERAL.to_owned()), LITERAL.to_owned()),
            _ => (Grammar::Gbnf(format!("root ::= \"{LITERAL}\"")), LITERAL.to_owned()),
        };
        let free = Ask::greedy(self.text_prompt(), LITERAL_LEN_MAX);
        let grammar: Option<(&str, Value)> = Some((field, value_of(&grammar)));
        let ask = Ask { grammar, is_endless: false, ..free };
        let row = Structured { form, field, works: false, lied: false, refusal: None };
        match self.answered(&ask).await {
            Ok(said) => {
                let works = said.text().trim() == wanted;
                Ok(Structured { works, lied: !works, ..row })
            }
            Err(fault) if fault.is_refusal() => {
                let said = match &fault {
                    Fault::Status { code, said, .. } => {
                        format!("{code} {}", self.client.quoted(said)).trim_end().to_owned()
                    }
                    fault => self.client.told(fault),
                };
                Ok(Structured { refusal: Some(said), ..row })
            }
            Err(fault) => Err(fault),
        }
    }

    /// Whether it tells the probability of a text that it is given: it must be what it was when it was drawn.
    pub(super) async fn scores(&self) -> Result<bool, Fault> {
        let scores = self.tried.scores.get_or_try_init(async || match self.try_scores().await {
            Err(fault) if fault.is_refusal() => Ok(false),
            tried => tried,
        });
        scores.await.copied()
    }

    async fn try_scores(&self) -> Result<bool, Fault> {
        let able = matches!(self.kind, Kind::Vllm | Kind::Sglang)
            || (self.kind == Kind::LlamaCpp && self.capabilities.logit_bias);
        if !able || self.lexicon.prompts != Prompts::Tokens || self.capabilities.logprobs == 0 {
            return Ok(false);
        }
        let prompt = self.lexicon.tokenizer.encode(TEXT);
        let ask = Ask { top_len: 1, ..Ask::greedy(Prompt::Tokens(prompt.clone()), 1) };
        let said = self.answered(&ask).await?;
        let Some(first) = said.pieces.first() else { return Ok(false) };
        let drawn = self.lexicon.drawn(first)?;
        let (Some(drawn), Some(logprob)) = (drawn.first(), first.logprob) else {
            return Ok(false);
        };
        let scored = self.score(&prompt, &[drawn.token]).await?;
        Ok(scored.first().is_some_and(|scored| (scored - logprob).abs() < SCORE_TOLERANCE))
    }
}
