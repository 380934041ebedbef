//! The suite that every store passes: what the documentation of the seams promises, as tests. A store
//! brings a [`Fixture`] and invokes [`conformance_tests!`](crate::conformance_tests) in a test file.

pub mod checks;
pub mod expiry;
pub mod feeds;
pub mod forgets;
pub mod model;
pub mod pages;
pub mod resume;
pub mod scans;
pub mod sizes;
pub mod writes;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use seen_filter::history::{PAGE_ROWS_MAX, PageRequest, Question, Row, Write, WriteOp};
use seen_filter::{
    ChangeFeed, CommitStamp, FeedBatch, FeedEvent, FeedId, FeedReader, FeedStart, FenceSeq,
    History, Incarnation, Item, NamespaceId, NamespaceSettings, Scan, StoreErrorKind, UnixMillis,
    UserId,
};

use crate::request::StorageClock;

/// What makes stores for the suite.
pub trait Fixture: Send + Sync {
    /// The store under test.
    type Store: History + Scan;

    /// A new, empty store with these namespaces, on this storage clock.
    fn open(
        &self,
        namespaces: Vec<NamespaceSettings>,
        clock: StorageClock,
    ) -> impl Future<Output = Arc<Self::Store>> + Send;
}

/// A storage clock that the tests set.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock that stands at this time.
    pub fn at(ms: u64) -> Self {
        Self(Arc::new(AtomicU64::new(ms)))
    }

    /// Sets the time.
    pub fn set(&self, ms: u64) {
        self.0.store(ms, Ordering::SeqCst);
    }

    /// Lets time pass.
    pub fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }

    /// The clock as a store takes it.
    pub fn clock(&self) -> StorageClock {
        let own = Arc::clone(&self.0);
        StorageClock::new(move || UnixMillis::new(own.load(Ordering::SeqCst)))
    }
}

/// Declares one test for each function of the suite: `conformance_tests!(fixture, attribute)`, where
/// `fixture` is an expression that makes a fresh [`Fixture`] and `attribute` marks an async test. For
/// a store that is both history and change feed; else see `history_tests!`.
#[macro_export]
macro_rules! conformance_tests {
    ($fixture:expr, $attribute:meta) => {
        $crate::history_tests!($fixture, $attribute);
        $crate::history_tests!(@each $fixture, [$attribute],
            forgets::{forgetting_is_told_in_the_feed},
            feeds::{every_user_has_a_feed, a_reader_from_the_head_sees_what_follows,
                events_come_in_commit_order, completes_come_on_every_partition,
                a_fence_comes_after_all_before_it, a_quiet_feed_beats,
                unknown_feeds_are_refused},
            resume::{readers_resume_at_every_event, a_cancelled_read_loses_nothing,
                cursors_of_other_timelines_meet_a_gap, cursors_beyond_the_head_meet_a_gap},
            model::{the_feed_folds_to_what_pages_hold});
    };
}

/// The part of the suite that is about the history alone, for a store whose changes come another way
/// or not at all.
#[macro_export]
macro_rules! history_tests {
    ($fixture:expr, $attribute:meta) => {
        $crate::history_tests!(@each $fixture, [$attribute],
            pages::{pages_in_key_order_hold_every_row_once, extreme_ids_are_ids_like_others,
                recent_lists_newest_first, recent_needs_the_time_index, page_limits_are_enforced,
                pages_say_what_they_saw},
            checks::{checks_answer_in_order, checks_of_many_users_share_a_snapshot,
                checks_are_fresh, check_limits_are_enforced},
            writes::{marking_again_changes_nothing, the_last_time_counts_where_set_so,
                unmarking_removes, writes_are_all_or_none, one_call_is_done_in_order,
                missing_times_are_the_storage_clocks, write_limits_are_enforced,
                stamps_rise_and_snapshots_cover_them, concurrent_writes_all_arrive,
                abandoned_writes_leave_a_whole_store},
            forgets::{forgetting_removes_one_user_and_raises_the_epoch,
                forgetting_nobody_raises_the_epoch, marks_after_forgetting_stay},
            expiry::{rows_expire_by_whole_buckets, marking_again_renews, expired_rows_are_as_absent},
            scans::{scans_hold_every_row_once_in_one_order, scans_merge_and_leave_out_expired_rows,
                scans_lose_nothing_while_others_write, scans_of_extreme_ids, scan_limits_are_enforced,
                positions_rise_with_commits},
            sizes::{sizes_count_rows_by_namespace, sizes_tell_what_the_time_index_takes});
    };
    (@each $fixture:expr, $attribute:tt, $($module:ident :: {$($name:ident),+ $(,)?}),+ $(,)?) => {
        $($($crate::history_tests!(@one $fixture, $attribute, $module, $name);)+)+
    };
    (@one $fixture:expr, [$($attribute:tt)+], $module:ident, $name:ident) => {
        #[$($attribute)+]
        async fn $name() {
            $crate::conformance::$module::$name(&$fixture).await;
        }
    };
}

/// The namespace that most tests use.
pub(crate) const NS: NamespaceId = NamespaceId::new(0);
/// A second one, which must not be touched by what happens in the first.
pub(crate) const OTHER: NamespaceId = NamespaceId::new(1);
/// A storage time to begin at: a Thursday in 2026.
pub(crate) const START_MS: u64 = 1_790_000_000_000;

/// Two namespaces with default settings.
pub(crate) fn plain() -> Vec<NamespaceSettings> {
    vec![NamespaceSettings::new(NS, "first"), NamespaceSettings::new(OTHER, "second")]
}

