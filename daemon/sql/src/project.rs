//! Where the schema of a project stands: in the files that its settings name, or where the usual tools keep it.
//!
//! A dump (`schema.sql`, `structure.sql`) says all; migrations say it together, in their order. A document that is itself one of them is held
//! against what comes before it: a migration against those before, a dump against nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::migrations::{is_down, order, up};
use crate::{Dialect, Fault, Guess, guess};

/// The most files that a schema is read from.
pub const FILES_MAX: usize = 2000;
/// The most bytes of all its files together.
pub const SCHEMA_BYTES_MAX: u64 = 8 << 20;
/// How many folders above a document are looked in.
pub const LEVELS_MAX: usize = 24;

/// Files that hold all of a schema, below any folder above the document; the more telling first.
const DUMPS: &[&str] = &[
    "db/structure.sql",
    "db/schema.sql",
    "database/schema.sql",
    "sql/schema.sql",
    "schema.sql",
    "structure.sql",
    "src/schema.sql",
];
/// Folders of migrations: sqlx, diesel, goose and golang-migrate, dbmate, Prisma, Supabase, Drizzle, Flyway, sqlc.
const FOLDERS: &[&str] = &[
    "migrations",
    "db/migrations",
    "database/migrations",
    "sql/migrations",
    "prisma/migrations",
    "supabase/migrations",
    "drizzle",
    "db/migration",
    "src/main/resources/db/migration",
    "src/migrations",
    "internal/db/migrations",
    "db/schema",
];
/// Files that name the dialect (`engine: postgresql`, `provider = "sqlite"`), and the word before it.
const TELLTALES: &[(&str, &str)] = &[
    ("sqlc.yaml", "engine"),
    ("sqlc.yml", "engine"),
    ("sqlc.json", "engine"),
    ("prisma/schema.prisma", "provider"),
    ("prisma/migrations/migration_lock.toml", "provider"),
    ("drizzle.config.ts", "dialect"),
];

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'w> {
    /// The document.
    pub path: &'w Path,
    /// The project's folder; nothing above it is looked at.
    pub root: &'w Path,
    /// Files and folders of the schema, relative to the root, as the settings name them; empty: the usual places.
    pub files: &'w [String],
    /// The dialect, where the settings name it.
    pub dialect: Option<Dialect>,
    /// Texts that an editor has open, which count instead of what is on disk.
    pub open: &'w [Open],
}

/// A file that an editor has open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The file.
    pub path: PathBuf,
    /// Its text.
    pub text: Arc<str>,
}

/// One file of the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// What in it leads up; the rest is left blank.
    pub text: Arc<str>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The files before the document, in order. May be empty, where the document is the first.
    pub sources: Vec<Source>,
    /// The dialect that it is written in.
    pub dialect: Dialect,
}

/// Finds the schema that a document is held against. Reads the files.
///
/// # Errors
/// There is none, a named file cannot be read or lies outside of the project, there is too much, or the dialect is not known.
pub fn find(wish: &Wish<'_>) -> Result<Found, Fault> {
    let paths = paths(wish)?;
    let sources = read(&paths, wish.open)?;
    let dialect = match wish.dialect {
        Some(dialect) => dialect,
        None => dialect(wish, &sources)?,
    };
    Ok(Found { sources, dialect })
}

/// The dialect that a project names or shows; `None` without any sign.
///
/// # Errors
/// It is one that is not checked.
fn dialect(wish: &Wish<'_>, sources: &[Source]) -> Result<Dialect, Fault> {
    let by_name = wish.path.extension().is_some_and(|end| end == "pgsql" || end == "psql");
    if by_name {
        return Ok(Dialect::Postgres);
    }
    if let Some(dialect) = told(wish.root) {
        return Ok(dialect);
    }
    let schema = guess(sources.iter().map(|source| &*source.text));
    let all = match schema {
        Guess::Open => guess([&*own(wish)]),
        known => known,
    };
    match all {
        Guess::Known(dialect) => Ok(dialect),
        Guess::Other(name) => Err(Fault::Dialect(name)),
        // Plain SQL is much the same everywhere, and this one is always at hand.
        Guess::Open => Ok(Dialect::Sqlite),
    }
}

