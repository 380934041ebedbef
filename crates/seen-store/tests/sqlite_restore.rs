//! Restarts keep the timeline; restored copies begin a new one.

mod store;

use std::path::Path;

use seen_filter::{
    ChangeFeed, FeedCursor, FeedEvent, FeedStart, GapScope, History, Timeline, UserId,
};
use seen_store::{SqliteOptions, SqliteStore};
use store::{NS, events, ids, mark, open, options, other_process, plain, role, say};

/// Opens, marks one item, closes; returns the timeline.
async fn session(path: &Path, id: u64) -> Timeline {
    let store = open(path).await;
    let stamp = store.write(mark(7, [id])).await.expect("a write").expect("a stamp");
    assert_eq!(stamp.timeline, store.timeline());
    store.close().await;
    stamp.timeline
}

/// Overwrites a file's content, the file itself staying the same one.
fn overwrite(path: &Path, content: &[u8]) {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().write(true).truncate(true).open(path).expect("it");
    file.write_all(content).expect("content");
}

#[tokio::test]
async fn an_ordinary_restart_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("seen.db");
    let first = session(&path, 1).await;
    assert_eq!(session(&path, 2).await, first);
    let store = open(&path).await;
    assert_eq!(ids(&*store, 7).await, [1, 2]);
    assert_eq!(store.write(mark(7, [3])).await.expect("a write").map(|s| s.position), Some(3));
    store.close().await;
}

#[tokio::test]
async fn a_copy_elsewhere_is_another_timeline() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("seen.db");
    let first = session(&path, 1).await;
    let elsewhere = tempfile::tempdir().expect("a folder");
    for with_side_file in [false, true] {
        let copy = elsewhere.path().join(format!("copy{with_side_file}.db"));
        std::fs::copy(&path, &copy).expect("a copy");
        if with_side_file {
            let side = format!("copy{with_side_file}.db.timeline");
            std::fs::copy(folder.path().join("seen.db.timeline"), elsewhere.path().join(side))
                .expect("a copy");
        }
        assert_ne!(session(&copy, 2).await, first, "with side file: {with_side_file}");
    }
    assert_eq!(session(&path, 2).await, first, "the original is not touched");
}

#[tokio::test]
async fn an_older_copy_in_its_place_is_another_timeline() {
    for same_session in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("seen.db");
        let first = session(&path, 1).await;
        let store = open(&path).await;
        let backup = folder.path().join("backup.db");
        if same_session {
            // Taken while the store is open, so that only the number of commits tells.
            let mut raw = store::raw(&path).await;
            let vacuum = format!("VACUUM INTO '{}'", backup.display());
            sqlx::query(sqlx::AssertSqlSafe(vacuum)).execute(&mut raw).await.expect("a backup");
        } else {
            std::fs::copy(&path, &backup).expect("a backup");
        }
        store.write(mark(7, [2])).await.expect("a write");
        store.close().await;
        overwrite(&path, &std::fs::read(&backup).expect("the backup"));
        let restored = session(&path, 3).await;
        assert_ne!(restored, first, "same session: {same_session}");
        assert_eq!(session(&path, 4).await, restored, "once only");
    }
}

#[tokio::test]
async fn a_replaced_file_or_a_lost_side_file_is_another_timeline() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("seen.db");
    let first = session(&path, 1).await;
    // The same content under another inode number: a folder unpacked from an archive.
    let copy = folder.path().join("copy");
    std::fs::copy(&path, &copy).expect("a copy");
    std::fs::rename(&copy, &path).expect("in its place");
    let second = session(&path, 2).await;
    assert_ne!(second, first);
    std::fs::remove_file(folder.path().join("seen.db.timeline")).expect("removed");
    let third = session(&path, 3).await;
    assert_ne!(third, second);
    overwrite(&folder.path().join("seen.db.timeline"), b"\xff torn");
    let fourth = session(&path, 4).await;
    assert_ne!(fourth, third);
    let asked = SqliteOptions { new_timeline: true, ..options(&path) };
    let store = SqliteStore::open(asked, plain()).await.expect("a store");
    assert_ne!(store.timeline(), fourth);
    store.close().await;
}

#[tokio::test]
async fn cursors_from_before_a_restore_meet_a_gap_and_stamps_are_incomparable() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("seen.db");
    let store = open(&path).await;
    let before = store.write(mark(7, [1])).await.expect("a write").expect("a stamp");
    let key = store.hash_key();
    store.close().await;
    let old = FeedCursor { timeline: before.timeline, offset: (before.position + 1) << 20 };
    std::fs::remove_file(folder.path().join("seen.db.timeline")).expect("removed");

    let store = open(&path).await;
    let after = store.write(mark(7, [2])).await.expect("a write").expect("a stamp");
    assert_eq!(after.partial_cmp(&before), None);
    assert_eq!(store.hash_key().id(), key.id(), "the secret is the data's, not the timeline's");
    let feed = store.feed_of(NS, UserId::new(7));
    let mut reader = ChangeFeed::open(&*store, feed, FeedStart::At(old)).await.expect("a reader");
    let first = events(&mut reader).await;
    let gap = FeedEvent::Gap { scope: GapScope::Partition, reason: "timeline" };
    assert_eq!(first[0], gap, "{first:?}");
    store.close().await;
}

/// Not a test of its own: the parts of the tests above and below that run in other processes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_processes_part() {
    let Some((role, path)) = role() else { return };
    let store = open(&path).await;
    say(&format!("{:x}", store.timeline().get()));
    if role == "mark until killed" {
        for id in 0_u64.. {
            store.write(mark(7, [id])).await.expect("a write");
            say(&id.to_string());
        }
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_open_at_once_agree() {
    for is_new in [true, false] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("seen.db");
        let known = if is_new { None } else { Some(session(&path, 1).await) };
        let start = || other_process(&[], "other_processes_part", "open", &path);
        let mut others: Vec<_> = (0..4).map(|_| start()).collect();
        let mut timelines = Vec::new();
        for other in &mut others {
            timelines.push(other.line().await.expect("a timeline"));
        }
        for other in others {
            other.finish().await;
        }
        timelines.dedup();
        assert_eq!(timelines.len(), 1, "new file: {is_new}");
        let now = format!("{:x}", session(&path, 2).await.get());
        assert_eq!(now, timelines[0]);
        assert!(known.is_none_or(|known| format!("{:x}", known.get()) == now));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_nothing_acknowledged_and_keeps_the_timeline() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("seen.db");
    let mut timeline = None;
    let mut acknowledged = 0;
    for round in 0..3 {
        let mut other = other_process(&[], "other_processes_part", "mark until killed", &path);
        let its_timeline = other.line().await.expect("a timeline");
        assert_eq!(timeline.get_or_insert(its_timeline.clone()), &its_timeline, "round {round}");
        for _ in 0..=round * 7 + 5 {
            let said = other.line().await.expect("an acknowledgement");
            acknowledged = acknowledged.max(said.parse::<u64>().expect("a number"));
        }
        other.kill();
        let store = open(&path).await;
        let there = ids(&*store, 7).await;
        let expected: Vec<_> = (0..=acknowledged).collect();
        assert!(there.starts_with(&expected), "{there:?} lacks some of 0..={acknowledged}");
        store.close().await;
    }
}
