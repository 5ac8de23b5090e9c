//! What people see, in eighty columns.

use expect_test::expect;
use wire::ext::LatencyStatus;

use super::*;

fn server(instance: u32, command: &[&str]) -> ServerStatus {
    ServerStatus {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        pid: Some(7),
        state: "running".to_owned(),
        instance,
        rss_bytes: 1_310_000_000,
        pending: 2,
        latency: Some(LatencyStatus { p50_ms: 4.13, p95_ms: 1520.0, count: 90 }),
        ..ServerStatus::default()
    }
}

fn link(number: u32, server: Option<ServerStatus>) -> LinkStatus {
    LinkStatus {
        link: number,
        client: Some("Neovim".to_owned()),
        documents: number as usize,
        pending: 1,
        server,
        ..LinkStatus::default()
    }
}

/// A daemon with everything that there is to show.
fn busy() -> Status {
    let shared = server(1, &["/usr/bin/rust-analyzer"]);
    let stopped = ServerStatus {
        pid: None,
        state: "stopped".to_owned(),
        restarts: 5,
        rss_bytes: 0,
        latency: None,
        oldest_pending_s: Some(65.0),
        queue: QueueStatus { messages: 3, bytes: 5000, dropped: 1, coalesced: 2 },
        malformed: 4,
        last_words: vec!["one".to_owned(), "two".to_owned(), "x".repeat(200)],
        trouble: Some("Demolish: the language server `long` keeps ending (exit status: 9); it is left alone until the editor starts it again".to_owned()),
        ..server(2, &["long-name-of-a-server", "--with", "many", "arguments"])
    };
    Status {
        version: "0.1.0".to_owned(),
        pid: 4242,
        socket: "/run/user/1000/demolish/demolish.sock".to_owned(),
        uptime_s: 7501.0,
        rss_bytes: 23_000_000,
        links: vec![
            link(1, Some(shared.clone())),
            link(2, Some(stopped)),
            link(3, Some(shared)),
            link(4, None),
        ],
        model: Some(ModelStatus {
            name: "nano".to_owned(),
            state: "ready".to_owned(),
            ..ModelStatus::default()
        }),
        speculation: vec![SpeculationStatus {
            server: "ty".to_owned(),
            root: "/w".to_owned(),
            backend: "twin".to_owned(),
            why: "a twin takes 60 MiB and answers in 9 ms".to_owned(),
            checks: 12,
            p50_ms: Some(9.4),
            p95_ms: Some(31.0),
            twin_bytes: Some(63_000_000),
        }],
        twins: vec![TwinStatus {
            command: vec!["ty".to_owned(), "server".to_owned()],
            root: "/w".to_owned(),
            checks: 12,
            check_ms: Some(9.4),
            ..TwinStatus::default()
        }],
        ..Status::default()
    }
}

#[test]
fn every_server_of_a_merged_link_has_a_row() {
    let merged = LinkStatus {
        others: vec![server(8, &["ruff", "server"])],
        ..link(9, Some(server(7, &["ty", "server"])))
    };
    let shown = told(&Status { links: vec![merged], ..Status::default() });
    let rows: Vec<&str> = shown.lines().filter(|line| line.contains("running")).collect();
    assert!(rows[0].starts_with("ty server") && rows[1].starts_with("ruff server"), "{shown}");
    assert_eq!(shown.matches("#9 Neovim").count(), 2, "{shown}");
}

#[test]
fn a_model_that_is_being_loaded_says_how_far_that_is() {
    let loading = ModelStatus {
        name: "big".to_owned(),
        path: "/models/big".to_owned(),
        state: "loading".to_owned(),
        bytes_read: Some(3 << 30),
        bytes_to_read: Some(10 << 30),
        ..ModelStatus::default()
    };
    let line = |model| told(&Status { model: Some(model), ..Status::default() });
    let shown = line(loading.clone());
    assert!(shown.contains("loading big /models/big, 3.0 GiB of 10.0 GiB read\n"), "{shown}");
    let shown = line(ModelStatus { bytes_to_read: Some(0), ..loading });
    assert!(!shown.contains("read"), "the headers are looked at still: {shown}");
}

#[test]
fn a_status_fits_eighty_columns() {
    let shown = told(&busy());
    let long: Vec<&str> = shown.lines().filter(|line| line.chars().count() > WIDTH).collect();
    assert!(long.is_empty(), "{long:?}");
    expect![[r#"
        daemon   0.1.0, process 4242, up 2 h 5 min, 21.9 MiB
        socket   /run/user/1000/demolish/demolish.sock
        model    ready nano

        SERVER                     STATE        MEMORY WAITING      P50      P95  STARTS
        rust-analyzer              running     1.2 GiB       2   4.1 ms    1.5 s       1
          #1 Neovim, 1 document, 1 waiting
          #3 Neovim, 3 documents, 1 waiting
        long-name-of-a-server --w… stopped           -       2        -        -       6
          #2 Neovim, 2 documents, 1 waiting
          ! a request waits for 1 min
          to the server: 3 waiting (4.9 KiB), 1 dropped, 2 replaced by later ones
          ! sent 4 malformed messages
          ! Demolish: the language server `long` keeps ending (exit status: 9); it is
            left alone until the editor starts it again
          | two
          | xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…

        DEMOLISH'S OWN FEATURES
          #4 Neovim, 4 documents, 1 waiting

        TWIN                       STATE        CHECKS
        ty server                  stopped          12  9.4 ms each
          in /w

        CANDIDATES FOR             CHECKED BY   MEMORY  CHECKS      P50      P95
        ty                         twin       60.1 MiB      12   9.4 ms    31 ms
          a twin takes 60 MiB and answers in 9 ms; in /w
    "#]]
    .assert_eq(&shown);
}
