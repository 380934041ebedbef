//! Writes while storage is blocked: what was acknowledged is not lost, what may have happened is said
//! to be unknown, and what was given up does not land later.

use std::time::Duration;

use seen_filter::{Item, StoreErrorKind};
use seen_proto::v1;
use seen_store::memory::{Chaos, Delays, ReadFault, WriteFault};
use tokio::time::Instant;
use tonic::{Code, Request, Status};

use super::ask::{READ, filter, forget, mark, patient, sound, unmark, within};
use super::blocked::{Blocked, quiet};
use super::refusal::{DEADLINE, OUTCOME_UNKNOWN, OVERLOADED, UNAVAILABLE, failure};

/// Marks with the default deadline, which the answer must keep.
async fn in_time(blocked: &mut Blocked, request: v1::MarkRequest) -> Result<(), Status> {
    let began = Instant::now();
    let answer = blocked.api.0.mark(Request::new(request)).await;
    assert!(began.elapsed() < Duration::from_millis(90), "{:?}", began.elapsed());
    answer.map(drop)
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_hangs_is_unknown_in_time_and_stands_once_it_lands() {
    let mut blocked = Blocked::open().await;
    blocked.store.fail_writes(WriteFault::Silent, None);
    let refused = in_time(&mut blocked, mark(1, READ, [1])).await.expect_err("storage is silent");
    OUTCOME_UNKNOWN.is(&refused);
    let refused = blocked.api.0.unmark(Request::new(unmark(2, READ, [1]))).await;
    OUTCOME_UNKNOWN.is(&refused.expect_err("storage is silent"));
    let refused = blocked.api.0.forget(within(Duration::from_secs(2), forget(3, READ))).await;
    OUTCOME_UNKNOWN.is(&refused.expect_err("storage is silent"));
    blocked.store.heal();
    quiet().await;
    assert_eq!(blocked.api.unread(1, READ, &[1, 2]).await, [2], "it went on behind");
    // Repeating is safe.
    in_time(&mut blocked, mark(1, READ, [1])).await.expect("marked");
}

#[tokio::test(start_paused = true)]
async fn what_storage_says_about_a_write_is_told() {
    let mut blocked = Blocked::open().await;
    let kinds = [
        (StoreErrorKind::Unavailable, UNAVAILABLE),
        (StoreErrorKind::Overloaded, OVERLOADED),
        (StoreErrorKind::Expired, DEADLINE),
        (StoreErrorKind::Full, failure(Code::ResourceExhausted, "STORAGE_FULL", true)),
        (StoreErrorKind::ReadOnly, failure(Code::FailedPrecondition, "READ_ONLY", false)),
        (StoreErrorKind::Corrupt, failure(Code::DataLoss, "CORRUPT", false)),
    ];
    for (kind, refusal) in kinds {
        blocked.store.fail_writes(WriteFault::Refuse(kind), None);
        refusal.is(&in_time(&mut blocked, mark(1, READ, [1])).await.expect_err("refused"));
        let refused = blocked.api.0.unmark(patient(unmark(1, READ, [1]))).await;
        refusal.is(&refused.expect_err("refused"));
        let refused = blocked.api.0.forget(patient(forget(1, READ))).await;
        refusal.is(&refused.expect_err("refused"));
    }
    blocked.store.heal();
    assert_eq!(blocked.api.unread(1, READ, &[1]).await, [1], "nothing was written");
}

#[tokio::test(start_paused = true)]
async fn a_lost_outcome_is_unknown_and_memory_holds_it_until_storage_tells() {
    let mut blocked = Blocked::open().await;
    blocked.warm(mark(1, READ, [100])).await;
    let faults =
        [(1, WriteFault::LoseCommitted), (2, WriteFault::LoseUncommitted), (3, WriteFault::Stall)];
    for (id, fault) in faults {
        blocked.store.fail_writes(fault, Some(1));
        let refused = in_time(&mut blocked, mark(1, READ, [id])).await.expect_err("unknown");
        OUTCOME_UNKNOWN.is(&refused);
        // Row 11: it may have happened, so it counts as read, flagged where storage denies it.
        let answer = blocked.api.filter(filter(1, &[READ], [id])).await;
        assert_eq!(answer.unseen, [0_u32; 0], "{fault:?}");
    }
    blocked.store.land_stalled();
    // Repeating it is all that a caller has to do.
    in_time(&mut blocked, mark(1, READ, [2])).await.expect("repeated");
    for _ in 0..10 {
        quiet().await;
    }
    for confirm in [false, true] {
        let ask = v1::FilterRequest { confirm, ..filter(1, &[READ], [1, 2, 3, 4, 100]) };
        assert_eq!(sound(&blocked.api.filter(ask).await), [3]);
    }
    // Without a repetition storage's word counts in the end.
    blocked.store.fail_writes(WriteFault::LoseUncommitted, Some(1));
    in_time(&mut blocked, mark(1, READ, [5])).await.expect_err("unknown");
    for _ in 0..10 {
        quiet().await;
    }
    assert_eq!(blocked.api.unread(1, READ, &[5]).await, [5]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_does_not_stop_its_write() {
    let mut blocked = Blocked::open().await;
    let commit = Duration::from_millis(50);
    for (user, delays) in [
        (1, Delays { before_commit: commit, ..Delays::default() }),
        (2, Delays { after_commit: commit, ..Delays::default() }),
    ] {
        blocked.store.set_delays(delays);
        let mut api = blocked.api.clone();
        let call = api.0.mark(patient(mark(user, READ, [1])));
        // Row 10: cancelled after it was sent, before it was acknowledged.
        let gone = tokio::time::timeout(Duration::from_millis(10), call).await;
        assert!(gone.is_err(), "the commit takes longer");
        blocked.store.fail_reads(ReadFault::Silent, None);
        tokio::time::sleep(Duration::from_millis(100)).await;
        // Known from the journal, before storage is asked.
        let answer = blocked.api.0.filter(Request::new(filter(user, &[READ], [1]))).await;
        assert_eq!(answer.expect("answered").into_inner().unseen, [0_u32; 0], "user {user}");
        blocked.store.heal();
        assert_eq!(blocked.api.unread(user, READ, &[1, 2]).await, [2]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_caller_gave_up_in_the_queue_never_lands() {
    let mut blocked = Blocked::open().await;
    blocked.store.fail_writes(WriteFault::Silent, None);
    // Two batches hang in their commits; the others wait in the queue.
    let mut calls = Vec::new();
    for user in 0..10_u64 {
        let mut api = blocked.api.clone();
        calls.push(tokio::spawn(async move {
            api.0.mark(Request::new(mark(user, READ, [1]))).await.map(drop)
        }));
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for call in calls {
        let refused = call.await.expect("no panic").expect_err("storage is silent");
        OUTCOME_UNKNOWN.is(&refused);
    }
    blocked.store.heal();
    quiet().await;
    let mut landed = 0;
    for user in 0..10 {
        landed += u64::from(blocked.api.unread(user, READ, &[1]).await.is_empty());
    }
    // Row 38: only what had been sent to storage before may land.
    assert_eq!(landed, 2);
}

#[tokio::test(start_paused = true)]
async fn an_expired_write_is_refused_before_it_is_begun() {
    let mut blocked = Blocked::open().await;
    let past = Duration::ZERO;
    DEADLINE.is(&blocked.api.0.mark(within(past, mark(1, READ, [1]))).await.expect_err("late"));
    DEADLINE.is(&blocked.api.0.unmark(within(past, unmark(1, READ, [1]))).await.expect_err("late"));
    DEADLINE.is(&blocked.api.0.forget(within(past, forget(1, READ))).await.expect_err("late"));
    DEADLINE.is(&blocked
        .api
        .0
        .filter(within(past, filter(1, &[READ], [1])))
        .await
        .expect_err("late"));
    assert_eq!(blocked.store.head(), 0, "nothing was written");
}

#[tokio::test(start_paused = true)]
async fn a_forget_that_waits_too_long_in_its_queue_was_certainly_not_begun() {
    let mut blocked = Blocked::open().await;
    blocked.api.mark(mark(2, READ, [1])).await;
    blocked.store.fail_writes(WriteFault::Silent, None);
    let mut api = blocked.api.clone();
    let long = Duration::from_secs(40);
    let first = tokio::spawn(async move { api.0.forget(within(long, forget(1, READ))).await });
    tokio::time::sleep(Duration::from_millis(1)).await;
    let refused = blocked.api.0.forget(within(Duration::from_secs(1), forget(2, READ))).await;
    OUTCOME_UNKNOWN.is(&refused.expect_err("it waited"));
    blocked.store.heal();
    let first = first.await.expect("no panic").expect("forgotten").into_inner();
    assert_eq!(first.namespaces[0].epoch, 1);
    quiet().await;
    assert_eq!(
        blocked.api.unread(2, READ, &[1]).await,
        [0_u64; 0],
        "row 38: it did not land later"
    );
}

#[tokio::test(start_paused = true)]
async fn many_large_marks_at_once_all_fit() {
    let mut blocked = Blocked::open().await;
    blocked.store.fail_writes(WriteFault::Silent, None);
    let mut calls = Vec::new();
    for user in 0..200_u64 {
        let mut api = blocked.api.clone();
        calls.push(tokio::spawn(async move {
            api.0.mark(patient(mark(user, READ, 0..1_000))).await.map(drop)
        }));
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    blocked.store.heal();
    for call in calls {
        call.await.expect("no panic").expect("200 marks of 1,000 items are no error");
    }
    assert_eq!(blocked.api.unread(199, READ, &[999, 1_000]).await, [1_000]);
}

#[tokio::test(start_paused = true)]
async fn nothing_acknowledged_is_lost_whatever_befalls_storage() {
    let mut blocked = Blocked::open().await;
    blocked.store.set_chaos(Some(Chaos {
        read_refuse_per_mille: 100,
        read_old_per_mille: 100,
        write_refuse_per_mille: 150,
        write_lose_committed_per_mille: 100,
        write_lose_uncommitted_per_mille: 100,
        feed_replay_per_mille: 50,
        feed_gap_per_mille: 50,
        ..Chaos::default()
    }));
    let mut acknowledged = Vec::new();
    let mut tokens = vec![Vec::new(); 20];
    let mut failed = 0;
    for id in 0..600_u64 {
        let user = id % 20;
        let token = std::mem::take(&mut tokens[user as usize]);
        let request = v1::MarkRequest { token: token.clone(), ..mark(user, READ, [id]) };
        tokens[user as usize] = match blocked.api.0.mark(patient(request)).await {
            Ok(answer) => {
                acknowledged.push((user, id));
                answer.into_inner().token
            }
            Err(_) => {
                failed += 1;
                token
            }
        };
        let read: Vec<u64> =
            acknowledged.iter().filter(|(of, _)| *of == user).map(|(_, id)| *id).collect();
        let token = tokens[user as usize].clone();
        let ask = v1::FilterRequest { token, ..filter(user, &[READ], read) };
        let answer = blocked.api.0.filter(Request::new(ask)).await.expect("answered").into_inner();
        let quality = answer.quality.expect("there");
        let flagged = quality.level() == v1::QualityLevel::Degraded;
        assert!(flagged || answer.unseen.is_empty(), "unread without a flag: {answer:?}");
    }
    assert!(failed > 50 && acknowledged.len() > 300, "{failed} failed");
    blocked.store.heal();
    quiet().await;
    for (user, id) in acknowledged {
        assert_eq!(
            blocked.api.unread(user, READ, &[id]).await,
            [0_u64; 0],
            "user {user}, item {id}"
        );
        let ask = v1::FilterRequest { confirm: true, ..filter(user, &[READ], [id]) };
        assert_eq!(
            sound(&blocked.api.filter(ask).await),
            [0_u32; 0],
            "storage has {}",
            Item::new(1, id)
        );
    }
}
