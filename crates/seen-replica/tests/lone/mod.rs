//! One replica on its own, that follows its only partition, for tests of single steps.

use std::sync::Arc;

use seen_filter::hash::HashKey;
use seen_filter::{
    CommitStamp, Domain, FeedBatch, FeedCursor, FeedEvent, FeedId, Generation, Incarnation, Item,
    NamespaceId, NamespaceSettings, Tick, Timeline, UserId,
};
use seen_replica::rules::{CacheBudget, Effect, Input, Outcome, Rules, Settings};

/// The only moment of these tests.
pub const NOW: Tick = Tick::new(3_600_000_000);

pub fn stamp(position: u64) -> CommitStamp {
    CommitStamp::new(Domain::new(1), Timeline::new(1), position)
}

pub fn item(n: u64) -> Item {
    Item::new(1, n)
}

/// The settings of the only namespace.
pub fn namespace() -> NamespaceSettings {
    NamespaceSettings::new(NamespaceId::new(0), "feed_read")
}

pub fn replica(namespace: NamespaceSettings) -> Rules {
    let feed = FeedId { namespace: namespace.id, ..FeedId::default() };
    let cache = Arc::new(CacheBudget::new(u64::MAX));
    let settings = Settings::embedded(namespace, Incarnation::new(1), cache);
    let key = HashKey::new(1, [7; 16]);
    let rules = Rules::new(settings, key, &[feed], Box::new(move |_| feed), NOW);
    complete(&rules, 1);
    rules
}

/// The feed says that everything up to this commit has come by.
pub fn complete(rules: &Rules, position: u64) {
    let feed = FeedId { namespace: rules.settings().namespace.id, ..FeedId::default() };
    let events = vec![FeedEvent::Complete { stamp: stamp(position) }];
    let batch = FeedBatch { events, resume: FeedCursor::default(), caught_up: true };
    rules.step(NOW, Input::Feed { feed, batch: &batch });
}

/// Marks item `n` by commit `n + 2`; the generation of the build that this begins.
pub fn mark(rules: &Rules, user: UserId, n: u64) -> Option<Generation> {
    let items = [item(n)];
    let (Outcome::Began(write), _) = rules.step(NOW, Input::BeginWrite { user, items: &items })
    else {
        panic!("a write begins");
    };
    let stamp = Some(stamp(n + 2));
    let (_, effects) = rules.step(NOW, Input::Committed { write, user, items: &items, stamp });
    let build = |effect| match effect {
        Effect::StartBuild { generation, .. } => Some(generation),
        _ => None,
    };
    effects.into_iter().find_map(build)
}
