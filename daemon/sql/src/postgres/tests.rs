//! Ranges and faults without a server; and, in the slow run, a real one on a folder of its own.

use std::process::Command;

use super::*;

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

#[test]
fn what_a_server_points_at_is_found_in_bytes() {
    let check = |sql: &str, position: usize, expected: &str| {
        assert_eq!(&sql[pointed(sql, position)], expected, "{sql}");
    };
    check("select é.nme, x", 8, "é.nme");
    check("select 'é', nme", 13, "nme");
    check("select \"a b\".c from", 8, "\"a b\".c");
    check("select a + b", 10, "+");
    check("select", 99, "");
    check("select a", 8, "a");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let address = Address::parse(&format!("host={} dbname=x", dir.path().display()), "me").unwrap();
    let postgres = Postgres::new(address, split);
    for _ in 0..2 {
        let fault = postgres.check("select 1;", &split("select 1;")).await.unwrap_err();
        assert!(fault.to_string().starts_with("PostgreSQL cannot be asked: /"), "{fault}");
    }
    let text = "create table t (a int);";
    assert_eq!(postgres.check(text, &split(text)).await, Err(Fault::Defines));
    assert_eq!(postgres.check("", &[]).await, Ok(Vec::new()));
}

/// A server of the system's own package on a folder that goes with it; `None` where there is none to be had.
struct Server {
    dir: tempfile::TempDir,
    bin: std::path::PathBuf,
}

impl Server {
    fn start() -> Option<Server> {
        if std::env::var_os("DEMOLISH_SLOW").is_none_or(|value| value != "1") {
            eprintln!("skipped: a real PostgreSQL needs DEMOLISH_SLOW=1");
            return None;
        }
        let found = std::fs::read_dir("/usr/lib/postgresql").ok().into_iter().flatten().flatten();
        let Some(bin) =
            found.map(|entry| entry.path().join("bin")).find(|bin| bin.join("initdb").is_file())
        else {
            eprintln!(
                "skipped: there is no /usr/lib/postgresql/*/bin/initdb (apt-get install postgresql)"
            );
            return None;
        };
        let server = Server { dir: tempfile::tempdir().unwrap(), bin };
        let folder = server.dir.path().display();
        let chown = format!("chown postgres {folder}");
        if is_root() && !Command::new("sh").args(["-c", &chown]).status().unwrap().success() {
            eprintln!("skipped: there is no user `postgres` to run it as");
            return None;
        }
        server.run(&format!("initdb -D {folder}/data -U me --auth-local=trust --auth-host=scram-sha-256 -N --no-instructions -E UTF8"));
        server.run(&format!(
            "pg_ctl -D {folder}/data -w -l {folder}/log -o \"-k {folder} -c listen_addresses='' -F\" start"
        ));
        server.sql("create table users (id serial primary key, name text not null, data jsonb);");
        Some(server)
    }

    fn run(&self, command: &str) {
        let path = format!("PATH={}:$PATH; cd /; {command} >/dev/null", self.bin.display());
        let mut shell = if is_root() { Command::new("su") } else { Command::new("sh") };
        if is_root() {
            shell.args(["postgres", "-s", "/bin/sh"]);
        }
        let done = shell.args(["-c", &path]).output().unwrap();
        assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn sql(&self, sql: &str) {
        self.run(&format!("psql -h {} -U me -d postgres -c '{sql}'", self.dir.path().display()));
    }

    fn postgres(&self) -> Postgres {
        let text = format!("host={} user=me dbname=postgres", self.dir.path().display());
        Postgres::new(Address::parse(&text, "me").unwrap(), split)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.run(&format!("pg_ctl -D {}/data -m immediate stop", self.dir.path().display()));
    }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout.starts_with(b"0\n")
}

async fn said(postgres: &Postgres, text: &str) -> String {
    match postgres.check(text, &split(text)).await {
        Ok(found) => {
            let line = |one: Diagnostic| format!("{} {}", one.code.unwrap(), &text[one.range]);
            found.into_iter().map(line).collect::<Vec<_>>().join(", ")
        }
        Err(fault) => fault.to_string(),
    }
}

#[tokio::test]
async fn a_real_server_parses_and_runs_nothing() {
    let Some(server) = Server::start() else { return };
    let postgres = server.postgres();
    assert_eq!(said(&postgres, "select name, data->>'a' from users where id = $1; delete from users; insert into users (name) values ('é');").await, "");
    assert_eq!(
        said(&postgres, "select é, u.nme from users u; select 'é', u.nme from users u; select * from user_s; selct 1; insert into users values (1, 2, 3, 4); \\d x\nselect nme from users; select id from").await,
        "42703 é, 42703 u.nme, 42P01 user_s, 42601 selct, 42601 4, 42703 nme, incomplete m"
    );
    assert_eq!(
        said(&postgres, "select id from users\nselect nme from users;").await,
        "incomplete s, 42703 nme"
    );
    assert_eq!(said(&postgres, "drop table users;").await, Fault::Defines.to_string());
    // Another table appears behind our backs, and the server is started anew.
    assert_eq!(said(&postgres, "select 1 from later;").await, "42P01 later");
    server.sql("create table later (a int)");
    tokio::time::sleep(KNOWN_FOR + Duration::from_millis(50)).await;
    assert_eq!(said(&postgres, "select 1 from later;").await, "");
    server.run(&format!(
        "pg_ctl -D {0}/data -w -m fast -l {0}/log restart",
        server.dir.path().display()
    ));
    assert_eq!(said(&postgres, "select nme from users where id = 2;").await, "42703 nme");
    let mut times: Vec<Duration> = Vec::new();
    for round in 0..200 {
        let text =
            format!("select name + {round} from users; select nme from users limit {round};");
        let started = Instant::now();
        postgres.check(&text, &split(&text)).await.unwrap();
        times.push(started.elapsed());
    }
    times.sort();
    eprintln!("two new statements: p50 {:?}", times[times.len() / 2]);
}
