//! The index as a whole: what it finds, what it forgets, and what it bears.

use std::path::Path;

use proptest::prelude::*;

use super::*;

fn symbols(text: &str) -> Vec<Symbol> {
    let mut found = Vec::new();
    for keyword in ["def ", "class ", "fn "] {
        for (at, _) in text.match_indices(keyword) {
            let name =
                text[at + keyword.len()..].split(|c: char| !c.is_alphanumeric() && c != '_').next();
            found.push(Symbol { name: name.unwrap().to_owned(), range: at..at + 1 });
        }
    }
    found.sort_by_key(|symbol| symbol.range.start);
    found
}

fn index(files: &[(&str, &str)]) -> Index {
    let mut index = Index::new(Limits::default());
    for (path, text) in files {
        assert_eq!(index.insert(Path::new(path), text, &symbols(text)), Inserted::Yes);
    }
    index
}

fn query<'a>(path: &'a str, prefix: &'a str, suffix: &'a str) -> Query<'a> {
    Query {
        path: Path::new(path),
        prefix,
        suffix,
        shown: (1000, 300),
        opened: &[],
        definitions: &[],
        kept: &[],
        budget: 1200,
    }
}

fn found(index: &Index, query: &Query<'_>) -> Vec<(String, usize, Why)> {
    let told = |chunk: Chunk| (chunk.path.display().to_string(), chunk.line, chunk.why);
    index.query(query).into_iter().map(told).collect()
}

const STORE: &str = "class Ledger:\n    def __init__(self, currency):\n        self.currency = currency\n        self.entries = []\n\n    def post_entry(self, account, amount):\n        self.entries.append((account, amount))\n";
const MAIL: &str = "def send_mail(recipient, subject):\n    server = connect_smtp()\n    server.deliver(recipient, subject)\n";
const REPORT: &str = "def monthly_report(ledger, month):\n    total = 0\n    for account, amount in ledger.entries:\n        total += amount\n    return render(total, month)\n";

#[test]
fn the_definition_of_a_near_name_comes_last_and_the_unrelated_not_at_all() {
    let index = index(&[("bank/store.py", STORE), ("mail.py", MAIL), ("bank/report.py", REPORT)]);
    let prefix =
        "from bank.store import Ledger\n\nledger = Ledger(\"EUR\")\nledger.post_entry(account, ";
    let found = found(&index, &query("bank/main.py", prefix, ")\n"));
    assert_eq!(found.last(), Some(&("bank/store.py".to_owned(), 0, Why::Definition)));
    assert!(found.iter().all(|(path, ..)| path != "mail.py"), "{found:?}");
}

#[test]
fn what_the_prompt_shows_is_not_told_again() {
    let index = index(&[("store.py", STORE), ("copy.py", STORE)]);
    assert_eq!(found(&index, &query("store.py", STORE, "")), []);
    let far = format!("{STORE}{}    ledger.post_entry(account, ", "\n".repeat(1100));
    let twice = found(&index, &query("store.py", &far, ""));
    assert_eq!(twice.len(), 1, "one of two that are alike: {twice:?}");
}

#[test]
fn an_edit_replaces_one_file_and_a_removed_file_is_forgotten() {
    let mut index = index(&[("store.py", STORE), ("mail.py", MAIL), ("report.py", REPORT)]);
    let empty = Index::new(Limits::default()).size();
    let prefix = "server = connect_smtp()\nserver.deliver(";
    assert_eq!(found(&index, &query("main.py", prefix, "")).len(), 1);
    let before = index.size();
    assert_eq!(index.insert(Path::new("mail.py"), "x = 1\n", &[]), Inserted::Yes);
    assert_eq!(found(&index, &query("main.py", prefix, "")), []);
    index.insert(Path::new("mail.py"), MAIL, &symbols(MAIL));
    assert_eq!(index.size(), before);
    for path in ["store.py", "mail.py", "report.py"] {
        assert!(index.remove(Path::new(path)));
        assert!(!index.remove(Path::new(path)));
    }
    assert_eq!(index.size(), empty);
    assert!(index.definitions.is_empty() && index.by_stem.is_empty());
}

#[test]
fn the_budget_is_kept_and_decides_by_relevance() {
    let index = index(&[("store.py", STORE), ("report.py", REPORT)]);
    let prefix = "ledger = Ledger(currency)\nfor account, amount in ledger.entries:\n    total += amount\n    monthly_report(";
    let all = index.query(&query("main.py", prefix, ""));
    assert_eq!(all.len(), 2);
    let cost = all[1].text.len() + all[1].path.as_os_str().len() + 1;
    let one = index.query(&Query { budget: cost, ..query("main.py", prefix, "") });
    assert_eq!(one, all[1..]);
    assert_eq!(index.query(&Query { budget: 0, ..query("main.py", prefix, "") }), []);
}

