//! What SQLite says of documents, with the bytes that it says it of.

use expect_test::{Expect, expect};

use super::*;

/// Statements end at `;`; a line that starts with `select` may be another.
fn split(text: &str) -> Vec<Piece> {
    let mut found = Vec::new();
    let mut from = 0;
    for part in text.split_inclusive(';') {
        let start = from + part.len() - part.trim_start().len();
        from += part.len();
        let range = start..start + text[start..from].trim_end().len();
        let restart = text[range.clone()].find("\nselect").map(|at| range.start + at + 1);
        if !range.is_empty() {
            found.push(Piece { range, restart });
        }
    }
    found
}

const SCHEMA: &str = "create table users (id integer primary key, name text not null, email text);
create table orders (id integer primary key, user_id integer references users (id), total real);
create view totals as select user_id, sum(total) as sum from orders group by user_id;
insert into nowhere values (1);
";

fn database() -> Sqlite {
    let source = Source { path: "schema.sql".into(), text: SCHEMA.into() };
    Sqlite::new(&[source], split).unwrap()
}

/// One line for each thing that is said: the code, what is pointed at, the message.
fn said_by(sqlite: &mut Sqlite, text: &str) -> String {
    let line = |found: Diagnostic| {
        format!("{} `{}` {}\n", found.code.unwrap(), &text[found.range], found.message)
    };
    sqlite.check(text, &split(text)).unwrap().into_iter().map(line).collect()
}

fn check(text: &str, expected: &Expect) {
    expected.assert_eq(&said_by(&mut database(), text));
}

#[test]
fn good_statements_are_clean() {
    check(
        "select u.name, t.sum from users u join totals t on t.user_id = u.id where u.id = ?;
insert into users (name) values (:name) returning id; update orders set total = total + 1 where id = @id;
with recursive n (i) as (select 1 union all select i + 1 from n) select i from n; begin; delete from users; commit;
pragma foreign_keys = on; vacuum; select json_extract('{}', '$.a'); explain select 1; ; -- done",
        &expect![""],
    );
}

