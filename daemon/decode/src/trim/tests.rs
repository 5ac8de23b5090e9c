use std::path::Path;

use super::*;
use crate::judge::Desk;

fn desk(path: &str, before: &str, after: &str) -> Desk {
    let text = [before, after].concat().into();
    Desk::new(text, before.len(), lang::detect(Path::new(path)), Path::new(path), "", None)
}

/// `$0` is the cursor in `document`; what is left of `candidate`. `<end>`: the model has ended.
fn check(path: &str, document: &str, candidate: &str, expected: Option<&str>) {
    let (before, after) = document.split_once("$0").unwrap();
    let (text, finished) =
        candidate.strip_suffix("<end>").map_or((candidate, false), |text| (text, true));
    let place = Place::new(&desk(path, before, after), 0).without_above();
    let kept = match place.end(text, finished) {
        End::Open => None,
        End::At(at) => Some(&text[..at]),
    };
    assert_eq!(kept, expected, "{document:?} + {candidate:?}");
}

#[test]
fn one_line_at_the_end_of_a_line() {
    check("a.py", "x = $0\n", "1\n", Some("1"));
    check("a.py", "x = $0\n", "f(1,\n", None);
    check("a.py", "x = $0\n", "f(1,\n      2)\ny", Some("f(1,\n      2)"));
    check("a.py", "x = $0\n", "1  <end>", Some("1"));
}

#[test]
fn a_line_that_goes_on_is_not_the_end() {
    check("a.py", "x = $0\n", "1 + \\\n", None);
    check("a.py", "x = $0\n", "1 + \\\n    2\n", Some("1 + \\\n    2"));
}

#[test]
fn a_block_has_a_body() {
    check("a.py", "def f($0\n", "x):\n", None);
    check("a.py", "def f($0\n", "x):\n    return x<end>", Some("x):\n    return x"));
    check("a.ts", "function f$0\n", "() {\n  return 1;\n}\n", Some("() {\n  return 1;\n}"));
    check("a.py", "if x:$0\n", "\n    a()\nb()\n", Some("\n    a()"));
}

#[test]
fn what_the_document_closes_is_not_closed_twice() {
    check("a.py", "f($0)\n", "a, b)\n", Some("a, b"));
    check("a.ts", "f($0);\n", "[1, 2]);\n", Some("[1, 2]"));
    check("a.ts", "function f() {\n  $0\n}\n", "return 1;\n}\n", Some("return 1;"));
    check("a.py", "x = [$0\n", "1, 2]\n", Some("1, 2]"));
    check("a.py", "x = \"$0\"\n", "abc\"\n", Some("abc"));
}

#[test]
fn the_rest_of_the_line_is_not_repeated() {
    check("a.py", "x = $0 + 1\n", "y + 1\n", Some("y"));
    check("a.py", "return $0 else None\n", "a if b<end>", Some("a if b"));
    check("a.py", "foo($0bar)\n", "a, <end>", Some("a, "));
}

#[test]
fn the_next_line_is_not_repeated() {
    check(
        "a.py",
        "def f():\n    $0\n    return total\n",
        "total = 1\n    return total\n",
        Some("total = 1"),
    );
    check("a.py", "def f():\n    $0\n    return total\n", "return total\n", Some(""));
}

#[test]
fn going_back_out_of_the_block_ends_it() {
    check("a.py", "def f():\n    $0\n", "return 1\nx = 2\n", Some("return 1"));
    check("a.ts", "if (x)$0\n", " {\n  a();\n}\nb();\n", Some(" {\n  a();\n}"));
}

#[test]
fn repeated_lines_end_it() {
    check("a.py", "$0\n", "print(x)\nprint(x)\nprint(x)\n", Some("print(x)"));
}

#[test]
fn blank_suggestions_are_nothing() {
    check("a.py", "    $0\n", "   \n<end>", Some(""));
}

#[test]
fn a_block_that_is_begun_is_suggested_to_its_end() {
    let body = "x):\n    y = x\n    return y\n";
    check("a.py", "def f($0\n", body, None);
    check("a.py", "def f($0\n", &format!("{body}z = 1"), Some(body.trim_end()));
    check("a.py", "def f($0\n", &format!("{body}\n"), Some(body.trim_end()));
    check("a.py", "$0\n", "if x:\n    a()\nb()", Some("if x:\n    a()"));
    check("a.py", "def f():\n    $0\n", "if x:\n        a()\n", None);
    check("a.py", "def f():\n    $0\n", "if x:\n        a()\n    b()\n", None);
    let five = "a()\n    b()\n    c()\n    if d:\n        e()\n";
    check("a.py", "def f():\n    $0\n", five, None);
    check("a.py", "def f():\n    $0\n", &format!("{five}    g()"), Some(five.trim_end()));
    let long = "if x:\n".to_owned() + &"    a()\n    b()\n".repeat(4);
    check("a.py", "$0\n", &long, Some("if x:\n    a()\n    b()\n    a()\n    b()"));
}

