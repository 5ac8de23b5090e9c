//! Whatever the prefix of a valid file is, it can be closed; and what a file has in its middle is never in the way of its own end.

use std::path::{Path, PathBuf};

use lang::{Grammar, detect};
use proptest::prelude::*;

fn samples() -> Vec<(Grammar, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/grammars");
    let names = [
        "c/sample.c",
        "cpp/sample.cpp",
        "go/sample.go",
        "python/sample.py",
        "rust/sample.rs",
        "typescript/sample.ts",
    ];
    let read = |name: &str| {
        let path: PathBuf = folder.join(name);
        (Grammar::new(detect(&path).unwrap(), &path), std::fs::read_to_string(&path).unwrap())
    };
    names.into_iter().map(read).collect()
}

fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap()
}

#[test]
fn the_samples_are_valid_and_closed() {
    for (grammar, text) in samples() {
        let id = grammar.language().id();
        assert_eq!(grammar.parse(&text).unwrap().errors(0..text.len()), 0, "{id}");
        assert_eq!(grammar.open(&text).depth(), 0, "{id}");
        assert_eq!(grammar.close(&text), "", "{id}");
    }
}

#[test]
fn prefixes_that_end_with_a_statement_close_without_errors() {
    for (grammar, text) in samples() {
        for end in grammar.parse(&text).unwrap().statement_ends() {
            let prefix = &text[..end];
            let closed = [prefix, &grammar.close(prefix)].concat();
            let errors = grammar.parse(&closed).unwrap().errors(0..closed.len());
            assert_eq!(
                errors,
                0,
                "{}: …{}",
                grammar.language().id(),
                &closed[boundary(&closed, closed.len().saturating_sub(80))..]
            );
        }
    }
}

#[test]
fn most_prefixes_that_end_with_a_line_close_without_errors() {
    for (grammar, text) in samples() {
        let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
        let bad: Vec<&str> = ends
            .iter()
            .map(|end| &text[..*end])
            .filter(|prefix| {
                let closed = [prefix, grammar.close(prefix).as_str()].concat();
                grammar.parse(&closed).unwrap().errors(0..closed.len()) > 0
            })
            .map(|prefix| prefix.lines().last().unwrap())
            .collect();
        assert!(
            bad.len() * 10 <= ends.len(),
            "{}: {} of {}: {bad:#?}",
            grammar.language().id(),
            bad.len(),
            ends.len()
        );
    }
}

#[test]
fn a_statement_is_settled_when_it_is_over() {
    let check = |path: &str, text: &str, pointed: &str, end: &str, next: &str, settled: bool| {
        let grammar = Grammar::new(detect(Path::new(path)).unwrap(), Path::new(path));
        let at = text.find(pointed).unwrap();
        let end = text.find(end).unwrap() + end.len();
        let syntax = grammar.parse(text).unwrap();
        assert_eq!(syntax.settled(text, end, at, next), settled, "{text:?} at {pointed:?}");
    };
    check("a.ts", "const a = f(x)\n", "x", ")\n", "const", true);
    check("a.ts", "const a = f(x)\n", "x", ")\n", "  .map()", false);
    check("a.ts", "const a = f(x);\n", "x", ";\n", "(b)", true);
    check("a.ts", "if (x) {\n  y();\n}", "x", "{\n", "y", true);
    check("a.ts", "if (x) {\n  y();\n}", "y", "y();\n", "z", true);
    check("a.ts", "g(() => {\n  y();\n});", "y", "y();\n", "z", false);
    check("a.py", "def f(a):\n    x = g(\n        a)\n", "g", "g(\n", "", false);
    check("a.py", "def f(a):\n    x = g(a)\n    pass\n", "g", "g(a)\n", "", true);
    check("a.py", "from a import b, \\\n", "b", "\\\n", "", false);
    check("a.py", "@d(1)\ndef f():\n    pass\n", "d(1)", "f():\n", "", false);
    check("a.py", "@d(1)\ndef f():\n    pass\n", "d(1)", "pass\n", "", true);
}

#[test]
fn a_function_is_over_when_something_follows_it() {
    let path = Path::new("a.py");
    let grammar = Grammar::new(detect(path).unwrap(), path);
    let text = "def f() -> int:\n    x = 1\n    # more\n\ny = 2\n";
    let syntax = grammar.parse(text).unwrap();
    let over = |end: &str| {
        syntax.scope_over(text, text.find(end).unwrap() + end.len(), 11, lang::Until::Function)
    };
    assert!(!over("# more\n"));
    assert!(over("y = 2\n"));
}

#[test]
fn an_item_is_the_outermost_one() {
    let path = Path::new("a.py");
    let grammar = Grammar::new(detect(path).unwrap(), path);
    let text =
        "class A:\n    def f(self):\n        self.x\n    def g(self):\n        pass\ny = 2\n";
    let syntax = grammar.parse(text).unwrap();
    let at = text.find("self.x").unwrap();
    let over =
        |end: &str, until| syntax.scope_over(text, text.find(end).unwrap() + end.len(), at, until);
    assert!(over("g(self):\n", lang::Until::Function));
    assert!(!over("g(self):\n", lang::Until::Item));
    assert!(over("y = 2\n", lang::Until::Item));
    assert!(syntax.in_function(at) && !syntax.in_function(text.find("y = 2").unwrap()));
    assert!(syntax.scope_over(text, text.len(), text.find("y = 2").unwrap(), lang::Until::Item));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_prefix_closes(sample in 0usize..6, at in 0usize..2400) {
        let (grammar, text) = samples().swap_remove(sample);
        let prefix = &text[..boundary(&text, at)];
        let closed = [prefix, &grammar.close(prefix)].concat();
        prop_assert_eq!(grammar.open(&closed).depth(), 0);
    }

    #[test]
    fn what_the_file_has_there_fits_its_gap(sample in 0usize..6, at in 0usize..2400, len in 0usize..200) {
        let (grammar, text) = samples().swap_remove(sample);
        let start = boundary(&text, at);
        let end = boundary(&text, start + len).max(start);
        let (before, middle, after) = (&text[..start], &text[start..end], &text[end..]);
        let balanced = {
            let open = grammar.open(before);
            let over = grammar.open_after(&open, middle);
            over.depth() == open.depth() && over.lowest() == open.depth()
        };
        let code = !grammar.open(before).in_string() && !grammar.open(before).in_comment();
        if balanced && code {
            let gap = grammar.gap(before, after);
            prop_assert_eq!(gap.over_closed(grammar, middle), None, "{:?}", middle);
            prop_assert_eq!(grammar.signs(&gap, middle), (String::new(), String::new()));
        }
    }

    #[test]
    fn any_text_at_all_closes(path in "a\\.(py|ts|rs|go|c)", text in "[a-z(\\[{}\\])\"'`#/*$:=\\\\ \n😀]{0,60}") {
        let path = Path::new(&path);
        let grammar = Grammar::new(detect(path).unwrap(), path);
        let _ = grammar.close(&text);
        let half = boundary(&text, text.len() / 2);
        let gap = grammar.gap(&text[..half], &text[half..]);
        let _ = grammar.close_in(&gap, &text[..half], "x = (", &text[half..]);
        let _ = gap.over_closed(grammar, &text);
    }
}
