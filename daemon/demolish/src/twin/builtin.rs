//! Checkers that are part of the program: SQL against the schema of the project. No process, no twin.
//!
//! Which one is asked, and about which schema, is looked up for every request: files are small, and what an editor has open counts as it
//! is there. Databases in memory are kept by the schema that they hold.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use decode::Unknown;
use lang::{Builtin, Grammar, Language, Server};
use sql::{Address, Dialect, Fault, Found, Piece, Postgres, Source, Sqlite, Wish};
use text::Diagnostic;

use super::Subject;
use super::plan::{Lack, path_of, root_for};
use crate::config::Config;
use crate::env_vars;

/// The most schemas that are kept in memory; the one used longest ago goes first.
const SCHEMAS_MAX: usize = 8;
/// The most PostgreSQL databases to which there is a connection.
const DATABASES_MAX: usize = 4;
/// The most documents whose schema is remembered between two looks at the disk.
const LOOKS_MAX: usize = 64;
/// How often the disk is looked at, for one document.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longer documents are checked beside the tasks that wait for messages, not among them.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// All of them. One for each pool of twins.
#[derive(Default)]
pub(super) struct Builtins {
    schemas: Mutex<Vec<Schema>>,
    looks: Mutex<Vec<Look>>,
    /// The one used last at the end.
    databases: Mutex<Vec<(Address, Arc<Postgres>)>>,
}

/// A schema, and the database that holds it once somebody has asked.
struct Schema {
    sources: Vec<Source>,
    base: Arc<Mutex<Option<Sqlite>>>,
    last: Instant,
}

/// What was found for a document.
struct Look {
    key: Key,
    at: Instant,
    found: Result<Arc<Found>, Fault>,
}

/// What decides which schema a document is held against.
#[derive(PartialEq)]
struct Key {
    path: PathBuf,
    files: Vec<String>,
    dialect: Option<Dialect>,
    /// Other documents of the language that are open, with their revisions.
    open: Vec<(String, i32)>,
}

/// One document's checker.
pub(super) enum Checker {
    Sqlite(Arc<Mutex<Option<Sqlite>>>, Vec<Source>),
    Postgres(Arc<Postgres>),
}

/// A checker, the server that it stands for, and the project.
pub(super) struct Chosen {
    pub(super) server: &'static Server,
    pub(super) root: PathBuf,
    pub(super) checker: Checker,
    pub(super) grammar: Grammar,
}

/// Whether checkers of ours judge a document: its language has them, and the user wants no other server.
fn serves(language: &Language, config: &Config) -> bool {
    let is_other = config.servers.command.get(language.id()).is_some_and(|other| !other.is_empty());
    !is_other && language.servers().iter().any(|server| server.builtin().is_some())
}

/// The dialect that the settings name: by that name, or by a database for the project.
fn dialect(root: &Path, config: &Config) -> Option<Dialect> {
    let has_database = config.sql.postgres.keys().any(|folder| root.starts_with(folder));
    config.sql.dialect.dialect().or(has_database.then_some(Dialect::Postgres))
}

/// Whether PostgreSQL is meant, whatever the files of the project say: it is held against a database, not against them.
fn wants_postgres(path: &Path, root: &Path, config: &Config) -> bool {
    let by_name = path.extension().is_some_and(|end| end == "pgsql" || end == "psql");
    dialect(root, config).map_or(by_name, |dialect| dialect == Dialect::Postgres)
}