pub(crate) fn user(id: u64) -> UserId {
    UserId::new(id)
}

pub(crate) fn mark(namespace: NamespaceId, user_id: u64, items: &[Item]) -> Write {
    write(namespace, user_id, WriteOp::Append, items)
}

pub(crate) fn unmark(namespace: NamespaceId, user_id: u64, items: &[Item]) -> Write {
    write(namespace, user_id, WriteOp::Remove, items)
}

fn write(namespace: NamespaceId, user_id: u64, op: WriteOp, items: &[Item]) -> Write {
    let items = items.iter().map(|item| (*item, None)).collect();
    Write { namespace, user: user(user_id), op, items }
}

/// Items of kind 1 with these ids.
pub(crate) fn items(ids: impl IntoIterator<Item = u64>) -> Vec<Item> {
    ids.into_iter().map(|id| Item::new(1, id)).collect()
}

/// All rows of a user, by pages of `rows_max`.
pub(crate) async fn rows_by(
    store: &impl History,
    namespace: NamespaceId,
    user_id: u64,
    rows_max: usize,
) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let request = PageRequest { namespace, user: user(user_id), after, rows_max };
        let page = store.page(request).await.expect("a page");
        assert!(page.rows.len() <= rows_max, "{} rows of {rows_max}", page.rows.len());
        assert!(page.last || page.rows.len() == rows_max, "a short page that is not the last");
        rows.extend(&page.rows);
        if page.last {
            return rows;
        }
        after = page.rows.last().map(|row| row.item);
    }
}

/// All items of a user, sorted.
pub(crate) async fn items_of(
    store: &impl History,
    namespace: NamespaceId,
    user_id: u64,
) -> Vec<Item> {
    let rows = rows_by(store, namespace, user_id, PAGE_ROWS_MAX).await;
    let mut items: Vec<_> = rows.iter().map(|row| row.item).collect();
    items.sort_unstable();
    items
}

/// Which of these items a point check finds.
pub(crate) async fn found(
    store: &impl History,
    namespace: NamespaceId,
    user_id: u64,
    asked: &[Item],
) -> Vec<bool> {
    let question = Question { user: user(user_id), items: asked.to_vec() };
    let mut answers = store.check(namespace, vec![question]).await.expect("answers");
    assert_eq!(answers.found.len(), 1);
    answers.found.remove(0)
}

/// The kind of an error, for assertions.
pub(crate) fn kind<T>(outcome: Result<T, seen_filter::StoreError>) -> Option<StoreErrorKind> {
    outcome.err().map(|error| {
        assert!(!error.message.is_empty(), "an error without words");
        error.kind
    })
}

/// Opens a reader at the head.
pub(crate) async fn at_head(store: &impl ChangeFeed, feed: FeedId) -> Box<dyn FeedReader> {
    let mut reader = store.open(feed, FeedStart::Head).await.expect("a reader");
    // Where commits are numbered, the first event names the head.
    let batch = next(&mut reader, 100).await;
    for event in &batch.events {
        assert!(matches!(event, FeedEvent::Complete { .. }), "{event:?} from before the head");
    }
    reader
}

pub(crate) async fn next(reader: &mut Box<dyn FeedReader>, events_max: usize) -> FeedBatch {
    let batch = reader.next(events_max).await.expect("a batch");
    assert!(batch.events.len() <= events_max, "{} events of {events_max}", batch.events.len());
    batch
}

/// Writes a fence, and reads until it comes back; returns everything delivered before it.
pub(crate) async fn drain<S: History + ChangeFeed>(
    store: &S,
    reader: &mut Box<dyn FeedReader>,
    feed: FeedId,
) -> Vec<FeedEvent> {
    static WRITER: AtomicU64 = AtomicU64::new(1);
    let writer = Incarnation::new(WRITER.fetch_add(1, Ordering::SeqCst));
    let seq = FenceSeq::new(1);
    store.fence(feed, store.fence_users(feed), writer, seq).await.expect("a fence");
    let mut events = Vec::new();
    loop {
        for event in next(reader, 1_000).await.events {
            match event {
                FeedEvent::Fence { writer: w, seq: s, .. } if (w, s) == (writer, seq) => {
                    return events;
                }
                event => events.push(event),
            }
        }
    }
}

/// The stamp of an event.
pub(crate) fn stamp(event: &FeedEvent) -> Option<CommitStamp> {
    match *event {
        FeedEvent::Add { stamp, .. }
        | FeedEvent::Remove { stamp, .. }
        | FeedEvent::RemoveAll { stamp, .. }
        | FeedEvent::Forgotten { stamp, .. }
        | FeedEvent::Fence { stamp, .. }
        | FeedEvent::Complete { stamp } => Some(stamp),
        FeedEvent::Gap { .. } => None,
    }
}

/// What a feed's events amount to: who has what.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Folded(pub BTreeMap<UserId, Vec<Item>>);

impl Folded {
    pub(crate) fn apply(&mut self, event: &FeedEvent) {
        match *event {
            FeedEvent::Add { user, item, .. } => {
                let items = self.0.entry(user).or_default();
                if let Err(place) = items.binary_search(&item) {
                    items.insert(place, item);
                }
            }
            FeedEvent::Remove { user, item, .. } => {
                self.0.entry(user).or_default().retain(|i| *i != item);
            }
            FeedEvent::RemoveAll { user, .. } => {
                self.0.remove(&user);
            }
            _ => {}
        }
    }

    pub(crate) fn items(&self, user_id: u64) -> Vec<Item> {
        self.0.get(&user(user_id)).cloned().unwrap_or_default()
    }
}
