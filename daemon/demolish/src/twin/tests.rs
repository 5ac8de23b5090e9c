//! Twins against a server at the other end of a memory pipe, and (slow) against the real ones.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use decode::{Checked, Critic as _, Unknown};
use text::{Document, Revision};

use super::fake::{Manner, PULL, PUSH};
use super::plan::uri_of;
use super::start::DEATHS_MAX;
use super::*;
use crate::config::Config;

struct World {
    dir: tempfile::TempDir,
    twins: Twins,
    config: Config,
    starts: Arc<AtomicU32>,
}

fn world(manner: Manner) -> World {
    let dir = tempfile::tempdir().unwrap();
    let ty = dir.path().join("ty");
    std::fs::File::create(&ty).unwrap();
    let mut config = Config::default();
    config.servers.command.insert("python".to_owned(), vec![ty.to_string_lossy().into_owned()]);
    config.twin.check_deadline_ms = 300;
    let starts = Arc::new(AtomicU32::new(0));
    let counting = starts.clone();
    let twins = fake::twins(manner, counting);
    World { dir, twins, config, starts }
}

impl World {
    fn critic_of(&self, file: &str, others: Vec<Open>) -> Critic {
        let path = self.dir.path().join(file);
        let subject = Subject {
            path: &path,
            uri: &uri_of(&path),
            language: lang::detect(&path),
            others: &others.into(),
            users: &[],
            env: None,
        };
        self.twins.critic(subject, &self.config)
    }

    fn critic(&self) -> Critic {
        self.critic_of("a.py", Vec::new())
    }
}

fn words(checked: &Checked, text: &str) -> Vec<String> {
    match checked {
        Checked::Diagnostics(list) => {
            list.iter().map(|found| text[found.range.clone()].to_owned()).collect()
        }
        Checked::Unknown(reason) => vec![format!("unknown: {}", reason.code())],
    }
}

async fn said(critic: &Critic, text: &str) -> Vec<String> {
    words(&critic.check(text.into()).await, text)
}

