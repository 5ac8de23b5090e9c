//! Requests, read as each kind of server reads them.

use std::sync::Arc;

use engine::{Class, Constraint, Job, Limits, Sampling, TokenId, Tokenizer};
use serde_json::Value;

use super::{Kind, Shared};

/// What is wanted.
pub(super) struct Asked {
    pub(super) streams: bool,
    pub(super) stops: Vec<String>,
    pub(super) top_len: usize,
    /// Whether probabilities are wanted at all.
    pub(super) lists: bool,
    pub(super) echo: bool,
    pub(super) prompt: Vec<TokenId>,
}

pub(super) fn asked(shared: &Shared, body: &Value) -> Result<(Job, Asked), String> {
    let Shared { kind, model, lies, .. } = shared;
    let tokenizer = model.tokenizer();
    let takes_tokens = matches!(kind, Kind::LlamaCpp | Kind::Vllm | Kind::Sglang);
    let prompt = match &body["prompt"] {
        Value::String(text) => tokenizer.encode_prompt(text),
        Value::Array(ids) if takes_tokens => ids.iter().filter_map(token).collect(),
        other => return Err(format!("a prompt is a text, not {other}")),
    };
    let number = |name: &str| body[name].as_f64();
    let top_len = match kind {
        Kind::LlamaCpp => number("n_probs"),
        Kind::MlxLm => number("top_logprobs").filter(|len| *len > 0.0),
        Kind::LmStudio => None,
        _ => number("logprobs"),
    };
    let lists = match kind {
        Kind::MlxLm => body["logprobs"] == true,
        _ => top_len.is_some_and(|len| len > 0.0),
    };
    let top_len = top_len.unwrap_or(0.0) as usize;
    if *kind != Kind::LlamaCpp && top_len > 20 {
        return Err("at most 20 tokens are listed".to_owned());
    }
    let stop_tokens = body["stop_token_ids"].as_array().into_iter().flatten().filter_map(token);
    let tokens_max = number(if *kind == Kind::LlamaCpp { "n_predict" } else { "max_tokens" });
    let literal = if *lies { None } else { literal(*kind, body)? };
    let mask = literal
        .map(|literal| Box::new(Literal { literal, words: model.words() }) as Box<dyn Constraint>);
    let sampling = Sampling {
        temperature: number("temperature").unwrap_or(0.0) as f32,
        top_p: number("top_p").unwrap_or(1.0) as f32,
        min_p: number("min_p").unwrap_or(0.0) as f32,
        seed: number("seed").unwrap_or(0.0) as u64,
        bias: bias(body, tokenizer),
        top_len: top_len.min(64) as u32,
        ..Sampling::GREEDY
    };
    let limits = Limits {
        tokens_max: tokens_max.unwrap_or(16.0).max(1.0) as u32,
        stop: stop_tokens.collect(),
        ahead_max: 2,
    };
    let stops = match &body["stop"] {
        Value::String(stop) => vec![stop.clone()],
        stops => stops
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|stop| Some(stop.as_str()?.to_owned()))
            .collect(),
    };
    let job = Job {
        prompt: prompt.clone(),
        constraint: mask,
        sampling,
        limits,
        class: Class::Served,
        soul: None,
        mixture: None,
        lookup: Vec::new(),
        speculation: engine::Speculation::default(),
    };
    let echo = body["echo"] == true;
    Ok((job, Asked { streams: body["stream"] == true, stops, top_len, lists, echo, prompt }))
}

fn bias(body: &Value, words: &Tokenizer) -> Vec<(TokenId, f32)> {
    let amount = |value: &Value| match value {
        Value::Bool(false) => f32::NEG_INFINITY,
        other => other.as_f64().unwrap_or(0.0) as f32,
    };
    let pairs = body["logit_bias"].as_array().into_iter().flatten();
    let pairs = pairs.filter_map(|pair| Some((token(&pair[0])?, amount(&pair[1]))));
    let named = body["logit_bias"].as_object().into_iter().flatten();
    let named = named.filter_map(|(id, value)| Some((id.parse().ok()?, amount(value))));
    let ends = words.eos().iter().filter(|_| body["ignore_eos"] == true);
    pairs.chain(named).chain(ends.map(|end| (*end, f32::NEG_INFINITY))).collect()
}

/// The one text that a grammar allows: the fakes know no others.
fn literal(kind: Kind, body: &Value) -> Result<Option<String>, String> {
    let (json, regex, gbnf) = match kind {
        Kind::LlamaCpp => (&body["json_schema"], &Value::Null, &body["grammar"]),
        Kind::Vllm => {
            let fields = &body["structured_outputs"];
            (&fields["json"], &fields["regex"], &fields["grammar"])
        }
        Kind::Sglang => (&body["json_schema"], &body["regex"], &body["ebnf"]),
        // Taken, and not looked at: what the documentation of both promises for chats alone.
        Kind::LmStudio | Kind::MlxLm => return Ok(None),
    };
    let schema = match json {
        Value::String(text) => serde_json::from_str(text).map_err(|error| error.to_string())?,
        other => other.clone(),
    };
    if let Some(literal) = schema["enum"][0].as_str() {
        return Ok(Some(format!("\"{literal}\"")));
    }
    if let Some(regex) = regex.as_str() {
        return Ok(Some(regex.to_owned()));
    }
    let Some(gbnf) = gbnf.as_str() else { return Ok(None) };
    let quoted = gbnf.strip_prefix("root ::= \"").and_then(|rest| rest.strip_suffix('"'));
    quoted.map(|literal| Some(literal.to_owned())).ok_or_else(|| format!("no grammar: {gbnf}"))
}

/// Only this text, and then the end.
struct Literal {
    literal: String,
    words: Arc<Tokenizer>,
}

impl Constraint for Literal {
    fn apply(&mut self, tape: &[TokenId], logits: &mut [f32]) {
        let said: usize = tape.iter().map(|token| self.words.token_bytes(*token).len()).sum();
        let rest = self.literal.as_bytes().get(said..).unwrap_or_default();
        for (token, logit) in logits.iter_mut().enumerate() {
            let token = token as TokenId;
            let fits = if rest.is_empty() {
                self.words.eos().contains(&token)
            } else {
                let bytes = self.words.token_bytes(token);
                !bytes.is_empty() && rest.starts_with(bytes) && !self.words.is_special(token)
            };
            if !fits {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}

fn token(value: &Value) -> Option<TokenId> {
    value.as_u64().and_then(|id| TokenId::try_from(id).ok())
}
