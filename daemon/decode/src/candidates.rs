//! Ideas for a fix that need no model: the server's own, names that are nearly the wrong one, and the language's small repairs.
//!
//! Ideas are cheap and need not be good: each is checked before anybody sees it.

use std::ops::Range;

use lang::{Grammar, On, Repair, indentation, unit};
use text::{Diagnostic, Edit, line_at};

use crate::{Critic, Origin};

/// Names that are tried in the place of a wrong one.
pub(crate) const REPLACEMENTS_MAX: usize = 12;
/// Names of the enclosing function that are tried, however different they are.
pub(crate) const SCOPE_NAMES_MAX: usize = 10;
/// Small repairs that are tried.
pub(crate) const REPAIRS_MAX: usize = 32;
/// Names that are compared, of those that the server lists.
const NAMES_MAX: usize = 20_000;

/// One idea.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Idea {
    pub(crate) edits: Vec<Edit>,
    pub(crate) origin: Origin,
}

/// The server's own quick fixes.
pub(crate) async fn quick_fixes(
    critic: &dyn Critic,
    text: &std::sync::Arc<str>,
    target: &Diagnostic,
) -> Vec<Idea> {
    let fixes = critic.quick_fixes(text.clone(), target).await;
    fixes.into_iter().map(|edits| Idea { edits, origin: Origin::QuickFix }).collect()
}

/// Names in the place of the one that the diagnostic points at. Near ones first: those that the message proposes, the server's completions
/// there, or names of the document; then, unless it is a member, the other names of the function around it.
pub(crate) async fn replacements(
    critic: &dyn Critic,
    grammar: Option<Grammar>,
    text: &std::sync::Arc<str>,
    target: &Diagnostic,
) -> Vec<Idea> {
    let Some(place) = pointed_name(text, target) else { return Vec::new() };
    let wrong = &text[place.clone()];
    let listed = critic.completions(text.clone(), place.start).await;
    let listed = listed
        .map(|names| names.iter().take(NAMES_MAX).map(|name| plain(name)).collect::<Vec<_>>());
    let around = names_of(text);
    let mut ranked: Vec<(usize, &str)> = Vec::new();
    let proposed = proposed(&target.message);
    for name in proposed.iter().chain(listed.as_ref().unwrap_or(&around)) {
        let far = distance(wrong, name);
        let near = far <= (wrong.chars().count() / 2).max(2);
        if near && far > 0 && is_name(name) && !ranked.iter().any(|(_, other)| other == name) {
            ranked.push((far, name));
        }
    }
    ranked.sort_by_key(|(far, _)| *far);
    ranked.truncate(REPLACEMENTS_MAX);
    let mut names: Vec<&str> = ranked.into_iter().map(|(_, name)| name).collect();
    let member = text[..place.start].ends_with('.');
    if !member {
        // The server's list may be cut short, so it only says which names come first.
        let mut scope = scope_names(grammar, text, place.start);
        let known = |name: &str| {
            listed.as_ref().is_some_and(|listed| listed.iter().any(|other| other == name))
        };
        scope.retain(|name| *name != wrong && !names.contains(name));
        scope.sort_by_key(|name| !known(name));
        names.extend(scope.into_iter().take(SCOPE_NAMES_MAX));
    }
    let idea = |text: &str| Idea {
        edits: vec![Edit { range: place.clone(), text: text.to_owned() }],
        origin: Origin::Replacement,
    };
    names.into_iter().map(idea).collect()
}

/// The names of the function around `at`, above its line, that are neither members nor called; the last mentioned first.
fn scope_names(grammar: Option<Grammar>, text: &str, at: usize) -> Vec<&str> {
    let Some(syntax) = grammar.and_then(|grammar| grammar.parse(text)) else { return Vec::new() };
    let start = syntax.context(at).enclosing.last().map_or(0, |item| item.start);
    let mut names: Vec<&str> = Vec::new();
    for range in syntax.names(start..line_at(text, at).start.max(start)) {
        let name = &text[range.clone()];
        if !text[..range.start].ends_with('.') && !text[range.end..].starts_with('(') {
            names.retain(|other| *other != name);
            names.push(name);
        }
    }
    names.reverse();
    names
}