#[test]
fn a_line_that_is_no_header_of_a_block_is_followed_by_one_statement() {
    check("a.py", "x = 1\n$0\n", "y = 2\nz = 3\n", Some("y = 2"));
    check("a.py", "# note:\n$0\n", "y = 2\nz = 3\n", Some("y = 2"));
    check("a.py", "s = \"a:\"\n$0\n", "y = 2\nz = 3\n", Some("y = 2"));
    check("a.py", "x = {\n    1:\n    $0\n}", "2,\n    3: 4,\n", Some("2,"));
    check("a.ts", "a();\n$0\n", "b();\nc();\n", Some("b();"));
    check("a.ts", "function f() { // {\n  $0\n}", "a();\n  b();\n", None);
    check("a.go", "func f() {\n\t$0\n}\n", "a()\n\tb()\n", None);
    check("a.txt", "Dear all:\n$0", "one\ntwo\n", None);
    check("a.txt", "one\n$0", "two\nthree\n", Some("two"));
}

#[test]
fn the_line_above_is_not_repeated() {
    check("a.py", "import os\n$0\n", "import os\n", Some(""));
    check("a.py", "import os\nimport $0\n", "os\n", Some(""));
    check("a.py", "self.a = a\nself.$0\n", "a  =  a<end>", Some(""));
    check("a.py", "add(a, b)\nadd($0)\n", "a, b<end>", Some(""));
    check("a.py", "]\n$0\n", "]\n", Some(""));
    check("a.ts", "});\n$0\n", "if (x) {\n});\n", Some("if (x) {\n}"));
    check("a.py", "x += 1\n$0\n", "x += 1<end>", Some("x += 1"));
}

#[test]
fn lines_below_are_not_repeated_also_where_half_of_one_stands_already() {
    check("a.py", "imp$0\nimport re\n", "ort re\n", Some(""));
    check("a.py", "if a:\n    b()\n$0\n\nreturn  total\n", "return total\n", Some(""));
    let far = "$0\nfirst_one()\nthe_second_of_many_lines()\n";
    check("a.py", far, "the_second_of_many_lines()\n", Some(""));
    check("a.py", "$0\na = 1\nb = 2\n", "b = 2\n", Some("b = 2"));
}

#[test]
fn the_rest_of_the_line_does_not_come_in_the_middle_either() {
    check("a.py", "x = $0value\n", "some, value, more<end>", Some("some, "));
    check("a.txt", "the $0 of the line\n", "end of the line, and more<end>", Some("end"));
}

#[test]
fn signs_that_the_candidate_needs_itself_are_no_repetition() {
    check("a.py", "f($0)\n", "g()<end>", Some("g()"));
    check("a.py", "f($0)\n", "g())\n", Some("g()"));
    check("a.ts", "x = [$0];\n", "a[0]];\n", Some("a[0]"));
    check("a.py", "print($0\"b\")\n", "\"a\"<end>", Some("\"a\""));
    check("a.py", "print('$0', end='')\n", "a(b'", Some("a(b"));
    check("a.py", "f($0, ')')\n", "g(')')\n", Some("g(')')"));
    check("a.py", "f(')' + $0)\n", "g()\n", Some("g()"));
    check("a.py", "f($0)  # :)\n", "g(')'))\n", Some("g(')')"));
    check("a.py", "f($0)\n", "g(a)[0])\n", Some("g(a)[0]"));
    for (document, candidate, expected) in [
        ("f($0)\n", "g()<end>", "g()"),
        ("f($0)\n", "g())<end>", "g()"),
        ("say \"$0\"\n", "it's\"<end>", "it's"),
        ("say $0\"b\"\n", "\"a\"<end>", "\"a\""),
    ] {
        check("a.klingon", document, candidate, Some(expected));
    }
}

#[test]
fn where_the_rest_of_the_line_cannot_be_led_over_to_there_is_nothing() {
    check("a.py", "f($0bar)\n", "foo(bar)<end>", Some(""));
    check("a.py", "f($0value, 1)\n", "foo(value<end>", Some(""));
    check("a.klingon", "f($0value)\n", "foo(value)<end>", Some(""));
    check("a.py", "f($0bar)\n", "foo(1), bar)\n", Some("foo(1), "));
}

#[test]
fn signs_that_nobody_sees_end_it() {
    for sign in ['\0', '\u{1b}', '\u{7f}', '\u{85}', '\u{202e}', '\u{2066}', '\u{feff}', '\u{fffd}']
    {
        check("a.py", "x = $0\n", &format!("1{sign}2<end>"), Some("1"));
    }
    check("a.py", "x = $0\n", "\t1\r\n", Some("\t1"));
    check("a.py", "x = '$0'\n", "a\u{a0}é😀\u{200d}<end>", Some("a\u{a0}é😀\u{200d}"));
}

