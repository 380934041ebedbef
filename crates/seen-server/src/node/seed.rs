//! Loading a history before serving: `seen serve --seed FILE`, for callers' own test environments.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use seen_filter::history::{History, Write, WriteOp};
use seen_filter::{NamespaceId, StoreError};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::history_file::{Event, HistoryFile, HistoryFileError, MALFORMED_MAX_DEFAULT};

/// Events of one commit.
const BATCH_EVENTS_MAX: usize = 8_192;
/// Batches read ahead of the commits.
const BATCHES_AHEAD_MAX: usize = 2;
/// The namespace that a seed goes to: the first one configured.
const NAMESPACE: NamespaceId = NamespaceId::new(0);

/// Why a seed was not loaded whole.
#[derive(Debug, Error)]
pub enum SeedError {
    /// The file.
    #[error(transparent)]
    File(#[from] HistoryFileError),
    /// The store.
    #[error("seeding: {0}")]
    Store(#[from] StoreError),
}

/// Writes every event of the file to the store. Returns how many there were. Safe to repeat.
///
/// # Errors
/// [`SeedError`]; what was committed before stays.
pub(super) async fn load(store: &dyn History, path: &Path) -> Result<u64, SeedError> {
    let (batches, mut read) = mpsc::channel(BATCHES_AHEAD_MAX);
    let path = path.to_owned();
    let reader = tokio::task::spawn_blocking(move || read_batches(path, &batches));
    let mut events = 0;
    while let Some(batch) = read.recv().await {
        events += batch.len() as u64;
        if !batch.is_empty() {
            store.write(by_user(batch)).await?;
        }
    }
    match reader.await {
        Ok(result) => result?,
        Err(died) => std::panic::resume_unwind(died.into_panic()),
    }
    Ok(events)
}

fn read_batches(path: PathBuf, batches: &mpsc::Sender<Vec<Event>>) -> Result<(), HistoryFileError> {
    let mut file = HistoryFile::open(&path, MALFORMED_MAX_DEFAULT)?;
    let mut batch = Vec::with_capacity(BATCH_EVENTS_MAX);
    while let Some(event) = file.next_event()? {
        batch.push(event);
        // The writer is gone only after an error of its own, which is told there.
        if batch.len() == BATCH_EVENTS_MAX
            && batches.blocking_send(std::mem::take(&mut batch)).is_err()
        {
            return Ok(());
        }
    }
    let _ = batches.blocking_send(batch);
    Ok(())
}

/// The batch as one call to the store: one write a user, none larger than a write may be.
fn by_user(batch: Vec<Event>) -> Vec<Write> {
    let mut of_user: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for event in batch {
        of_user.entry(event.user).or_default().push((event.item, Some(event.at)));
    }
    let mut writes = Vec::new();
    for (user, items) in of_user {
        for items in items.chunks(seen_filter::history::ITEMS_PER_CALL_MAX) {
            let items = items.to_vec();
            writes.push(Write { namespace: NAMESPACE, user, op: WriteOp::Append, items });
        }
    }
    writes
}
