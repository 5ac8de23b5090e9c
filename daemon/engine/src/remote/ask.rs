//! A request in the words of each kind of server.

use serde_json::{Map, Value, json};

use super::kind::Kind;
use crate::{grammar::Grammar, job::TokenId, sampling::Sampling};

/// The logit that bans a token where negative infinity cannot be written.
const BANNED: f32 = -100.0;
/// A bias beyond this is clipped: most servers refuse it.
const BIAS_MAX: f32 = 100.0;
/// How many of the likeliest tokens the completions of OpenAI's kind list at most.
const LISTED_MAX: usize = 20;
/// How many mlx_lm.server is asked to list: the drawn one alone. In its longer lists nothing says which of them was drawn.
const MLX_LISTED_MAX: usize = 1;

/// What stands before an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Prompt {
    Tokens(Vec<TokenId>),
    Text(String),
}

/// A text to be continued.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) prompt: Prompt,
    /// The most tokens of the server's own.
    pub(crate) tokens_max: usize,
    pub(crate) sampling: Sampling,
    pub(crate) seed: u32,
    /// How many of the likeliest tokens it is to list.
    pub(crate) top_len: usize,
    pub(crate) stop: Vec<String>,
    pub(crate) bias: Vec<(TokenId, f32)>,
    /// A grammar: the fields that ask for it.
    pub(crate) grammar: Option<(&'static str, Value)>,
    /// What it is to keep to, if the server can: that is looked up when it is sent.
    pub(crate) wanted: Option<Grammar>,
    pub(crate) streams: bool,
    /// Goes on where the model would end the text, if the server can do that.
    pub(crate) is_endless: bool,
}

impl Ask {
    /// A few likeliest tokens after a prompt, also where the model would say nothing.
    pub(crate) fn greedy(prompt: Prompt, tokens_max: usize) -> Ask {
        Ask {
            prompt,
            tokens_max,
            sampling: Sampling::GREEDY,
            seed: 0,
            top_len: 0,
            stop: Vec::new(),
            bias: Vec::new(),
            grammar: None,
            wanted: None,
            streams: false,
            is_endless: true,
        }
    }
}

impl Kind {
    /// Where texts are continued.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Kind::LlamaCpp => "/completion",
            _ => "/v1/completions",
        }
    }

    /// How many of the likeliest tokens it is asked to list at most.
    pub(crate) fn top_len_max(self) -> usize {
        match self {
            Kind::LlamaCpp => crate::sampling::TOP_LEN_MAX as usize,
            Kind::MlxLm => MLX_LISTED_MAX,
            _ => LISTED_MAX,
        }
    }

    /// How many tokens to ask for where one is wanted. mlx_lm.server 0.32 fails on a prompt that its cache ends with, which the prompt and one
    /// token are when the text goes on behind that token.
    pub(crate) fn redraw_len(self) -> usize {
        if self == Kind::MlxLm { 2 } else { 1 }
    }

    /// Whether it lists them while it streams.
    pub(crate) fn lists_in_streams(self) -> bool {
        self != Kind::MlxLm
    }

    /// The fields that ask to keep to a grammar of a form, of which it may understand one.
    pub(crate) fn grammar_fields(self, form: &str) -> &'static [&'static str] {
        match (self, form) {
            (Kind::LlamaCpp, "json_schema") => &["json_schema"],
            (Kind::LlamaCpp, "gbnf") => &["grammar"],
            (Kind::Vllm, "json_schema") => &["structured_outputs.json", "guided_json"],
            (Kind::Vllm, "regex") => &["structured_outputs.regex", "guided_regex"],
            (Kind::Vllm, "gbnf") => &["structured_outputs.grammar", "guided_grammar"],
            (Kind::Sglang, "json_schema") => &["json_schema"],
            (Kind::Sglang, "regex") => &["regex"],
            (Kind::Sglang, "gbnf") => &["ebnf"],
            (Kind::LmStudio | Kind::MlxLm | Kind::Unknown, "json_schema") => &["response_format"],
            _ => &[],
        }
    }

    /// The body of a request.
    pub(crate) fn body(self, ask: &Ask, model: &str) -> Value {
        let mut body = match self {
            Kind::LlamaCpp => llama_cpp(ask),
            _ => self.completions(ask, model),
        };
        if let Some((field, value)) = &ask.grammar {
            put_grammar(&mut body, field, value.clone());
        }
        Value::Object(body)
    }

    fn completions(self, ask: &Ask, model: &str) -> Map<String, Value> {
        let sampling = &ask.sampling;
        let mut body = object(json!({
            "model": model,
            "prompt": prompt(&ask.prompt),
            "max_tokens": ask.tokens_max,
            "temperature": sampling.temperature.max(0.0),
            "top_p": sampling.top_p,
            "seed": ask.seed,
            "stream": ask.streams,
        }));
        if ask.streams {
            body.insert("stream_options".to_owned(), json!({"include_usage": true}));
        }
        if !ask.stop.is_empty() {
            body.insert("stop".to_owned(), json!(ask.stop));
        }
        if !ask.bias.is_empty() {
            let bias =
                ask.bias.iter().map(|(token, bias)| (token.to_string(), json!(bounded(*bias))));
            body.insert("logit_bias".to_owned(), Value::Object(bias.collect()));
        }
        let is_penalised = sampling.temperature > 0.0;
        if is_penalised && sampling.presence.amount != 0.0 {
            body.insert("presence_penalty".to_owned(), json!(sampling.presence.amount));
        }
        if is_penalised && sampling.frequency.amount != 0.0 {
            body.insert("frequency_penalty".to_owned(), json!(sampling.frequency.amount));
        }
        let extended = match self {
            Kind::Vllm => json!({
                "top_k": sampling.top_k, "min_p": sampling.min_p,
                "skip_special_tokens": false, "spaces_between_special_tokens": false,
                "add_special_tokens": false, "return_token_ids": true, "logprobs": ask.top_len,
            }),
            Kind::Sglang => json!({
                "top_k": if sampling.top_k == 0 { -1 } else { i64::from(sampling.top_k) },
                "min_p": sampling.min_p,
                "skip_special_tokens": false, "logprobs": ask.top_len,
            }),
            Kind::MlxLm => json!({
                "top_k": sampling.top_k, "min_p": sampling.min_p,
                "logprobs": ask.top_len > 0,
                "top_logprobs": -1,
            }),
            Kind::LmStudio | Kind::Unknown | Kind::LlamaCpp if ask.top_len > 0 => {
                json!({"logprobs": ask.top_len})
            }
            _ => json!({}),
        };
        body.extend(object(extended));
        if ask.is_endless && matches!(self, Kind::Vllm | Kind::Sglang) {
            body.insert("ignore_eos".to_owned(), json!(true));
        }
        body
    }
}

