//! Real examples for the model card: for each language the first holes of the measurement, good or bad, nobody picked them.

use std::fmt::Write as _;

use super::cases::Kind;
use super::corpus::LANGUAGES;
use super::fill::Filled;

/// Examples of each language and kind.
const EACH: usize = 3;
/// Characters of a cell.
const CELL_CHARS_MAX: usize = 60;

/// A table in Markdown.
pub(super) fn table(filled: &[Filled<'_>]) -> String {
    let mut text = String::from(
        "| language | what stands before | the author wrote | Nano wrote | right | confidence |\n|---|---|---|---|---|---|\n",
    );
    for language in LANGUAGES {
        for kind in [Kind::Line, Kind::Rest] {
            let of =
                filled.iter().filter(|one| one.case.language == language && one.case.kind == kind);
            for one in of.take(EACH) {
                let before = one.case.before().trim_end_matches(' ');
                let line = before.trim_end().rsplit('\n').next().unwrap_or("");
                let first = one.written.split('\n').next().unwrap_or("");
                let right = if one.is_exact() { "yes" } else { "no" };
                let confidence = one
                    .confidence
                    .map_or("–".to_owned(), |confidence| format!("{confidence:.2}"));
                let (line, truth, first) =
                    (cell(line, true), cell(one.case.truth(), false), cell(first, false));
                let _ = writeln!(
                    text,
                    "| {language} | {line} | {truth} | {first} | {right} | {confidence} |"
                );
            }
        }
    }
    text
}

/// A text as code in a cell; of a long one its start, or its end.
fn cell(text: &str, wants_end: bool) -> String {
    let text = text.trim().replace(['\n', '\r', '\t'], " ").replace('|', "\\|").replace('`', "'");
    let count = text.chars().count();
    let cut: String = match (count > CELL_CHARS_MAX, wants_end) {
        (false, _) => text,
        (true, true) => {
            format!("…{}", text.chars().skip(count - CELL_CHARS_MAX).collect::<String>())
        }
        (true, false) => format!("{}…", text.chars().take(CELL_CHARS_MAX).collect::<String>()),
    };
    if cut.is_empty() { "nothing".to_owned() } else { format!("`{cut}`") }
}
