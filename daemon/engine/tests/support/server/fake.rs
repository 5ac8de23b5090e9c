//! Servers that speak the protocols of llama.cpp, vLLM, SGLang, LM Studio and mlx_lm.server, as their documentation has them, with a
//! scripted model behind them; and the ways in which servers fail.

#![allow(dead_code, reason = "shared by several test binaries, which use different parts")]

mod asked;
mod http;
mod tell;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use engine::{Engine, Probing, RemoteOptions, RemoteWords, Script};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};

use http::Request;

/// The kinds of servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    LlamaCpp,
    Vllm,
    Sglang,
    LmStudio,
    MlxLm,
}

pub(crate) const KINDS: [Kind; 5] =
    [Kind::LlamaCpp, Kind::Vllm, Kind::Sglang, Kind::LmStudio, Kind::MlxLm];

/// What a server does wrong, from now on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Trouble {
    /// Takes requests and answers none.
    Hangs,
    /// Sends so many tokens and then nothing, but for signs of life.
    HangsAfter(usize),
    /// Closes the connection after so many tokens.
    DropsAfter(usize),
    /// Answers a page of HTML.
    Garbage,
    /// Sends half a character after so many tokens.
    HalfCharacter(usize),
    /// Answers with this status, and these seconds of `Retry-After`.
    Status(u16, Option<u64>),
    /// Answers 503 so many times, then works.
    Loads(usize),
    /// Never ends a text.
    Endless,
    /// Sends a line without end.
    EndlessLine,
    /// Closes the connection without a word.
    HangsUp,
    /// Says that its context is so long, or nothing of it (vLLM).
    TellsContext(Option<usize>),
    /// Answers with this status and this text.
    Says(u16, &'static str),
    /// Sends these bytes in the place of the first token.
    Sends(&'static str),
    /// Ends texts after so many tokens, for this reason.
    Ends(usize, &'static str),
    /// Says after so many tokens that it is alive, each time in other words.
    Chats(usize),
    /// Answers streams with 400, and whatever is not greedy too.
    IsPlain,
}

/// A server.
pub(crate) struct Fake {
    pub(crate) url: String,
    pub(crate) shared: Arc<Shared>,
    /// Where it runs; on threads of its own, because callers of an engine may block.
    runtime: Option<Runtime>,
}

/// What its connections share.
pub(crate) struct Shared {
    pub(crate) kind: Kind,
    pub(crate) model: Engine,
    /// Takes grammars and does not keep to them.
    pub(crate) lies: bool,
    pub(crate) key: Option<&'static str>,
    trouble: Mutex<Option<Trouble>>,
    /// Bodies of requests for texts.
    asked: Mutex<Vec<Value>>,
    /// Texts that are being written.
    active: AtomicUsize,
    /// Texts whose reader went away.
    abandoned: AtomicUsize,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

impl Fake {
    pub(crate) fn start(kind: Kind, script: Script) -> Fake {
        Fake::with(kind, script, false, None)
    }

    pub(crate) fn with(kind: Kind, script: Script, lies: bool, key: Option<&'static str>) -> Fake {
        let shared = Arc::new(Shared {
            kind,
            model: Engine::scripted(script),
            lies,
            key,
            trouble: Mutex::default(),
            asked: Mutex::default(),
            active: AtomicUsize::new(0),
            abandoned: AtomicUsize::new(0),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime needs nothing");
        let listener = runtime.block_on_free(TcpListener::bind("127.0.0.1:0"));
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let door = shared.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(door.clone(), stream));
            }
        });
        Fake { url, shared, runtime: Some(runtime) }
    }

    /// How to reach it, with little patience.
    pub(crate) fn options(&self) -> RemoteOptions {
        RemoteOptions {
            words: RemoteWords::Given(self.shared.model.words()),
            probing: Probing::All,
            ..RemoteOptions::at(&self.url)
        }
    }

    /// An engine that it runs.
    pub(crate) fn engine(&self) -> Engine {
        connect(self.options()).expect("it answers every probe")
    }

    pub(crate) fn trouble(&self, trouble: Option<Trouble>) {
        *lock(&self.shared.trouble) = trouble;
    }

    pub(crate) fn asked(&self) -> Vec<Value> {
        lock(&self.shared.asked).clone()
    }

    pub(crate) fn active(&self) -> usize {
        self.shared.active.load(Ordering::SeqCst)
    }

    pub(crate) fn abandoned(&self) -> usize {
        self.shared.abandoned.load(Ordering::SeqCst)
    }
}

/// Probing blocks, which a test's runtime must not.
pub(crate) fn connect(options: RemoteOptions) -> Result<Engine, String> {
    let probing = std::thread::spawn(move || Engine::remote(options, None));
    probing.join().expect("probing does not panic").map_err(|error| error.to_string())
}

/// Waits for something that runs elsewhere.
trait BlockOnFree {
    fn block_on_free<T: Send + 'static>(
        &self,
        work: impl Future<Output = std::io::Result<T>> + Send + 'static,
    ) -> T;
}

impl BlockOnFree for Runtime {
    fn block_on_free<T: Send + 'static>(
        &self,
        work: impl Future<Output = std::io::Result<T>> + Send + 'static,
    ) -> T {
        let (done, wait) = std::sync::mpsc::channel();
        self.spawn(async move { done.send(work.await).expect("it is waited for") });
        wait.recv().expect("the task runs").expect("the loopback can be bound")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn trouble(&self) -> Option<Trouble> {
        let mut trouble = lock(&self.trouble);
        if let Some(Trouble::Loads(left)) = &mut *trouble {
            *left = left.saturating_sub(1);
            if *left == 0 {
                *trouble = None;
            }
            return Some(Trouble::Status(503, None));
        }
        *trouble
    }
}

