//! Statements that use what was just defined: preparing one makes SQLite look into a view or a trigger.

use rusqlite::Connection;

use crate::words::tokens;

/// A statement that uses the view or fires the trigger which `sql` defines; `None` where it defines neither.
pub(super) fn use_of(connection: &Connection, sql: &str) -> Option<String> {
    let words: Vec<&str> =
        tokens(sql).take(HEAD_TOKENS_MAX).map(|token| &sql[token.range]).collect();
    let is = |word: &str, known: &[&str]| known.iter().any(|one| word.eq_ignore_ascii_case(one));
    if !is(words.first()?, &["create"]) {
        return None;
    }
    let kind = words.iter().position(|word| is(word, &["table", "view", "index", "trigger"]))?;
    let rest = words[kind + 1..].iter().copied();
    let rest: Vec<&str> = rest.skip_while(|word| is(word, &["if", "not", "exists"])).collect();
    match words[kind].to_ascii_lowercase().as_str() {
        "view" => Some(format!("SELECT * FROM {}", name(&rest)?)),
        "trigger" => {
            let event = rest.iter().position(|word| is(word, &["insert", "update", "delete"]))?;
            let on = event + rest[event..].iter().position(|word| is(word, &["on"]))?;
            let table = name(&rest[on + 1..])?;
            Some(match rest[event].to_ascii_lowercase().as_str() {
                "insert" => format!("INSERT INTO {table} DEFAULT VALUES"),
                "delete" => format!("DELETE FROM {table}"),
                _ => {
                    let named = rest.get(event + 2).filter(|_| on > event + 1);
                    let column = named.map(|column| (*column).to_owned());
                    let column = column.or_else(|| first_column(connection, &table))?;
                    format!("UPDATE {table} SET {column} = {column}")
                }
            })
        }
        _ => None,
    }
}

/// So many tokens at the start of a definition tell what it defines.
const HEAD_TOKENS_MAX: usize = 64;

/// The name that `words` start with, with its schema.
fn name(words: &[&str]) -> Option<String> {
    let first = words.first()?;
    match words.get(1) {
        Some(&".") => Some(format!("{first}.{}", words.get(2)?)),
        _ => Some((*first).to_owned()),
    }
}

fn first_column(connection: &Connection, table: &str) -> Option<String> {
    let statement = connection.prepare(&format!("SELECT * FROM {table}")).ok()?;
    let column = statement.column_names().next()?.replace('"', "\"\"");
    Some(format!("\"{column}\""))
}
