//! When a history outgrows its filter: a rebuild begins with the very mark that makes it due, once,
//! before the filter takes another layer; and one that was given up is not begun anew by every mark.

use std::sync::Arc;

use seen_filter::build::Builder;
use seen_filter::hash::HashKey;
use seen_filter::state::UserState;
use seen_filter::{
    CommitStamp, Domain, FeedBatch, FeedCursor, FeedEvent, FeedId, Generation, Incarnation,
    Inserted, Item, NamespaceId, NamespaceSettings, Tick, Timeline, UnixMillis, UserId,
};
use seen_replica::preload;
use seen_replica::rules::{CacheBudget, Effect, Input, Outcome, Rules, Settings};

const USER: UserId = UserId::new(7);
const NOW: Tick = Tick::new(3_600_000_000);

fn stamp(position: u64) -> CommitStamp {
    CommitStamp::new(Domain::new(1), Timeline::new(1), position)
}

fn item(n: u64) -> Item {
    Item::new(1, n)
}

/// A replica that follows its only partition.
fn replica() -> Rules {
    let namespace = NamespaceId::new(0);
    let feed = FeedId { namespace, ..FeedId::default() };
    let named = NamespaceSettings::new(namespace, "feed_read");
    let settings =
        Settings::embedded(named, Incarnation::new(1), Arc::new(CacheBudget::new(u64::MAX)));
    let key = HashKey::new(1, [7; 16]);
    let rules = Rules::new(settings, key, &[feed], Box::new(move |_| feed), NOW);
    let events = vec![FeedEvent::Complete { stamp: stamp(1) }];
    let batch = FeedBatch { events, resume: FeedCursor::default(), caught_up: true };
    rules.step(NOW, Input::Feed { feed, batch: &batch });
    rules
}

/// A user of `items` items, in memory, and a copy of the state.
fn user_of(rules: &Rules, items: u64) -> UserState {
    let mut builder = Builder::new(rules.key(), rules.sizing());
    (0..items).for_each(|n| builder.push(item(n), UnixMillis::new(0), 0));
    let state = builder.finish();
    preload::install(rules, NOW, USER, state.clone()).expect("installed");
    state
}

/// Marks one item; the generation of the build that this begins.
fn mark(rules: &Rules, n: u64) -> Option<Generation> {
    let items = [item(n)];
    let (Outcome::Began(write), _) =
        rules.step(NOW, Input::BeginWrite { user: USER, items: &items })
    else {
        panic!("a write begins");
    };
    let stamp = Some(stamp(n + 2));
    let (_, effects) =
        rules.step(NOW, Input::Committed { write, user: USER, items: &items, stamp });
    let build = |effect| match effect {
        Effect::StartBuild { generation, .. } => Some(generation),
        _ => None,
    };
    effects.into_iter().find_map(build)
}

#[test]
fn a_rebuild_begins_with_the_mark_that_makes_it_due() {
    for size in [17, 100, 1_000, 20_000] {
        let rules = replica();
        let mut state = user_of(&rules, size);
        let mut begun = Vec::new();
        for n in size..4 * size + 50 {
            let inserted = state.insert(rules.key(), rules.sizing(), item(n), 0);
            let due = inserted != Inserted::AlreadySeen && state.rebuild_due(rules.sizing());
            let build = mark(&rules, n);
            assert_eq!(build.is_some(), due && begun.is_empty(), "{size} items, mark {n}");
            begun.extend(build);
        }
        let layers: Vec<_> = state.describe().iter().map(|l| (l.items, l.capacity)).collect();
        assert_eq!(begun.len(), 1, "{size} items: {layers:?}");
    }
}

#[test]
fn a_rebuild_that_was_given_up_is_begun_anew_by_the_next_layer() {
    let rules = replica();
    let mut state = user_of(&rules, 1_000);
    let mut begun = 0;
    let mut layers = 0;
    for n in 1_000..4_000 {
        let before = state.heap_bytes();
        state.insert(rules.key(), rules.sizing(), item(n), 0);
        layers += u32::from(state.heap_bytes() != before && begun > 0);
        if let Some(generation) = mark(&rules, n) {
            begun += 1;
            rules.step(NOW, Input::BuildFailed { user: USER, generation });
        }
    }
    assert!(layers > 1 && begun == 1 + layers, "{begun} builds, {layers} layers");
}
