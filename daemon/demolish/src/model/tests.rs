//! Models that come, go and fail.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use engine::{Class, LoadPhase, Script};

use super::*;

fn settings(path: &str) -> config::Model {
    config::Model { path: Some(PathBuf::from(path)), ..config::Model::default() }
}

fn scripted(settings: config::Model) -> Model {
    let model = Model::new(&settings, Role::Typing);
    model.settle(Ready { engine: Engine::scripted(Script::new()), took: Duration::ZERO });
    model
}

#[tokio::test]
async fn a_model_that_is_missing_is_said_once_and_stays_missing() {
    let model = Model::new(&settings("/nowhere/model"), Role::Typing);
    assert!(matches!(model.state(), State::Idle), "nothing is looked for before it is needed");
    let reason = model.engine().await.err().unwrap();
    assert!(reason.starts_with("there is no model at /nowhere/model"), "{reason}");
    assert_eq!(model.engine().await.err().unwrap(), reason);
    assert!(model.loaded().is_none());
}

#[tokio::test]
async fn other_settings_are_adopted_until_a_model_is_loaded() {
    let model = Model::new(&settings("/nowhere/one"), Role::Typing);
    assert!(model.engine().await.is_err());
    assert!(model.adopt(&settings("/nowhere/two")), "the first one failed");
    assert!(model.engine().await.err().unwrap().contains("/nowhere/two"));
    let model = Model::ready(Engine::scripted(Script::new()));
    assert!(model.adopt(&config::Model::default()), "nothing else is asked for");
    assert!(!model.adopt(&settings("/nowhere/two")));
    assert!(model.loaded().is_some());
}

#[tokio::test]
async fn a_load_is_followed_percent_by_percent() {
    let at = |bytes| LoadProgress { phase: LoadPhase::Reading, bytes, total: 1000 };
    let mut state = State::Loading(PathBuf::new(), LoadProgress::BEGUN);
    let steps = [0, 5, 9, 10, 11, 1000].map(|bytes| advance(&mut state, at(bytes)));
    assert_eq!(steps, [true, false, false, true, false, true]);
    assert!(!advance(&mut State::Idle, at(0)));

    let model = Model::new(&settings("/nowhere"), Role::Typing);
    assert_eq!(model.loading(None).await, None);
    model.load_to(at(10));
    assert_eq!(model.loading(None).await, Some(at(10)));
    let (next, ()) = tokio::join!(model.loading(Some(at(10))), async {
        tokio::task::yield_now().await;
        model.load_to(at(20));
    });
    assert_eq!(next, Some(at(20)));
    let (next, ()) = tokio::join!(model.loading(next), async {
        model.settle(Ready { engine: Engine::scripted(Script::new()), took: Duration::ZERO });
    });
    assert_eq!(next, None);
}

#[tokio::test]
async fn a_folder_that_is_no_model_is_refused_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model::new(&settings(dir.path().to_str().unwrap()), Role::Typing);
    let reason = model.engine().await.err().unwrap();
    assert!(reason.contains(dir.path().to_str().unwrap()), "{reason}");
}

#[tokio::test]
async fn a_model_that_is_switched_off_is_not_looked_for() {
    let off = config::Model { enabled: false, ..config::Model::default() };
    let model = Model::new(&off, Role::Typing);
    assert!(model.engine().await.err().unwrap().contains("switched off"));
}

#[tokio::test]
async fn only_whoever_types_has_the_small_model_where_there_is_a_big_one() {
    let two = config::Model {
        agent_path: Some(PathBuf::from("/nowhere/big")),
        ..settings("/nowhere/small")
    };
    let models = Models::new(&two);
    let reason = async |class| models.of(class).engine().await.err().unwrap();
    assert!(reason(Class::Typing).await.contains("/nowhere/small"));
    for class in [Class::Fix, Class::Agent, Class::Served] {
        let reason = reason(class).await;
        assert!(reason.contains("/nowhere/big"), "{reason}");
        assert!(reason.contains("`model.agent_path`"), "{reason}");
    }
    let models = Models::new(&settings("/nowhere/one"));
    assert!(models.agent().is_none());
    assert!(models.of(Class::Agent).engine().await.err().unwrap().contains("/nowhere/one"));
}

