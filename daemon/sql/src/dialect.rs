//! Which dialect a text is written in, by the signs that only one of them has. Pure.

use crate::words::{Kind, tokens};

/// A dialect that can be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// SQLite's.
    Sqlite,
    /// PostgreSQL's.
    Postgres,
}

/// What the signs of some texts say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guess {
    /// More signs of this one than of any other.
    Known(Dialect),
    /// Signs of a dialect that is not checked, which is named.
    Other(&'static str),
    /// No signs, or as many of one as of another.
    Open,
}

impl Dialect {
    /// The dialect of this name: as settings, `sqlc` and Prisma write it.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Dialect> {
        match name {
            "sqlite" => Some(Dialect::Sqlite),
            "postgres" | "postgresql" => Some(Dialect::Postgres),
            _ => None,
        }
    }
}

/// Words of PostgreSQL alone.
const POSTGRES: &[&str] = &[
    "bigserial",
    "bytea",
    "citext",
    "extension",
    "ilike",
    "inet",
    "jsonb",
    "language",
    "owner",
    "plpgsql",
    "regclass",
    "search_path",
    "serial",
    "smallserial",
    "timestamptz",
    "tsvector",
    "unlogged",
    "uuid_generate_v4",
    "gen_random_uuid",
    "nextval",
    "pg_catalog",
];
/// Words of SQLite alone.
const SQLITE: &[&str] = &[
    "autoincrement",
    "datetime",
    "fts5",
    "glob",
    "ifnull",
    "julianday",
    "pragma",
    "rowid",
    "sqlite_master",
    "sqlite_schema",
    "sqlite_sequence",
    "strftime",
    "unixepoch",
];
/// Words of MySQL alone.
const MYSQL: &[&str] = &[
    "auto_increment",
    "engine",
    "innodb",
    "tinyint",
    "unsigned",
    "utf8mb4",
    "mediumtext",
    "longtext",
];

/// What `texts` say together. Only the first [`GUESS_BYTES_MAX`] bytes of each are looked at.
pub fn guess<'t>(texts: impl IntoIterator<Item = &'t str>) -> Guess {
    let (mut postgres, mut sqlite, mut mysql) = (0u32, 0u32, 0u32);
    for text in texts {
        let end = (0..=GUESS_BYTES_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
        let text = &text[..end.unwrap_or(0)];
        for token in tokens(text) {
            let word = text[token.range.clone()].to_ascii_lowercase();
            match token.kind {
                Kind::Word => {
                    postgres += u32::from(POSTGRES.contains(&word.as_str()));
                    sqlite += u32::from(SQLITE.contains(&word.as_str()));
                    mysql += u32::from(MYSQL.contains(&word.as_str()));
                }
                Kind::Quoted => mysql += u32::from(word.starts_with('`')),
                Kind::Sign => sqlite += u32::from(word == "?"),
                Kind::Parameter => {
                    let numbered = word[1..].starts_with(|digit: char| digit.is_ascii_digit());
                    postgres += u32::from(word.starts_with('$') && numbered);
                    sqlite += u32::from(word.starts_with('?'));
                }
                Kind::Cast | Kind::Dollars => postgres += 1,
            }
        }
    }
    match (postgres, sqlite, mysql) {
        (p, s, m) if p > s && p > m => Guess::Known(Dialect::Postgres),
        (p, s, m) if s > p && s > m => Guess::Known(Dialect::Sqlite),
        (p, s, m) if m > p && m > s => Guess::Other("MySQL"),
        _ => Guess::Open,
    }
}

/// So much of a file is enough to tell its dialect.
const GUESS_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dialects_are_told_by_what_only_they_have() {
        let check = |text: &str, expected: Guess| assert_eq!(guess([text]), expected, "{text}");
        let (postgres, sqlite) = (Guess::Known(Dialect::Postgres), Guess::Known(Dialect::Sqlite));
        check("create table t (id serial primary key)", postgres);
        check("select a::int from t", postgres);
        check("select a from t where id = $1", postgres);
        check("create function f() returns int as $$ select 1 $$ language sql", postgres);
        check("create table t (id integer primary key autoincrement)", sqlite);
        check("select a from t where id = ?", sqlite);
        check("select a from t where id = ?1", sqlite);
        check("PRAGMA foreign_keys = on;", sqlite);
        check("create table `t` (id int auto_increment) engine=innodb", Guess::Other("MySQL"));
        check("create table t (id integer primary key, name text)", Guess::Open);
        check("-- serial\nselect 'jsonb $1 ::'", Guess::Open);
        check("", Guess::Open);
        let head = "é".repeat(GUESS_BYTES_MAX);
        check(&format!("-- {head}\nserial"), Guess::Open);
    }
}
