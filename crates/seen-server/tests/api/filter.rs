//! Filter: what is unread, in which order, and how far it can be trusted.

use seen_proto::v1::{self, QualityLevel};

use super::ask::{KIND, READ, SENT, filter, group, level, mark, sound};
use super::stage::Stage;

#[tokio::test]
async fn unread_positions_come_in_request_order_through_all_groups() {
    let mut stage = Stage::open().await;
    let marks = vec![
        v1::MarkItem { kind: 1, id: 10, marked_at_ms: None },
        v1::MarkItem { kind: 2, id: 20, marked_at_ms: None },
        v1::MarkItem { kind: 0, id: 30, marked_at_ms: None },
    ];
    let request =
        v1::MarkRequest { user: 7, namespace: READ.to_owned(), items: marks, token: vec![] };
    stage.api.mark(request).await;
    // Duplicates, a kind that comes twice, an empty group, and the same id under other kinds.
    let candidates = vec![
        group(2, [20, 10, 20, 99]),
        group(1, []),
        group(1, [10, 11, 10]),
        group(2, [98, 20]),
        v1::ItemGroup { kind: 0, ids: vec![30, 10] },
    ];
    let ask = v1::FilterRequest { candidates, ..filter(7, &[READ], []) };
    for _ in 0..2 {
        // Once from storage, once from memory.
        let answer = stage.api.filter(ask.clone()).await;
        assert_eq!(sound(&answer), [1, 3, 5, 7, 10]);
        assert_eq!(level(&answer.quality), QualityLevel::Exact);
        stage.rebuild(7, READ).await;
    }
    stage.close().await;
}

#[tokio::test]
async fn all_ids_and_users_are_valid_and_empty_lists_are_answered() {
    let mut stage = Stage::open().await;
    for user in [0, u64::MAX] {
        let ids = [0, 1, u64::MAX - 1, u64::MAX];
        assert_eq!(stage.api.unread(user, READ, &ids).await, ids);
        stage.api.mark(mark(user, READ, [0, u64::MAX])).await;
        assert_eq!(stage.api.unread(user, READ, &ids).await, [1, u64::MAX - 1]);
        stage.rebuild(user, READ).await;
        assert_eq!(stage.api.unread(user, READ, &ids).await, [1, u64::MAX - 1]);
    }
    let highest = v1::FilterRequest {
        candidates: vec![group(255, [0, u64::MAX]), group(0, [0])],
        ..filter(0, &[READ], [])
    };
    assert_eq!(sound(&stage.api.filter(highest).await), [0, 1, 2]);
    for nothing in [vec![], vec![group(KIND, [])], vec![group(3, []); 1_000]] {
        let request = v1::FilterRequest { candidates: nothing, ..filter(0, &[READ], []) };
        let answer = stage.api.filter(request).await;
        assert_eq!(sound(&answer), [0_u32; 0]);
    }
    stage.close().await;
}

#[tokio::test]
async fn a_thousand_candidates_are_answered_in_one_call() {
    let mut stage = Stage::open().await;
    stage.api.mark(mark(3, READ, (0..1_000).step_by(2))).await;
    let all: Vec<u64> = (0..1_000).collect();
    let odd: Vec<u64> = (1..1_000).step_by(2).collect();
    assert_eq!(stage.api.unread(3, READ, &all).await, odd);
    stage.rebuild(3, READ).await;
    let unread = stage.api.unread(3, READ, &all).await;
    assert!(unread.iter().all(|id| id % 2 == 1), "nothing that was read is called unread");
    assert!(unread.len() > 450, "{} of 500 unread ones were called read", 500 - unread.len());
    stage.close().await;
}

#[tokio::test]
async fn small_histories_are_exact_and_larger_ones_filtered_at_the_promised_rate() {
    let mut stage = Stage::open().await;
    stage.api.mark(mark(1, READ, 0..16)).await;
    stage.api.mark(mark(2, READ, 0..400)).await;
    stage.api.mark(mark(2, SENT, 0..400)).await;
    for (user, namespace) in [(1, READ), (2, READ), (2, SENT)] {
        stage.rebuild(user, namespace).await;
    }
    let small = stage.api.filter(filter(1, &[READ], 0..100)).await;
    assert_eq!(sound(&small), (16..100).collect::<Vec<_>>());
    assert_eq!(level(&small.quality), QualityLevel::Exact);
    assert_eq!(small.quality.expect("present").false_positive_rate, 0.0);
    let large = stage.api.filter(filter(2, &[READ], 0..400)).await;
    assert_eq!(sound(&large), [0_u32; 0]);
    assert_eq!(level(&large.quality), QualityLevel::Filtered);
    assert_eq!(large.quality.expect("present").false_positive_rate, 0.01);
    let both = stage.api.filter(filter(2, &[READ, SENT], 0..400)).await;
    let joint = both.quality.expect("present").false_positive_rate;
    assert!((joint - (1.0 - 0.99 * 0.99)).abs() < 1e-9, "the joint rate is {joint}");
    // An exact namespace adds nothing to the rate.
    stage.api.mark(mark(2, SENT, [0])).await;
    let mixed = stage.api.filter(filter(1, &[READ, READ], 0..20)).await;
    assert_eq!(level(&mixed.quality), QualityLevel::Exact);
    stage.close().await;
}

#[tokio::test]
async fn confirm_takes_false_positives_away() {
    let mut stage = Stage::open().await;
    stage.api.mark(mark(5, READ, 0..1_000)).await;
    stage.rebuild(5, READ).await;
    let mut found = 0;
    for start in (1_000_000..1_100_000).step_by(1_000) {
        let ids: Vec<u64> = (start..start + 1_000).collect();
        let unread = stage.api.unread(5, READ, &ids).await;
        if unread.len() == ids.len() {
            continue;
        }
        found += ids.len() - unread.len();
        let ask = v1::FilterRequest { confirm: true, ..filter(5, &[READ], ids.iter().copied()) };
        let answer = stage.api.filter(ask).await;
        assert_eq!(sound(&answer).len(), ids.len(), "false positives stayed");
        // "Read" came from storage, and "unread" is certain in any case.
        assert_eq!(level(&answer.quality), QualityLevel::Exact);
        if found > 20 {
            break;
        }
    }
    assert!(found > 0, "at 1 % a hundred thousand candidates meet a false positive");
    let ask = v1::FilterRequest { confirm: true, ..filter(5, &[READ], 500..1_500) };
    let answer = stage.api.filter(ask).await;
    assert_eq!(sound(&answer), (500..1_000).collect::<Vec<_>>(), "what was read stays read");
    stage.close().await;
}

#[tokio::test]
async fn read_means_read_in_any_of_the_namespaces() {
    let mut stage = Stage::open().await;
    stage.api.mark(mark(9, READ, [1, 2])).await;
    stage.api.mark(mark(9, SENT, [2, 3])).await;
    let ids = [1, 2, 3, 4];
    for _ in 0..2 {
        assert_eq!(stage.api.unread(9, READ, &ids).await, [3, 4]);
        assert_eq!(stage.api.unread(9, SENT, &ids).await, [1, 4]);
        let both = stage.api.filter(filter(9, &[READ, SENT], ids)).await;
        assert_eq!(sound(&both), [3]);
        let eight = [READ, SENT, READ, SENT, READ, SENT, READ, SENT];
        assert_eq!(sound(&stage.api.filter(filter(9, &eight, ids)).await), [3]);
        stage.rebuild(9, READ).await;
        stage.rebuild(9, SENT).await;
    }
    // Another user has read nothing.
    assert_eq!(stage.api.unread(8, READ, &ids).await, ids);
    stage.close().await;
}