/// The language's small repairs.
pub(crate) fn repairs(grammar: Grammar, text: &str, target: &Diagnostic) -> Vec<Idea> {
    let Some(syntax) = grammar.parse(text) else { return Vec::new() };
    let code = target.code.as_deref().unwrap_or("");
    let fits = |repair: &&Repair| {
        (repair.codes.is_empty() || repair.codes.iter().any(|known| known == code))
            && (repair.messages.is_empty()
                || repair.messages.iter().any(|part| target.message.contains(part.as_str())))
    };
    let expressions = syntax.expressions(target.range.clone());
    let receiver = syntax.receiver(target.range.clone());
    let mut ideas = Vec::new();
    for repair in grammar.language().repairs().iter().filter(fits) {
        let places: Vec<Range<usize>> = match repair.on {
            On::Line => vec![code_of_line(text, target.range.start)],
            On::Receiver => receiver.iter().cloned().collect(),
            _ => expressions.clone(),
        };
        for place in places {
            let subject = if repair.on == On::Line { target.range.clone() } else { place.clone() };
            if let Some(new) = rewritten(repair, text, &subject, &place) {
                ideas.push(Idea {
                    edits: vec![Edit { range: place, text: new }],
                    origin: Origin::Repair,
                });
            }
        }
    }
    ideas.truncate(REPAIRS_MAX);
    ideas
}

/// What a repair makes of `place`; `None` where it does not apply.
fn rewritten(
    repair: &Repair,
    text: &str,
    subject: &Range<usize>,
    place: &Range<usize>,
) -> Option<String> {
    let expression = text.get(subject.clone())?;
    let inner = string_inner(expression);
    let number = expression.parse::<f64>().is_ok();
    match repair.on {
        On::StringLiteral if inner.is_none_or(str::is_empty) => return None,
        On::NumberLiteral if !number => return None,
        On::Expression if inner.is_some() && repair.with == "{}()" || expression.contains('\n') => {
            return None;
        }
        _ => {}
    }
    let receiver = match expression.rsplit_once('.') {
        Some((receiver, member)) if is_name(member) => receiver,
        _ => expression,
    };
    let line = &text[line_at(text, place.start)];
    let filled = repair
        .with
        .replace("{inner}", inner.unwrap_or(""))
        .replace("{receiver}", receiver)
        .replace("{unit}", unit(text));
    let filled = filled.replace("{line}", line.trim()).replacen(
        "{indent}",
        "",
        usize::from(repair.on == On::Line),
    );
    Some(filled.replace("{indent}", indentation(line)).replace("{}", expression))
}

/// A completion's name without the signs that some servers put behind it.
fn plain(name: &str) -> String {
    name.trim_end_matches(['(', ')', '?']).to_owned()
}

/// The name that a diagnostic points at: its range, or the last name in it where that is a member access.
pub(crate) fn pointed_name(text: &str, target: &Diagnostic) -> Option<Range<usize>> {
    let pointed = text.get(target.range.clone())?;
    let start = target.range.start + pointed.rfind('.').map_or(0, |dot| dot + 1);
    let name = &text[start..target.range.end];
    if is_name(name) {
        return Some(start..target.range.end);
    }
    let end = name.find(|letter: char| !is_letter(letter))?;
    (end > 0 && is_name(&name[..end])).then(|| start..start + end)
}

/// Names in quotes behind a *did you mean*.
fn proposed(message: &str) -> Vec<String> {
    let lower = message.to_ascii_lowercase();
    let Some(at) = lower.find("did you mean") else { return Vec::new() };
    let quoted = message.get(at..).unwrap_or("").split(['\'', '`', '"', '?']);
    quoted.skip(1).filter(|word| is_name(word)).map(str::to_owned).collect()
}

fn names_of(text: &str) -> Vec<String> {
    let mut names: Vec<String> = text
        .split(|letter| !is_letter(letter))
        .filter(|word| is_name(word))
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names
}

