//! The whole way with nothing faked: the default model, the real ty, the sample project; by the command line. Skipped
//! unless `DEMOLISH_SLOW=1`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::house::{DEMOLISH, House};

/// A copy of the sample project, and an environment in which ty and the model are found.
fn project() -> Option<(House, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let model =
        std::env::var_os("DEMOLISH_MODEL").map_or(root.join("daemon/nano/model"), PathBuf::from);
    if !crate::house::slow() || !model.join("config.json").is_file() {
        println!("skipped: needs DEMOLISH_SLOW=1, a real ty and the default model");
        return None;
    }
    let tools = root.join(".tools/bin");
    let path = std::env::join_paths(
        [tools].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH")?)),
    )
    .unwrap();
    let house = House::new()
        .with("DEMOLISH_MODEL", &model.to_string_lossy())
        .with("PATH", &path.to_string_lossy());
    let project = house.dir.path().join("project");
    copy(&root.join("tests/demo/python"), &project);
    Some((house, project))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Runs the program; its exit code and what it printed.
fn run(house: &House, args: &[&str]) -> (i32, Value) {
    let output = Command::new(DEMOLISH)
        .args(args)
        .env_clear()
        .envs(&house.env)
        .current_dir(house.dir.path())
        .output()
        .unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let printed =
        serde_json::from_str(&out).unwrap_or_else(|_| panic!("{args:?} printed {out}{err}"));
    (output.status.code().expect("not killed"), printed)
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// Where `needle` ends in a file, as the command line wants it.
fn place(path: &Path, needle: &str) -> String {
    let text = text(path);
    let at = text.find(needle).expect("it is in the file") + needle.len();
    let line = text[..at].matches('\n').count() + 1;
    let column = text[..at].rsplit('\n').next().unwrap().chars().count() + 1;
    format!("{}:{line}:{column}", path.display())
}

/// What every answer to `complete` must hold, whatever the model says.
fn check_completion(answer: &(i32, Value), path: &Path, ty: &dyn Fn(&str) -> Vec<String>) {
    let (code, object) = answer;
    assert_eq!(object["model"], "nano");
    assert!(object["timings_ms"]["total"].as_f64().unwrap() > 0.0);
    assert!(object["work"]["tokens"].as_u64().unwrap() > 0);
    for refused in object["refused"].as_array().unwrap() {
        assert!(refused["diagnostic"]["message"].is_string());
    }
    let Some(suggestion) = object["suggestion"].as_str() else {
        assert_eq!(*code, 1);
        return;
    };
    assert_eq!((*code, &object["server"]), (0, &"ty".into()));
    if object["verdict"]["kind"] != "clean" {
        return;
    }
    // Clean is said only of what the server accepts: so must the server itself, asked once more.
    let position = |end: &str| {
        let place = &object["range"][end];
        let number = |name: &str| usize::try_from(place[name].as_u64().unwrap()).unwrap();
        let text = text(path);
        let line: usize = text.split_inclusive('\n').take(number("line")).map(str::len).sum();
        let units = text[line..].char_indices().scan(0, |sum, (at, c)| {
            let before = *sum;
            *sum += c.len_utf16();
            Some((before, at))
        });
        line + units
            .take_while(|(before, _)| *before <= number("character"))
            .last()
            .map_or(0, |(_, at)| at)
    };
    let before = text(path);
    let after =
        format!("{}{suggestion}{}", &before[..position("start")], &before[position("end")..]);
    let known = ty(&before);
    let new: Vec<String> = ty(&after).into_iter().filter(|code| !known.contains(code)).collect();
    assert!(new.is_empty(), "{suggestion:?} was called clean, but brings in {new:?}");
}

/// The codes of the errors that the real ty finds in a text that stands in the project.
fn ty(house: &House, path: &Path) -> impl Fn(&str) -> Vec<String> {
    let (env, path) = (house.env.clone(), path.to_owned());
    move |candidate| {
        let original = text(&path);
        std::fs::write(&path, candidate).unwrap();
        let output = Command::new("ty")
            .args(["check", "--output-format", "concise", "--error-on-warning", "--color", "never"])
            .arg(&path)
            .env_clear()
            .envs(&env)
            .current_dir(path.parent().unwrap())
            .output()
            .unwrap();
        std::fs::write(&path, original).unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let codes = printed
            .lines()
            .filter_map(|line| Some(line.split_once("error[")?.1.split_once(']')?.0.to_owned()));
        codes.collect()
    }
}

#[tokio::test]
async fn slow_suggestions_are_what_the_server_accepts() {
    let Some((house, project)) = project() else { return };
    let cart = project.join("shop/cart.py");
    let original = text(&cart);
    let judge = ty(&house, &cart);
    // As while typing: nothing stands behind the cursor on its line.
    for needle in [
        "return sum(",
        "return self.",
        "item.name",
        "-> float:\n        ",
        "items: list[",
        "def names(",
    ] {
        let at = original.find(needle).expect("it is in the file") + needle.len();
        let rest = original[at..].find('\n').map_or("", |end| &original[at + end..]);
        std::fs::write(&cart, format!("{}{rest}", &original[..at])).unwrap();
        let place = place(&cart, needle);
        let alone = run(&house, &["complete", &place, "--json", "--no-daemon"]);
        check_completion(&alone, &cart, &judge);
    }
    let before = text(&cart);
    house.daemon().await;
    let place = place(&cart, "-> float:\n        ");
    let through = run(&house, &["complete", &place, "--json"]);
    check_completion(&through, &cart, &judge);
    assert_eq!(house.status().await.twins.len(), 1, "the daemon answered it");
    assert_eq!(text(&cart), before, "nothing was written");
}

#[tokio::test]
async fn slow_the_error_of_the_sample_project_is_fixed() {
    let Some((house, project)) = project() else { return };
    let order = project.join("shop/order.py");
    let before = text(&order);
    let file = order.to_string_lossy().into_owned();
    let errors = |list: &Value| {
        list.as_array().unwrap().iter().filter(|found| found["severity"] == 1).count()
    };
    let check = |(code, object): &(i32, Value)| {
        assert_eq!(*code, 0, "{object:#}");
        assert_eq!((errors(&object["before"]), errors(&object["after"])), (1, 0), "{object:#}");
        let diff = object["proposal"]["diff"].as_str().unwrap();
        assert!(diff.starts_with("--- a/shop/order.py\n+++ b/shop/order.py\n@@ "), "{diff}");
        assert!(object["candidates"].as_u64().unwrap() > 0);
    };
    check(&run(&house, &["fix", &file, "--json"]));
    assert_eq!(text(&order), before, "nothing was written");
    house.daemon().await;
    check(&run(&house, &["fix", &file, "--json", "--apply"]));
    assert_ne!(text(&order), before);
    let again = run(&house, &["fix", &file, "--json"]);
    assert_eq!(
        (again.0, &again.1["proposal"]),
        (0, &Value::Null),
        "nothing is wrong any more: {:#}",
        again.1
    );
}