#[tokio::test]
async fn the_text_that_was_asked_about_is_the_one_that_is_judged() {
    for manner in
        [PULL, PUSH, Manner { encoding: "utf-16", ..PULL }, Manner { restless: 3, ..PULL }]
    {
        let world = world(manner);
        let critic = world.critic();
        for text in ["x = 1\n", "é😀 bad\n", "é😀 bad\r\nbad\r\n", "é😀 good\r\nbad\r\n", "", "bad"]
        {
            let expected = vec!["bad".to_owned(); text.matches("bad").count()];
            assert_eq!(said(&critic, text).await, expected, "{text:?}");
        }
        assert_eq!(world.starts.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test]
async fn silence_is_unknown_and_the_next_question_is_answered() {
    for manner in [PULL, PUSH] {
        let world = world(manner);
        let critic = world.critic();
        assert_eq!(said(&critic, "slow").await, ["unknown: timeout"]);
        assert_eq!(said(&critic, "bad").await, ["bad"]);
    }
}

#[tokio::test]
async fn a_check_that_is_overtaken_while_it_waits_is_given_up() {
    let world = world(PULL);
    let critic = world.critic();
    critic.warm();
    assert_eq!(said(&critic, "good").await, [""; 0]);
    let (first, second) = tokio::join!(said(&critic, "bad bad"), said(&critic, "bad"));
    assert_eq!(
        (first.len(), second),
        (2, vec!["bad".to_owned()]),
        "the first one had its turn before the second came"
    );
    let (slow, second, third) = tokio::join!(said(&critic, "slow"), said(&critic, "bad"), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        said(&critic, "bad bad").await
    });
    assert_eq!(
        (slow, second),
        (vec!["unknown: timeout".to_owned()], vec!["unknown: stale".to_owned()])
    );
    assert_eq!(third, ["bad", "bad"]);
}

#[tokio::test]
async fn a_dead_server_is_started_again_but_not_for_ever() {
    let world = world(PULL);
    let critic = world.critic();
    for round in 1..=DEATHS_MAX {
        assert_eq!(said(&critic, "bad").await, ["bad"], "round {round}");
        assert_eq!(said(&critic, "die").await, ["unknown: crashed"]);
    }
    assert_eq!(said(&critic, "bad").await, ["bad"]);
    assert_eq!(said(&critic, "die").await, ["unknown: crashed"]);
    assert_eq!(said(&critic, "bad").await, ["unknown: failed"]);
    assert_eq!(said(&critic, "bad").await, ["unknown: failed"]);
    assert_eq!(world.starts.load(Ordering::Relaxed) as usize, DEATHS_MAX + 1);
}

#[tokio::test]
async fn what_the_client_has_open_the_twin_has_open() {
    let world = world(PULL);
    let open = |file: &str, id: &str| Open {
        uri: uri_of(&world.dir.path().join(file)),
        language_id: id.to_owned(),
        document: Document::new(Revision(3), "x"),
    };
    let others = vec![open("a.py", "python"), open("b.py", "python"), open("notes.md", "markdown")];
    let critic = world.critic_of("a.py", others);
    let names = critic.completions("go".into(), 2).await.unwrap();
    assert_eq!(names, ["good", "n1"], "the document itself and other languages' do not count");
    assert_eq!(
        world.critic().completions("go".into(), 2).await.unwrap(),
        ["good", "n0"],
        "and what it closes is closed"
    );
}

#[tokio::test]
async fn quick_fixes_are_resolved_and_stay_within_the_document() {
    let world = world(PULL);
    let critic = world.critic();
    let text: Arc<str> = "é bad".into();
    let Checked::Diagnostics(list) = critic.check(text.clone()).await else { panic!() };
    let expected = vec![vec![Edit { range: 3..6, text: "good".to_owned() }]];
    assert_eq!(critic.quick_fixes(text.clone(), &list[0]).await, expected);
    let _ = critic.check("another text".into()).await;
    assert_eq!(
        critic.quick_fixes(text, &list[0]).await,
        expected,
        "also when the server has another text by now"
    );
}

#[tokio::test]
async fn a_twin_tells_where_names_are_defined() {
    for manner in [PULL, PUSH] {
        let world = world(manner);
        let critic = world.critic();
        let text: Arc<str> = "é = '😀'\nx = other(nothing)\n".into();
        let at = |name: &str| text.find(name).unwrap();
        let found = critic.definition(&text, at("other")).await.unwrap();
        let path = world.dir.path().join("other.py");
        assert_eq!(found, [Place { path, line: 1 }]);
        assert_eq!(critic.definition(&text, at("nothing")).await, Ok(Vec::new()));
    }
}

#[tokio::test]
async fn the_least_recently_used_twin_goes_first() {
    let mut world = world(PULL);
    world.config.twin.instances_max = 2;
    for dir in ["one", "two", "three"] {
        std::fs::create_dir_all(world.dir.path().join(dir)).unwrap();
        std::fs::File::create(world.dir.path().join(dir).join("pyproject.toml")).unwrap();
    }
    for dir in ["one", "two", "one", "three"] {
        assert_eq!(
            said(&world.critic_of(&format!("{dir}/a.py"), Vec::new()), "bad").await,
            ["bad"]
        );
    }
    let roots: Vec<_> = world.twins.facts().iter().map(|fact| fact.plan.root.clone()).collect();
    assert_eq!(roots, [world.dir.path().join("one"), world.dir.path().join("three")]);
    assert_eq!(world.starts.load(Ordering::Relaxed), 3);
    let facts = world.twins.facts();
    assert_eq!((facts[0].checks, facts[0].pace.is_some()), (2, true));
}

#[tokio::test]
async fn rule_4_34_a_twin_that_had_to_go_does_not_come_back_behind_its_successor() {
    let mut world = world(PULL);
    world.config.twin.instances_max = 1;
    std::fs::create_dir_all(world.dir.path().join("two")).unwrap();
    std::fs::File::create(world.dir.path().join("two/pyproject.toml")).unwrap();
    let first = world.critic();
    assert_eq!(said(&first, "bad").await, ["bad"]);
    let second = world.critic_of("two/a.py", Vec::new());
    assert_eq!(said(&second, "bad").await, ["bad"]);
    assert_eq!(said(&first, "bad").await, ["unknown: failed"]);
    assert_eq!(world.starts.load(Ordering::Relaxed), 2);
    assert_eq!(said(&world.critic(), "bad").await, ["bad"], "who asks anew gets it anew");
    assert_eq!(world.starts.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn rule_4_34_who_is_asked_is_told_with_the_reason() {
    use crate::config::Speculation;
    let mut world = world(PULL);
    let mut check = |enabled, setting, backend: &str, why: &str| {
        (world.config.twin.enabled, world.config.twin.speculation) = (enabled, setting);
        let critic = world.critic();
        let facts = world.twins.speculation();
        assert_eq!((facts.len(), facts[0].choice.backend.word()), (1, backend));
        assert!(facts[0].choice.why.contains(why), "{}", facts[0].choice.why);
        assert_eq!(critic.lack().is_none(), backend != "none");
    };
    check(true, Speculation::Auto, "twin", "no editor runs it");
    check(true, Speculation::Off, "none", "`off`");
    check(true, Speculation::Lease, "none", "no editor runs it");
    check(false, Speculation::Auto, "none", "`twin.enabled` is off");
    check(true, Speculation::Twin, "twin", "`twin`");
}

#[tokio::test]
async fn a_critic_that_lacks_a_server_says_so_every_time() {
    let world = world(PULL);
    let critic = world.critic_of("a.unheard-of", Vec::new());
    assert_eq!(critic.check("bad".into()).await, Checked::Unknown(Unknown::NoLanguage));
    assert_eq!(critic.completions("bad".into(), 0).await, None);
    assert_eq!(critic.lack().unwrap().reason, Unknown::NoLanguage);
}

/// The real servers, where the slow tests are wanted.
struct Real {
    dir: tempfile::TempDir,
    twins: Twins,
    config: Config,
}

fn real(test: &str, server: &str, language: &str, command: &[&str]) -> Option<Real> {
    if !crate::env_vars::slow_tests() {
        eprintln!("skipped: {test} needs DEMOLISH_SLOW=1");
        return None;
    }
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/bin");
    let program = tools
        .join(server)
        .canonicalize()
        .map_or_else(|_| PathBuf::from(server), |_| tools.join(server));
    let mut config = Config::default();
    let mut line = vec![program.to_string_lossy().into_owned()];
    line.extend(command.iter().map(ToString::to_string));
    config.servers.command.insert(language.to_owned(), line);
    config.twin.check_deadline_ms = 10_000;
    Some(Real { dir: tempfile::tempdir().unwrap(), twins: Twins::default(), config })
}

impl Real {
    fn critic(&self, file: &str, others: Vec<Open>) -> Critic {
        let path = self.dir.path().join(file);
        let subject = Subject {
            path: &path,
            uri: &uri_of(&path),
            language: lang::detect(&path),
            others: &others.into(),
            users: &[],
            env: None,
        };
        self.twins.critic(subject, &self.config)
    }

    fn unsaved(&self, file: &str, text: &str) -> Open {
        let path = self.dir.path().join(file);
        Open {
            uri: uri_of(&path),
            language_id: lang::detect(&path).unwrap().lsp_id(&path).to_owned(),
            document: Document::new(Revision(1), text),
        }
    }

    /// Nothing was written into the project.
    fn untouched(&self, files: &[&str]) {
        let mut found: Vec<_> = std::fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        found.sort();
        assert_eq!(found, files);
    }
}

fn codes_of(checked: &Checked) -> Vec<String> {
    match checked {
        Checked::Diagnostics(list) => {
            let errors = list.iter().filter(|found| found.severity == text::Severity::Error);
            errors.map(|found| found.code.clone().unwrap_or_default()).collect()
        }
        Checked::Unknown(reason) => vec![format!("unknown: {reason}")],
    }
}

#[tokio::test]
async fn slow_ty_judges_what_nobody_has_typed() {
    let Some(real) = real("slow_ty", "ty", "python", &["server"]) else { return };
    std::fs::write(
        real.dir.path().join("pyproject.toml"),
        "[project]\nname = \"x\"\nversion = \"1\"\n",
    )
    .unwrap();
    std::fs::write(real.dir.path().join("other.py"), "").unwrap();
    let other = real.unsaved("other.py", "def answer() -> int:\n    return 42\n");
    let critic = real.critic("a.py", vec![other]);
    let head = "from other import answer\n\ntext: str = ";
    let check = async |tail: &str| codes_of(&critic.check(format!("{head}{tail}\n").into()).await);
    assert_eq!(check("str(answer())").await, [""; 0], "the unsaved other document is known");
    assert_eq!(check("answer()").await, ["invalid-assignment"]);
    assert_eq!(check("'ä😀'").await, [""; 0]);
    let uses: Arc<str> = format!("{head}str(answer())\n").into();
    let defined = critic.definition(&uses, uses.rfind("answer").unwrap()).await.unwrap();
    assert_eq!((defined.len(), defined[0].line), (1, 0));
    assert!(defined[0].path.ends_with("other.py"), "{defined:?}");
    let text: Arc<str> = format!("{head}''.uper()\n").into();
    assert_eq!(codes_of(&critic.check(text.clone()).await), ["missing-attribute"]);
    let names = critic.completions(format!("{head}''.up\n").into(), head.len() + 5).await.unwrap();
    assert!(names.iter().any(|name| name == "upper"), "{names:?}");
    let Checked::Diagnostics(list) = critic.check(text.clone()).await else { panic!() };
    assert_eq!(
        critic.quick_fixes(text, &list[0]).await,
        [[]; 0],
        "ty only offers to silence itself"
    );
    let closed = real.critic("a.py", Vec::new());
    let uses = async || codes_of(&closed.check(format!("{head}str(answer())\n").into()).await);
    assert_eq!(uses().await, ["missing-module-member"], "it is closed now, and empty on disk");
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let written = "def answer() -> int:\n    return 1\n";
    std::fs::write(real.dir.path().join("other.py"), written).unwrap();
    assert_eq!(uses().await, [""; 0], "what another program wrote is noticed");
    real.untouched(&["other.py", "pyproject.toml"]);
    let (checks, median) = (real.twins.facts()[0].checks, real.twins.facts()[0].pace.unwrap().p50);
    assert!(checks == 7 && median < Duration::from_secs(1), "{checks} checks, median {median:?}");
}

#[tokio::test]
async fn slow_tsc_judges_what_nobody_has_typed() {
    let Some(real) = real("slow_tsc", "tsc", "typescript", &["--lsp", "--stdio"]) else { return };
    let options = "{\"compilerOptions\": {\"strict\": true, \"module\": \"esnext\", \"moduleResolution\": \"bundler\"}}";
    std::fs::write(real.dir.path().join("tsconfig.json"), options).unwrap();
    std::fs::write(real.dir.path().join("other.ts"), "").unwrap();
    let other = real.unsaved("other.ts", "export function answer(): number {\n  return 42;\n}\n");
    let critic = real.critic("a.ts", vec![other]);
    let head = "import { answer } from './other';\n\nexport const text: string = ";
    let check = async |tail: &str| codes_of(&critic.check(format!("{head}{tail};\n").into()).await);
    assert_eq!(check("String(answer())").await, [""; 0], "the unsaved other document is known");
    assert_eq!(check("answer()").await, ["2322"]);
    assert_eq!(check("'ä😀'").await, [""; 0]);
    assert_eq!(check("''.toUperCase()").await, ["2551"]);
    let names =
        critic.completions(format!("{head}''.toU;\n").into(), head.len() + 6).await.unwrap();
    assert!(names.iter().any(|name| name == "toUpperCase"), "{names:?}");
    let text: Arc<str> = "export const text: number = answer();\n".into();
    let Checked::Diagnostics(list) = critic.check(text.clone()).await else { panic!() };
    let fixes = critic.quick_fixes(text.clone(), &list[0]).await;
    let fixed: Vec<_> =
        fixes.iter().map(|edits| text::apply_edits(&text, edits).unwrap()).collect();
    assert!(fixed.iter().any(|text| text.contains("import { answer }")), "{fixed:?}");
    real.untouched(&["other.ts", "tsconfig.json"]);
}

/// A server that judges whole suggestions: a wrong one is found out, a good one is not, and the project stays as it is.
async fn judges(
    name: &str,
    language: &str,
    command: &[&str],
    file: &str,
    others: &[(&str, &str)],
    texts: [&str; 2],
) {
    let Some(real) = real(name, name, language, command) else { return };
    for (file, text) in others {
        std::fs::create_dir_all(real.dir.path().join(file).parent().unwrap()).unwrap();
        std::fs::write(real.dir.path().join(file), text).unwrap();
    }
    let critic = real.critic(file, Vec::new());
    let [good, wrong] = texts;
    for round in 0..3 {
        let end = std::time::Instant::now() + Duration::from_secs(60);
        let mut found = codes_of(&critic.check(wrong.into()).await);
        // The first answer may wait until the project was read.
        while found.first().is_none_or(|first| first.starts_with("unknown")) {
            assert!(round == 0 && std::time::Instant::now() < end, "{name} {round}: {found:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
            found = codes_of(&critic.check(wrong.into()).await);
        }
        assert_eq!(codes_of(&critic.check(good.into()).await), [""; 0], "{name} {round}");
    }
    let line = |at: usize| good[..at].matches('\n').count();
    let (used, defined) = (good.rfind('x').unwrap(), good.find('x').unwrap());
    let places = critic.definition(&good.into(), used).await.unwrap();
    let path = real.dir.path().canonicalize().unwrap().join(file);
    assert_eq!(places, [Place { path, line: line(defined) }], "{name}");
    let told = real.twins.speculation();
    assert_eq!(told[0].choice.backend, choice::Backend::Twin, "{}", told[0].choice.why);
    assert!(told[0].checks >= 6, "{}", told[0].checks);
}

#[tokio::test]
async fn slow_rule_4_34_a_twin_of_clangd() {
    let texts = ["int f(int x) {\n  return x;\n}\n", "int f(int x) {\n  return y;\n}\n"];
    judges("clangd", "c", &[], "a.c", &[], texts).await;
}

#[tokio::test]
async fn slow_rule_4_34_a_twin_of_gopls() {
    let texts = [
        "package a\n\nfunc F(x int) int {\n\treturn x\n}\n",
        "package a\n\nfunc F(x int) int {\n\treturn y\n}\n",
    ];
    let others = [("go.mod", "module a\n\ngo 1.22\n"), ("a.go", "package a\n")];
    judges("gopls", "go", &[], "a.go", &others, texts).await;
}

#[tokio::test]
async fn slow_rule_4_34_a_twin_of_rust_analyzer() {
    let texts = ["pub fn f(x: i32) -> i32 {\n    x\n}\n", "pub fn f(x: i32) -> i32 {\n    y\n}\n"];
    let manifest = "[package]\nname = \"a\"\nversion = \"0.1.0\"\nedition = \"2021\"\n";
    let others = [("Cargo.toml", manifest), ("src/lib.rs", "pub fn f() {}\n")];
    judges("rust-analyzer", "rust", &[], "src/lib.rs", &others, texts).await;
}

#[tokio::test]
async fn slow_rule_4_34_a_twin_that_is_too_large_alone_is_refused_with_the_reason() {
    let Some(mut real) = real("slow_memory", "ty", "python", &["server"]) else { return };
    real.config.twin.memory_max_mib = 1;
    let critic = real.critic("a.py", Vec::new());
    assert_eq!(codes_of(&critic.check("x: int = 1\n".into()).await), [""; 0]);
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while real.critic("a.py", Vec::new()).lack().is_none() {
        assert!(std::time::Instant::now() < end, "it goes on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(real.twins.facts().is_empty());
    let told = real.twins.speculation();
    assert!(told[0].choice.why.contains("`twin.memory_max_mib` is 1"), "{}", told[0].choice.why);
    assert!(told[0].twin_bytes.is_some_and(|bytes| bytes > 1 << 20));
    assert_eq!(
        codes_of(&critic.check("x: int = 2\n".into()).await).len(),
        1,
        "who still held it gets no other"
    );
}
