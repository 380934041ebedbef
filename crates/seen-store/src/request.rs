//! What every store refuses before it does anything, and the clock that every store is handed.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use seen_filter::feed::FENCE_USERS_MAX;
use seen_filter::hash::HashKey;
use seen_filter::history::{ITEMS_PER_CALL_MAX, PAGE_ROWS_MAX, Question, SeamFuture, Write};
use seen_filter::{
    NamespaceId, NamespaceSettings, Partition, Shard, StoreError, StoreErrorKind, UnixMillis,
    UserId,
};

/// Most rows of all writes of one call.
pub const WRITE_ROWS_MAX: usize = 65_536;

/// Most items of all questions of one point check.
pub const CHECK_ITEMS_MAX: usize = 200_000;

/// Latest time that a mark may carry, in milliseconds: what a signed column holds.
pub const TIME_MS_MAX: u64 = i64::MAX as u64;

/// The storage's clock: expiry buckets and the time of marks without one come from it alone.
#[derive(Clone)]
pub struct StorageClock(Arc<dyn Fn() -> UnixMillis + Send + Sync>);

impl StorageClock {
    /// A clock that reads `now`.
    pub fn new(now: impl Fn() -> UnixMillis + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time.
    pub fn now(&self) -> UnixMillis {
        (self.0)()
    }
}

impl fmt::Debug for StorageClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StorageClock")
    }
}

/// The machine's own clock; a time before 1970 reads as 1970.
pub fn system_clock() -> StorageClock {
    StorageClock::new(|| {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis::new(u64::try_from(since_epoch.as_millis()).unwrap_or(TIME_MS_MAX))
    })
}

/// The feed partition of a user: its virtual slot's share of `partitions` equal ranges.
pub(crate) fn partition_of(key: &HashKey, user: UserId, partitions: u16) -> Partition {
    Partition::new(key.virtual_slot(user).range_of(partitions))
}

/// Refuses namespaces whose settings are out of range, or that share a name or a number.
pub(crate) fn namespaces(settings: &[NamespaceSettings]) -> Result<(), StoreError> {
    let mut names = HashMap::new();
    for (position, one) in settings.iter().enumerate() {
        one.validate().map_err(|e| invalid(e.to_string()))?;
        if usize::from(one.id.get()) != position {
            return Err(invalid(format!(
                "namespace {:?}: id = {} but it is number {position} of the configuration \
                 (ids are positions, from 0)",
                one.name, one.id
            )));
        }
        if let Some(other) = names.insert(one.name.as_str(), position) {
            return Err(invalid(format!(
                "namespace {:?} is configured twice, as number {other} and {position}; rename one",
                one.name
            )));
        }
    }
    Ok(())
}

/// An error that names a namespace number which is not configured.
pub(crate) fn unknown_namespace(namespace: NamespaceId, count: usize) -> StoreError {
    invalid(format!("namespace = {namespace} is unknown (this store has {count}, from 0)"))
}

/// Refuses a fence under no id, or under too many.
pub(crate) fn fence_users(users: &[UserId]) -> Result<(), StoreError> {
    if (1..=FENCE_USERS_MAX).contains(&users.len()) {
        return Ok(());
    }
    let count = users.len();
    Err(invalid(format!("a fence under {count} ids (allowed: 1 to {FENCE_USERS_MAX})")))
}

/// Refuses a page size out of range.
pub(crate) fn page_rows(rows_max: usize) -> Result<(), StoreError> {
    if (1..=PAGE_ROWS_MAX).contains(&rows_max) {
        return Ok(());
    }
    Err(invalid(format!("rows_max = {rows_max} is out of range (allowed: 1 to {PAGE_ROWS_MAX})")))
}

/// What a call of a seam answers with.
pub(crate) type SeamAnswer<'a, T> = SeamFuture<'a, Result<T, StoreError>>;

/// Refuses a part that a store does not have.
pub(crate) fn part(part: Shard, parts: usize) -> Result<(), StoreError> {
    if usize::from(part.get()) < parts {
        return Ok(());
    }
    Err(invalid(format!("part = {part} is unknown (this store has {parts}, from 0)")))
}

/// Refuses questions with too many items, each or in all.
pub(crate) fn questions(questions: &[Question]) -> Result<(), StoreError> {
    let mut total = 0_usize;
    for question in questions {
        items_per_call(question.items.len())?;
        total += question.items.len();
    }
    if total <= CHECK_ITEMS_MAX {
        return Ok(());
    }
    Err(invalid(format!(
        "{total} items in one point check (allowed: {CHECK_ITEMS_MAX}); split the call"
    )))
}

/// Refuses writes with too many items, each or in all, with a time that no column holds, or of an
/// unknown namespace. Returns the number of rows.
pub(crate) fn writes(writes: &[Write], namespaces: usize) -> Result<usize, StoreError> {
    let mut total = 0_usize;
    for write in writes {
        if usize::from(write.namespace.get()) >= namespaces {
            return Err(unknown_namespace(write.namespace, namespaces));
        }
        items_per_call(write.items.len())?;
        total += write.items.len();
        let late = write.items.iter().filter_map(|(_, time)| *time).find(|t| t.get() > TIME_MS_MAX);
        if let Some(late) = late {
            return Err(invalid(format!(
                "marked_at = {late} ms is out of range (allowed: 0 to {TIME_MS_MAX})"
            )));
        }
    }
    if total <= WRITE_ROWS_MAX {
        return Ok(total);
    }
    Err(invalid(format!("{total} rows in one call (allowed: {WRITE_ROWS_MAX}); split the call")))
}

fn items_per_call(items: usize) -> Result<(), StoreError> {
    if items <= ITEMS_PER_CALL_MAX {
        return Ok(());
    }
    Err(invalid(format!("{items} items for one user (allowed: {ITEMS_PER_CALL_MAX})")))
}

/// The error for a listing by time of a namespace that keeps no time index.
pub(crate) fn not_kept(namespace: &str) -> StoreError {
    StoreError::new(
        StoreErrorKind::NotKept,
        format!(
            "namespace {namespace:?} keeps no time index, so that it cannot list newest first; set \
             time_index = true, or list by key"
        ),
    )
}

/// An error of kind `InvalidRequest`.
pub(crate) fn invalid(message: String) -> StoreError {
    StoreError::new(StoreErrorKind::InvalidRequest, message)
}
