//! What migrations say of the schema: which part of a file leads up, and in which order files come. Pure.

use std::cmp::Ordering;
use std::path::Path;

/// The part of a migration that leads up; the lines of the way down are left blank, so that lines keep their numbers.
///
/// goose writes `-- +goose Up` and `-- +goose Down`, dbmate `-- migrate:up` and `-- migrate:down`, sql-migrate `-- +migrate Up`, rambler
/// `-- rambler up`. A file with none of these leads up as a whole.
pub(crate) fn up(text: &str) -> String {
    let mut is_down = false;
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        if let Some(down) = direction(line) {
            is_down = down;
        }
        if is_down {
            out.push_str(if line.ends_with('\n') { "\n" } else { "" });
        } else {
            out.push_str(line);
        }
    }
    out
}

/// Whether a line begins the way down (`true`), the way up, or neither.
fn direction(line: &str) -> Option<bool> {
    let note = line.trim_start().strip_prefix("--")?.trim().to_ascii_lowercase();
    let mut words = note.split([' ', ':']).filter(|word| !word.is_empty());
    let tool = words.next()?;
    if !["+goose", "migrate", "+migrate", "rambler"].contains(&tool) {
        return None;
    }
    match words.next()? {
        "up" => Some(false),
        "down" => Some(true),
        _ => None,
    }
}

/// Whether a file is nothing but the way down (`down.sql`, `3_users.down.sql`, `U3__users.sql`).
pub(crate) fn is_down(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let stem = name.strip_suffix(".sql").unwrap_or(&name);
    let undo = stem.strip_prefix('u').is_some_and(|rest| {
        rest.starts_with(|digit: char| digit.is_ascii_digit()) && rest.contains("__")
    });
    stem == "down" || stem.ends_with(".down") || stem.ends_with("_down") || undo
}

/// The order of two files of one folder: numbers by their worth (`V10` behind `V2`), the rest by its letters; ways up before ways down.
pub(crate) fn order(a: &Path, b: &Path) -> Ordering {
    let key = |path: &Path| path.to_string_lossy().to_ascii_lowercase();
    natural(&key(a), &key(b))
}

fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (Some(first), Some(second)) = (a.chars().next(), b.chars().next()) else {
            return a.len().cmp(&b.len());
        };
        if first.is_ascii_digit() && second.is_ascii_digit() {
            let (one, two) = (digits(a), digits(b));
            let worth = |number: &str| number.trim_start_matches('0').len();
            let (x, y) = (one.trim_start_matches('0'), two.trim_start_matches('0'));
            match worth(one).cmp(&worth(two)).then_with(|| x.cmp(y)) {
                Ordering::Equal => (a, b) = (&a[one.len()..], &b[two.len()..]),
                unequal => return unequal,
            }
        } else if first == second {
            (a, b) = (&a[first.len_utf8()..], &b[second.len_utf8()..]);
        } else {
            return first.cmp(&second);
        }
    }
}

fn digits(text: &str) -> &str {
    &text[..text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_down_is_blank() {
        let check = |text: &str, expected: &str| assert_eq!(up(text), expected, "{text:?}");
        check("create table a (b);\n", "create table a (b);\n");
        check("-- +goose Up\na;\n-- +goose Down\nb;\nc", "-- +goose Up\na;\n\n\n");
        check("-- migrate:up\r\na;\r\n-- migrate:down\r\nb;\r\n", "-- migrate:up\r\na;\r\n\n\n");
        check(
            "-- +goose StatementBegin\na;\n-- +goose StatementEnd\n",
            "-- +goose StatementBegin\na;\n-- +goose StatementEnd\n",
        );
        check("-- +migrate Down\nb;\n-- +migrate Up\na;\n", "\n\n-- +migrate Up\na;\n");
        check("-- down the road\na;\n", "-- down the road\na;\n");
    }

    #[test]
    fn files_come_in_the_order_of_their_numbers() {
        let mut files =
            ["m/V10__c.sql", "m/V2__b.sql", "m/001_a.sql", "m/1_b.sql", "m/2024_x/up.sql"]
                .map(Path::new);
        files.sort_by(|a, b| order(a, b));
        assert_eq!(
            files.map(|file| file.to_str().unwrap()),
            ["m/001_a.sql", "m/1_b.sql", "m/2024_x/up.sql", "m/V2__b.sql", "m/V10__c.sql"]
        );
        for down in ["a/down.sql", "1_a.down.sql", "U3__a.sql", "a_down.sql"] {
            assert!(is_down(Path::new(down)), "{down}");
        }
        for up in ["up.sql", "users.sql", "u3.sql", "breakdown.sql"] {
            assert!(!is_down(Path::new(up)), "{up}");
        }
    }
}