/// One connection has one request, as ours have.
async fn serve(shared: Arc<Shared>, mut stream: TcpStream) {
    let Some(request) = http::read(&mut stream).await else { return };
    match shared.trouble() {
        Some(Trouble::Hangs) => return tokio::time::sleep(Duration::from_secs(3600)).await,
        Some(Trouble::HangsUp) => return,
        Some(Trouble::Garbage) => {
            return http::answer(&mut stream, 200, "text/html", "<html>Welcome</html>").await;
        }
        Some(Trouble::Says(code, text)) => {
            return http::answer(&mut stream, code, "application/json", text).await;
        }
        Some(Trouble::IsPlain)
            if request.body["stream"] == true
                || request.body["temperature"].as_f64().is_some_and(|warmth| warmth > 0.0) =>
        {
            return http::refuse(&mut stream, 400, None, "{\"error\": \"plain alone\"}").await;
        }
        Some(Trouble::Status(code, after)) => {
            let error = json!({"error": {"message": "as the test wants it", "code": code}});
            return http::refuse(&mut stream, code, after, &error.to_string()).await;
        }
        _ => {}
    }
    if let Some(key) = shared.key
        && request.key.as_deref() != Some(&format!("Bearer {key}"))
    {
        let said = request.key.unwrap_or_default();
        let error = json!({"error": {"message": format!("wrong key: {said}")}});
        return http::refuse(&mut stream, 401, None, &error.to_string()).await;
    }
    match answer(&shared, &request) {
        Some(json) => http::json(&mut stream, &json).await,
        None if is_text(shared.kind, &request.path) => write(&shared, &request, stream).await,
        None => http::refuse(&mut stream, 404, None, "{\"error\": \"not found\"}").await,
    }
}

fn is_text(kind: Kind, path: &str) -> bool {
    path == if kind == Kind::LlamaCpp { "/completion" } else { "/v1/completions" }
}

/// What is answered without the model.
fn answer(shared: &Shared, request: &Request) -> Option<Value> {
    let info = shared.model.info();
    let named =
        |owner: &str| json!({"id": "scripted", "object": "model", "created": 1, "owned_by": owner});
    let listed = |row: Value| Some(json!({"object": "list", "data": [row]}));
    match (shared.kind, request.path.as_str()) {
        (Kind::LlamaCpp, "/v1/models") => {
            let mut row = named("llamacpp");
            row["meta"] = json!({"n_vocab": info.vocabulary, "n_ctx_train": info.context_max});
            listed(row)
        }
        (Kind::LlamaCpp, "/props") => Some(json!({
            "default_generation_settings": {"n_ctx": info.context_max, "params": {}},
            "total_slots": 4, "build_info": "b0-fake", "chat_template": "",
        })),
        (Kind::Vllm, "/v1/models") => {
            let mut row = named("vllm");
            row["max_model_len"] = match shared.trouble() {
                Some(Trouble::TellsContext(told)) => json!(told),
                _ => json!(info.context_max),
            };
            listed(row)
        }
        (Kind::Vllm, "/version") => Some(json!({"version": "0.0.fake"})),
        (Kind::Sglang, "/v1/models") => {
            let mut row = named("sglang");
            row["max_model_len"] = json!(info.context_max);
            listed(row)
        }
        (Kind::Sglang, "/get_server_info") => {
            Some(json!({"version": "0.0.fake", "max_running_requests": 16}))
        }
        (Kind::LmStudio, "/v1/models") => listed(named("organization_owner")),
        (Kind::LmStudio, "/api/v0/models") => listed(json!({
            "id": "scripted", "object": "model", "type": "llm", "state": "loaded",
            "max_context_length": info.context_max, "loaded_context_length": info.context_max,
        })),
        (Kind::MlxLm, "/v1/models") => {
            listed(json!({"id": "scripted", "object": "model", "created": 1}))
        }
        (Kind::MlxLm, "/health") => Some(json!({"status": "ok"})),
        (Kind::LlamaCpp | Kind::Vllm | Kind::Sglang, "/tokenize") => {
            let text = if shared.kind == Kind::LlamaCpp { "content" } else { "prompt" };
            let tokens = shared.model.tokenizer().encode(request.body[text].as_str()?);
            Some(json!({"count": tokens.len(), "tokens": tokens}))
        }
        _ => None,
    }
}

/// Writes a text, for as long as somebody reads it.
async fn write(shared: &Arc<Shared>, request: &Request, mut stream: TcpStream) {
    lock(&shared.asked).push(request.body.clone());
    let (job, asked) = match asked::asked(shared, &request.body) {
        Ok(asked) => asked,
        Err(said) => {
            let error = json!({"error": {"message": said, "code": 400}});
            let code = if shared.kind == Kind::MlxLm { 404 } else { 400 };
            return http::refuse(&mut stream, code, None, &error.to_string()).await;
        }
    };
    shared.active.fetch_add(1, Ordering::SeqCst);
    let finished = tell::tell(shared, job, asked, &mut stream).await;
    shared.active.fetch_sub(1, Ordering::SeqCst);
    if !finished {
        shared.abandoned.fetch_add(1, Ordering::SeqCst);
    }
}
