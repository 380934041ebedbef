//! A copy that is made as exports are read, position first and rows second, amid writes, and is then
//! kept up by the change feed from that position on: it holds what storage holds, row by row.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use seen_filter::history::{Write, WriteOp};
use seen_filter::{
    ChangeFeed, CommitStamp, FeedEvent, FeedStart, History, Item, NamespaceId, RowKey, Scan,
    ScanRequest, ScannedRow, Shard, SourcePosition, UserId,
};

const NS: NamespaceId = NamespaceId::new(0);
const USERS: u64 = 5;
/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Commits of a writer at which a copy is begun and ended, and the writers stop.
const BEFORE: u64 = 50;
const DURING: u64 = 150;
const AFTER: u64 = 300;

fn change(user: u64, op: WriteOp, id: u64) -> Vec<Write> {
    let items = vec![(Item::new(1, id), None)];
    vec![Write { namespace: NS, user: UserId::new(user), op, items }]
}

/// Marks and unmarks items of one user, of which each comes by often.
async fn changing(
    store: Arc<impl History>,
    user: u64,
    done: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) {
    for n in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let id = n.wrapping_mul(0x9e37_79b9) % 40;
        let op = if n % 3 == 0 { WriteOp::Remove } else { WriteOp::Append };
        store.write(change(user, op, id)).await.expect("a write");
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits until the writers have come so far.
async fn reach(done: &AtomicU64, commits: u64) {
    let waiting = async {
        let mut looks = tokio::time::interval(Duration::from_millis(2));
        while done.load(Ordering::Relaxed) < commits * USERS {
            looks.tick().await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.expect("the writers go on");
}

/// The rows of a part. `between` is awaited after each page.
async fn rows(
    store: &impl Scan,
    part: Shard,
    rows_max: usize,
    mut between: impl AsyncFnMut(usize),
) -> BTreeSet<RowKey> {
    let (mut found, mut after, mut pages) = (BTreeSet::new(), None, 0);
    loop {
        let request = ScanRequest { namespace: NS, part, after, rows_max };
        let page = store.scan(request).await.expect("a page");
        found.extend(page.rows.iter().map(ScannedRow::key));
        after = page.next;
        pages += 1;
        if after.is_none() {
            return found;
        }
        between(pages).await;
    }
}

/// Applies what a feed tells from a place on, up to a commit.
async fn keep_up(
    feed: &impl ChangeFeed,
    start: FeedStart,
    until: CommitStamp,
    copy: &mut BTreeSet<RowKey>,
) -> usize {
    let mut applied = 0;
    for id in feed.feeds().into_iter().filter(|id| id.namespace == NS) {
        let mut reader = feed.open(id, start).await.expect("a reader");
        let reading = async {
            loop {
                for event in reader.next(100).await.expect("events").events {
                    match event {
                        FeedEvent::Add { user, item, .. } => {
                            copy.insert((user, item));
                            applied += 1;
                        }
                        FeedEvent::Remove { user, item, .. } => {
                            copy.remove(&(user, item));
                            applied += 1;
                        }
                        FeedEvent::RemoveAll { user, .. } => copy.retain(|(of, _)| *of != user),
                        FeedEvent::Gap { reason, .. } => panic!("{id}: {reason}"),
                        FeedEvent::Complete { stamp } if stamp.covers(until) => return,
                        _ => {}
                    }
                }
            }
        };
        tokio::time::timeout(LIMIT, reading).await.expect("it never comes so far");
    }
    applied
}

/// Makes a copy of a store of one part amid writes, and keeps it up. `start` is where the feed begins
/// after a position.
pub async fn reaches_what_storage_holds<S: History + Scan, F: ChangeFeed>(
    store: Arc<S>,
    feed: &F,
    start: impl Fn(&SourcePosition) -> Option<FeedStart>,
) {
    let part = Shard::new(0);
    let (done, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let writers: Vec<_> = (0..USERS)
        .map(|user| {
            let (store, done, stop) = (Arc::clone(&store), Arc::clone(&done), Arc::clone(&stop));
            tokio::spawn(changing(store, user, done, stop))
        })
        .collect();
    reach(&done, BEFORE).await;
    let position = store.position(part).await.expect("a position").expect("numbered");
    // Others write between its pages, so that it is no snapshot of one moment.
    let mut copy = rows(&*store, part, 20, async |pages| {
        reach(&done, (BEFORE + 20 * pages as u64).min(DURING)).await;
    })
    .await;
    reach(&done, AFTER).await;
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("no panic");
    }
    let last = store.write(change(USERS, WriteOp::Append, 1)).await.expect("a write");
    let last = last.expect("commits are numbered");
    let held = rows(&*store, part, 10_000, async |_| {}).await;
    assert_ne!(copy, held, "nothing was written meanwhile");
    let start = start(&position).unwrap_or_else(|| panic!("no place to begin at: {position}"));
    let applied = keep_up(feed, start, last, &mut copy).await;
    assert_eq!(copy, held);
    assert!(applied > 500, "{applied} changes");
}