impl Builtins {
    /// Who judges a document, if it is one of us; `Err`: why nobody can.
    pub(super) fn choose(
        &self,
        subject: Subject<'_>,
        config: &Config,
    ) -> Option<Result<Chosen, Lack>> {
        let language = subject.language.filter(|language| serves(language, config))?;
        let any = language.servers().iter().find(|server| server.builtin().is_some())?;
        let root = root_for(subject.path, language, any);
        let looked = if wants_postgres(subject.path, &root, config) {
            Ok(Arc::new(Found { sources: Vec::new(), dialect: Dialect::Postgres }))
        } else {
            self.look(subject, language, &root, config)
        };
        let found = match looked {
            Ok(found) => found,
            Err(fault) => return Some(Err(lack(&fault))),
        };
        let kind = match found.dialect {
            Dialect::Sqlite => Builtin::Sqlite,
            Dialect::Postgres => Builtin::Postgres,
        };
        let server = language.servers().iter().find(|server| server.builtin() == Some(kind))?;
        let checker = match kind {
            Builtin::Sqlite => Checker::Sqlite(self.base(&found.sources), found.sources.clone()),
            Builtin::Postgres => match self.database(&root, config) {
                Ok(postgres) => Checker::Postgres(postgres),
                Err(why) => {
                    return Some(Err(Lack {
                        reason: Unknown::NoSchema(why),
                        server: Some(server.name().to_owned()),
                        hint: None,
                    }));
                }
            },
        };
        Some(Ok(Chosen { server, root, checker, grammar: Grammar::new(language, subject.path) }))
    }

    /// The schema of a document, looked up at most every [`LOOK_EVERY`] while nothing else changes.
    fn look(
        &self,
        subject: Subject<'_>,
        language: &'static Language,
        root: &Path,
        config: &Config,
    ) -> Result<Arc<Found>, Fault> {
        let speaks = |id: &str| language.lsp_ids().any(|known| known == id);
        let others: Vec<_> =
            subject.others.iter().filter(|open| speaks(&open.language_id)).collect();
        let key = Key {
            path: subject.path.to_owned(),
            files: config.sql.schema.clone(),
            dialect: dialect(root, config),
            open: others
                .iter()
                .map(|open| (open.uri.clone(), open.document.revision().0))
                .collect(),
        };
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        looks.retain(|look| look.at.elapsed() < LOOK_EVERY);
        if let Some(look) = looks.iter().find(|look| look.key == key) {
            return look.found.clone();
        }
        let open = others.iter().filter_map(|open| {
            Some(sql::Open { path: path_of(&open.uri)?, text: open.document.text().into() })
        });
        let open: Vec<_> = open.collect();
        drop(looks); // Others need not wait for the disk.
        let (path, files, dialect) = (subject.path, key.files.as_slice(), key.dialect);
        let wish = Wish { path, root, files, dialect, open: &open };
        let found = sql::project::find(&wish).map(Arc::new);
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        if looks.len() >= LOOKS_MAX {
            looks.remove(0);
        }
        looks.push(Look { key, at: Instant::now(), found: found.clone() });
        found
    }

    /// The PostgreSQL database that the user has named for a project; `Err`: why there is none, and what to do.
    fn database(&self, root: &Path, config: &Config) -> Result<Arc<Postgres>, String> {
        let named = config.sql.postgres.iter().filter(|(folder, _)| root.starts_with(folder));
        let Some((folder, text)) = named.max_by_key(|(folder, _)| folder.len()) else {
            return Err(format!(
                "PostgreSQL's SQL is held against a database of yours, and none is named for {}: set `sql.postgres` in your own \
                 configuration (or `sql.dialect`, if this is SQLite's)",
                root.display()
            ));
        };
        let address = Address::parse(text, &env_vars::user().unwrap_or_default())
            .map_err(|why| format!("`sql.postgres` for {folder}: {why}"))?;
        let mut databases = self.databases.lock().unwrap_or_else(PoisonError::into_inner);
        let known = databases.iter().position(|(known, _)| *known == address);
        let entry = match known {
            Some(at) => databases.remove(at),
            None => (address.clone(), Arc::new(Postgres::new(address, split))),
        };
        if databases.len() >= DATABASES_MAX {
            databases.remove(0);
        }
        let postgres = entry.1.clone();
        databases.push(entry);
        Ok(postgres)
    }

    /// The database of a schema.
    fn base(&self, sources: &[Source]) -> Arc<Mutex<Option<Sqlite>>> {
        let mut schemas = self.schemas.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(schema) = schemas.iter_mut().find(|schema| schema.sources == sources) {
            schema.last = Instant::now();
            return schema.base.clone();
        }
        if schemas.len() >= SCHEMAS_MAX
            && let Some((oldest, _)) = schemas.iter().enumerate().min_by_key(|(_, one)| one.last)
        {
            schemas.swap_remove(oldest);
        }
        let base: Arc<Mutex<Option<Sqlite>>> = Arc::default();
        schemas.push(Schema {
            sources: sources.to_vec(),
            base: base.clone(),
            last: Instant::now(),
        });
        base
    }
}

