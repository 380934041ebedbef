//! The store against a plain model, and the feed against the store.

use std::collections::{BTreeMap, BTreeSet};

use seen_filter::{ChangeFeed, History, Item};

use super::{
    Fixture, Folded, ManualClock, NS, START_MS, at_head, drain, found, items_of, mark, plain,
    unmark, user,
};

const USERS: u64 = 12;
const ITEMS: u64 = 30;
const STEPS: u64 = 400;

/// Marks, unmarks and forgets drawn from a fixed seed: after them pages and checks hold what the
/// model holds, and the feeds, from their beginning, fold to the same.
pub async fn the_feed_folds_to_what_pages_hold(fixture: &impl Fixture<Store: ChangeFeed>) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    let mut readers = Vec::new();
    for feed in store.feeds().into_iter().filter(|f| f.namespace == NS) {
        readers.push((feed, at_head(&*store, feed).await));
    }
    let mut model: BTreeMap<u64, BTreeSet<Item>> = BTreeMap::new();
    let mut draw = draws(0x5eed);
    for _ in 0..STEPS {
        let who = draw() % USERS;
        let some: Vec<_> = (0..1 + draw() % 5)
            .map(|_| Item::new(1 + (draw() % 2) as u8, draw() % ITEMS))
            .collect();
        let held = model.entry(who).or_default();
        match draw() % 10 {
            0 => {
                let forgotten = store.forget(NS, user(who)).await.expect("forgotten");
                assert_eq!(forgotten.rows, held.len() as u64);
                held.clear();
            }
            1..=3 => {
                store.write(vec![unmark(NS, who, &some)]).await.expect("a write");
                held.retain(|item| !some.contains(item));
            }
            4 => {
                let (marked, unmarked) = some.split_at(some.len() / 2);
                let both = vec![mark(NS, who, marked), unmark(NS, who, unmarked)];
                store.write(both).await.expect("a write");
                held.extend(marked);
                held.retain(|item| !unmarked.contains(item));
            }
            _ => {
                store.write(vec![mark(NS, who, &some)]).await.expect("a write");
                held.extend(&some);
            }
        }
    }
    let mut folded = Folded::default();
    for (feed, reader) in &mut readers {
        for event in drain(&*store, reader, *feed).await {
            folded.apply(&event);
        }
    }
    let every: Vec<_> =
        (1..=2).flat_map(|kind| (0..ITEMS).map(move |id| Item::new(kind, id))).collect();
    for who in 0..USERS {
        let expected: Vec<_> = model.remove(&who).unwrap_or_default().into_iter().collect();
        assert_eq!(items_of(&*store, NS, who).await, expected, "pages of user {who}");
        assert_eq!(folded.items(who), expected, "the feed of user {who}");
        let answers = found(&*store, NS, who, &every).await;
        let held = every.iter().zip(answers).filter(|(_, has)| *has).map(|(item, _)| *item);
        assert_eq!(held.collect::<Vec<_>>(), expected, "checks of user {who}");
    }
}

/// A small seeded generator (xorshift64, G. Marsaglia).
fn draws(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}
