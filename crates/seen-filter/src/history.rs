//! The seam to storage: a **history** of who read what. The replica sees this trait and no SQL.
//!
//! Every store (embedded, MySQL, TiDB, the in-memory double) passes one conformance suite, which is
//! the precise form of what is promised here.

use std::future::Future;
use std::pin::Pin;

use thiserror::Error;

use crate::ids::{Item, NamespaceId, Shard, UnixMillis, UserId};
use crate::position::{CommitStamp, FeedId, FenceSeq, Incarnation, SnapshotId, UserEpoch};

/// A boxed future of a seam's method. Storage calls take at least tens of microseconds, so that the
/// allocation does not matter.
pub type SeamFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Most rows that one page may hold.
pub const PAGE_ROWS_MAX: usize = 10_000;

/// Most items that one [`Write`] or one [`Question`] may name.
pub const ITEMS_PER_CALL_MAX: usize = 1_000;

/// A read item with the time at which it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// What was read.
    pub item: Item,
    /// When, as the caller of the mark said (or the storage's clock where it said nothing).
    pub marked_at: UnixMillis,
    /// The expiry bucket that the row was committed in: storage time divided by the namespace's
    /// bucket length. 0 where the namespace keeps rows for ever.
    pub bucket: u32,
}

/// Asks for one page of a user's rows in the store's own key order, which is total and stable.
#[derive(Clone, Copy, Debug)]
pub struct PageRequest {
    /// Which history.
    pub namespace: NamespaceId,
    /// Whose.
    pub user: UserId,
    /// The last item of the page before, or `None` for the first page.
    pub after: Option<Item>,
    /// Most rows to return, 1 to [`PAGE_ROWS_MAX`].
    pub rows_max: usize,
}

/// One page of a user's history. Expired rows are left out.
#[derive(Clone, Debug)]
pub struct Page {
    /// The rows, in key order.
    pub rows: Vec<Row>,
    /// True if no row follows the last one.
    pub last: bool,
    /// How often the user was forgotten, as of this read.
    pub user_epoch: UserEpoch,
    /// What this page's read saw.
    pub snapshot: SnapshotId,
    /// The storage's clock at the read; bucket horizons are computed from it.
    pub storage_now: UnixMillis,
}

/// Asks for a user's rows newest first. Only namespaces that keep the time index answer it.
#[derive(Clone, Copy, Debug)]
pub struct RecentRequest {
    /// Which history.
    pub namespace: NamespaceId,
    /// Whose.
    pub user: UserId,
    /// Only rows strictly before this time and item (the last row of the page before).
    pub before: Option<(UnixMillis, Item)>,
    /// Only rows at or after this time.
    pub from: UnixMillis,
    /// Only rows before this time.
    pub until: UnixMillis,
    /// Most rows to return, 1 to [`PAGE_ROWS_MAX`].
    pub rows_max: usize,
}

/// Asks which of exactly these items a user has read: the point check.
#[derive(Clone, Debug)]
pub struct Question {
    /// Whose history.
    pub user: UserId,
    /// The items, at most [`ITEMS_PER_CALL_MAX`]; repeats are allowed.
    pub items: Vec<Item>,
}

/// The answers to a batch of questions, all from one snapshot.
#[derive(Clone, Debug)]
pub struct Answers {
    /// For each question, for each of its items in order: is there a row?
    pub found: Vec<Vec<bool>>,
    /// What the read saw.
    pub snapshot: SnapshotId,
}

/// What to do with the items of a [`Write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOp {
    /// Add rows; adding one that exists keeps its first time, or takes the new one where the
    /// namespace is set so.
    Append,
    /// Remove rows; removing one that is absent is no error.
    Remove,
}

/// Rows to add or remove for one user.
#[derive(Clone, Debug)]
pub struct Write {
    /// Which history.
    pub namespace: NamespaceId,
    /// Whose.
    pub user: UserId,
    /// Add or remove.
    pub op: WriteOp,
    /// The items, each with its time; `None` means the storage's clock at commit. Times are ignored
    /// by removes. At most [`ITEMS_PER_CALL_MAX`].
    pub items: Vec<(Item, Option<UnixMillis>)>,
}

/// What a forget did.
#[derive(Clone, Copy, Debug)]
pub struct Forgotten {
    /// The user's new epoch.
    pub epoch: UserEpoch,
    /// The commit that removed the last row.
    pub stamp: Option<CommitStamp>,
    /// How many rows were removed.
    pub rows: u64,
}

/// What one namespace takes in storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistorySize {
    /// Rows; expired ones that are still there may be among them.
    pub rows: u64,
    /// What they take, in bytes.
    pub rows_bytes: u64,
    /// What the time index takes, in bytes; `None` where the namespace keeps none.
    pub time_index_bytes: Option<u64>,
    /// False if a part was looked at and the rest concluded from it.
    pub exact: bool,
}