/// The document's own text, as an editor or the disk has it.
fn own(wish: &Wish<'_>) -> Arc<str> {
    if let Some(open) = wish.open.iter().find(|open| open.path == *wish.path) {
        return open.text.clone();
    }
    let is_small =
        wish.path.metadata().is_ok_and(|meta| meta.is_file() && meta.len() < SCHEMA_BYTES_MAX);
    let text = std::fs::read_to_string(wish.path).ok().filter(|_| is_small);
    text.unwrap_or_default().into()
}

/// The dialect that a tool's own configuration names.
fn told(root: &Path) -> Option<Dialect> {
    TELLTALES.iter().find_map(|(file, key)| {
        let path = root.join(file);
        let is_small = path.metadata().is_ok_and(|meta| meta.is_file() && meta.len() < 1 << 18);
        let text = std::fs::read_to_string(path).ok().filter(|_| is_small)?;
        text.lines().find_map(|line| {
            let (before, value) = line.split_once([':', '='])?;
            let word = |text: &str| text.trim_matches(|c: char| !c.is_alphanumeric()).to_owned();
            (word(before) == *key).then(|| Dialect::of_name(&word(value)))?
        })
    })
}

/// The files that say what was there before the document.
fn paths(wish: &Wish<'_>) -> Result<Vec<PathBuf>, Fault> {
    if !wish.files.is_empty() {
        let mut all = Vec::new();
        for name in wish.files {
            let path = inside(wish.root, name)?;
            if path.is_dir() { all.extend(migrations(&path)?) } else { all.push(path) }
        }
        return Ok(before(all, wish.path));
    }
    let folder = wish.path.parent().unwrap_or(wish.root);
    let above = folder.ancestors().take_while(|dir| dir.starts_with(wish.root)).take(LEVELS_MAX);
    for dir in above {
        let dump = DUMPS.iter().map(|name| dir.join(name)).find(|path| path.is_file());
        let mut of_folder = Vec::new();
        for name in FOLDERS {
            of_folder = migrations(&dir.join(name))?;
            if !of_folder.is_empty() {
                break;
            }
        }
        match dump {
            _ if of_folder.iter().any(|path| path == wish.path) => {
                return Ok(before(of_folder, wish.path));
            }
            Some(dump) if dump == wish.path => return Ok(Vec::new()),
            Some(dump) => return Ok(vec![dump]),
            None if !of_folder.is_empty() => return Ok(before(of_folder, wish.path)),
            None => {}
        }
    }
    Err(Fault::NoSchema)
}

/// A path of the settings, which may not lead out of the project: the project's own file may name it.
fn inside(root: &Path, name: &str) -> Result<PathBuf, Fault> {
    let path = root.join(name);
    let fault = |message: &str| Fault::File { path: path.clone(), message: message.to_owned() };
    let real = path
        .canonicalize()
        .map_err(|error| fault(&format!("cannot be read ({error}); correct `sql.schema`")))?;
    match root.canonicalize() {
        Ok(root) if real.starts_with(&root) => Ok(path),
        _ => Err(fault("lies outside of the project; `sql.schema` names files within it")),
    }
}

/// Those of `all` that come before `document`; a way down is preceded by its own way up.
fn before(all: Vec<PathBuf>, document: &Path) -> Vec<PathBuf> {
    let own = all.iter().position(|path| path == document);
    let end = match own {
        Some(at) if is_down(document) => {
            // `down.sql` sorts before `up.sql`, and `1_a.down.sql` before `1_a.up.sql`.
            let twin = |path: &PathBuf| {
                path != document
                    && stem_of(path) == stem_of(document)
                    && path.parent() == document.parent()
            };
            all.iter().position(twin).map_or(at, |up| up + 1)
        }
        Some(at) => at,
        None => all.len(),
    };
    all.into_iter().take(end).filter(|path| !is_down(path) && path != document).collect()
}

/// The name of a migration without its direction.
fn stem_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let stem = name.strip_suffix(".sql").unwrap_or(&name);
    let stem = stem.strip_suffix("down").or_else(|| stem.strip_suffix("up")).unwrap_or(stem);
    stem.trim_end_matches(['.', '_']).to_owned()
}

