//! The database in memory, and what it may not: no file, no extension, no end of work.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};

/// How long the schema of a project may take to be read.
pub(super) const SCHEMA_TIME_MAX: Duration = Duration::from_secs(2);
/// How long one check of a document may take.
pub(super) const CHECK_TIME_MAX: Duration = Duration::from_millis(250);
/// The longest statement, and the longest value in one.
pub(super) const STATEMENT_BYTES_MAX: i32 = 1 << 20;
/// The most pages of 4 KiB that the database may have.
pub(super) const PAGES_MAX: u32 = 16384;
/// How deep expressions may be nested.
pub(super) const DEPTH_MAX: i32 = 300;
/// So many instructions of SQLite's machine go between two looks at the clock.
const STEPS: i32 = 1000;

/// Until when work may go on.
pub(super) struct Clock {
    origin: Instant,
    /// Microseconds since the origin.
    until: AtomicU64,
}

impl Clock {
    /// From now on there is so much time.
    pub(super) fn start(&self, time: Duration) {
        let until = self.origin.elapsed() + time;
        let micros = u64::try_from(until.as_micros()).unwrap_or(u64::MAX);
        self.until.store(micros, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.origin.elapsed().as_micros() > u128::from(self.until.load(Ordering::Relaxed))
    }
}

/// An empty database in memory, with its limits.
pub(super) fn open() -> rusqlite::Result<(Connection, Arc<Clock>)> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_MEMORY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_in_memory_with_flags(flags)?;
    connection.pragma_update(None, "max_page_count", PAGES_MAX)?;
    connection.pragma_update(None, "temp_store", 2)?; // in memory
    for (limit, value) in [
        (Limit::SQLITE_LIMIT_LENGTH, STATEMENT_BYTES_MAX),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, STATEMENT_BYTES_MAX),
        (Limit::SQLITE_LIMIT_EXPR_DEPTH, DEPTH_MAX),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    ] {
        connection.set_limit(limit, value)?;
    }
    let clock = Arc::new(Clock { origin: Instant::now(), until: AtomicU64::new(0) });
    let watching = clock.clone();
    connection.progress_handler(STEPS, Some(move || watching.is_over()))?;
    connection.authorizer(Some(allowed))?;
    Ok((connection, clock))
}

/// What statements may mean to do, were they run: nothing outside of this database.
#[allow(clippy::needless_pass_by_value, reason = "that is how SQLite asks")]
fn allowed(asked: AuthContext<'_>) -> Authorization {
    match asked.action {
        AuthAction::Attach { .. }
        | AuthAction::Detach { .. }
        | AuthAction::Pragma { .. }
        | AuthAction::Unknown { .. } => Authorization::Deny,
        AuthAction::Function { function_name }
            if ["load_extension", "readfile", "writefile", "edit"].contains(&function_name) =>
        {
            Authorization::Deny
        }
        _ => Authorization::Allow,
    }
}
