//! A feed that is never quiet sends no proof of its freshness but the own fences that come back: each
//! proves it as of when it was begun (coherence row 25).

#[allow(dead_code, reason = "each test uses its part")]
mod lone;

use std::sync::Arc;

use seen_filter::hash::HashKey;
use seen_filter::{FeedBatch, FeedCursor, FeedEvent, FeedId, FenceSeq, Incarnation, Tick};
use seen_replica::rules::{CacheBudget, Effect, Input, Rules, Settings};

use lone::{NOW, namespace, stamp};

const SECOND_US: u64 = 1_000_000;

fn after(seconds: u64) -> Tick {
    NOW.plus_us(seconds * SECOND_US)
}

/// A replica whose heartbeats are fences.
fn beating() -> Rules {
    let namespace = namespace();
    let feed = FeedId { namespace: namespace.id, ..FeedId::default() };
    let cache = Arc::new(CacheBudget::new(u64::MAX));
    let settings = Settings::embedded(namespace, Incarnation::new(1), cache);
    let settings = Settings { heartbeat_fences: true, ..settings };
    Rules::new(settings, HashKey::new(1, [7; 16]), &[feed], Box::new(move |_| feed), NOW)
}

/// Something comes by, and more follows. The number of the fence that this begins.
fn told(rules: &Rules, now: Tick, event: FeedEvent) -> Option<FenceSeq> {
    let feed = FeedId { namespace: rules.settings().namespace.id, ..FeedId::default() };
    let events = vec![event];
    let batch = FeedBatch { events, resume: FeedCursor::default(), caught_up: false };
    let (_, effects) = rules.step(now, Input::Feed { feed, batch: &batch });
    effects.into_iter().find_map(|effect| match effect {
        Effect::WriteFence { seq, .. } => Some(seq),
        _ => None,
    })
}

fn quiet_us(rules: &Rules, now: Tick) -> u64 {
    rules.lanes(now)[0].quiet_us
}

#[test]
fn a_busy_feed_is_as_fresh_as_its_last_fence() {
    let rules = beating();
    let own = Incarnation::new(1);
    let fence = |writer, position, seq| FeedEvent::Fence {
        stamp: stamp(position),
        user: seen_filter::UserId::new(0),
        writer,
        seq,
    };
    let first = told(&rules, NOW, FeedEvent::Complete { stamp: stamp(1) }).expect("a fence");
    let second = told(&rules, after(1), fence(own, 2, first)).expect("the next one");
    assert_eq!(quiet_us(&rules, after(4)), 4 * SECOND_US, "the first one's beginning");
    // Somebody else's proves nothing here (row 58).
    told(&rules, after(4), fence(Incarnation::new(2), 3, second));
    assert_eq!(quiet_us(&rules, after(4)), 4 * SECOND_US);
    told(&rules, after(4), fence(own, 4, second));
    assert_eq!(quiet_us(&rules, after(4)), 3 * SECOND_US, "not as of its return");
    // One that comes again takes nothing back.
    told(&rules, after(5), fence(own, 4, second));
    assert_eq!(quiet_us(&rules, after(5)), 4 * SECOND_US);
}
