//! The change feed: the commit log of the same file, read by any number of readers in this and other
//! processes. A reader takes new commits from memory where this process made them, else from the
//! file; it is woken by this process's commits at once, and by others' when the watch notices them.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use seen_filter::feed::FeedBatch;
use seen_filter::history::SeamFuture;
use seen_filter::{
    CommitStamp, FeedCursor, FeedError, FeedEvent, FeedId, FeedReader, FeedStart, GapScope,
    StoreErrorKind, Timeline,
};
use sqlx::{Connection, Row as _, SqliteConnection};
use tokio::sync::watch;
use tokio::time::Instant;

use super::commit::{SLOT_BITS, log_key};
use super::connection::{Role, connect_options};
use super::errors::{Stage, map};
use super::events::decode;
use super::inner::Inner;
use super::maintain::Troubles;
use super::namespaces::LogSlot;
use super::read::{read_head, settle};
use super::tail::{CommitEvents, Head};
use crate::metrics::FEED_GAPS;

/// Most commits with events that one look takes.
const LOOK_COMMITS_MAX: usize = 64;
/// Most commits of any partition that one look at the file passes over.
const LOOK_SPAN_MAX: u64 = 4_096;
/// Bits of a cursor below the commit's number: the event within the commit. A commit has fewer
/// events than that, see `WRITE_ROWS_MAX`.
const EVENT_BITS: u32 = 20;
/// How long the news that only other partitions had commits may wait.
const QUIET: Duration = Duration::from_millis(20);

/// One reader of one partition.
pub(crate) struct SqliteReader {
    feed: FeedId,
    inner: Weak<Inner>,
    shutdown: watch::Receiver<bool>,
    head: watch::Receiver<Head>,
    slot: LogSlot,
    timeline: u64,
    /// The next commit to look at.
    position: u64,
    /// Events of that commit that were delivered before this reader was opened.
    skip: usize,
    /// Events read and not yet delivered, each with the cursor after it.
    ready: VecDeque<(FeedEvent, FeedCursor)>,
    /// Where `ready` begins: what to resume from if nothing is delivered.
    resume: FeedCursor,
    /// The last commit that a `Complete` was made for.
    completed: Option<u64>,
}

/// What one look found.
struct Look {
    timeline: u64,
    head: u64,
    floor: u64,
    commits: Vec<CommitEvents>,
    /// The last commit looked at.
    through: u64,
}

pub(super) fn cursor(timeline: u64, position: u64, event: usize) -> FeedCursor {
    let offset = position << EVENT_BITS | event as u64;
    FeedCursor { timeline: Timeline::new(timeline), offset }
}

/// Opens a reader.
pub(crate) async fn open(
    inner: &Arc<Inner>,
    shutdown: watch::Receiver<bool>,
    feed: FeedId,
    start: FeedStart,
) -> Result<SqliteReader, FeedError> {
    let refuse = |message: String| FeedError { message, retry_helps: false };
    let table = inner.tables.get(feed.namespace).map_err(|e| refuse(e.message))?;
    if feed.shard.get() != 0 || feed.partition.get() >= inner.partitions {
        return Err(refuse(format!(
            "feed {feed} is unknown (this store has shard 0 and partitions 0 to {})",
            inner.partitions - 1
        )));
    }
    let at = match start {
        FeedStart::At(at) => at,
        FeedStart::Head => {
            let mut lease = inner.pages.acquire().await.map_err(feed_error)?;
            let read = read_head(lease.get().map_err(feed_error)?).await;
            let head = settle(inner, &mut lease, read).map_err(feed_error)?;
            inner.tail.learn(head);
            cursor(head.timeline, head.position + 1, 0)
        }
    };
    inner.lags.come_to(feed, at.timeline.get(), at.offset >> EVENT_BITS, start == FeedStart::Head);
    Ok(SqliteReader {
        feed,
        inner: Arc::downgrade(inner),
        shutdown,
        head: inner.tail.watch(),
        slot: table.log_slot(feed.partition.get()),
        timeline: at.timeline.get(),
        position: at.offset >> EVENT_BITS,
        skip: usize::try_from(at.offset & ((1 << EVENT_BITS) - 1)).unwrap_or(0),
        ready: VecDeque::new(),
        resume: at,
        completed: None,
    })
}

