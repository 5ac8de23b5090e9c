//! The statements of a text whose language has a sign at the end of each: where they begin and end, found by that sign alone.
//!
//! For languages without a tree-sitter grammar of ours. The scanner of `lex.rs` tells code from strings and comments, the `[statements]`
//! table what the rest means.

use std::ops::Range;

use serde::Deserialize;

use crate::lex::Lex;
use crate::{Grammar, Open};

/// The `[statements]` table. Words are compared without regard to case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ends {
    /// The sign at the end of a statement.
    end: char,
    /// The words that statements begin with.
    begins: Vec<String>,
    #[serde(default)]
    compound: Option<Compound>,
    #[serde(default)]
    defines: Option<Defines>,
}

/// Statements that hold others: over at an end that nothing but the closing word stands before.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Compound {
    /// Their first word.
    starts: String,
    /// One of these is among the next words.
    of: Vec<String>,
    /// The word that opens the list of those inside.
    opens: String,
    closes: String,
}

/// Statements that give something a name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Defines {
    /// Their first word.
    starts: String,
    /// One of these is among the next words; the name follows.
    kinds: Vec<String>,
    /// What may stand between the kind and the name.
    skips: Vec<String>,
}

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Its bytes, from its first word to its end, that sign included.
    pub range: Range<usize>,
    /// Whether that sign is there.
    pub has_end: bool,
    /// Whether a bracket in it is open at its end.
    pub is_unbalanced: bool,
    /// Where in it a line starts as a statement does: the end of this one may have been forgotten before that, or not (`insert into …`, and
    /// `select …` on the next line).
    pub restart: Option<usize>,
    /// What it gives a name to, if anything: the bytes of the name as it is written, without its schema.
    pub name: Option<Range<usize>>,
}

impl Statement {
    /// Whether something is lacking in it, as far as that can be seen.
    pub(crate) fn is_open(&self) -> bool {
        !self.has_end || self.is_unbalanced || self.restart.is_some()
    }
}

/// So many words at the start of a statement tell what kind it is.
const HEAD_WORDS_MAX: usize = 8;

/// A statement that is being read.
#[derive(Default)]
struct Draft {
    start: Option<usize>,
    end: usize,
    /// Its first words outside of brackets.
    head: Vec<Range<usize>>,
    word: Option<usize>,
    restart: Option<usize>,
    is_compound: bool,
    /// Words since the last end inside of it: the last one, and how many.
    last: Range<usize>,
    count: usize,
    /// Whether nothing but blanks and comments stands before the word on its line.
    starts_line: bool,
}

impl Grammar {
    /// The statements of a text, in order; `None` where the language has no sign at the end of a statement.
    pub fn statements(self, text: &str) -> Option<Vec<Statement>> {
        let ends = self.language.ends()?;
        Some(Reader { text, ends, lex: self.language.lex(), found: Vec::new() }.read())
    }
}

struct Reader<'t> {
    text: &'t str,
    ends: &'t Ends,
    lex: &'t Lex,
    found: Vec<Statement>,
}