/// Every sampler is named, so that the server's own settings do not mix in.
fn llama_cpp(ask: &Ask) -> Map<String, Value> {
    let Ask { sampling, .. } = ask;
    let mut body = object(json!({
        "prompt": prompt(&ask.prompt),
        "n_predict": ask.tokens_max,
        "stream": ask.streams,
        "cache_prompt": true,
        "return_tokens": true,
        "return_progress": ask.streams,
        "n_probs": ask.top_len,
        "temperature": sampling.temperature.max(0.0),
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "typical_p": sampling.typical_p,
        "xtc_probability": sampling.xtc.probability,
        "xtc_threshold": sampling.xtc.threshold,
        "dynatemp_range": 0.0,
        "mirostat": 0,
        "seed": ask.seed,
        "stop": ask.stop,
    }));
    let window = sampling.repetition.window.max(sampling.presence.window);
    let penalties = sampling.temperature > 0.0;
    let amount = |penalty: f32, off: f32| if penalties { penalty } else { off };
    body.extend(object(json!({
        "repeat_penalty": amount(sampling.repetition.amount, 1.0),
        "repeat_last_n": if window == 0 { -1 } else { i64::from(window) },
        "presence_penalty": amount(sampling.presence.amount, 0.0),
        "frequency_penalty": amount(sampling.frequency.amount, 0.0),
        "dry_multiplier": amount(sampling.dry.multiplier, 0.0),
        "dry_base": sampling.dry.base,
        "dry_allowed_length": sampling.dry.allowed_len,
    })));
    if ask.is_endless {
        body.insert("ignore_eos".to_owned(), json!(true));
    }
    if !ask.bias.is_empty() {
        let pair = |(token, bias): &(TokenId, f32)| {
            let bias =
                if *bias == f32::NEG_INFINITY { json!(false) } else { json!(bounded(*bias)) };
            json!([token, bias])
        };
        body.insert("logit_bias".to_owned(), ask.bias.iter().map(pair).collect());
    }
    body
}

fn put_grammar(body: &mut Map<String, Value>, field: &str, value: Value) {
    match field.split_once('.') {
        Some((outer, inner)) => drop(body.insert(outer.to_owned(), json!({inner: value}))),
        None if field == "response_format" => {
            let schema = json!({"name": "answer", "strict": true, "schema": value});
            let format = json!({"type": "json_schema", "json_schema": schema});
            body.insert(field.to_owned(), format);
        }
        // It wants the schema as a text.
        None if field == "json_schema" && body.contains_key("model") => {
            body.insert(field.to_owned(), Value::String(value.to_string()));
        }
        None => drop(body.insert(field.to_owned(), value)),
    }
}

fn prompt(prompt: &Prompt) -> Value {
    match prompt {
        Prompt::Tokens(tokens) => json!(tokens),
        Prompt::Text(text) => json!(text),
    }
}

fn bounded(bias: f32) -> f32 {
    if bias == f32::NEG_INFINITY { BANNED } else { bias.clamp(-BIAS_MAX, BIAS_MAX) }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
