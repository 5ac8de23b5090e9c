//! What can be seen of a diagnostic's place that tells whether later text will make it go away.
//!
//! A checker that does not know a name says the same of a misspelt one, of which nothing will come, and of a function that stands further
//! down. What the place looks like tells them apart; how well it does is measured for each code ([`lang::Policy`]).

use lang::{Sign, Syntax};
use text::{Diagnostic, line_at};

use crate::candidates::{distance, is_letter, is_name, pointed_name};

/// Shorter names are near to everything.
const NAME_CHARS_MIN: usize = 4;
/// From so many letters on, two may differ.
const LONG_CHARS_MIN: usize = 12;
/// Names of a text that are compared.
const NAMES_MAX: usize = 20_000;

/// What a type that is being written calls itself.
const OWN: &[&str] = &["self", "Self", "this", "cls", "super"];

/// The sign that the place of `diagnostic` in `text` has, the surest first; `None`: nothing is to be seen.
pub fn of(text: &str, syntax: &Syntax, diagnostic: &Diagnostic) -> Option<Sign> {
    let Some(place) = pointed_name(text, diagnostic) else {
        return (!syntax.in_function(diagnostic.range.start)).then_some(Sign::Outside);
    };
    // What a string names may come later wherever it stands.
    if syntax.in_string(place.start) {
        return None;
    }
    let name = &text[place.clone()];
    if let Some(receiver) = receiver(&text[..place.start]) {
        return match receiver {
            _ if is_near(text, name) => Some(Sign::Near),
            own if OWN.contains(&own) => None,
            _ => Some(Sign::Member),
        };
    }
    let is_called = text[place.end..].trim_start().starts_with(['(', '!', '{', '<', ':']);
    let is_decorator = text[line_at(text, place.start).start..place.start].trim() == "@";
    let is_small = name.starts_with(|first: char| first.is_lowercase());
    let inside = syntax.in_function(place.start);
    // Functions and types may be declared further down than where a function uses them, however alike their names are.
    if inside && (!is_small || is_called || is_decorator) {
        return None;
    }
    Some(match inside {
        _ if is_near(text, name) => Sign::Near,
        true => Sign::Local,
        false => Sign::Outside,
    })
}

/// The last name of what a member is asked of, where `before` ends with the sign of an access; empty where that is no name.
fn receiver(before: &str) -> Option<&str> {
    let receiver = [".", "->", "::"].iter().find_map(|sign| before.strip_suffix(sign))?;
    let receiver = receiver.trim_end_matches('?');
    let start = receiver
        .rfind(|letter| !is_letter(letter))
        .map_or(0, |at| at + receiver[at..].chars().next().map_or(1, char::len_utf8));
    Some(receiver.get(start..).unwrap_or(""))
}

/// Whether `wrong` differs in a letter or two from a name of `text`, and not only as people tell names apart: by case, by an underscore, by
/// a number, by a plural.
fn is_near(text: &str, wrong: &str) -> bool {
    let chars = wrong.chars().count();
    if chars < NAME_CHARS_MIN {
        return false;
    }
    let far = if chars < LONG_CHARS_MIN { 1 } else { 2 };
    let words = text.split(|letter: char| !is_letter(letter)).filter(|word| is_name(word));
    let alike = words.take(NAMES_MAX).filter(|word| word.len().abs_diff(wrong.len()) <= 2 * far);
    let core = core(wrong);
    alike.filter(|word| self::core(word) != core).any(|word| distance(wrong, word) <= far)
}

/// What is left of a name without what tells relatives apart.
fn core(name: &str) -> String {
    let plain: String = name.chars().filter(|letter| letter.is_alphabetic()).collect();
    let plain = plain.to_lowercase();
    plain.strip_suffix('s').map_or(plain.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use lang::Grammar;

    use super::*;

    #[test]
    fn the_place_of_a_name_tells_whether_it_may_yet_come() {
        let check = |text: &str, wrong: &str, expected: Option<Sign>| {
            let start = text.rfind(wrong).unwrap();
            let diagnostic = Diagnostic {
                range: start..start + wrong.len(),
                severity: text::Severity::Error,
                code: None,
                source: None,
                message: String::new(),
            };
            let path = Path::new("a.py");
            let syntax = Grammar::new(lang::detect(path).unwrap(), path).parse(text).unwrap();
            assert_eq!(of(text, &syntax, &diagnostic), expected, "{text:?} {wrong:?}");
        };
        check("customer = 1\ncustmer\n", "custmer", Some(Sign::Near));
        check("customer = 1\norder\n", "order", Some(Sign::Outside));
        check("customer = 1\nx.custmer\n", "x.custmer", Some(Sign::Near));
        check("customer = 1\ndef f():\n    custmer()\n", "custmer", None);
        check("abc = 1\nabd\n", "abd", Some(Sign::Outside));
        check("name = 1\nnmae\n", "nmae", Some(Sign::Near));
        check("def display(): pass\ndef f():\n    _display()\n", "_display", None);
        check("user = 1\ndef f():\n    Users()\n", "Users", None);
        check("def f():\n    return total + 1\n", "total", Some(Sign::Local));
        check("def f():\n    return total(1)\n", "total", None);
        check("def f():\n    return Total\n", "Total", None);
        check("def f(x):\n    x.total()\n", "total", Some(Sign::Member));
        check("def f(self):\n    self.total()\n", "total", None);
        check("def f(x: 'Total'):\n    pass\n", "Total", None);
    }
}
