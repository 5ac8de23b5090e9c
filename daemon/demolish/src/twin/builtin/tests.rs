//! SQL of projects on disk, asked about as completion asks.

use std::path::Path;
use std::sync::Arc;

use decode::{Checked, Critic as _};
use text::{Document, Revision};

use crate::config::{Config, Speculation, SqlDialect};
use crate::twin::plan::uri_of;
use crate::twin::{Critic, Open, Subject, Twins};

const TABLES: &str = "create table users (id integer primary key, name text);\n";

struct Project {
    dir: tempfile::TempDir,
    twins: Twins,
    config: Config,
}

fn project(files: &[(&str, &str)]) -> Project {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(".git")).unwrap();
    let project = Project { dir, twins: Twins::default(), config: Config::default() };
    files.iter().for_each(|(file, text)| project.write(file, text));
    project
}

impl Project {
    fn write(&self, file: &str, text: &str) {
        let path = self.dir.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn critic(&self, file: &str, open: &[(&str, &str)]) -> Critic {
        let path = self.dir.path().join(file);
        let open = open.iter().map(|(file, text)| Open {
            uri: uri_of(&self.dir.path().join(file)),
            language_id: "sql".to_owned(),
            document: Document::new(Revision(i32::try_from(text.len()).unwrap()), text),
        });
        let subject = Subject {
            path: &path,
            uri: &uri_of(&path),
            language: lang::detect(Path::new(file)),
            others: &open.collect(),
            users: &[],
            env: None,
        };
        self.twins.critic(subject, &self.config)
    }

    async fn said(&self, file: &str, text: &str) -> String {
        told(&self.critic(file, &[]), text).await
    }
}

async fn told(critic: &Critic, text: &str) -> String {
    match critic.check(Arc::from(text)).await {
        Checked::Diagnostics(found) => {
            let word = |one: &text::Diagnostic| {
                format!("{} {}", one.code.as_deref().unwrap(), &text[one.range.clone()])
            };
            found.iter().map(word).collect::<Vec<_>>().join(", ")
        }
        Checked::Unknown(reason) => format!("{}: {reason}", reason.code()),
    }
}

#[tokio::test]
async fn sql_is_held_against_the_schema_of_its_project() {
    let project = project(&[("db/schema.sql", TABLES)]);
    let critic = project.critic("src/q.sql", &[]);
    assert_eq!((critic.server(), critic.lack()), ("sqlite", None));
    assert_eq!(told(&critic, "select name from users;").await, "");
    assert_eq!(told(&critic, "select nme from users;").await, "no_such_column nme");
    assert_eq!(
        told(&critic, "select é from users;\r\nselect 1 from user;\n").await,
        "no_such_column é, no_such_table user"
    );
    let names = critic.completions("".into(), 0).await.unwrap();
    assert_eq!(names, ["id", "name", "users"]);
    let facts = project.twins.speculation();
    assert_eq!(
        (facts[0].server.as_str(), facts[0].choice.backend.word(), facts[0].checks),
        ("sqlite", "builtin", 3)
    );
}

#[tokio::test]
async fn without_a_schema_nothing_is_known() {
    let mut project = project(&[("q.sql", "")]);
    let said = project.said("q.sql", "select name from users;").await;
    assert!(said.starts_with("no_schema: no schema was found"), "{said}");
    assert!(project.critic("q.sql", &[]).lack().unwrap().hint.is_none());
    project.write("db/tables.sql", TABLES);
    project.config.sql.schema = vec!["db/tables.sql".to_owned()];
    assert_eq!(project.said("q.sql", "select nme from users;").await, "no_such_column nme");
    project.config.sql.schema = vec!["../tables.sql".to_owned()];
    assert!(project.said("q.sql", "select 1;").await.contains("../tables.sql"));
}

#[tokio::test]
async fn a_schema_that_sqlite_refuses_is_no_schema() {
    let project = project(&[("schema.sql", "create table a (b);\ncreate table c (d e f,,);\n")]);
    let said = project.said("q.sql", "select b from a;").await;
    assert!(
        said.starts_with("no_schema: the schema does not hold")
            && said.contains("schema.sql:2: near"),
        "{said}"
    );
}

#[tokio::test]
async fn schemas_and_migrations_are_held_against_what_comes_before_them() {
    let project = project(&[
        ("migrations/1_users.sql", TABLES),
        ("migrations/2_more.sql", "alter table users add column email text;\n"),
    ]);
    assert_eq!(project.said("q.sql", "select email from users;").await, "");
    assert_eq!(
        project
            .said(
                "migrations/1_users.sql",
                "create table t (a); select a from t; select name from users;"
            )
            .await,
        "no_such_table users"
    );
    assert_eq!(
        project.said("migrations/2_more.sql", "select email from users;").await,
        "no_such_column email"
    );
    assert_eq!(project.said("migrations/3_new.sql", "create index i on users (email);").await, "");
}

#[tokio::test]
async fn what_an_editor_has_open_and_has_not_saved_counts() {
    let project = project(&[("schema.sql", TABLES)]);
    let open = [("schema.sql", "create table users (id, surname);")];
    assert_eq!(told(&project.critic("q.sql", &open), "select surname from users;").await, "");
    assert_eq!(
        told(&project.critic("q.sql", &[]), "select surname from users;").await,
        "no_such_column surname"
    );
}

#[tokio::test]
async fn settings_choose_who_is_asked() {
    let mut project = project(&[("schema.sql", "create table users (id serial);\n")]);
    assert_eq!(project.critic("q.sql", &[]).server(), "postgres");
    assert!(
        project
            .said("q.sql", "select 1;")
            .await
            .starts_with("no_schema: PostgreSQL's SQL is held against a database of yours")
    );
    let root = project.dir.path().to_string_lossy().into_owned();
    project.config.sql.postgres.insert(root.clone(), "host=elsewhere".to_owned());
    assert!(project.said("q.sql", "select 1;").await.contains("`elsewhere` is another machine"));
    project.config.sql.postgres.insert(root.clone(), format!("host={root}"));
    let said = project.said("q.sql", "select 1;").await;
    assert!(said.starts_with("no_schema: PostgreSQL cannot be asked"), "{said}");
    project.config.sql.dialect = SqlDialect::Sqlite;
    assert_eq!(project.critic("q.sql", &[]).server(), "sqlite");
    project.config.twin.speculation = Speculation::Off;
    assert!(project.said("q.sql", "select 1;").await.starts_with("no_server"));
    project.config.twin.speculation = Speculation::Auto;
    project.config.servers.command.insert("sql".to_owned(), vec!["/nowhere/sqls".to_owned()]);
    assert!(project.said("q.sql", "select 1;").await.starts_with("not_supported"));
}

#[tokio::test]
async fn two_requests_at_once_are_both_answered() {
    let project = project(&[("schema.sql", TABLES)]);
    let (one, two) = (project.critic("a.sql", &[]), project.critic("b.sql", &[]));
    for _ in 0..20 {
        let both = tokio::join!(told(&one, "create table t (a);"), told(&two, "select a from t;"));
        assert_eq!(both, (String::new(), "no_such_table t".to_owned()));
    }
}
