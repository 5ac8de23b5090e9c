//! Answers, written as each kind of server writes them.

use std::{sync::Arc, time::Duration};

use engine::{Class, Finish, Job, Step, TokenId};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{Kind, Shared, Trouble, asked::Asked, http};

/// What a text has come to.
struct Text<'a> {
    shared: &'a Shared,
    asked: &'a Asked,
    steps: Vec<Step>,
    text: String,
    /// Bytes that are no whole character yet, and their tokens.
    held: Vec<u8>,
    held_steps: Vec<Step>,
}

/// Writes the text; `false`: its reader went away.
pub(super) async fn tell(
    shared: &Arc<Shared>,
    mut job: Job,
    asked: Asked,
    stream: &mut TcpStream,
) -> bool {
    if asked.echo {
        return echo(shared, &asked, stream).await;
    }
    let trouble = shared.trouble();
    if trouble == Some(Trouble::Endless) {
        job.limits.tokens_max = 60_000;
    }
    let reused = shared.model.stats().tokens_reused;
    let mut sequence = match shared.model.submit(job) {
        Ok(sequence) => sequence,
        Err(error) => {
            let body = json!({"error": {"message": error.to_string(), "code": 400}});
            http::refuse(stream, 400, None, &body.to_string()).await;
            return true;
        }
    };
    if asked.streams && !http::begin(stream).await {
        return false;
    }
    let mut text = Text {
        shared,
        asked: &asked,
        steps: Vec::new(),
        text: String::new(),
        held: Vec::new(),
        held_steps: Vec::new(),
    };
    let reason = loop {
        if let Some(reason) = end_at(trouble, text.steps.len()) {
            break reason;
        }
        if asked.streams
            && let Some(goes) = trouble_at(trouble, text.steps.len(), stream).await
        {
            return goes;
        }
        let step = tokio::select! {
            step = sequence.next() => step,
            () = http::gone(stream) => return false,
        };
        let Ok(Some(step)) = step else { break "stop" };
        let finish = step.finish;
        if finish == Some(Finish::Stop) {
            break "stop";
        }
        let (piece, stopped) = text.push(step);
        if asked.streams
            && let Some(event) = piece
            && !data(stream, &event).await
        {
            return false;
        }
        if stopped {
            break "stop";
        }
        if finish.is_some() {
            break "length";
        }
    };
    let cached = (shared.model.stats().tokens_reused - reused) as usize;
    text.close(reason, cached, stream).await
}

/// Why the text ends here, if the test wants that.
fn end_at(trouble: Option<Trouble>, tokens: usize) -> Option<&'static str> {
    match trouble? {
        Trouble::Ends(after, reason) => (tokens >= after).then_some(reason),
        _ => None,
    }
}