#[test]
fn what_the_server_tells_and_what_was_edited_counts() {
    let other = "def totals(entries):\n    return sum(entries)\n";
    let mut index = index(&[("a.py", STORE), ("b.py", REPORT), ("c.py", other)]);
    let prefix = "value = unknown_name(";
    assert_eq!(found(&index, &query("main.py", prefix, "")), []);
    let places = [Place { path: "c.py".into(), line: 1 }];
    let told = Query { definitions: &places, ..query("main.py", prefix, "") };
    assert_eq!(found(&index, &told), [("c.py".to_owned(), 0, Why::Definition)]);
    index.edited(Path::new("b.py"), 2..3);
    let prefix = "account, amount = 1, 2\nrender(";
    let found = found(&index, &query("main.py", prefix, ""));
    assert_eq!(found.last(), Some(&("b.py".to_owned(), 0, Why::Edited)));
}

#[test]
fn an_earlier_choice_stays_while_it_is_nearly_as_good() {
    let mut index = index(&[("store.py", STORE), ("report.py", REPORT), ("mail.py", MAIL)]);
    let prefix = "ledger = Ledger(currency)\nledger.post_entry(account, ";
    let first = index.query(&query("main.py", prefix, ""));
    let next = "ledger = Ledger(currency)\nledger.post_entry(account, amount)\n";
    let kept = Query { kept: &first, ..query("main.py", next, "") };
    assert_eq!(index.query(&kept), first);
    let elsewhere = "server = connect_smtp()\nserver.deliver(recipient, ";
    let moved = index.query(&Query { kept: &first, ..query("main.py", elsewhere, "") });
    assert_eq!(moved.last().unwrap().path, Path::new("mail.py"));
    index.insert(Path::new("store.py"), &STORE.replace("entries", "lines"), &[]);
    assert_ne!(index.query(&kept), first, "it does not stand there any more");
}

#[test]
fn a_full_index_says_so_and_goes_on() {
    let mut index = Index::new(Limits { files: 2, bytes: 64 << 20 });
    assert_eq!(index.insert(Path::new("a.py"), STORE, &[]), Inserted::Yes);
    assert_eq!(index.insert(Path::new("b.py"), MAIL, &[]), Inserted::Yes);
    assert_eq!(index.insert(Path::new("c.py"), REPORT, &[]), Inserted::Full);
    assert_eq!(index.insert(Path::new("b.py"), REPORT, &[]), Inserted::Yes, "in its own place");
    let mut small = Index::new(Limits { files: 100, bytes: 2000 });
    let mut held = 0;
    while small.insert(Path::new(&format!("{held}.py")), STORE, &[]) == Inserted::Yes {
        held += 1;
        assert!(held < 20);
    }
    assert!(small.size().bytes < 2000 + 4000, "{:?}", small.size());
}

#[test]
fn odd_files_are_borne() {
    let mut index = Index::new(Limits::default());
    let line = "x".repeat(1 << 20);
    for (path, text) in [
        ("empty", ""),
        ("line", line.as_str()),
        ("nul", "\0\0\u{fffd}é\r\n\r"),
        ("blank", "\n\n\n"),
    ] {
        assert_eq!(index.insert(Path::new(path), text, &[]), Inserted::Yes);
        assert_eq!(index.text(Path::new(path)).as_deref(), Some(text));
    }
    assert_eq!(index.query(&query("empty", "", "")), []);
    assert_eq!(index.query(&query("line", &line, &line)), []);
    assert_eq!(Index::new(Limits::default()).query(&query("a", "x = foo(", ")")), []);
}

#[test]
fn the_order_of_insertion_does_not_matter() {
    let files = [("store.py", STORE), ("report.py", REPORT), ("mail.py", MAIL), ("copy.py", STORE)];
    let prefix = "ledger = Ledger(currency)\nledger.post_entry(account, amount)\nmonthly_report(";
    let first = found(&index(&files), &query("main.py", prefix, ""));
    let mut turned = files;
    turned.reverse();
    assert_eq!(found(&index(&turned), &query("main.py", prefix, "")), first);
}

proptest! {
    /// Whatever is put in and taken out, in the end the index is the one of what is left.
    #[test]
    fn an_index_is_what_was_left_in_it(
        steps in prop::collection::vec((0usize..5, prop::option::of("(def [a-d]{2}\\(\\):|[a-d]{2} = [a-dA-D]{2,4}|é|\n){0,30}")), 0..24),
    ) {
        let mut lived = Index::new(Limits::default());
        let mut texts = std::collections::BTreeMap::new();
        for (number, text) in steps {
            let path = format!("{number}.py");
            match text {
                Some(text) => {
                    lived.insert(Path::new(&path), &text, &symbols(&text));
                    texts.insert(path, text);
                }
                None => {
                    prop_assert_eq!(lived.remove(Path::new(&path)), texts.remove(&path).is_some());
                }
            }
        }
        let files: Vec<_> = texts.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let fresh = index(&files);
        prop_assert_eq!(lived.size(), fresh.size());
        let asked = query("main.py", "ab = cd(aB, ", "\nda = bb\n");
        prop_assert_eq!(found(&lived, &asked), found(&fresh, &asked));
        for (path, text) in &texts {
            prop_assert_eq!(lived.text(Path::new(path)), Some(text.clone()));
        }
    }
}
