//! How long the checkers of SQL take for a document of 250 lines of which one has changed, beside what the databases take for that one
//! statement alone.

use std::sync::Arc;
use std::time::Instant;

use decode::{Checked, Critic as _};
use lang::Grammar;
use sql::{Source, Sqlite};

use super::super::report::{Row, Samples};
use super::super::sandbox::Sandbox;
use crate::config::{Config, SqlDialect};
use crate::env_vars;
use crate::twin::plan::uri_of;
use crate::twin::{Critic, Subject, Twins};

/// How many candidates each judges.
const ROUNDS: usize = 600;
/// How many statements the document has.
const STATEMENTS: usize = 50;
/// What a check may take, in milliseconds.
const GOAL_MS: f64 = 0.1;
const SCHEMA: &str = "create table users (id integer primary key, name text not null, email text);
create table orders (id integer primary key, user_id integer references users (id), total real, placed_at text);
create index orders_user on orders (user_id);
create view totals as select user_id, sum(total) as total from orders group by user_id;
";
const SQLITE: &str = "select u.id, u.name,\n  o.total + N as vN\nfrom users u\njoin orders o on o.user_id = u.id\nwhere o.V > N;\n";
const POSTGRES: &str = "select c.oid, c.relname,\n  a.attnum + N as vN\nfrom pg_class c\njoin pg_attribute a on a.attrelid = c.oid\nwhere a.V > N;\n";

fn statement(form: &str, number: usize, column: &str) -> String {
    form.replace('N', &number.to_string()).replace('V', column)
}

/// The document with another last statement every time.
fn document(form: &str, right: &str, column: &str, round: usize) -> Arc<str> {
    let mut text: String = (0..STATEMENTS).map(|number| statement(form, number, right)).collect();
    text.push_str(&statement(form, 1000 + round, column));
    text.into()
}

/// Measures both. PostgreSQL only where a server is named.
pub(super) async fn rows() -> Result<Vec<Row>, String> {
    let sandbox = Sandbox::new("speculate-sql", "")?;
    let root = sandbox.folder().join("project");
    let write = |file: &str, text: &str| written(&root.join(file), text);
    write("schema.sql", SCHEMA)?;
    write(".demolish.toml", "")?;
    let mut rows = parsing();
    let mut config = Config::default();
    let (times, first) = measured(&config, &root, SQLITE, ["total", "totl"]).await?;
    let bare = bare()?;
    rows.extend(told("sqlite", &times, &bare, "prepare alone, in the same process"));
    rows.push(Row::new("sqlite_first", first, "ms").noted("the schema is read for it"));
    if let Some(server) = env_vars::bench_postgres() {
        config.sql.dialect = SqlDialect::Postgres;
        config.sql.postgres.insert(root.to_string_lossy().into_owned(), server);
        let (times, first) = measured(&config, &root, POSTGRES, ["attnum", "attnm"]).await?;
        let one = alone(&config, &root).await?;
        rows.extend(told("postgres", &times, &one, "a document of that statement alone"));
        rows.push(Row::new("postgres_first", first, "ms").noted("connecting is in it"));
    }
    Ok(rows)
}

#[allow(clippy::disallowed_methods, reason = "the project is the measurement's own")]
fn written(path: &std::path::Path, text: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("a project cannot be written ({error})");
    std::fs::create_dir_all(path.parent().unwrap_or(path)).map_err(failed)?;
    std::fs::write(path, text).map_err(failed)
}

fn told(name: &str, times: &Measured, bare: &Samples, against: &str) -> Vec<Row> {
    let metric = |what: &str| format!("{name}_{what}");
    let p50 = times.times.quantile(0.5);
    let alone = bare.quantile(0.5);
    vec![
        Row::new(&metric("p50"), p50, "ms").at_most(GOAL_MS).against(against, p50 / alone),
        Row::new(&metric("p95"), times.times.quantile(0.95), "ms"),
        Row::new(&metric("bare_p50"), alone, "ms"),
        Row::new(&metric("astray"), f64::from(times.astray), "verdicts").exactly(0.0),
    ]
}