fn feed_error(error: seen_filter::StoreError) -> FeedError {
    FeedError { retry_helps: error.kind != StoreErrorKind::InvalidRequest, message: error.message }
}

impl FeedReader for SqliteReader {
    fn next(&mut self, events_max: usize) -> SeamFuture<'_, Result<FeedBatch, FeedError>> {
        Box::pin(async move {
            let heartbeat = if self.ready.is_empty() { self.fill().await? } else { false };
            // From here on nothing is awaited: a cancelled call has delivered nothing.
            let mut events = Vec::with_capacity(self.ready.len().min(events_max.max(1)));
            while events.len() < events_max.max(1) {
                let Some((event, after)) = self.ready.pop_front() else { break };
                events.push(event);
                self.resume = after;
            }
            let caught_up = heartbeat || (self.ready.is_empty() && self.is_at_head());
            if let Some(inner) = self.inner.upgrade() {
                let (timeline, next) =
                    (self.resume.timeline.get(), self.resume.offset >> EVENT_BITS);
                inner.lags.come_to(self.feed, timeline, next, caught_up);
            }
            Ok(FeedBatch { caught_up, events, resume: self.resume })
        })
    }
}

impl SqliteReader {
    /// True if nothing is known to follow, and other processes' commits would be known.
    fn is_at_head(&self) -> bool {
        let head = *self.head.borrow();
        let watches = self.inner.upgrade().is_some_and(|i| i.poll_error.lock().is_none());
        watches && self.timeline == head.timeline && self.position > head.position
    }

    /// Reads until there is something to deliver; true if there is nothing, but the time for a
    /// heartbeat has come and the file was looked at meanwhile.
    async fn fill(&mut self) -> Result<bool, FeedError> {
        let closed = || FeedError { message: "the store is closed".to_owned(), retry_helps: false };
        let began = Instant::now();
        let polls_before = self.inner.upgrade().ok_or_else(closed)?.polls.load(Ordering::Acquire);
        let mut quiet_until = None;
        loop {
            let inner = self.inner.upgrade().ok_or_else(closed)?;
            if *self.shutdown.borrow() {
                return Err(closed());
            }
            let known = *self.head.borrow_and_update();
            let look = self.look(&inner, known).await?;
            self.take(&inner, look);
            if !self.ready.is_empty() {
                return Ok(false);
            }
            let is_behind = self.timeline != known.timeline || self.position <= known.position;
            if is_behind {
                continue;
            }
            let news = self.completed != Some(self.position.saturating_sub(1));
            let now = Instant::now();
            let heartbeat_at = began + Duration::from_millis(inner.options.feed_heartbeat_ms);
            if news && self.completed.is_none() {
                quiet_until = Some(now);
            } else if news {
                quiet_until = quiet_until.or(Some(now + QUIET));
            }
            if quiet_until.is_some_and(|until| until <= now) || (news && heartbeat_at <= now) {
                self.complete(&inner);
                return Ok(false);
            }
            if heartbeat_at <= now {
                return self.heartbeat(&inner, polls_before).await;
            }
            let wake_at = quiet_until.unwrap_or(heartbeat_at).min(heartbeat_at);
            drop(inner);
            tokio::select! {
                changed = self.head.changed() => changed.map_err(|_| closed())?,
                _ = self.shutdown.changed() => return Err(closed()),
                () = tokio::time::sleep_until(wake_at) => {}
            }
        }
    }

