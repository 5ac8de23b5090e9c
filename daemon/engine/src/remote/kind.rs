//! The kinds of servers, and how each is told apart.

use serde_json::Value;

use super::{fault::Fault, http::Client};

/// The longest prompt plus answer that a server is believed to take.
const CONTEXT_MAX: usize = 1 << 24;

/// A kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    LlamaCpp,
    Vllm,
    Sglang,
    LmStudio,
    MlxLm,
    /// It has OpenAI's endpoints and says no more.
    Unknown,
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Greeting {
    pub(crate) kind: Kind,
    pub(crate) version: Option<String>,
    pub(crate) model: String,
    /// How many tokens a prompt and its answer may have.
    pub(crate) context: Option<usize>,
    /// How many requests it computes at once.
    pub(crate) parallel: Option<usize>,
    /// How many tokens there are.
    pub(crate) vocabulary: Option<usize>,
    /// Its chat template.
    pub(crate) template: Option<String>,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::LlamaCpp => "llama.cpp",
            Kind::Vllm => "vLLM",
            Kind::Sglang => "SGLang",
            Kind::LmStudio => "LM Studio",
            Kind::MlxLm => "mlx_lm.server",
            Kind::Unknown => "unknown",
        }
    }
}

/// Asks what it is. Every kind has an endpoint that no other has; where two could answer, the list of models decides.
pub(crate) async fn greet(client: &Client, wanted: Option<&str>) -> Result<Greeting, Fault> {
    let listed = client.get("/v1/models").await?;
    let Some(listed) = listed else {
        return Err(Fault::garbage("there is no list of models at /v1/models"));
    };
    let empty = Vec::new();
    let rows = listed["data"].as_array().unwrap_or(&empty);
    let row = match wanted {
        None => rows.first(),
        Some(wanted) => {
            let found = rows.iter().find(|row| row["id"] == wanted);
            if found.is_none() && !rows.is_empty() {
                let ids: Vec<&str> = rows.iter().filter_map(|row| row["id"].as_str()).collect();
                return Err(Fault::Lacks(format!(
                    "it serves no model {wanted:?}, but {}; correct `model.remote_model`",
                    client.quoted(&ids.join(", "))
                )));
            }
            found
        }
    };
    let row = row.cloned().unwrap_or(Value::Null);
    let model = wanted.or(row["id"].as_str()).unwrap_or("default_model").to_owned();
    let mut greeting = Greeting {
        kind: Kind::Unknown,
        version: None,
        model,
        context: number(&row["max_model_len"]),
        parallel: None,
        vocabulary: None,
        template: None,
    };
    let owner = row["owned_by"].as_str().unwrap_or_default();
    if owner == "llamacpp" || row["meta"]["n_vocab"].is_number() {
        llama_cpp(client, &row, &mut greeting).await?;
    } else if owner == "vllm" {
        greeting.kind = Kind::Vllm;
        let version = client.get("/version").await?.unwrap_or_default();
        greeting.version = version["version"].as_str().map(str::to_owned);
    } else if owner == "sglang" {
        sglang(client, &mut greeting).await?;
    } else if let Some(list) = client.get("/api/v0/models").await.unwrap_or_default() {
        lm_studio(&list, &mut greeting);
    } else if row.get("owned_by").is_none() && is_mlx_lm(client, &row).await {
        greeting.kind = Kind::MlxLm;
    }
    greeting.context = greeting.context.map(|context| context.min(CONTEXT_MAX));
    Ok(greeting)
}

async fn llama_cpp(client: &Client, row: &Value, greeting: &mut Greeting) -> Result<(), Fault> {
    let props = client.get("/props").await?.unwrap_or_default();
    greeting.kind = Kind::LlamaCpp;
    greeting.version = props["build_info"].as_str().map(str::to_owned);
    let context = number(&props["default_generation_settings"]["n_ctx"]);
    greeting.context =
        context.or(number(&row["meta"]["n_ctx"])).or(number(&row["meta"]["n_ctx_train"]));
    greeting.parallel = number(&props["total_slots"]);
    greeting.vocabulary = number(&row["meta"]["n_vocab"]);
    greeting.template = props["chat_template"].as_str().map(str::to_owned);
    Ok(())
}

async fn sglang(client: &Client, greeting: &mut Greeting) -> Result<(), Fault> {
    greeting.kind = Kind::Sglang;
    let info = client.get("/get_server_info").await?.unwrap_or_default();
    greeting.version = info["version"].as_str().map(str::to_owned);
    greeting.parallel = number(&info["max_running_requests"]);
    if greeting.context.is_none() {
        greeting.context = number(&info["context_length"]);
    }
    Ok(())
}

fn lm_studio(list: &Value, greeting: &mut Greeting) {
    greeting.kind = Kind::LmStudio;
    let rows = list["data"].as_array();
    let row = rows.and_then(|rows| rows.iter().find(|row| row["id"] == greeting.model.as_str()));
    if let Some(row) = row {
        greeting.context =
            number(&row["loaded_context_length"]).or(number(&row["max_context_length"]));
    }
}

/// It says nothing of itself in its lists, but every answer has a fingerprint that begins with its version and MLX's.
async fn is_mlx_lm(client: &Client, row: &Value) -> bool {
    let is_bare = row.as_object().is_some_and(|row| {
        row.keys().all(|key| ["id", "object", "created"].contains(&key.as_str()))
    });
    let health = client.get("/health").await.ok().flatten();
    is_bare && health.is_some_and(|health| health["status"] == "ok")
}

fn number(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|number| usize::try_from(number).ok()).filter(|&number| number > 0)
}