#[test]
fn before_words_stands_what_leads_over_to_them() {
    let fits = |document: &str, written: &str, at: usize, ended: bool| {
        let (before, after) = document.split_once("$0").unwrap();
        Place::new(&desk("a.py", before, after), 0).fits(written, at, ended)
    };
    for (document, written, at, ended, expected) in [
        ("f($0)", "a, b)\n", 4, false, true),
        ("f($0);", "a\n", 1, false, true),
        ("x = $0", "1\n", 1, false, true),
        ("f($0bar)", "a, ", 3, true, true),
        ("f($0bar)", "a, bar)", 3, false, true),
        ("f($0bar)", "a, ", 3, false, false),
        ("f($0bar)", "a, b)\n", 4, false, false),
        ("f($0bar)", "foo", 3, true, false),
        ("x = $0 + y", "1", 1, true, true),
        ("x = $0 + y", "1\n", 1, false, false),
    ] {
        assert_eq!(fits(document, written, at, ended), expected, "{document:?} {written:?}");
    }
}

/// Files that an author wrote, and places in them where a part of a line is taken out.
fn holes(each: usize) -> impl Iterator<Item = (&'static str, String, usize, usize)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/grammars");
    let names = [
        "c/sample.c",
        "cpp/sample.cpp",
        "go/sample.go",
        "python/sample.py",
        "rust/sample.rs",
        "typescript/sample.ts",
    ];
    names.into_iter().flat_map(move |name| {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        let mut state = 11u64;
        let mut next = move |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % below.max(1)
        };
        (0..each)
            .map(|_| {
                let from = floor_boundary(&text, next(text.len()));
                let line = text[from..].find('\n').map_or(text.len(), |at| from + at);
                let to = floor_boundary(&text, from + next(line - from + 1));
                (name, text.clone(), from, to)
            })
            .collect::<Vec<_>>()
    })
}

/// A model that knows the author's text, and says all of it, and does not stop.
#[test]
fn what_follows_is_never_written_twice_and_every_bracket_stays_matched() {
    let mut kept = 0;
    for (name, text, from, to) in holes(400) {
        let (before, after) = (&text[..from], &text[to..]);
        let desk = desk(name, before, after);
        let place = Place::new(&desk, 0).without_above();
        let said = &text[from..];
        let grammar = desk.grammar.unwrap();
        for len in (0..said.len()).filter(|len| said.is_char_boundary(*len)) {
            let End::At(at) = place.end(&said[..len], false) else { continue };
            let suggestion = &said[..at];
            let whole = [before, suggestion, after].concat();
            let rest = after.split('\n').next().unwrap();
            let line = &whole[from..].split('\n').next().unwrap();
            let times = |line: &str| line.matches(rest).count();
            if rest.chars().filter(|sign| sign.is_alphanumeric()).count() >= 4 {
                let author = &text[from..].split('\n').next().unwrap();
                assert!(
                    times(line) <= times(author),
                    "{name} {from}..{to} {suggestion:?} {rest:?}"
                );
            }
            let gap = grammar.gap(before, after);
            assert_eq!(gap.over_closed(grammar, suggestion), None, "{name} {from} {suggestion:?}");
            let stray = |text: &str| grammar.open_after(&grammar.open(""), text).stray();
            let in_code = !gap.open.in_string() && !gap.open.in_comment();
            if in_code && stray(&[before, after].concat()).is_none() {
                assert_eq!(stray(&whole), None, "{name} {from}..{to} {suggestion:?}");
            }
            kept += usize::from(!suggestion.is_empty());
            break;
        }
    }
    assert!(kept > 500, "{kept}");
}

/// A model that says anything.
#[test]
fn whatever_is_said_what_is_kept_is_its_start_without_blanks_and_controls() {
    let signs = [
        "a", " ", "\n", "\n    ", ")", "(", "{", "}", ":", "\"", "é", "\0", "\t", "return", "\r\n",
    ];
    for (round, (name, text, from, to)) in holes(300).enumerate() {
        let desk = desk(name, &text[..from], &text[to..]);
        let place = Place::new(&desk, (round % 3) as u32).without_above();
        let mut state = round as u64;
        let said: String = (0..round % 40)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                signs[(state >> 33) as usize % signs.len()]
            })
            .collect();
        let End::At(at) = place.end(&said, true) else { panic!("{said:?} has ended") };
        let kept = &said[..at];
        assert!(!kept.contains('\0'));
        let inside = place.is_inside() && !kept.contains('\n');
        assert!(inside || kept.trim_end() == kept, "{kept:?}");
    }
}