    /// Nothing came: fresh only if the file was looked at since the call began (coherence row 25).
    /// Until it was, this waits.
    async fn heartbeat(&self, inner: &Inner, polls_before: u64) -> Result<bool, FeedError> {
        loop {
            if let Some(error) = inner.poll_error.lock().clone() {
                return Err(feed_error(error));
            }
            if inner.polls.load(Ordering::Acquire) > polls_before {
                return Ok(true);
            }
            if self.shutdown.has_changed().unwrap_or(true) {
                let message = "the store is closed".to_owned();
                return Err(FeedError { message, retry_helps: false });
            }
            tokio::time::sleep(Duration::from_millis(inner.options.feed_poll_ms)).await;
        }
    }

    /// Looks for commits from `self.position` on.
    async fn look(&self, inner: &Inner, known: Head) -> Result<Look, FeedError> {
        let from_memory =
            inner.tail.read(self.timeline, self.slot, self.position, LOOK_COMMITS_MAX);
        if let Some((commits, through)) = from_memory
            && (!commits.is_empty() || through >= known.position)
        {
            let head = known.position.max(through);
            return Ok(Look { timeline: self.timeline, head, floor: 0, commits, through });
        }
        if self.timeline == known.timeline && self.position == known.position + 1 {
            let (head, through) = (known.position, known.position);
            return Ok(Look {
                timeline: self.timeline,
                head,
                floor: 0,
                commits: Vec::new(),
                through,
            });
        }
        self.look_in_file(inner).await.map_err(feed_error)
    }

    /// Head, floor and events from one snapshot: an event that is not there yet must not be below a
    /// head that already is.
    async fn look_in_file(&self, inner: &Inner) -> Result<Look, seen_filter::StoreError> {
        let mut lease = inner.pages.acquire().await?;
        let span_end = self.position.saturating_add(LOOK_SPAN_MAX);
        let largest = i64::MAX.cast_unsigned() >> SLOT_BITS;
        let rows = sqlx::query(
            "SELECT s.timeline, s.head, s.floor, l.id, l.events FROM store AS s \
             LEFT JOIN commit_log AS l ON l.id >= ?1 AND l.id < ?2 AND (l.id & 65535) = ?3 \
             ORDER BY l.id LIMIT ?4",
        )
        .bind(log_key(self.position.min(largest), LogSlot::FIRST))
        .bind(log_key(span_end.min(largest), LogSlot::FIRST))
        .bind(i64::from(self.slot.get()))
        .bind(LOOK_COMMITS_MAX as i64)
        .fetch_all(lease.get()?)
        .await;
        let rows = settle(inner, &mut lease, rows)?;
        drop(lease);
        let parsed = parse_look(&rows, span_end);
        let look = parsed.map_err(|e| map(&e, Stage::Read, &inner.options.path))?;
        inner.tail.learn(Head { timeline: look.timeline, position: look.head });
        Ok(look)
    }

    /// Takes over what a look found, gaps first.
    fn take(&mut self, inner: &Inner, look: Look) {
        let gap = if look.timeline != self.timeline {
            Some("timeline")
        } else if self.position <= look.floor {
            Some("trimmed")
        } else if self.position > look.head + 1 {
            Some("ahead")
        } else {
            None
        };
        if let Some(reason) = gap {
            // On from the oldest commit kept; the next look reads it.
            (self.timeline, self.position, self.skip) = (look.timeline, look.floor + 1, 0);
            self.completed = None;
            self.gap(reason);
            return;
        }
        for (position, events) in &look.commits {
            let stamp = self.stamp(inner, *position);
            match decode(events, stamp) {
                // Row 21: what cannot be read is counted and reported, and reading goes on.
                None => {
                    self.position = position + 1;
                    self.gap("damaged");
                }
                Some(events) => {
                    let count = events.len();
                    for (n, event) in events.into_iter().enumerate().skip(self.skip) {
                        let after = match n + 1 == count {
                            true => cursor(self.timeline, position + 1, 0),
                            false => cursor(self.timeline, *position, n + 1),
                        };
                        self.ready.push_back((event, after));
                    }
                }
            }
            self.skip = 0;
        }
        if look.through >= self.position {
            (self.position, self.skip) = (look.through + 1, 0);
        }
        if !self.ready.is_empty() {
            self.complete(inner);
        }
    }