pub(crate) fn is_letter(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_' || letter == '$'
}

pub(crate) fn is_name(word: &str) -> bool {
    word.chars().next().is_some_and(|first| is_letter(first) && !first.is_numeric())
        && word.chars().all(is_letter)
}

fn string_inner(expression: &str) -> Option<&str> {
    let quote = expression.chars().next().filter(|first| matches!(first, '"' | '\'' | '`'))?;
    let inner = expression.strip_prefix(quote)?.strip_suffix(quote)?;
    (!inner.contains(quote)).then_some(inner)
}

/// The line around `at` without its indentation.
fn code_of_line(text: &str, at: usize) -> Range<usize> {
    let line = line_at(text, at);
    line.start + indentation(&text[line.clone()]).len()..line.end
}

/// Edits of one character (insert, delete, replace, swap neighbours) that lead from one word to the other.
pub(crate) fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for row in 1..=from.len() {
        let mut now = vec![row; to.len() + 1];
        for column in 1..=to.len() {
            let same = usize::from(from[row - 1] != to[column - 1]);
            let mut best = (last[column] + 1).min(now[column - 1] + 1).min(last[column - 1] + same);
            if row > 1
                && column > 1
                && from[row - 1] == to[column - 2]
                && from[row - 2] == to[column - 1]
            {
                best = best.min(before[column - 2] + 1);
            }
            now[column] = best;
        }
        before = std::mem::replace(&mut last, now);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn target(text: &str, pointed: &str, code: &str, message: &str) -> Diagnostic {
        let start = text.find(pointed).unwrap();
        let (range, code) = (start..start + pointed.len(), Some(code.to_owned()));
        Diagnostic {
            range,
            severity: text::Severity::Error,
            code,
            source: None,
            message: message.to_owned(),
        }
    }

    fn repaired(path: &str, text: &str, pointed: &str, code: &str, message: &str) -> Vec<String> {
        let grammar = Grammar::new(lang::detect(Path::new(path)).unwrap(), Path::new(path));
        let ideas = repairs(grammar, text, &target(text, pointed, code, message));
        ideas.iter().map(|idea| text::apply_edits(text, &idea.edits).unwrap()).collect()
    }

    #[test]
    fn distances() {
        let check = |from, to, expected| assert_eq!(distance(from, to), expected, "{from} {to}");
        check("nmae", "name", 1);
        check("", "abc", 3);
        check("kitten", "sitting", 3);
        check("é", "e", 1);
    }

    #[test]
    fn values_are_repaired_where_they_stand() {
        let made = repaired("a.ts", "const y: number = \"5\";\n", "y", "2322", "");
        assert!(made.contains(&"const y: number = 5;\n".to_owned()), "{made:?}");
        let made =
            repaired("a.ts", "function f(): string {\n  return 5;\n}\n", "return", "2322", "");
        assert!(
            made.contains(&"function f(): string {\n  return String(5);\n}\n".to_owned()),
            "{made:?}"
        );
        let made = repaired("a.py", "print(\"a\" + 1)\n", "\"a\" + 1", "unsupported-operator", "");
        assert!(made.contains(&"print(\"a\" + str(1))\n".to_owned()), "{made:?}");
    }

    #[test]
    fn a_guard_goes_around_the_line() {
        let text = "def f(p):\n    p.age.bit_length()\n";
        let made = repaired("a.py", text, "p.age.bit_length", "missing-union-attribute", "`None`");
        let guarded = "def f(p):\n    if p.age is not None:\n        p.age.bit_length()\n";
        assert!(made.contains(&guarded.to_owned()), "{made:?}");
    }

    #[test]
    fn the_name_of_a_member_access_is_the_last_one() {
        let text = "print(p.nmae.x)\n";
        assert_eq!(
            pointed_name(text, &target(text, "p.nmae", "", "")).map(|range| &text[range]),
            Some("nmae")
        );
        assert_eq!(
            proposed("Cannot find name 'undefnd'. Did you mean 'undefined'?"),
            ["undefined"]
        );
    }
}