#[test]
fn what_is_wrong_is_told_where_it_stands() {
    check(
        "select nme from users;
select u.nme, o.total from users u, orders o;
select id from users, orders;
select * from user where user.id = 1;
insert into users (nme) values ('nme');
insert into users (id, name) values (1);
insert into users values (1, 2);
update users set nme = 1 where id = 2;
delete from user;
selct 1;
select from users;
select a b c;
select date_trunc('day', 1);
select length();
select 'nme' as \"nme\", nme;
select 1 union select 2, 3;
select @;
select id from users group by sum(id);
create index i on users (nme);
drop table user;
select (select id, name from users);
",
        &expect![[r#"
            no_such_column `nme` no such column: nme
            no_such_column `u.nme` no such column: u.nme
            ambiguous `id` ambiguous column name: id
            no_such_table `user` no such table: user
            no_such_column `nme` table users has no column named nme
            wrong_count `values` 1 values for 2 columns
            wrong_count `values` table users has 3 columns but 2 values were supplied
            no_such_column `nme` no such column: nme
            no_such_table `user` no such table: user
            syntax `selct` near "selct": syntax error
            syntax `from` near "from": syntax error
            syntax `c` near "c": syntax error
            no_such_function `date_trunc` no such function: date_trunc
            wrong_count `length` wrong number of arguments to function length()
            no_such_column `nme` no such column: nme
            wrong_count `select` SELECTs to the left and right of UNION do not have the same number of result columns
            syntax `@` unrecognized token: "@"
            error `select` aggregate functions are not allowed in the GROUP BY clause
            no_such_column `nme` no such column: nme
            no_such_table `user` no such table: user
            wrong_count `select` sub-select returns 2 columns - expected 1
        "#]],
    );
}

#[test]
fn a_statement_without_an_end_is_told_from_a_wrong_one() {
    check(
        "select id,",
        &expect![[r#"
        incomplete `,` incomplete input
    "#]],
    );
    check(
        "select id from\nselect 1;",
        &expect![[r#"
        incomplete `m` incomplete input
    "#]],
    );
    check(
        "select nme from users\nselect nme from orders;",
        &expect![[r#"
        no_such_column `nme` no such column: nme
        no_such_column `nme` no such column: nme
    "#]],
    );
    check("insert into users (name)\nselect name from users;", &expect![""]);
    check(
        "select id from users\n\nselect 1\n\nselect 2",
        &expect![[r#"
        incomplete `s` the next statement begins before this one has ended
        incomplete `1` the next statement begins before this one has ended
    "#]],
    );
}

#[test]
fn definitions_of_the_document_hold_for_what_follows() {
    check(
        "select a from t; create table t (a, b); select a from t; alter table t add column c; select c, d from t;
create table t (x); drop table users; select 1 from users; create table orders (mine); select mine from orders;
alter table t rename to u; select 1 from t; create trigger g after insert on u begin select 1 end;",
        &expect![[r#"
            no_such_table `t` no such table: t
            no_such_column `d` no such column: d
            already_exists `t` table t already exists
            no_such_table `users` no such table: users
            no_such_column `alter` error in view totals: no such column: user_id
            no_such_table `u` no such table: main.u
        "#]],
    );
}

#[test]
fn views_and_triggers_are_looked_into() {
    check(
        "create view v as select nme from users; create view w as select name from users; select name from w;",
        &expect![[r#"
            no_such_column `nme` no such column: nme
        "#]],
    );
    let whole = |text: &str, expected: &Expect| {
        let piece = Piece { range: 0..text.len(), restart: None };
        let found = database().check(text, &[piece]).unwrap();
        let line = |one: Diagnostic| {
            format!("{} `{}` {}", one.code.unwrap(), &text[one.range], one.message)
        };
        expected.assert_eq(&found.into_iter().map(line).collect::<String>());
    };
    whole(
        "create trigger a after insert on users begin update orders set totl = new.id; end;",
        &expect!["no_such_column `totl` no such column: totl"],
    );
    whole(
        "create trigger b after update on users begin delete from orders where id = old.idd; end",
        &expect!["no_such_column `idd` no such column: old.idd"],
    );
    whole(
        "create trigger c after update of name on users begin select nothing(); end",
        &expect![[r#"syntax `nothing` near "nothing": syntax error"#]],
    );
    whole("create trigger d instead of delete on totals begin select old.sum; end", &expect![""]);
}

#[test]
fn checks_do_not_change_what_later_ones_say() {
    let mut sqlite = database();
    for _ in 0..3 {
        assert_eq!(
            said_by(&mut sqlite, "create table t (a); select a from t; drop table users;"),
            ""
        );
        assert_eq!(
            said_by(&mut sqlite, "create table t (a); select a from t; select id from users;"),
            ""
        );
        assert!(said_by(&mut sqlite, "select a from t;").starts_with("no_such_table `t`"));
        assert!(
            said_by(&mut sqlite, "create table t (b); select a from t;")
                .starts_with("no_such_column `a`")
        );
        assert_eq!(
            said_by(
                &mut sqlite,
                "select id from users; delete from users; insert into users (name) values (1);"
            ),
            ""
        );
    }
    assert_eq!(
        sqlite.connection.query_row("select count(*) from users", [], |row| row.get(0)),
        Ok(0)
    );
}

#[test]
fn nothing_outside_is_reached() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.db");
    let name = file.display();
    let text = format!(
        "attach '{name}' as a; select x from a.t; create table a.t (b); vacuum into '{name}'; select load_extension('x');\
         pragma journal_mode = wal; .open {name}\nselect nme from users;"
    );
    assert_eq!(said_by(&mut database(), &text), "no_such_column `nme` no such column: nme\n");
    assert!(!file.exists());
}

#[test]
fn work_without_end_is_cut_off() {
    let mut sqlite = database();
    let text = "create table t as with recursive n (i) as (select 1 union all select i + 1 from n) select i from n;";
    let fault = sqlite.check(text, &split(text)).unwrap_err();
    assert!(matches!(fault, Fault::Interrupted | Fault::Database(_)), "{fault}");
    assert_eq!(said_by(&mut sqlite, "select id from users;"), "");
    let deep = format!("select {}1{};", "(".repeat(5000), ")".repeat(5000));
    assert!(!said_by(&mut sqlite, &deep).is_empty());
    let long = "x".repeat(TEXT_BYTES_MAX + 1);
    assert!(matches!(sqlite.check(&long, &[]), Err(Fault::TooLong(_))));
}

#[test]
fn a_schema_that_does_not_hold_is_a_fault_with_its_line() {
    let text = "create table a (b);\n\ncreate table c (d,\n  e serial,,);\n";
    let source = Source { path: "db/schema.sql".into(), text: text.into() };
    let fault = Sqlite::new(&[source], split).err().unwrap();
    assert_eq!(
        fault.to_string(),
        "the schema does not hold: db/schema.sql:4: near \",\": syntax error"
    );
}

#[test]
fn names_are_those_of_the_schema_and_the_document() {
    let mut sqlite = database();
    said_by(&mut sqlite, "create table mine (own);");
    assert_eq!(
        sqlite.names().join(" "),
        "email id mine name orders own sum total totals user_id users"
    );
}

#[test]
fn junk_is_no_panic() {
    let signs = [
        "'",
        "\"",
        "select ",
        "from ",
        ";",
        "(",
        ")",
        "users",
        ".",
        "\0",
        "\n",
        "--",
        "/*",
        "é",
        "create table ",
        "\nselect",
    ];
    let mut sqlite = database();
    for seed in 0..2000usize {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut text = String::new();
        for _ in 0..10 {
            state ^= state << 13;
            state ^= state >> 7;
            text.push_str(signs[state % signs.len()]);
        }
        for found in sqlite.check(&text, &split(&text)).unwrap() {
            assert!(text.get(found.range.clone()).is_some(), "{text:?}: {found:?}");
        }
    }
}
