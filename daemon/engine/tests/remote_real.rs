//! Slow: real servers, which have to keep the promises that the fakes keep.
//!
//! Skipped unless `DEMOLISH_SLOW=1`; needs `.tools/oracle` and `.tools/llama` (`cargo xtask setup --with llama`), or a llama-server
//! that `DEMOLISH_LLAMA_SERVER` names.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests read the environment, start programs and report"
)]

#[path = "support/promises.rs"]
mod promises;

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use engine::{Engine, Probing, RemoteOptions, RemoteWords};

/// How often a server that is starting is tried, and how long to wait in between.
const TRIES: u32 = 600;
const PAUSE: Duration = Duration::from_millis(200);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn is_slow() -> bool {
    let slow = std::env::var("DEMOLISH_SLOW").is_ok_and(|value| !value.is_empty() && value != "0");
    if !slow {
        println!("skipped: real servers need DEMOLISH_SLOW=1");
    }
    slow
}

/// A server that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> String {
    let free = TcpListener::bind("127.0.0.1:0").expect("the loopback can be bound");
    free.local_addr().expect("it is bound").port().to_string()
}

fn started(command: &mut Command) -> Server {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Server(quiet.spawn().expect("the program starts; `cargo xtask setup --with llama` brings it"))
}

/// The engine of a server that may still be starting. `None`: it has ended.
fn connected(server: &mut Server, options: &RemoteOptions) -> Engine {
    let mut last = String::new();
    for _ in 0..TRIES {
        let options = options.clone();
        let probing = std::thread::spawn(move || Engine::remote(options, None));
        match probing.join().expect("probing does not panic") {
            Ok(engine) => return engine,
            Err(error) => last = error.to_string(),
        }
        assert!(last.contains("no connection"), "{last}");
        let ended = server.0.try_wait().expect("it is ours");
        assert!(ended.is_none(), "the server has ended: {ended:?}");
        std::thread::sleep(PAUSE);
    }
    panic!("{last}");
}

#[tokio::test]
async fn llama_server_keeps_the_promises() {
    if !is_slow() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let made = Command::new(root().join(".tools/oracle/bin/python"))
        .arg(root().join("tests/engine/remote/make_gguf.py"))
        .arg("--tokenizer")
        .arg(root().join("daemon/nano/model/tokenizer.json"))
        .arg("--out")
        .arg(folder.path())
        .status()
        .expect("the oracle's Python is set up");
    assert!(made.success());
    let program = std::env::var_os("DEMOLISH_LLAMA_SERVER")
        .map_or_else(|| root().join(".tools/llama/bin/llama-server"), PathBuf::from);
    let port = free_port();
    let mut server =
        started(Command::new(program).arg("-m").arg(folder.path().join("tiny.gguf")).args([
            "--port",
            &port,
            "-c",
            "4096",
            "-np",
            "4",
            "-t",
            "1",
            "--api-key",
            "sk-test",
        ]));
    let options = RemoteOptions {
        words: RemoteWords::File(folder.path().to_owned()),
        key: engine::Key::new("sk-test"),
        probing: Probing::All,
        ..RemoteOptions::at(&format!("http://127.0.0.1:{port}/v1"))
    };
    let engine = connected(&mut server, &options);
    let can = engine.info().remote.clone().expect("it is remote");
    println!("{can:#?}");
    assert_eq!((can.server.as_str(), can.prompts), ("llama.cpp", engine::Prompts::Tokens));
    assert_eq!((can.seed, can.stop, can.scores), (Some(true), Some(true), Some(true)));
    assert!(can.logit_bias && can.streaming);
    assert!(can.prefix_reused.is_some_and(|tokens| tokens > 16));
    let kept: Vec<&str> =
        can.structured.iter().filter(|row| row.works).map(|row| row.form).collect();
    assert_eq!(kept, ["json_schema", "gbnf"]);
    promises::keeps(&engine).await;
    let without = RemoteOptions { key: None, ..options };
    let refused = std::thread::spawn(move || Engine::remote(without, None)).join();
    let said = refused.expect("probing does not panic").err().expect("it wants a key").to_string();
    assert!(said.contains("it wants a key"), "{said}");
}

#[tokio::test]
async fn mlx_lm_server_keeps_the_promises() {
    if !is_slow() {
        return;
    }
    // The default model: what it says is text, and text is all that this server is sent.
    let model = tempfile::tempdir().expect("a temporary folder");
    let nano = root().join("daemon/nano/model");
    for file in ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(nano.join(file), model.path().join(file)).expect("it is committed");
    }
    // Without it transformers cuts text by Qwen's own rule, whatever tokenizer.json says; that would be found, and told.
    let class =
        "{\"tokenizer_class\": \"PreTrainedTokenizerFast\", \"eos_token\": \"<|endoftext|>\"}";
    std::fs::write(model.path().join("tokenizer_config.json"), class).expect("it is ours");
    // It lists the hub's cache beside its model, and answers nothing where there is none.
    let home = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(home.path().join("hub")).expect("it is empty");
    let port = free_port();
    let mut server = started(
        Command::new(root().join(".tools/oracle/bin/python"))
            .args(["-m", "mlx_lm", "server", "--port", &port, "--model"])
            .arg(model.path())
            .env("HF_HUB_OFFLINE", "1")
            .env("HF_HOME", home.path()),
    );
    let options = RemoteOptions {
        words: RemoteWords::File(model.path().to_owned()),
        probing: Probing::All,
        ..RemoteOptions::at(&format!("http://127.0.0.1:{port}"))
    };
    let engine = connected(&mut server, &options);
    let can = engine.info().remote.clone().expect("it is remote");
    println!("{can:#?}");
    assert_eq!((can.server.as_str(), can.prompts), ("mlx_lm.server", engine::Prompts::Text));
    assert!(can.logit_bias && can.stop == Some(true));
    assert!(can.loses_blank && !can.streaming, "its streams lack the first blank");
    promises::keeps_of_texts(&engine).await;
}
