//! The double's history: the seam's calls, with whatever fault befalls them.

use std::cmp::Reverse;

use seen_filter::history::{
    Answers, Forgotten, HistorySize, Page, PageRequest, Question, RecentRequest, Row, SeamFuture,
    Write,
};
use seen_filter::{
    CommitStamp, FeedId, FenceSeq, History, Incarnation, NamespaceId, SnapshotId, StoreError,
    StoreErrorKind, UserId,
};

use super::faults::{Planned, ReadFault, WriteFault};
use super::state::State;
use super::{MemoryStore, Stalled};
use crate::request::{self, fence_users, invalid, unknown_namespace};

/// How a read sees the store.
pub(super) struct View {
    pub(super) at: u64,
    pub(super) snapshot: SnapshotId,
}

impl MemoryStore {
    /// Waits, suffers the fault of the next read, and calls `read` with what it may see.
    pub(super) async fn read<T>(
        &self,
        read: impl FnOnce(&State, View) -> Result<T, StoreError> + Send,
    ) -> Result<T, StoreError> {
        let delays = self.with(|core| core.delays);
        pass(delays.before_read).await;
        let fault = loop {
            let changed = self.changed();
            let fault = self.with(|core| {
                if Planned::peek(&core.read) == Some(ReadFault::Silent) {
                    return Some(ReadFault::Silent);
                }
                let planned = Planned::next(&mut core.read);
                planned.or_else(|| core.chaos.and_then(|c| core.dice.read_fault(&c)))
            });
            if fault != Some(ReadFault::Silent) {
                break fault;
            }
            changed.await;
        };
        let answer = self.with(|core| {
            let (at, knows) = match fault {
                Some(ReadFault::Refuse(kind)) => return Err(refused(kind)),
                Some(ReadFault::Old { commits }) => (back(&core.state, commits), true),
                Some(ReadFault::OldUnknown { commits }) => (back(&core.state, commits), false),
                Some(ReadFault::Unknown) => (core.state.head(), false),
                Some(ReadFault::Silent) | None => (core.state.head(), true),
            };
            let knows = knows && core.state.options.numbers_commits;
            let snapshot = SnapshotId {
                primary: core.state.options.primary,
                lower_bound: knows.then(|| core.state.stamp(at)),
            };
            read(&core.state, View { at, snapshot })
        });
        pass(delays.after_read).await;
        answer
    }

    /// Waits, suffers the fault of the next write, and commits.
    async fn commit<T: Send>(
        &self,
        commit: impl FnOnce(&mut State) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let delays = self.with(|core| core.delays);
        pass(delays.before_commit).await;
        let fault = loop {
            let changed = self.changed();
            let fault = self.with(|core| {
                if Planned::peek(&core.write) == Some(WriteFault::Silent) {
                    return Some(WriteFault::Silent);
                }
                let planned = Planned::next(&mut core.write);
                planned.or_else(|| core.chaos.and_then(|c| core.dice.write_fault(&c)))
            });
            if fault != Some(WriteFault::Silent) {
                break fault;
            }
            changed.await;
        };
        match fault {
            Some(WriteFault::Refuse(kind)) => Err(refused(kind)),
            Some(WriteFault::LoseUncommitted) => Err(refused(StoreErrorKind::OutcomeUnknown)),
            Some(WriteFault::Stall) => {
                let stalled: Stalled = Box::new(move |state| drop(commit(state)));
                self.with(|core| core.stalled.push(stalled));
                Err(refused(StoreErrorKind::OutcomeUnknown))
            }
            Some(WriteFault::LoseCommitted) => {
                self.with(|core| drop(commit(&mut core.state)));
                self.announce();
                Err(refused(StoreErrorKind::OutcomeUnknown))
            }
            Some(WriteFault::Silent) | None => {
                let done = self.with(|core| commit(&mut core.state));
                self.announce();
                pass(delays.after_commit).await;
                Ok(done)
            }
        }
    }

    pub(super) fn known(&self, namespace: NamespaceId) -> Result<(), StoreError> {
        self.with(|core| {
            let count = core.state.namespaces.len();
            if usize::from(namespace.get()) < count {
                return Ok(());
            }
            Err(unknown_namespace(namespace, count))
        })
    }

    fn stamped(&self, position: u64) -> Option<CommitStamp> {
        self.with(|core| core.state.options.numbers_commits.then(|| core.state.stamp(position)))
    }
}