/// The files of a folder of migrations, in their order: its own, or those of the folders in it. None where it does not exist.
fn migrations(folder: &Path) -> Result<Vec<PathBuf>, Fault> {
    let mut found = Vec::new();
    let mut folders = Vec::new();
    list(folder, &mut found, Some(&mut folders))?;
    for inner in folders {
        list(&inner, &mut found, None)?;
    }
    found.sort_by(|a, b| order(a, b));
    Ok(found)
}

fn list(
    folder: &Path,
    found: &mut Vec<PathBuf>,
    mut folders: Option<&mut Vec<PathBuf>>,
) -> Result<(), Fault> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for entry in entries.flatten() {
        let path = entry.path();
        let is_sql = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("sql"));
        if path.is_dir() {
            if let Some(folders) = folders.as_deref_mut() {
                folders.push(path);
            }
        } else if is_sql && path.is_file() {
            found.push(path);
        }
        let count = found.len() + folders.as_ref().map_or(0, |folders| folders.len());
        if count > FILES_MAX {
            return Err(Fault::TooLong(format!(
                "{} holds more than {FILES_MAX} files; name a dump of the schema with `sql.schema`",
                folder.display()
            )));
        }
    }
    Ok(())
}

fn read(paths: &[PathBuf], open: &[Open]) -> Result<Vec<Source>, Fault> {
    let mut left = SCHEMA_BYTES_MAX;
    let mut sources = Vec::new();
    for path in paths {
        let fault = |message: String| Fault::File { path: path.clone(), message };
        let text = match open.iter().find(|open| open.path == *path) {
            Some(open) => open.text.to_string(),
            None => {
                let meta = path.metadata().map_err(|error| fault(error.to_string()))?;
                if !meta.is_file() {
                    return Err(fault("is no file".to_owned()));
                }
                take(&mut left, meta.len())?;
                std::fs::read_to_string(path)
                    .map_err(|error| fault(format!("cannot be read as a text: {error}")))?
            }
        };
        sources.push(Source { path: path.clone(), text: up(&text).into() });
    }
    Ok(sources)
}