impl Reader<'_> {
    fn read(mut self) -> Vec<Statement> {
        let (mut open, mut draft, mut at) = (Open::default(), Draft::default(), 0);
        let mut is_fresh = true;
        while let Some(first) = self.text[at..].chars().next() {
            let (was_code, was_comment) = (open.in_code(), open.in_comment());
            if was_code && first == self.ends.end {
                self.word(&mut draft, at, open.depth());
                draft.start.get_or_insert(at);
                draft.end = at + first.len_utf8();
                at = draft.end;
                if self.is_over(&draft) {
                    self.push(std::mem::take(&mut draft), true, open.depth() > 0);
                    // A bracket that was left open ends with its statement.
                    open = Open::default();
                } else {
                    draft.count = 0;
                }
                continue;
            }
            let depth = open.depth();
            if let Some(taken) = self.passed(&open, at).filter(|_| was_code || was_comment) {
                // Words and blanks are most of a text: they are read at once.
                if was_comment {
                    at += taken;
                    continue;
                }
                if first.is_ascii_whitespace() {
                    self.word(&mut draft, at, depth);
                    is_fresh |= self.text[at..at + taken].contains('\n');
                } else {
                    if draft.word.is_none() {
                        draft.word = Some(at);
                        draft.starts_line = is_fresh;
                    }
                    draft.start.get_or_insert(at);
                    draft.end = at + taken;
                    is_fresh = false;
                }
                open.pass_word();
                at += taken;
                continue;
            }
            let taken = self.lex.step(&mut open, &self.text[at..]).unwrap_or(1);
            let is_word = first.is_alphanumeric() || first == '_';
            if !(was_code && is_word && open.depth() == depth) {
                self.word(&mut draft, at, depth);
            } else if draft.word.is_none() {
                draft.word = Some(at);
                draft.starts_line = is_fresh;
            }
            let is_comment = was_comment || open.in_comment();
            if !(is_comment || was_code && first.is_whitespace()) {
                draft.start.get_or_insert(at);
                draft.end = at + taken;
                is_fresh = false;
            }
            is_fresh |= first == '\n';
            at += taken;
        }
        self.word(&mut draft, self.text.len(), open.depth());
        if draft.start.is_some() {
            self.push(draft, false, open.depth() > 0);
        }
        self.found
    }

    /// The bytes at `at` of a word or of blanks in code, or of a comment up to the end of its line, which change nothing but what stands before
    /// the next sign.
    fn passed(&self, open: &Open, at: usize) -> Option<usize> {
        let rest = &self.text.as_bytes()[at..];
        if open.in_line_comment() {
            return rest
                .iter()
                .position(|byte| matches!(byte, b'\n' | b'\r'))
                .filter(|len| *len > 0);
        }
        if !open.in_code() {
            return None;
        }
        let run =
            |is: fn(&u8) -> bool| rest.iter().position(|byte| !is(byte)).unwrap_or(rest.len());
        let blanks = run(u8::is_ascii_whitespace);
        if blanks > 0 {
            return Some(blanks);
        }
        let word = run(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        // `E'…'`, `a$1`, and what is no ASCII: the scanner knows.
        let is_plain = rest
            .get(word)
            .is_none_or(|next| next.is_ascii() && !matches!(next, b'\'' | b'$' | b'"'));
        (word > 0 && is_plain).then_some(word)
    }

    /// A word that began earlier has ended before `at`.
    fn word(&self, draft: &mut Draft, at: usize, depth: usize) {
        let Some(start) = draft.word.take() else { return };
        if depth > 0 {
            return;
        }
        let word = start..at;
        if draft.head.len() < HEAD_WORDS_MAX {
            draft.head.push(word.clone());
        }
        if let Some(compound) = &self.ends.compound {
            let kind = || draft.head.iter().skip(1).any(|word| self.is_one_of(word, &compound.of));
            let begins = |first| self.is(first, &compound.starts);
            draft.is_compound |=
                self.is(&word, &compound.opens) && draft.head.first().is_some_and(begins) && kind();
        }
        let is_first = draft.start == Some(start);
        if draft.starts_line && !is_first && self.is_one_of(&word, &self.ends.begins) {
            draft.restart.get_or_insert(start);
        }
        draft.last = word;
        draft.count += 1;
    }

    fn is(&self, word: &Range<usize>, known: &str) -> bool {
        self.text[word.clone()].eq_ignore_ascii_case(known)
    }

    fn is_one_of(&self, word: &Range<usize>, known: &[String]) -> bool {
        known.iter().any(|known| self.is(word, known))
    }

    /// Whether the end that was just read is that of the statement itself.
    fn is_over(&self, draft: &Draft) -> bool {
        let closes = self.ends.compound.as_ref().map_or("", |compound| &compound.closes);
        !draft.is_compound || draft.count == 1 && self.is(&draft.last, closes)
    }

    fn push(&mut self, draft: Draft, has_end: bool, is_unbalanced: bool) {
        let start = draft.start.unwrap_or(draft.end);
        let restart = draft.restart.filter(|_| !draft.is_compound);
        let name = self.name(&draft);
        self.found.push(Statement {
            range: start..draft.end,
            has_end,
            is_unbalanced,
            restart,
            name,
        });
    }

    /// The name that a statement gives.
    fn name(&self, draft: &Draft) -> Option<Range<usize>> {
        let defines = self.ends.defines.as_ref()?;
        let (first, rest) = draft.head.split_first()?;
        if !self.is(first, &defines.starts) {
            return None;
        }
        let kind = rest.iter().position(|word| self.is_one_of(word, &defines.kinds))?;
        let words = rest[kind + 1..].iter().take_while(|word| self.is_one_of(word, &defines.skips));
        let mut at = words.last().unwrap_or(&rest[kind]).end;
        loop {
            at += self.text[at..draft.end].len() - self.text[at..draft.end].trim_start().len();
            let len = name_len(&self.text[at..draft.end])?;
            // What stands before a point is the schema.
            if !self.text[at + len..draft.end].starts_with('.') {
                let quoted = usize::from(self.text[at..].starts_with(QUOTES));
                return Some(at + quoted..at + len - quoted);
            }
            at += len + 1;
        }
    }
}

/// What names may be written in.
const QUOTES: [char; 3] = ['"', '`', '['];