/// What was measured, and verdicts that were not the expected ones.
#[derive(Default)]
struct Measured {
    times: Samples,
    astray: u32,
}

fn critic(twins: &Twins, config: &Config, root: &std::path::Path) -> Critic {
    let path = root.join("queries.sql");
    let subject = Subject {
        path: &path,
        uri: &uri_of(&path),
        language: lang::detect(&path),
        others: &Arc::default(),
        users: &[],
        env: None,
    };
    twins.critic(subject, config)
}

async fn measured(
    config: &Config,
    root: &std::path::Path,
    form: &str,
    [right, wrong]: [&str; 2],
) -> Result<(Measured, f64), String> {
    let twins = Twins::default();
    let critic = critic(&twins, config, root);
    let check = async |text: Arc<str>| {
        let started = Instant::now();
        match critic.check(text).await {
            Checked::Diagnostics(found) => Ok((found.len(), started.elapsed().as_secs_f64() * 1e3)),
            Checked::Unknown(reason) => Err(reason.to_string()),
        }
    };
    let (_, first) = check(document(form, right, right, ROUNDS)).await?;
    let mut measured = Measured::default();
    for round in 0..ROUNDS {
        let is_wrong = round % 2 == 1;
        let text = document(form, right, if is_wrong { wrong } else { right }, round);
        let (found, took) = check(text).await?;
        measured.times.push(took);
        measured.astray += u32::from((found > 0) != is_wrong);
    }
    Ok((measured, first))
}

/// PostgreSQL with a document of one statement: what the way there and back takes.
async fn alone(config: &Config, root: &std::path::Path) -> Result<Samples, String> {
    let twins = Twins::default();
    let critic = critic(&twins, config, root);
    let mut times = Samples::default();
    for round in 0..ROUNDS {
        let text: Arc<str> = statement(POSTGRES, 5000 + round, "attnum").into();
        let started = Instant::now();
        if let Checked::Unknown(reason) = critic.check(text).await {
            return Err(reason.to_string());
        }
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

/// SQLite alone: one statement is prepared, and nothing else.
fn bare() -> Result<Samples, String> {
    let source = Source { path: "schema.sql".into(), text: SCHEMA.into() };
    let sqlite = Sqlite::new(&[source], |text| {
        let ends = text.match_indices(';').map(|(at, _)| at + 1);
        let mut from = 0;
        let piece = |end: usize| {
            let start = from + text[from..end].len() - text[from..end].trim_start().len();
            from = end;
            sql::Piece { range: start..end, restart: None }
        };
        ends.map(piece).collect()
    });
    let sqlite = sqlite.map_err(|fault| fault.to_string())?;
    let mut times = Samples::default();
    for round in 0..ROUNDS {
        let column = if round % 2 == 1 { "totl" } else { "total" };
        let text = statement(SQLITE, 9000 + round, column);
        let started = Instant::now();
        let is_good = sqlite.prepares(&text);
        times.push(started.elapsed().as_secs_f64() * 1e3);
        if is_good != (column == "total") {
            return Err(format!("SQLite says otherwise than expected of {text}"));
        }
    }
    Ok(times)
}

/// Finding the statements of the document.
fn parsing() -> Vec<Row> {
    let path = std::path::Path::new("queries.sql");
    let Some(language) = lang::detect(path) else { return Vec::new() };
    let grammar = Grammar::new(language, path);
    let mut times = Samples::default();
    for round in 0..ROUNDS {
        let text = document(SQLITE, "total", "total", round);
        let started = Instant::now();
        let found = grammar.statements(&text).map_or(0, |found| found.len());
        times.push(started.elapsed().as_secs_f64() * 1e3);
        debug_assert_eq!(found, STATEMENTS + 1);
    }
    vec![Row::new("sql_parse_p50", times.quantile(0.5), "ms").at_most(GOAL_MS)]
}