fn take(left: &mut u64, bytes: u64) -> Result<(), Fault> {
    *left = left.checked_sub(bytes).ok_or_else(|| {
        Fault::TooLong(format!("the schema is longer than {} MiB", SCHEMA_BYTES_MAX >> 20))
    })?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests write the files of their projects")]
mod tests {
    use super::*;

    struct Project(tempfile::TempDir);

    impl Project {
        fn new(files: &[&str]) -> Project {
            let dir = tempfile::tempdir().unwrap();
            for file in files {
                let path = dir.path().join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, format!("-- {file}\n")).unwrap();
            }
            Project(dir)
        }

        fn find(&self, document: &str, files: &[&str]) -> Result<Found, Fault> {
            let files: Vec<String> = files.iter().map(ToString::to_string).collect();
            let path = self.0.path().join(document);
            let root = self.0.path();
            find(&Wish { path: &path, root, files: &files, dialect: None, open: &[] })
        }

        /// The names of what a document is held against.
        fn sources(&self, document: &str, files: &[&str]) -> String {
            match self.find(document, files) {
                Ok(found) => {
                    let name = |source: &Source| {
                        source.path.strip_prefix(self.0.path()).unwrap().display().to_string()
                    };
                    found.sources.iter().map(name).collect::<Vec<_>>().join(" ")
                }
                Err(fault) => fault.to_string().replace(&*self.0.path().to_string_lossy(), ""),
            }
        }
    }

    #[test]
    fn the_layouts_of_the_usual_tools_are_known() {
        let check = |files: &[&str], document: &str, expected: &str| {
            assert_eq!(Project::new(files).sources(document, &[]), expected, "{files:?}");
        };
        check(&["schema.sql"], "q/users.sql", "schema.sql");
        check(&["schema.sql"], "schema.sql", "");
        check(&["db/structure.sql", "db/migrations/1.sql"], "a.sql", "db/structure.sql");
        check(
            &["db/schema.sql", "db/migrations/1.sql", "db/migrations/2.sql"],
            "db/migrations/2.sql",
            "db/migrations/1.sql",
        );
        check(
            &["migrations/10_b.sql", "migrations/9_a.sql"],
            "src/q.sql",
            "migrations/9_a.sql migrations/10_b.sql",
        );
        check(&["migrations/10_b.sql", "migrations/9_a.sql"], "migrations/9_a.sql", "");
        let sqlx = [
            "migrations/1_a.up.sql",
            "migrations/1_a.down.sql",
            "migrations/2_b.up.sql",
            "migrations/2_b.down.sql",
        ];
        check(&sqlx, "q.sql", "migrations/1_a.up.sql migrations/2_b.up.sql");
        check(&sqlx, "migrations/2_b.up.sql", "migrations/1_a.up.sql");
        check(&sqlx, "migrations/1_a.down.sql", "migrations/1_a.up.sql");
        let diesel =
            ["migrations/2020_a/up.sql", "migrations/2020_a/down.sql", "migrations/2021_b/up.sql"];
        check(&diesel, "src/q.sql", "migrations/2020_a/up.sql migrations/2021_b/up.sql");
        check(&diesel, "migrations/2020_a/down.sql", "migrations/2020_a/up.sql");
        check(&diesel, "migrations/2021_b/up.sql", "migrations/2020_a/up.sql");
        check(
            &["prisma/migrations/1_a/migration.sql"],
            "q.sql",
            "prisma/migrations/1_a/migration.sql",
        );
        check(&["a/migrations/1.sql", "migrations/1.sql"], "a/q.sql", "a/migrations/1.sql");
    }

    #[test]
    fn no_schema_is_said_and_nothing_outside_of_the_project_is_read() {
        let project = Project::new(&["q.sql", "a/tables.sql", "b/2.sql", "b/1.sql"]);
        assert!(project.sources("q.sql", &[]).starts_with("no schema was found"));
        assert_eq!(
            project.sources("q.sql", &["a/tables.sql", "b"]),
            "a/tables.sql b/1.sql b/2.sql"
        );
        assert_eq!(project.sources("b/2.sql", &["a/tables.sql", "b"]), "a/tables.sql b/1.sql");
        assert_eq!(
            project.sources("q.sql", &["/etc/passwd"]),
            "/etc/passwd: lies outside of the project; `sql.schema` names files within it"
        );
        assert!(project.sources("q.sql", &["../x.sql"]).contains("x.sql"));
        assert!(project.sources("q.sql", &["c.sql"]).contains("correct `sql.schema`"));
    }

    #[test]
    fn the_dialect_is_told_by_tools_texts_and_settings() {
        let project = Project::new(&["schema.sql"]);
        let write =
            |file: &str, text: &str| std::fs::write(project.0.path().join(file), text).unwrap();
        assert_eq!(project.find("q.sql", &[]).unwrap().dialect, Dialect::Sqlite);
        assert_eq!(project.find("q.pgsql", &[]).unwrap().dialect, Dialect::Postgres);
        write("schema.sql", "create table a (id serial);");
        assert_eq!(project.find("q.sql", &[]).unwrap().dialect, Dialect::Postgres);
        write("schema.sql", "create table `a` (id int auto_increment);");
        assert_eq!(project.find("q.sql", &[]), Err(Fault::Dialect("MySQL")));
        write("sqlc.yaml", "sql:\n  - engine: \"sqlite\"\n");
        assert_eq!(project.find("q.sql", &[]).unwrap().dialect, Dialect::Sqlite);
    }

    #[test]
    fn what_an_editor_has_open_counts() {
        let project = Project::new(&["schema.sql"]);
        let path = project.0.path().join("schema.sql");
        let open = [Open { path, text: "create table b (c);".into() }];
        let (document, root) = (project.0.path().join("q.sql"), project.0.path());
        let wish = Wish { path: &document, root, files: &[], dialect: None, open: &open };
        assert_eq!(&*find(&wish).unwrap().sources[0].text, "create table b (c);");
    }
}