/// A store of read histories.
///
/// A future that is dropped before it ends leaves its effect open: the write may or may not be
/// committed. Callers that must know (rule R4) run it in a task that nothing cancels.
pub trait History: Send + Sync + 'static {
    /// One page of a user's rows, read from the primary.
    ///
    /// # Errors
    /// [`StoreError`]; `InvalidRequest` for an unknown namespace or a limit out of range.
    fn page(&self, request: PageRequest) -> SeamFuture<'_, Result<Page, StoreError>>;

    /// One page of a user's rows, newest first.
    ///
    /// # Errors
    /// [`StoreError`]; `NotKept` if the namespace keeps no time index.
    fn recent(&self, request: RecentRequest) -> SeamFuture<'_, Result<Page, StoreError>>;

    /// Point check: are there rows for exactly these items? Fresh, from the primary: every commit
    /// acknowledged before the call is seen.
    ///
    /// # Errors
    /// [`StoreError`].
    fn check(
        &self,
        namespace: NamespaceId,
        questions: Vec<Question>,
    ) -> SeamFuture<'_, Result<Answers, StoreError>>;

    /// How late the answers of [`History::check_late`] may be, in microseconds; 0 where it gains
    /// nothing and answers as [`History::check`] does.
    fn check_lag_us_max(&self) -> u64 {
        0
    }

    /// A point check for a caller that holds what came lately itself: every commit that was
    /// acknowledged, or told by the change feed, [`History::check_lag_us_max`] before the call is seen.
    /// Later ones may be, or not.
    ///
    /// # Errors
    /// [`StoreError`].
    fn check_late(
        &self,
        namespace: NamespaceId,
        questions: Vec<Question>,
    ) -> SeamFuture<'_, Result<Answers, StoreError>> {
        self.check(namespace, questions)
    }

    /// Commits the writes of many users, all or none, and returns when they are durable. Several
    /// concurrent calls may share one commit. The stamp is `None` where the store numbers no commits.
    ///
    /// # Errors
    /// [`StoreError`]; of kind `OutcomeUnknown` if the commit may have happened (coherence row 11),
    /// of any other kind if it certainly has not.
    fn write(&self, writes: Vec<Write>) -> SeamFuture<'_, Result<Option<CommitStamp>, StoreError>>;

    /// Removes all of a user's rows and raises the user's epoch, durably, so that no late event and
    /// no old copy brings them back (coherence row 49).
    ///
    /// # Errors
    /// As [`History::write`].
    fn forget(
        &self,
        namespace: NamespaceId,
        user: UserId,
    ) -> SeamFuture<'_, Result<Forgotten, StoreError>>;

    /// Writes a fence that comes back through `feed` after everything committed before this call
    /// began (rule R9): one row under each of `users`, in one commit. Which users lead through which
    /// partition is the feed's business ([`ChangeFeed::fence_users`](crate::ChangeFeed::fence_users)).
    ///
    /// # Errors
    /// As [`History::write`]; `InvalidRequest` if `users` is empty or has more than
    /// [`FENCE_USERS_MAX`](crate::feed::FENCE_USERS_MAX).
    fn fence(
        &self,
        feed: FeedId,
        users: Vec<UserId>,
        writer: Incarnation,
        seq: FenceSeq,
    ) -> SeamFuture<'_, Result<Option<CommitStamp>, StoreError>>;

    /// The newest commit of a shard, whoever made it: everything acknowledged before the call is at or
    /// before it. `None` where commits are not numbered, or where their numbers prove nothing.
    ///
    /// # Errors
    /// [`StoreError`]; `InvalidRequest` for an unknown shard.
    fn head(&self, shard: Shard) -> SeamFuture<'_, Result<Option<CommitStamp>, StoreError>> {
        let _ = shard;
        Box::pin(async { Ok(None) })
    }

    /// What a namespace takes in storage. Looks at a bounded part of it, so that it costs little
    /// however large the namespace is.
    ///
    /// # Errors
    /// [`StoreError`]; `InvalidRequest` for an unknown namespace.
    fn size(&self, namespace: NamespaceId) -> SeamFuture<'_, Result<HistorySize, StoreError>>;
}

/// Why a store call failed, as far as a caller may act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// Cannot be reached, or is shutting down. Certainly not committed.
    Unavailable,
    /// The bounded queue in front of the store is full. Certainly not committed.
    Overloaded,
    /// The time that the caller allowed ran out before the call was begun.
    Expired,
    /// A commit was sent and its outcome is not known.
    OutcomeUnknown,
    /// No space, or a quota. Certainly not committed; reads go on.
    Full,
    /// The store takes no writes. Reads go on.
    ReadOnly,
    /// The data failed a check of its own.
    Corrupt,
    /// The schema is newer than this program, or is missing.
    Schema,
    /// The namespace does not keep what was asked for.
    NotKept,
    /// The call itself is wrong; it must not be repeated.
    InvalidRequest,
}

impl StoreErrorKind {
    /// True if the same call may succeed later.
    pub const fn retry_helps(self) -> bool {
        matches!(
            self,
            Self::Unavailable
                | Self::Overloaded
                | Self::Expired
                | Self::OutcomeUnknown
                | Self::Full
        )
    }

    /// A short stable name, used as a metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Overloaded => "overloaded",
            Self::Expired => "expired",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Full => "full",
            Self::ReadOnly => "read_only",
            Self::Corrupt => "corrupt",
            Self::Schema => "schema",
            Self::NotKept => "not_kept",
            Self::InvalidRequest => "invalid_request",
        }
    }
}

/// A failed store call.
#[derive(Clone, Debug, Error)]
#[error("{message}")]
pub struct StoreError {
    /// What kind of failure it was.
    pub kind: StoreErrorKind,
    /// What happened and what to do next, for people.
    pub message: String,
}

impl StoreError {
    /// An error of `kind` with a message for people.
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}
