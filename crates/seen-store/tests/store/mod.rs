//! Opening stores in tests, and running a part of a test in another process.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use seen_filter::history::{PAGE_ROWS_MAX, PageRequest, Write, WriteOp};
use seen_filter::{
    FeedEvent, FeedReader, History, Item, NamespaceId, NamespaceSettings, StoreError,
    StoreErrorKind, UserId,
};
use seen_store::{SqliteOptions, SqliteStore};

pub const NS: NamespaceId = NamespaceId::new(0);

/// Options for a file.
pub fn options(path: &Path) -> SqliteOptions {
    SqliteOptions { path: path.to_owned(), ..SqliteOptions::default() }
}

/// One namespace with default settings.
pub fn plain() -> Vec<NamespaceSettings> {
    vec![NamespaceSettings::new(NS, "reads")]
}

/// The file as a store with one namespace.
pub async fn open(path: &Path) -> Arc<SqliteStore> {
    SqliteStore::open(options(path), plain()).await.expect("a store")
}

/// A call that marks these items of kind 1.
pub fn mark(user: u64, ids: impl IntoIterator<Item = u64>) -> Vec<Write> {
    let items = ids.into_iter().map(|id| (Item::new(1, id), None)).collect();
    vec![Write { namespace: NS, user: UserId::new(user), op: WriteOp::Append, items }]
}

/// The first page of a user.
pub fn page(user: u64) -> PageRequest {
    PageRequest { namespace: NS, user: UserId::new(user), after: None, rows_max: PAGE_ROWS_MAX }
}

/// The ids of a user's items, sorted.
pub async fn ids(store: &impl History, user: u64) -> Vec<u64> {
    let page = store.page(page(user)).await.expect("a page");
    assert!(page.last, "more rows than a page holds");
    let mut ids: Vec<_> = page.rows.iter().map(|row| row.item.id.get()).collect();
    ids.sort_unstable();
    ids
}

/// The kind of an error whose message must not be empty.
pub fn kind<T>(outcome: Result<T, StoreError>) -> Option<StoreErrorKind> {
    outcome.err().map(|error| {
        assert!(!error.message.is_empty());
        error.kind
    })
}

/// The next events of a reader, heartbeats left out.
pub async fn events(reader: &mut Box<dyn FeedReader>) -> Vec<FeedEvent> {
    loop {
        let batch = reader.next(1_000).await.expect("a batch");
        if !batch.events.is_empty() {
            return batch.events;
        }
    }
}

/// The file as SQLite itself sees it, for tests that damage it or look into it.
pub async fn raw(path: &Path) -> sqlx::SqliteConnection {
    use sqlx::Connection;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    sqlx::SqliteConnection::connect_with(&options).await.expect("a raw connection")
}

/// The variable that tells a re-executed test binary what part to play.
const ROLE: &str = "SEEN_STORE_TEST_ROLE";
/// The variable that tells it the database file.
const FILE: &str = "SEEN_STORE_TEST_FILE";

/// In the other process: its part and its file. `None` in an ordinary test run.
pub fn role() -> Option<(String, PathBuf)> {
    Some((std::env::var(ROLE).ok()?, std::env::var(FILE).ok()?.into()))
}

/// This test binary again, running only the test named `entry`, with a part to play. `wrapper` is put
/// before it (a tracer).
pub fn other_process(wrapper: &[&str], entry: &str, role: &str, path: &Path) -> Other {
    let binary = std::env::current_exe().expect("this binary");
    let mut words: Vec<_> = wrapper.iter().map(std::ffi::OsString::from).collect();
    words.push(binary.into());
    let mut child = Command::new(&words[0])
        .args(&words[1..])
        .args(["--exact", entry, "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(FILE, path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("another process");
    let lines = BufReader::new(child.stdout.take().expect("its output"));
    Other { child, lines: Some(lines) }
}

/// Another process, killed when dropped.
pub struct Other {
    child: Child,
    lines: Option<BufReader<ChildStdout>>,
}

impl Other {
    /// What it says next with [`say`]; `None` when it has ended.
    pub async fn line(&mut self) -> Option<String> {
        let mut lines = self.lines.take().expect("one reader");
        let (lines, said) = tokio::task::spawn_blocking(move || {
            loop {
                let mut line = String::new();
                let read = lines.read_line(&mut line).expect("its output");
                if read == 0 {
                    return (lines, None);
                }
                if let Some(said) = line.trim_end().strip_prefix('@') {
                    return (lines, Some(said.to_owned()));
                }
            }
        })
        .await
        .expect("a line");
        self.lines = Some(lines);
        said
    }

    /// Kills it as a power failure would, without a chance to tidy up.
    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("its end");
    }

    /// Waits for it to end well.
    pub async fn finish(mut self) {
        while self.line().await.is_some() {}
        let status = self.child.wait().expect("its end");
        assert!(status.success(), "the other process ended with {status}");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In the other process: a line for the one that started it, in one write. The test harness does not
/// always end its own line before.
#[allow(clippy::print_stdout, reason = "the other process speaks by its output")]
pub fn say(text: &str) {
    use std::io::Write;
    let mut output = std::io::stdout().lock();
    output.write_all(format!("\n@{text}\n").as_bytes()).expect("output");
    output.flush().expect("output");
}