/// The bytes of the name that `rest` starts with, with its quotes.
fn name_len(rest: &str) -> Option<usize> {
    let first = rest.chars().next()?;
    if QUOTES.contains(&first) {
        let close = if first == '[' { ']' } else { first };
        return rest[1..].find(close).map(|at| at + 2).filter(|len| *len > 2);
    }
    let len = rest.find(|letter: char| !(letter.is_alphanumeric() || letter == '_'));
    Some(len.unwrap_or(rest.len())).filter(|len| *len > 0)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn grammar() -> Grammar {
        let path = Path::new("a.sql");
        Grammar::new(crate::detect(path).unwrap(), path)
    }

    fn statements(text: &str) -> Vec<Statement> {
        grammar().statements(text).unwrap()
    }

    fn texts(text: &str) -> Vec<&str> {
        statements(text).iter().map(|one| &text[one.range.clone()]).collect()
    }

    #[test]
    fn statements_end_at_their_sign_and_nowhere_else() {
        assert_eq!(texts(""), [""; 0]);
        assert_eq!(texts(" -- a; b\n/* ; */\n"), [""; 0]);
        assert_eq!(
            texts("-- x\nselect 1; select 2\n-- y\n;\nselect 'a;''b', \"c;\", `d;` -- ;\n"),
            ["select 1;", "select 2\n-- y\n;", "select 'a;''b', \"c;\", `d;`"]
        );
        assert_eq!(
            texts("select $$a;$$, $t$b;$$;$t$, $1; select a$1;"),
            ["select $$a;$$, $t$b;$$;$t$, $1;", "select a$1;"]
        );
        assert_eq!(texts(r"select E'a\';b'; select 'a\';"), [r"select E'a\';b';", r"select 'a\';"]);
        assert_eq!(texts("select (1; select 2;"), ["select (1;", "select 2;"]);
        assert_eq!(texts(";;"), [";", ";"]);
    }

    #[test]
    fn what_holds_statements_is_one() {
        let trigger = "CREATE TEMP TRIGGER t AFTER INSERT ON a BEGIN\n  UPDATE a SET b = CASE 1 WHEN 1 THEN 2 END;\n  SELECT 1;\nEND;";
        assert_eq!(texts(&[trigger, "select 1;"].join("\n")), [trigger, "select 1;"]);
        let plain = "create trigger t before insert on a for each row execute function f();";
        assert_eq!(
            texts(&[plain, "begin;", "select 1;", "end;"].join("\n"))[..2],
            [plain, "begin;"]
        );
        assert_eq!(texts("create table trigger (begin int); select 1;").len(), 2);
    }

    #[test]
    fn a_line_that_starts_anew_is_told() {
        let restart = |text: &str| statements(text)[0].restart.map(|at| text[at..].to_owned());
        assert_eq!(restart("select a,\n\n  Select b;").as_deref(), Some("Select b;"));
        assert_eq!(restart("select a from (\n  select b\n);"), None);
        assert_eq!(restart("select a\nfrom b;"), None);
        let parse = |text: &str| grammar().parse(text).unwrap().errors(0..text.len());
        assert_eq!((parse("select a;"), parse("select a"), parse("select (a;")), (0, 1, 1));
    }

    #[test]
    fn names_are_found() {
        let named = |text: &str| {
            let found = grammar().parse(text).unwrap().definitions();
            found.into_iter().map(|found| text[found.name].to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(named("create table t (id int);\nselect 1;"), ["t"]);
        assert_eq!(
            named("CREATE UNLOGGED TABLE IF NOT EXISTS app.\"My users\" (id int)"),
            ["My users"]
        );
        assert_eq!(
            named("create or replace view v as select 1; create view [w] as select 1"),
            ["v", "w"]
        );
        assert_eq!(named("create étable t (id int); create tableé t (id int);"), [""; 0]);
        assert_eq!(named("create table"), [""; 0]);
        assert_eq!(named("create index i on t (a); drop table t;"), [""; 0]);
    }

    #[test]
    fn a_half_statement_is_closed_where_another_follows() {
        let grammar = grammar();
        let close = |before: &str, candidate: &str, after: &str| {
            let gap = grammar.gap(before, after);
            grammar.close_in(&gap, before, candidate, after).at_cursor
        };
        assert_eq!(close("", "select a from t where", "\nselect 1;\n"), ";");
        assert_eq!(close("", "select a from t where (b = 'c", "\n"), "');");
        assert_eq!(close("", "select a;", "\nselect 1;\n"), "");
        assert_eq!(close("select ", "a, b", "\nfrom t;\n"), "");
        assert_eq!(close("", "do $x$ begin", ""), "$x$;");
    }

    #[test]
    fn junk_is_read_to_its_end() {
        let signs = [
            "'", "\"", "$", "$a$", ";", "(", "]", "create", " trigger", " begin", "end", "\n",
            "--", "/*", "é",
        ];
        for seed in 0..3000usize {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut text = String::new();
            for _ in 0..12 {
                state ^= state << 13;
                state ^= state >> 7;
                text.push_str(signs[state % signs.len()]);
            }
            let mut last = 0;
            for one in statements(&text) {
                assert!(last <= one.range.start && one.range.start < one.range.end, "{text:?}");
                let name = one.name.is_none_or(|name| text.get(name).is_some());
                assert!(text.get(one.range.clone()).is_some() && name, "{text:?}");
                last = one.range.end;
            }
        }
    }
}