/// Does what the test wants to go wrong here; `Some`: and is done with it.
async fn trouble_at(
    trouble: Option<Trouble>,
    tokens: usize,
    stream: &mut TcpStream,
) -> Option<bool> {
    match trouble? {
        Trouble::HangsAfter(after) if tokens == after => loop {
            if !http::send(stream, b": ping\n\n").await {
                return Some(false);
            }
            tokio::select! {
                () = http::gone(stream) => return Some(false),
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
        },
        Trouble::Chats(after) if tokens == after => {
            for number in 0_u64.. {
                let said = format!(": ping - {number}\n\n");
                if !http::send(stream, said.as_bytes()).await {
                    break;
                }
                tokio::select! {
                    () = http::gone(stream) => break,
                    () = tokio::time::sleep(Duration::from_millis(5)) => {}
                }
            }
            Some(false)
        }
        Trouble::DropsAfter(after) if tokens == after => Some(true),
        Trouble::HalfCharacter(after) if tokens == after => {
            Some(http::send(stream, b"data: {\"content\":\"\xc3\"}\n\n").await)
        }
        Trouble::Sends(bytes) => {
            Some(http::send(stream, bytes.as_bytes()).await && http::end(stream).await)
        }
        Trouble::EndlessLine => loop {
            if !http::send(stream, &[b'x'; 1 << 16]).await {
                return Some(false);
            }
        },
        _ => None,
    }
}

async fn data(stream: &mut TcpStream, event: &Value) -> bool {
    http::send(stream, format!("data: {event}\n\n").as_bytes()).await
}

impl Text<'_> {
    /// The end of the answer, or all of it at once.
    async fn close(&self, reason: &str, cached: usize, stream: &mut TcpStream) -> bool {
        if !self.asked.streams {
            http::json(stream, &self.whole(reason, cached)).await;
            return true;
        }
        data(stream, &self.last(reason, cached)).await
            && (self.shared.kind == Kind::LlamaCpp || http::send(stream, b"data: [DONE]\n\n").await)
            && http::end(stream).await
    }

    /// The event for a token, unless its character is not whole yet; and whether a text to stop at has come.
    fn push(&mut self, step: Step) -> (Option<Value>, bool) {
        let tokenizer = self.shared.model.tokenizer();
        let is_shown = self.shared.kind != Kind::LlamaCpp || !tokenizer.is_special(step.token);
        if is_shown {
            self.held.extend_from_slice(tokenizer.token_bytes(step.token));
        }
        self.held_steps.push(step);
        let whole = match std::str::from_utf8(&self.held) {
            Ok(text) => text.to_owned(),
            Err(error) if error.error_len().is_none() => return (None, false),
            Err(_) => String::from_utf8_lossy(&self.held).into_owned(),
        };
        self.held.clear();
        let steps = std::mem::take(&mut self.held_steps);
        let before = self.text.len();
        // Its detokenizer takes the first blank away.
        let loses = self.shared.kind == Kind::MlxLm && self.text.is_empty();
        let whole = whole[usize::from(loses && whole.starts_with(' '))..].to_owned();
        self.text.push_str(&whole);
        let stop = self.asked.stops.iter().filter_map(|stop| self.text.find(stop.as_str())).min();
        if let Some(at) = stop {
            self.text.truncate(at);
            let rest = self.text.get(before..).unwrap_or_default().to_owned();
            let event = (!rest.is_empty()).then(|| self.event(&rest, &steps));
            self.steps.extend(steps);
            return (event, true);
        }
        let event = self.event(&whole, &steps);
        self.steps.extend(steps);
        (Some(event), false)
    }

    fn event(&self, text: &str, steps: &[Step]) -> Value {
        let ids: Vec<TokenId> = steps.iter().map(|step| step.token).collect();
        if self.shared.kind == Kind::LlamaCpp {
            let mut event = json!({"index": 0, "content": text, "tokens": ids, "stop": false});
            if self.asked.lists {
                event["completion_probabilities"] = self.rows(steps);
            }
            return event;
        }
        let mut choice = json!({"index": 0, "text": text, "logprobs": null, "finish_reason": null});
        if self.shared.kind == Kind::Vllm {
            choice["token_ids"] = json!(ids);
        }
        if self.asked.lists && matches!(self.shared.kind, Kind::Vllm | Kind::Sglang) {
            choice["logprobs"] = self.columns(steps);
        }
        json!({"object": "text_completion", "model": "scripted", "choices": [choice]})
    }

    fn last(&self, reason: &str, cached: usize) -> Value {
        if self.shared.kind == Kind::LlamaCpp {
            return self.llama_end("", reason, cached);
        }
        let choice = json!({"index": 0, "text": "", "logprobs": null, "finish_reason": reason});
        json!({"object": "text_completion", "model": "scripted", "choices": [choice]})
    }

    fn llama_end(&self, text: &str, reason: &str, cached: usize) -> Value {
        let stop = match reason {
            "length" => "limit",
            "stop" => "eos",
            other => other,
        };
        json!({
            "index": 0, "content": text, "tokens": [], "stop": true, "stop_type": stop,
            "tokens_evaluated": self.asked.prompt.len(), "tokens_predicted": self.steps.len(),
            "timings": {"cache_n": cached},
        })
    }

    fn whole(&self, reason: &str, cached: usize) -> Value {
        let ids: Vec<TokenId> = self.steps.iter().map(|step| step.token).collect();
        let kind = self.shared.kind;
        if kind == Kind::LlamaCpp {
            let mut whole = self.llama_end(&self.text, reason, cached);
            whole["tokens"] = json!(ids);
            if self.asked.lists {
                whole["completion_probabilities"] = self.rows(&self.steps);
            }
            return whole;
        }
        let mut choice =
            json!({"index": 0, "text": self.text, "logprobs": null, "finish_reason": reason});
        match kind {
            Kind::Vllm | Kind::Sglang if self.asked.lists => {
                choice["logprobs"] = self.columns(&self.steps)
            }
            Kind::MlxLm if self.asked.top_len > 0 => {
                choice["logprobs"] = json!({"content": self.rows(&self.steps)})
            }
            Kind::MlxLm if self.asked.lists => {
                let row = |step: &Step| json!({"id": step.token, "logprob": step.logprob});
                choice["logprobs"] =
                    json!({"content": self.steps.iter().map(row).collect::<Vec<_>>()})
            }
            _ => {}
        }
        if kind == Kind::Vllm {
            choice["token_ids"] = json!(ids);
        }
        let (prompt, written) = (self.asked.prompt.len(), self.steps.len());
        let mut usage = json!({"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written});
        if kind != Kind::LmStudio {
            usage["prompt_tokens_details"] = json!({"cached_tokens": cached});
        }
        json!({"object": "text_completion", "model": "scripted", "choices": [choice], "usage": usage})
    }

    /// A row per token, as llama.cpp and mlx_lm.server have them.
    fn rows(&self, steps: &[Step]) -> Value {
        let tokenizer = self.shared.model.tokenizer();
        let row = |token: TokenId, logprob: f32| {
            let bytes = tokenizer.token_bytes(token);
            let text = String::from_utf8_lossy(bytes);
            let mut row = json!({"id": token, "token": text, "logprob": logprob});
            if self.shared.kind == Kind::LlamaCpp {
                row["bytes"] = json!(bytes);
            }
            row
        };
        let whole = |step: &Step| {
            let mut whole = row(step.token, step.logprob);
            whole["top_logprobs"] =
                step.top.iter().map(|(token, logprob)| row(*token, *logprob)).collect();
            whole
        };
        steps.iter().map(whole).collect()
    }

    /// Columns of names, as OpenAI's completions have them.
    fn columns(&self, steps: &[Step]) -> Value {
        let name = |token: TokenId| {
            let bytes = self.shared.model.tokenizer().token_bytes(token);
            String::from_utf8_lossy(bytes).into_owned()
        };
        let top = |step: &Step| -> Value {
            let mut top: serde_json::Map<String, Value> =
                step.top.iter().map(|(token, logprob)| (name(*token), json!(logprob))).collect();
            top.insert(name(step.token), json!(step.logprob));
            Value::Object(top)
        };
        json!({
            "tokens": steps.iter().map(|step| name(step.token)).collect::<Vec<_>>(),
            "token_logprobs": steps.iter().map(|step| step.logprob).collect::<Vec<_>>(),
            "top_logprobs": steps.iter().map(top).collect::<Vec<_>>(),
        })
    }
}

/// The prompt with the probabilities of its tokens.
async fn echo(shared: &Shared, asked: &Asked, stream: &mut TcpStream) -> bool {
    let (first, rest) = asked.prompt.split_at(1);
    let scores = shared.model.score(first.to_vec(), vec![rest.to_vec()], Class::Served).await;
    let scores = scores.expect("the scripted model scores what it is asked to");
    let names: Vec<String> = asked
        .prompt
        .iter()
        .map(|token| {
            String::from_utf8_lossy(shared.model.tokenizer().token_bytes(*token)).into_owned()
        })
        .collect();
    let mut logprobs = vec![Value::Null];
    logprobs.extend(scores[0].iter().map(|score| json!(score)));
    let text = names.concat();
    let columns = json!({"tokens": names, "token_logprobs": logprobs, "top_logprobs": null});
    let choice = json!({"index": 0, "text": text, "logprobs": columns, "finish_reason": "length"});
    http::json(stream, &json!({"object": "text_completion", "choices": [choice]})).await;
    true
}