impl Checker {
    /// What is said of `text`.
    pub(super) async fn check(
        &self,
        grammar: Grammar,
        text: Arc<str>,
    ) -> Result<Vec<Diagnostic>, Unknown> {
        let (base, sources) = match self {
            Checker::Sqlite(base, sources) => (base, sources),
            Checker::Postgres(postgres) => {
                let pieces = pieces(grammar, &text);
                return postgres.check(&text, &pieces).await.map_err(|fault| unknown(&fault));
            }
        };
        if text.len() <= INLINE_BYTES_MAX {
            // A check takes less than to wake a thread for it.
            let mut free = match base.try_lock() {
                Ok(guard) => Some(guard),
                Err(TryLockError::Poisoned(guard)) => Some(guard.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            };
            if let Some(sqlite) = free.as_deref_mut().and_then(Option::as_mut) {
                return said(sqlite, grammar, &text);
            }
        }
        let (base, sources) = (base.clone(), sources.clone());
        let work = tokio::task::spawn_blocking(move || {
            with(&base, &sources, |sqlite| said(sqlite, grammar, &text))
        });
        work.await.map_err(|_| Unknown::Crashed)?
    }

    /// The names that the schema has, where they are known.
    pub(super) async fn names(&self) -> Result<Option<Vec<String>>, Unknown> {
        let Checker::Sqlite(base, sources) = self else { return Ok(None) };
        let (base, sources) = (base.clone(), sources.clone());
        let work = tokio::task::spawn_blocking(move || {
            with(&base, &sources, |sqlite| Ok(Some(sqlite.names())))
        });
        work.await.map_err(|_| Unknown::Crashed)?
    }
}

/// Works on the database, which is made if it is not there yet.
fn with<T>(
    base: &Mutex<Option<Sqlite>>,
    sources: &[Source],
    work: impl FnOnce(&mut Sqlite) -> Result<T, Unknown>,
) -> Result<T, Unknown> {
    let mut base = base.lock().unwrap_or_else(PoisonError::into_inner);
    let sqlite = match &mut *base {
        Some(sqlite) => sqlite,
        empty => empty.insert(Sqlite::new(sources, split).map_err(|fault| unknown(&fault))?),
    };
    work(sqlite)
}

fn said(sqlite: &mut Sqlite, grammar: Grammar, text: &str) -> Result<Vec<Diagnostic>, Unknown> {
    sqlite.check(text, &pieces(grammar, text)).map_err(|fault| unknown(&fault))
}

fn pieces(grammar: Grammar, text: &str) -> Vec<Piece> {
    let statements = grammar.statements(text).unwrap_or_default();
    let piece = |one: lang::Statement| Piece { range: one.range, restart: one.restart };
    statements.into_iter().map(piece).collect()
}

/// Cuts a file of the schema, and what is left of a statement, into statements.
fn split(text: &str) -> Vec<Piece> {
    let path = Path::new("schema.sql");
    lang::detect(path).map_or_else(Vec::new, |language| pieces(Grammar::new(language, path), text))
}

/// The reason says itself what would help.
fn lack(fault: &Fault) -> Lack {
    Lack { reason: unknown(fault), server: None, hint: None }
}

fn unknown(fault: &Fault) -> Unknown {
    match fault {
        Fault::NoSchema | Fault::Schema { .. } | Fault::File { .. } | Fault::Dialect(_) => {
            Unknown::NoSchema(fault.to_string())
        }
        Fault::Server(_) | Fault::Defines => Unknown::NoSchema(fault.to_string()),
        Fault::TooLong(why) => Unknown::NoSchema(why.clone()),
        Fault::Interrupted => Unknown::Timeout,
        Fault::Database(why) => Unknown::Failed(why.clone()),
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests write the files of their projects")]
mod tests;