async fn pass(time: std::time::Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

fn back(state: &State, commits: u64) -> u64 {
    state.head().saturating_sub(commits)
}

fn refused(kind: StoreErrorKind) -> StoreError {
    StoreError::new(kind, format!("a fault of the double: {}", kind.label()))
}

/// A page as of a view, cut to its size.
fn page_of(
    state: &State,
    view: View,
    namespace: NamespaceId,
    user: UserId,
    mut rows: Vec<Row>,
    rows_max: usize,
) -> Page {
    let last = rows.len() <= rows_max;
    rows.truncate(rows_max);
    Page {
        rows,
        last,
        user_epoch: state.epoch_at(namespace, user, view.at),
        snapshot: view.snapshot,
        storage_now: state.options.clock.now(),
    }
}

impl History for MemoryStore {
    fn page(&self, request: PageRequest) -> SeamFuture<'_, Result<Page, StoreError>> {
        Box::pin(async move {
            request::page_rows(request.rows_max)?;
            self.known(request.namespace)?;
            self.read(|state, view| {
                let (namespace, user) = (request.namespace, request.user);
                let now = state.options.clock.now();
                let rows = state
                    .rows_at(namespace, user, view.at, now)
                    .filter(|row| request.after.is_none_or(|after| row.item > after))
                    .take(request.rows_max + 1)
                    .collect();
                Ok(page_of(state, view, namespace, user, rows, request.rows_max))
            })
            .await
        })
    }

    fn recent(&self, request: RecentRequest) -> SeamFuture<'_, Result<Page, StoreError>> {
        Box::pin(async move {
            request::page_rows(request.rows_max)?;
            self.known(request.namespace)?;
            self.read(|state, view| {
                let (namespace, user) = (request.namespace, request.user);
                let settings = state.namespaces.get(usize::from(namespace.get()));
                if !settings.is_some_and(|s| s.time_index) {
                    let message = format!("namespace {namespace} keeps no time index");
                    return Err(StoreError::new(StoreErrorKind::NotKept, message));
                }
                let now = state.options.clock.now();
                let mut rows: Vec<_> = state
                    .rows_at(namespace, user, view.at, now)
                    .filter(|row| row.marked_at >= request.from && row.marked_at < request.until)
                    .filter(|row| request.before.is_none_or(|b| (row.marked_at, row.item) < b))
                    .collect();
                rows.sort_unstable_by_key(|row| Reverse((row.marked_at, row.item)));
                Ok(page_of(state, view, namespace, user, rows, request.rows_max))
            })
            .await
        })
    }

    fn check(
        &self,
        namespace: NamespaceId,
        questions: Vec<Question>,
    ) -> SeamFuture<'_, Result<Answers, StoreError>> {
        Box::pin(async move {
            request::questions(&questions)?;
            self.known(namespace)?;
            self.read(|state, view| {
                let now = state.options.clock.now();
                let answer = |q: &Question| {
                    let has = |item: &_| state.has_at(namespace, q.user, *item, view.at, now);
                    q.items.iter().map(has).collect()
                };
                let found = questions.iter().map(answer).collect();
                Ok(Answers { found, snapshot: view.snapshot })
            })
            .await
        })
    }

    fn write(&self, writes: Vec<Write>) -> SeamFuture<'_, Result<Option<CommitStamp>, StoreError>> {
        Box::pin(async move {
            let namespaces = self.with(|core| core.state.namespaces.len());
            request::writes(&writes, namespaces)?;
            let position = self.commit(move |state| state.write(&writes)).await?;
            Ok(self.stamped(position))
        })
    }

    fn forget(
        &self,
        namespace: NamespaceId,
        user: UserId,
    ) -> SeamFuture<'_, Result<Forgotten, StoreError>> {
        Box::pin(async move {
            self.known(namespace)?;
            let commit = move |state: &mut State| state.forget(namespace, user);
            let (position, epoch, rows) = self.commit(commit).await?;
            Ok(Forgotten { epoch, stamp: self.stamped(position), rows })
        })
    }

    fn fence(
        &self,
        feed: FeedId,
        users: Vec<UserId>,
        writer: Incarnation,
        seq: FenceSeq,
    ) -> SeamFuture<'_, Result<Option<CommitStamp>, StoreError>> {
        Box::pin(async move {
            self.known(feed.namespace)?;
            let partitions = self.with(|core| core.state.options.partitions);
            if feed.shard.get() != 0 || feed.partition.get() >= partitions {
                return Err(invalid(format!("feed {feed} is unknown")));
            }
            fence_users(&users)?;
            let user = users[0];
            let position = self.commit(move |state| state.fence(feed, user, writer, seq)).await?;
            Ok(self.stamped(position))
        })
    }

    fn size(&self, namespace: NamespaceId) -> SeamFuture<'_, Result<HistorySize, StoreError>> {
        Box::pin(async move {
            self.known(namespace)?;
            self.read(|state, view| {
                let rows = state.count_at(namespace, view.at);
                let settings = state.namespaces.get(usize::from(namespace.get()));
                // Listings are sorted when they are asked for.
                let time_index_bytes = settings.filter(|s| s.time_index).map(|_| 0);
                let rows_bytes = rows * size_of::<Row>() as u64;
                Ok(HistorySize { rows, rows_bytes, time_index_bytes, exact: true })
            })
            .await
        })
    }
}