    fn stamp(&self, inner: &Inner, position: u64) -> CommitStamp {
        inner.stamp(Head { timeline: self.timeline, position })
    }

    /// Says that everything before `self.position` has been delivered.
    fn complete(&mut self, inner: &Inner) {
        let through = self.position.saturating_sub(1);
        let stamp = self.stamp(inner, through);
        let after = cursor(self.timeline, self.position, self.skip);
        self.ready.push_back((FeedEvent::Complete { stamp }, after));
        self.completed = Some(through);
    }

    fn gap(&mut self, reason: &'static str) {
        metrics::counter!(FEED_GAPS, "reason" => reason).increment(1);
        let after = cursor(self.timeline, self.position, self.skip);
        let event = FeedEvent::Gap { scope: GapScope::Partition, reason };
        self.ready.push_back((event, after));
    }
}

fn parse_look(rows: &[sqlx::sqlite::SqliteRow], span_end: u64) -> Result<Look, sqlx::Error> {
    let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let number = |n: usize| first.try_get::<i64, _>(n).map(i64::cast_unsigned);
    let (timeline, head, floor) = (number(0)?, number(1)?, number(2)?);
    let mut commits = Vec::new();
    for row in rows {
        if let Some(id) = row.try_get::<Option<i64>, _>(3)? {
            let events: &[u8] = row.try_get(4)?;
            commits.push((id.cast_unsigned() >> SLOT_BITS, Arc::from(events)));
        }
    }
    // A full look may have left out later commits of its span.
    let is_full = commits.len() == LOOK_COMMITS_MAX;
    let through = match commits.last() {
        Some((position, _)) if is_full => *position,
        _ => head.min(span_end - 1),
    };
    Ok(Look { timeline, head, floor, commits, through })
}

/// Watches for the commits of other processes until the store is closed.
pub(crate) async fn watch_file(inner: Weak<Inner>, mut shutdown: watch::Receiver<bool>) {
    let mut connection: Option<SqliteConnection> = None;
    let mut version = None;
    let mut troubles = Troubles::new("watching for other processes' commits");
    loop {
        let Some(inner) = inner.upgrade() else { break };
        let polled = poll(&inner, &mut connection, &mut version).await;
        let error = polled.err().map(|e| map(&e, Stage::Read, &inner.options.path));
        let pause_ms = if error.is_none() {
            inner.polls.fetch_add(1, Ordering::Release);
            inner.options.feed_poll_ms
        } else {
            (connection, version) = (None, None);
            inner.options.feed_poll_ms * 20
        };
        inner.poll_error.lock().clone_from(&error);
        troubles.note(error);
        drop(inner);
        tokio::select! {
            _ = shutdown.changed() => break,
            () = tokio::time::sleep(Duration::from_millis(pause_ms)) => {}
        }
    }
    if let Some(connection) = connection {
        let _ = connection.close().await;
    }
}

/// `data_version` changes when another connection has committed; only then is the head read.
async fn poll(
    inner: &Inner,
    connection: &mut Option<SqliteConnection>,
    version: &mut Option<i64>,
) -> Result<(), sqlx::Error> {
    let own = match connection {
        Some(own) => own,
        None => {
            let connect = connect_options(&inner.options, Role::Read);
            connection.insert(SqliteConnection::connect_with(&connect).await?)
        }
    };
    let found: i64 = sqlx::query_scalar("PRAGMA data_version").fetch_one(&mut *own).await?;
    if *version != Some(found) {
        inner.tail.learn(read_head(own).await?);
        *version = Some(found);
    }
    Ok(())
}
