use super::*;

/// `$0` is the cursor in `document`; what becomes of `text`.
fn check(document: &str, text: &str, expected: &str) {
    let (before, after) = document.split_once("$0").unwrap();
    let line = before.rsplit('\n').next().unwrap();
    let dressed = Style::of(false, before, after, None, true).dress(line, text);
    assert_eq!(dressed.text, expected, "{document:?} + {text:?}");
}

#[test]
fn a_suggestion_takes_on_the_buffers_indentation() {
    const TABS: &str = "func f() {\n\tif x {\n\t\ty()\n\t}\n\t$0\n}\n";
    const TWO: &str = "if (a) {\n  if (b) {\n    c();\n  }\n  $0\n}\n";
    const FOUR: &str = "def f():\n    if a:\n        b()\n    $0\n";
    for (document, text, expected) in [
        (TABS, "if y {\n\t\tz()\n\t}", "if y {\n\t\tz()\n\t}"),
        (TABS, "if y {\n        z()\n    }", "if y {\n\t\tz()\n\t}"),
        (TABS, "if y {\n    z()\n  }", "if y {\n\t\tz()\n\t}"),
        (TABS, "if y {\n\t    z()\n\t}", "if y {\n\t\tz()\n\t}"),
        (TABS, "/*\n\t * says\n\t */", "/*\n\t * says\n\t */"),
        (TWO, "if (y) {\n    z();\n  }", "if (y) {\n    z();\n  }"),
        (TWO, "if (y) {\n      z();\n  }", "if (y) {\n    z();\n  }"),
        (TWO, "if (y) {\n\t\tz();\n\t}", "if (y) {\n    z();\n  }"),
        (FOUR, "if y:\n      z()", "if y:\n        z()"),
        (
            FOUR,
            "if y:\n\t\tz()\n\t\twhile w:\n\t\t\tv()",
            "if y:\n        z()\n        while w:\n            v()",
        ),
        (FOUR, "f(a,\n      b)", "f(a,\n      b)"),
        (FOUR, "f(\n            a)", "f(\n            a)"),
        ("$0", "if y:\n  z()", "if y:\n  z()"),
        ("class A {\n\t$0\n}", "\t    x;", "\t\tx;"),
        ("x = $0\n    y", "  1\n\tz", "  1\n    z"),
        (FOUR, "a()   \n\t\n    b()  ", "a()\n\n    b()  "),
        (FOUR, "a()\r\n    b()", "a()\n    b()"),
    ] {
        check(document, text, expected);
    }
}

#[test]
fn what_the_editor_says_comes_before_what_the_document_looks_like() {
    let style = |indent| Style::of(false, "if a:\n\tb\n\t", "\n", Some(indent), true);
    let dress = |indent| style(indent).dress("\t", "if c:\n\t\td").text;
    assert_eq!(dress(Indent::Spaces(2)), "if c:\n    d");
    assert_eq!(dress(Indent::Tabs), "if c:\n\t\td");
}

#[test]
fn what_is_written_in_lines_tells_nothing_of_indentation() {
    let detect = |text| detect(text, "");
    assert_eq!(detect(""), None);
    assert_eq!(detect("a\tb\nc  d\n"), None);
    assert_eq!(detect("/**\n * a\n * b\n */\n"), None);
    assert_eq!(detect("a\n   b\n"), Some(Indent::Spaces(3)));
    assert_eq!(detect("a\n  b\n    c\n\td\n"), Some(Indent::Spaces(2)));
    assert_eq!(detect("a\n\tb\n\t    c\n"), Some(Indent::Tabs));
    assert_eq!(detect("f(a,\n      b)\nc\n    d\ne\n    f\n"), Some(Indent::Spaces(4)));
}

/// Texts of few different signs, so that all of them meet.
fn texts(count: usize) -> impl Iterator<Item = String> {
    let signs = [" ", "  ", "\t", "\n", "\r\n", "a", "{", ":", "é", "*", "}", "    "];
    let mut state = 7u64;
    let mut next = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    (0..count).map(move |_| (0..next(24)).map(|_| signs[next(signs.len())]).collect())
}

#[test]
fn tabs_and_spaces_are_never_mixed_and_nothing_but_blanks_is_changed() {
    let styles = [Indent::Tabs, Indent::Spaces(2), Indent::Spaces(4), Indent::Spaces(3)];
    for (number, text) in texts(20_000).enumerate() {
        let style = Style::of(number % 2 == 0, "", "", Some(styles[number % 4]), number % 3 == 0);
        let dressed = style.dress("", &text);
        let signs = |text: &str| text.split_whitespace().collect::<String>();
        assert_eq!(signs(&text), signs(&dressed.text));
        assert_eq!(text.matches('\n').count(), dressed.text.matches('\n').count());
        for line in dressed.text.split('\n') {
            let blanks = indentation(line);
            let wrong = match styles[number % 4] {
                Indent::Tabs => blanks.strip_suffix(' ').unwrap_or(blanks).contains(' '),
                Indent::Spaces(_) => blanks.contains('\t'),
            };
            assert!(!wrong, "{text:?} -> {line:?}");
        }
        if styles[number % 4] == Indent::Tabs {
            assert_eq!(style.dress("", &dressed.text).text, dressed.text, "{text:?}: again");
        }
        let ends = dressed.text.matches("\r\n").count();
        assert_eq!(ends, if number % 2 == 0 { dressed.text.matches('\n').count() } else { 0 });
    }
}

#[test]
fn places_in_the_dressed_text_are_found_in_what_the_model_wrote() {
    for (number, text) in texts(5_000).enumerate() {
        let style = Style::of(number % 2 == 0, "", "", Some(Indent::Spaces(4)), true);
        let dressed = style.dress("", &text);
        let mut last = 0;
        for (at, sign) in dressed.text.char_indices() {
            let raw = dressed.raw(at);
            assert!(raw >= last && raw <= text.len(), "{text:?} {at}");
            last = raw;
            if !sign.is_whitespace() {
                assert_eq!(text[raw..].chars().next(), Some(sign), "{text:?} {at}");
            }
        }
        assert!(dressed.raw(dressed.text.len() + 9) <= text.len());
    }
}