#[tokio::test]
async fn two_models_are_adopted_together_or_not_at_all() {
    let models = Models::ready(Engine::scripted(Script::new()));
    let two = config::Model { agent_path: Some(PathBuf::from("/big")), ..config::Model::default() };
    assert!(!models.adopt(&two), "one is loaded already");
    assert!(models.are_for(&config::Model::default()) && models.agent().is_none());
    let models = Models::new(&config::Model::default());
    assert!(models.adopt(&two));
    assert!(models.are_for(&two) && models.agent().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_model_that_nobody_uses_is_unloaded_in_time() {
    let minutes = |minutes: u64| tokio::time::sleep(Duration::from_secs(minutes * 60 + 1));
    let ten = config::Model { idle_unload_min: 10, ..config::Model::default() };
    let model = scripted(ten.clone());
    minutes(9).await;
    assert_eq!(model.leaves_in(), Some(Duration::from_secs(59)));
    assert!(model.loaded().is_some(), "it was not there for long enough to be unused");
    minutes(9).await;
    assert!(matches!(model.state(), State::Ready(_)), "it was used meanwhile");
    minutes(2).await;
    assert!(matches!(model.state(), State::Idle) && model.leaves_in().is_none());

    let model = scripted(ten);
    let held = model.loaded();
    minutes(35).await;
    assert!(matches!(model.state(), State::Ready(_)), "somebody still works with it");
    drop(held);
    minutes(20).await;
    assert!(matches!(model.state(), State::Idle));

    let model = scripted(config::Model { idle_unload_min: 0, ..config::Model::default() });
    minutes(100_000).await;
    assert!(matches!(model.state(), State::Ready(_)));
}

/// Whoever types keeps the model of this machine, everybody else asks the server.
#[tokio::test]
async fn a_server_runs_the_agents_model_and_typing_stays_here() {
    let server = config::Model {
        remote_url: Some("http://127.0.0.1:1".to_owned()),
        path: Some(std::env::temp_dir()),
        ..config::Model::default()
    };
    let place =
        |settings: &config::Model, role| Source::find(settings, role).map(|found| found.place());
    assert_eq!(place(&server, Role::Agent), Ok(PathBuf::from("http://127.0.0.1:1")));
    assert_eq!(place(&server, Role::Typing), Ok(std::env::temp_dir()));
    let open = config::Model {
        remote_url: Some("http://me:secret@127.0.0.1:1/v1?key=secret".to_owned()),
        ..server.clone()
    };
    assert_eq!(place(&open, Role::Agent), Ok(PathBuf::from("http://127.0.0.1:1/v1")));
    let typing = config::Model { remote_typing: true, ..server.clone() };
    assert_eq!(place(&typing, Role::Typing), Ok(PathBuf::from("http://127.0.0.1:1")));
    let off = config::Model { enabled: false, ..typing };
    assert!(place(&off, Role::Typing).is_err_and(|said| said.contains("switched off")));
    let models = Models::new(&server);
    let agent = models.agent().expect("it has one of its own");
    let said = agent.engine().await.err().expect("nobody listens there");
    assert!(said.contains("http://127.0.0.1:1: no connection"), "{said}");
    assert!(matches!(models.typing().state(), State::Idle), "nobody has asked for it");
}

/// As little of an OpenAI-compatible server as is taken for one, which hangs up until it is up; and how often it was called.
fn server_that_comes_up() -> (String, Arc<AtomicUsize>, Arc<AtomicBool>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (calls, is_up) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (called, up) = (calls.clone(), is_up.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            called.fetch_add(1, Ordering::SeqCst);
            let mut bytes = [0; 1 << 16];
            let len = stream.read(&mut bytes).unwrap();
            if !up.load(Ordering::SeqCst) {
                continue;
            }
            let text = if bytes[..len].starts_with(b"GET /v1/models ") {
                "{\"data\": [{\"id\": \"some\", \"owned_by\": \"somebody\"}]}"
            } else {
                "{\"choices\": [{\"text\": \"word\", \"finish_reason\": \"stop\"}]}"
            };
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
            let answer = format!("{head}\r\nContent-Length: {}\r\n\r\n{text}", text.len());
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (url, calls, is_up)
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_down_is_asked_again_after_a_while_and_then_stays() {
    let (url, calls, is_up) = server_that_comes_up();
    let settings =
        config::Model { remote_url: Some(url), idle_unload_min: 10, ..config::Model::default() };
    let model = Model::new(&settings, Role::Agent);
    let said = model.engine().await.err().expect("it hangs up");
    assert!(said.contains("without an answer"), "{said}");
    let called = calls.load(Ordering::SeqCst);
    assert_eq!(model.engine().await.err(), Some(said.clone()));
    assert_eq!(calls.load(Ordering::SeqCst), called, "it is left alone for a while");
    tokio::time::advance(SERVER_AGAIN_AFTER).await;
    assert_eq!(model.engine().await.err(), Some(said));
    assert!(calls.load(Ordering::SeqCst) > called);
    is_up.store(true, Ordering::SeqCst);
    tokio::time::advance(SERVER_AGAIN_AFTER).await;
    assert!(model.engine().await.expect("it is up").info().remote.is_some());
    assert_eq!(model.leaves_in(), None, "it takes no memory");
    tokio::time::sleep(Duration::from_secs(100_000)).await;
    assert!(matches!(model.state(), State::Ready(_)));
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the test writes a file of its own")]
fn a_key_that_is_not_there_is_told_by_the_setting_that_names_it() {
    let url = "http://127.0.0.1:1";
    let named = |name: &str| config::Model {
        remote_key_env: Some(name.to_owned()),
        ..config::Model::default()
    };
    let said = server(&named("DEMOLISH_NO_SUCH_KEY"), url).err().expect("it is not set");
    assert!(
        said.contains("DEMOLISH_NO_SUCH_KEY") && said.contains("`model.remote_key_env`"),
        "{said}"
    );
    let file =
        |path: PathBuf| config::Model { remote_key_file: Some(path), ..config::Model::default() };
    let said = server(&file(std::env::temp_dir()), url).err().expect("it is a folder");
    assert!(said.contains("`model.remote_key_file`"), "{said}");
    let key = std::env::temp_dir().join(format!("demolish-key-{}", std::process::id()));
    std::fs::write(&key, "sk-of-the-test\n").expect("the test may write there");
    let options = server(&file(key.clone()), url).expect("the key is there");
    assert_eq!(options.key, engine::Key::new("sk-of-the-test"));
    std::fs::remove_file(key).expect("it was written");
}
