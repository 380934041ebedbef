//! Point checks.

use seen_filter::history::{ITEMS_PER_CALL_MAX, Question};
use seen_filter::{History, Item, NamespaceId, StoreErrorKind};

use super::{Fixture, ManualClock, NS, OTHER, START_MS, found, items, kind, mark, plain, user};

/// Answers come for each item in the order asked, repeats included, over kinds.
pub async fn checks_answer_in_order(fixture: &impl Fixture) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    let marked = [Item::new(1, 5), Item::new(2, 5), Item::new(1, u64::MAX)];
    store.write(vec![mark(NS, 7, &marked), mark(OTHER, 7, &items([6]))]).await.expect("a write");
    let asked = [
        Item::new(1, u64::MAX),
        Item::new(1, 6),
        Item::new(2, 5),
        Item::new(3, 5),
        Item::new(1, 5),
        Item::new(1, 6),
        Item::new(1, u64::MAX),
    ];
    let answer = found(&*store, NS, 7, &asked).await;
    assert_eq!(answer, [true, false, true, false, true, false, true]);
    // One kind only, and one item only.
    assert_eq!(found(&*store, NS, 7, &items([4, 5, 6, 5])).await, [false, true, false, true]);
    assert_eq!(found(&*store, NS, 7, &items([5])).await, [true]);
    assert_eq!(found(&*store, NS, 8, &asked).await, [false; 7]);
    assert_eq!(found(&*store, NS, 7, &[]).await, [false; 0]);
}

/// Questions about many users, some twice, some without items, are answered in order.
pub async fn checks_of_many_users_share_a_snapshot(fixture: &impl Fixture) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    let marks = (0..300).map(|u| mark(NS, u, &items([u, u + 1]))).collect();
    let stamp = store.write(marks).await.expect("a write");
    let asked = |u: u64| match u % 5 {
        0 => Vec::new(),
        _ => vec![Item::new(1, u), Item::new(1, u + 2), Item::new(2, u), Item::new(1, u + 1)],
    };
    let users: Vec<u64> = (0..300).chain([7, 7]).collect();
    let questions: Vec<_> =
        users.iter().map(|u| Question { user: user(*u), items: asked(*u) }).collect();
    let answers = store.check(NS, questions).await.expect("answers");
    assert_eq!(answers.found.len(), users.len());
    for (user_id, answer) in users.iter().zip(&answers.found) {
        let expected: &[bool] = if user_id % 5 == 0 { &[] } else { &[true, false, false, true] };
        assert_eq!(answer, expected, "user {user_id}");
    }
    if let (Some(stamp), Some(seen)) = (stamp, answers.snapshot.lower_bound) {
        assert!(seen.covers(stamp));
    }
    assert!(store.check(NS, Vec::new()).await.expect("no questions").found.is_empty());
}

/// Every write that was acknowledged before a check is seen by it.
pub async fn checks_are_fresh(fixture: &impl Fixture) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    for id in 0..100 {
        store.write(vec![mark(NS, 7, &items([id]))]).await.expect("a write");
        assert_eq!(found(&*store, NS, 7, &items([id])).await, [true], "item {id}");
        // Late ones are as fresh, where a store says nothing else.
        if store.check_lag_us_max() == 0 {
            let questions = vec![Question { user: user(7), items: items([id]) }];
            let late = store.check_late(NS, questions).await.expect("answers");
            assert_eq!(late.found, [[true]], "item {id}");
        }
    }
}

/// Too many items and unknown namespaces are refused.
pub async fn check_limits_are_enforced(fixture: &impl Fixture) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    let asking = |count: usize| vec![Question { user: user(7), items: items(0..count as u64) }];
    let full = store.check(NS, asking(ITEMS_PER_CALL_MAX)).await.expect("the most allowed");
    assert_eq!(full.found[0].len(), ITEMS_PER_CALL_MAX);
    let refused = Some(StoreErrorKind::InvalidRequest);
    assert_eq!(kind(store.check(NS, asking(ITEMS_PER_CALL_MAX + 1)).await), refused);
    assert_eq!(kind(store.check(NamespaceId::new(2), asking(1)).await), refused);
}
